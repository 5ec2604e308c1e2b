"""What one attempt ended with, and what closes it.

Lanes return an ``Outcome``; ``nuvom.core.retry.decide`` turns it into a ``Verdict``; the runner
makes a ``Settlement`` of both, which a queue backend applies while the lease holds.
"""

from __future__ import annotations

from typing import Any

import msgspec

from nuvom.core.record import JobRecord, JobStatus, StoredError


class Succeeded(msgspec.Struct, frozen=True, gc=False):
    """The task returned ``value``; ``data`` is the value as stored."""

    value: Any
    data: bytes | None


class Failed(msgspec.Struct, frozen=True, gc=False):
    """The task raised ``exception``, or its result could not be stored.

    ``discard`` ends the job whatever retries remain.
    """

    error: StoredError
    exception: BaseException | None = None
    discard: bool = False


class RetryAsked(msgspec.Struct, frozen=True, gc=False):
    """The task raised ``Retry``: ``in_secs`` from now, None as the policy says."""

    error: StoredError
    in_secs: float | None = None


class TimedOut(msgspec.Struct, frozen=True, gc=False):
    """The attempt passed its deadline."""

    error: StoredError


class Snoozed(msgspec.Struct, frozen=True, gc=False):
    """The task asked to be called again in ``secs`` seconds; no retry is used."""

    secs: float


class Cancelled(msgspec.Struct, frozen=True, gc=False):
    """The attempt was cancelled before it ended."""


class UnknownTask(msgspec.Struct, frozen=True, gc=False):
    """This worker has no task of the job's name, for ``reason``."""

    reason: str


Outcome = Succeeded | Failed | RetryAsked | TimedOut | Snoozed | Cancelled | UnknownTask


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What becomes of the job.

    Attributes:
        status: Final, or PENDING for another attempt at ``run_at``, or PARKED.
        run_at: Seconds since the epoch.
        keeps_attempt: False gives the attempt back (snooze, unknown task).
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
        outcome: The word for the attempt's history: ``success``, ``failure``, ``timeout``,
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
