"""Whether and when a job is tried again: one pure decision.

``decide`` knows no clock, no store and no random source of its own. The signals that a task
raises are in ``nuvom.core.signals``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.core.outcome import (
    Cancelled,
    Failed,
    Outcome,
    RetryAsked,
    Snoozed,
    Succeeded,
    TimedOut,
    UnknownTask,
    Verdict,
)
from nuvom.core.record import DEFAULT_RETRY, JobRecord, JobStatus, RetryPolicy

if TYPE_CHECKING:
    from random import Random

    from nuvom.core.options import TaskOptions


def backoff_secs(failures: int, policy: RetryPolicy, rng: Random) -> float:
    """Return how long to wait before the next attempt.

    Args:
        failures: Attempts already made, 1 or more.
        policy: Base, growth, cap and jitter.
        rng: Used only when the policy has jitter.
    Returns: Seconds in [0, min(cap, base * growth)].
    Raises: ValueError: failures < 1.
    Source: exponential back-off with full jitter (Brooker, AWS Architecture Blog, 2015).
    """
    if failures < 1:
        raise ValueError(failures)
    growth = 1.0
    if policy.backoff == "linear":
        growth = float(failures)
    elif policy.backoff == "exponential":
        growth = 2.0 ** min(failures - 1, 60)  # beyond 60 doublings every cap is passed
    wait = min(policy.max_delay_secs, policy.delay_secs * growth)
    return rng.uniform(0.0, wait) if policy.jitter else wait


def decide(
    outcome: Outcome, record: JobRecord, options: TaskOptions, *, now: float, rng: Random
) -> Verdict:
    """Return what becomes of ``record`` after ``outcome``.

    Args:
        record: As claimed; ``attempt`` counts the attempt that just ended.
        options: The task's; only ``retry_on`` and ``discard_on`` are read.
        now: Seconds since the epoch.
        rng: Source of jitter.
    """
    if isinstance(outcome, Succeeded):
        return Verdict(JobStatus.SUCCESS)
    if isinstance(outcome, Cancelled):
        return Verdict(JobStatus.CANCELLED)
    if isinstance(outcome, UnknownTask):
        return Verdict(JobStatus.PARKED, keeps_attempt=False)
    if isinstance(outcome, Snoozed):
        return Verdict(JobStatus.PENDING, now + outcome.secs, keeps_attempt=False)
    if isinstance(outcome, TimedOut) and record.timeout_policy == "ignore":
        return Verdict(JobStatus.SUCCESS)
    if record.attempt > record.max_retries or not _is_retryable(outcome, record, options):
        return Verdict(JobStatus.FAILED)
    return Verdict(JobStatus.PENDING, now + _wait_secs(outcome, record, rng))


def _is_retryable(
    outcome: Failed | RetryAsked | TimedOut, record: JobRecord, options: TaskOptions
) -> bool:
    if isinstance(outcome, TimedOut):
        return record.timeout_policy == "retry"
    if isinstance(outcome, RetryAsked):
        return True
    if outcome.discard:
        return False
    if outcome.exception is None:  # the child process that ran it died: no class to judge by
        return True
    return isinstance(outcome.exception, options.retry_on) and not isinstance(
        outcome.exception, options.discard_on
    )


def _wait_secs(outcome: Failed | RetryAsked | TimedOut, record: JobRecord, rng: Random) -> float:
    if isinstance(outcome, RetryAsked) and outcome.in_secs is not None:
        return max(0.0, outcome.in_secs)
    return backoff_secs(max(1, record.attempt), record.retry or DEFAULT_RETRY, rng)
