"""How an attempt failed to succeed, whether and when the job is retried, and what closes it.

Lanes return an ``Outcome``. ``decide``, which has no clock, store or random source of its own,
turns it into a ``Verdict``. The runner combines both into a ``Settlement``, which a queue backend
applies while the lease holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nuvom.core.record import DEFAULT_RETRY, JobRecord, JobStatus, RetryPolicy, StoredError

if TYPE_CHECKING:
    from random import Random

    from nuvom.core.options import TaskOptions


EXPIRED = "JobExpired"
"""The error type of a job that ended because it had not started in time."""


class Failed(msgspec.Struct, frozen=True, gc=False):
    """The task raised ``exception``, or its result could not be stored.

    ``discard`` ends the job no matter how many retries remain.
    """

    error: StoredError
    exception: BaseException | None = None
    discard: bool = False


class RetryAsked(msgspec.Struct, frozen=True, gc=False):
    """The task raised ``Retry``: retry in ``in_secs`` seconds, or by the policy if None.

    ``max_retries`` replaces the limit of the record.
    """

    error: StoredError
    in_secs: float | None = None
    max_retries: int | None = None


class TimedOut(msgspec.Struct, frozen=True, gc=False):
    """The attempt passed its deadline."""

    error: StoredError


class Snoozed(msgspec.Struct, frozen=True, gc=False):
    """The task asked to be called again in ``secs`` seconds; no retry is used."""

    secs: float


class UnknownTask(msgspec.Struct, frozen=True, gc=False):
    """This worker has no task of the job's name, for ``reason``."""

    reason: str

    @property
    def error(self) -> StoredError:
        """What the PARKED job says of that."""
        return StoredError(UnknownTask.__name__, self.reason)


class Expired(msgspec.Struct, frozen=True, gc=False):
    """The job had not started ``secs`` seconds after it was created, and may no longer."""

    secs: float

    @property
    def error(self) -> StoredError:
        """What the CANCELLED job says of that."""
        return StoredError(EXPIRED, f"expired: it had not started within {self.secs:g} s")


Outcome = Failed | RetryAsked | TimedOut | Snoozed | UnknownTask | Expired


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What happens to the job.

    Attributes:
        status: Final, or PENDING for another attempt at ``run_at``, or PARKED.
        run_at: Seconds since the epoch.
        keeps_attempt: False gives the attempt back (snooze, unknown task, expired).
    """

    status: JobStatus
    run_at: float = 0.0
    keeps_attempt: bool = True


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """Closes one attempt; applied only while the record's ``lease_epoch`` is current.

    Attributes:
        record: As claimed.
        status, run_at, keeps_attempt: The verdict.
        result: The encoded result of a SUCCESS, or None when it is not kept.
        error: Why the attempt failed, also when another attempt follows.
        outcome: The entry in the attempt history: ``success``, ``failure``, ``timeout``,
            ``retry``, ``snoozed``, ``cancelled``.
        started_at, finished_at: Seconds since the epoch.
        children: Jobs to enqueue in the same step, or not at all.
    """

    record: JobRecord
    status: JobStatus
    result: bytes | None = None
    started_at: float = 0.0
    finished_at: float = 0.0
    outcome: str = "success"
    error: StoredError | None = None
    run_at: float = 0.0
    keeps_attempt: bool = True
    children: tuple[JobRecord, ...] = ()


# ---- the decision -----------------------------------------------------------------------


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
    """Return what happens to ``record`` after ``outcome``.

    Args:
        record: As claimed; ``attempt`` includes the attempt that just ended.
        options: The task's; only ``retry_on`` and ``discard_on`` are read.
        now: Seconds since the epoch.
        rng: Source of jitter.
    """
    if isinstance(outcome, UnknownTask):
        return Verdict(JobStatus.PARKED, keeps_attempt=False)
    if isinstance(outcome, Expired):
        return Verdict(JobStatus.CANCELLED, keeps_attempt=False)
    if isinstance(outcome, Snoozed):
        return Verdict(JobStatus.PENDING, now + outcome.secs, keeps_attempt=False)
    if isinstance(outcome, TimedOut) and record.timeout_policy == "ignore":
        return Verdict(JobStatus.SUCCESS)
    most = getattr(outcome, "max_retries", None)
    most = record.max_retries if most is None else most
    if record.attempt > most or not _is_retryable(outcome, record, options):
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
