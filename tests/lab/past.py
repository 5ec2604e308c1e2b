"""Jobs that have a past: written straight into a SQLite file, with the roll-ups that follow."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, NamedTuple

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.record import Attempt, JobRecord, JobStatus, StoredError
from nuvom.core.totals import RollupSums
from nuvom.core.views import ROLLUP_BOUNDS, UNTIMED, Rollup, failure_group
from nuvom.queue_backends.sqlite import schema
from nuvom.queue_backends.sqlite.hot import LARGE_BYTES
from nuvom.queue_backends.sqlite.rollups import add_rollups

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

CHUNK = 20_000
_MINUTE = 60
# A waiting job is PENDING: what it waits for is told by its code.
_CODES = {
    "SUCCESS": schema.SUCCESS,
    "FAILED": schema.FAILED,
    "DEAD": schema.DEAD,
    "CANCELLED": schema.CANCELLED,
    "PARKED": schema.PARKED,
    "scheduled": schema.SCHEDULED,
    "retrying": schema.SCHEDULED,
    "ready": schema.READY,
}
_KINDS = {"SUCCESS": "success", "FAILED": "failed", "DEAD": "dead", "CANCELLED": "cancelled"}
_FAILURES = ("failure", "timeout", "retry")
_INSERT = """INSERT INTO jobs (seq, id, status, queue, priority, task, created_at, run_at, attempt,
    deliveries, lease_epoch, owner, started_at, finished_at, error_fp, record, result, error)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_ATTEMPT = """INSERT INTO attempts (seq, number, outcome, lease_epoch, worker, started_at,
    finished_at, error) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
_LAST = "SELECT coalesce(max(seq), 0) FROM jobs"


class PastJob(NamedTuple):
    """A job and what became of it.

    Attributes:
        end: Its status, or what a waiting one waits for: ``ready``, ``scheduled``, ``retrying``.
        past: Its closed attempts, oldest first; excludes a success.
        started_at, finished_at: Of the last attempt; a job that never ran may have ended as well.
        worker: That of the last attempt.
    """

    record: JobRecord
    end: str
    past: tuple[Attempt, ...] = ()
    started_at: float | None = None
    finished_at: float | None = None
    worker: str | None = None
    result: bytes | None = None
    error: StoredError | None = None

    @property
    def runs(self) -> int:
        """How many attempts there were."""
        return len(self.past) + (self.end == JobStatus.SUCCESS)


def write(connection: sqlite3.Connection, jobs: Iterable[PastJob]) -> None:
    """Store jobs, oldest first, and what they add to the roll-ups."""
    (last,) = connection.execute(_LAST).fetchone()
    numbered = enumerate(jobs, last + 1)
    while chunk := list(itertools.islice(numbered, CHUNK)):
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_INSERT, (_row(seq, one) for seq, one in chunk))
            attempts = (row for seq, one in chunk for row in _attempts(seq, one))
            connection.executemany(_ATTEMPT, attempts)
        add_history(connection, (row for _, one in chunk for row in rollups(one)))


def add_history(connection: sqlite3.Connection, rows: Iterable[Rollup]) -> None:
    """Add roll-ups, the older ones by hours, as workers leave them."""
    sums = RollupSums(rows)
    sums.condense(SYSTEM_CLOCK.now())
    with connection:
        add_rollups(connection, sums)


def _row(seq: int, one: PastJob) -> tuple[Any, ...]:
    record, data, fingerprint = one.record, one.record.encode(), None
    assert len(data) <= LARGE_BYTES
    if one.end in (JobStatus.FAILED, JobStatus.DEAD):
        fingerprint = failure_group(one.end, record.func_name, one.error)
    return (
        *(seq, record.id, _CODES[one.end], record.queue, record.priority, record.func_name),
        *(record.created_at, record.run_at, one.runs, one.runs, one.runs),
        *(one.worker, one.started_at, one.finished_at, fingerprint, data),
        *(one.result, schema.encode_error(one.error)),
    )


def _attempts(seq: int, one: PastJob) -> Iterator[tuple[Any, ...]]:
    for ran in one.past:
        error = schema.encode_error(ran.error)
        yield (
            *(seq, ran.number, ran.outcome, ran.number, ran.worker),
            *(ran.started_at, ran.finished_at, error),
        )


def rollups(one: PastJob) -> Iterator[Rollup]:
    """Yield what a job adds to the roll-ups, as a store counts it, but one wait for each job."""
    place = one.record.queue, one.record.func_name
    for ran in one.past:
        is_last = ran is one.past[-1] and one.end in _KINDS
        if ran.outcome in _FAILURES and ran.started_at and ran.finished_at and not is_last:
            yield rollup(*place, "retried", ran.finished_at, ran.finished_at - ran.started_at)
    if one.end not in _KINDS or one.finished_at is None:
        return
    if one.started_at is None or one.end == JobStatus.DEAD:
        yield rollup(*place, _KINDS[one.end], one.finished_at, None)
        return
    began = one.past[0].started_at if one.past else one.started_at
    yield rollup(*place, "waited", one.finished_at, (began or 0.0) - one.record.created_at)
    yield rollup(*place, _KINDS[one.end], one.finished_at, one.finished_at - one.started_at)


def rollup(queue: str, task: str, kind: str, ended_at: float, secs: float | None) -> Rollup:
    """Return the roll-up of one attempt or job.

    Args:
        secs: How long it ran, or had waited; None for what did not run, or nobody knows how long.
    """
    at = int(ended_at) // _MINUTE * _MINUTE
    bucket = UNTIMED if secs is None else bisect_left(ROLLUP_BOUNDS, secs)
    return Rollup(at, queue, "" if kind == "waited" else task, kind, bucket, 1, secs or 0.0)
