"""Counts what happens to jobs: totals since a store counts, and roll-ups per minute.

Totals are counted here for stores that cannot do so themselves; SQLite uses triggers.
"""

from __future__ import annotations

from bisect import bisect_left
from math import inf
from typing import TYPE_CHECKING

from msgspec import UNSET

from nuvom.core.record import JobStatus
from nuvom.core.views import (
    ROLLUP_BOUNDS,
    TOOK_BOUNDS,
    UNTIMED,
    WAITED_BOUNDS,
    Rollup,
    Total,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nuvom.core.outcome import Settlement
    from nuvom.core.transitions import Change

_ENDS = {JobStatus.DEAD: "dead", JobStatus.CANCELLED: "cancelled"}
_FAILURES = frozenset({"failure", "timeout", "retry"})


class RunningTotals:
    """The running totals of one store. Not thread-safe: callers hold the store's lock."""

    def __init__(self, totals: Iterable[Total] = ()) -> None:
        self._sums: dict[tuple[str, str, str, str, int, int], _Sum] = {}
        for one in totals:
            key = one.kind, one.queue, one.task, one.outcome, one.took, one.waited
            self._sums[key] = _Sum(one.count, one.took_secs, one.waited_secs)

    def enqueued(self, queue: str, task: str) -> None:
        """Count a job that was stored."""
        self._add("enqueued", queue, task)

    def changed(self, change: Change) -> None:
        """Count the effect of a change on a job."""
        before, status = change.before, change.status
        queue, task = before.queue, before.func_name
        if (times := _times(change)) is not None:
            outcome = ""
            if status is JobStatus.SUCCESS:  # with an error: a timeout that the policy ignores
                outcome = "timeout" if change.error else "success"
            self._add_attempt((queue, task, outcome), *times)
        word = "" if change.closed is None else change.closed.outcome
        if word == "lost":
            self._add("lost", queue, task)
            if status is JobStatus.PENDING:
                self._add("redelivered", queue, task)
        elif word in _FAILURES and status is JobStatus.PENDING:
            self._add("retried", queue, task)
        if status is JobStatus.FAILED:
            self._add("finished", queue, task, "timeout" if word == "timeout" else "failure")
        elif status in _ENDS:
            self._add("finished", queue, task, _ENDS[status])

    def totals(self) -> list[Total]:
        """Return the counts so far."""
        return [
            Total(*key, one.count, one.took_secs, one.waited_secs)
            for key, one in self._sums.items()
            if one.count
        ]

    def _add(self, kind: str, queue: str, task: str, outcome: str = "") -> None:
        self._sums.setdefault((kind, queue, task, outcome, 0, 0), _Sum()).count += 1

    def _add_attempt(self, key: tuple[str, str, str], took: float, waited: float) -> None:
        took, waited = max(took, 0.0), max(waited, 0.0)
        places = bisect_left(TOOK_BOUNDS, took), bisect_left(WAITED_BOUNDS, waited)
        one = self._sums.setdefault(("attempt", *key, *places), _Sum())
        one.count += 1
        one.took_secs += took
        one.waited_secs += waited


def _times(change: Change) -> tuple[float, float] | None:
    """Return how long an attempt took and how long it had waited; None if none ran to its end."""
    began, ended, before = change.started_at, change.finished_at, change.before
    if not change.settles or change.status is JobStatus.PARKED or began is None or ended is None:
        return None
    return ended - began, began - max(before.created_at, before.run_at)


def totals_of(changes: Iterable[Change]) -> list[Total]:
    """Return what these changes add to a store's totals."""
    running = RunningTotals()
    for change in changes:
        running.changed(change)
    return running.totals()


class _Sum:
    __slots__ = ("count", "took_secs", "waited_secs")

    def __init__(self, count: int = 0, took_secs: float = 0.0, waited_secs: float = 0.0) -> None:
        self.count = count
        self.took_secs = took_secs
        self.waited_secs = waited_secs


# ---- roll-ups --------------------------------------------------------------------------------

_MINUTE, _HOUR = 60, 3600
_MINUTES_KEPT_SECS = 48 * _HOUR
_HOURS_KEPT_SECS = 90 * 24 * _HOUR

_EDGES = (-inf, *ROLLUP_BOUNDS, inf)

RollupKey = tuple[int, str, str, str, int]
"""``at``, ``queue``, ``task``, ``kind`` and ``bucket`` of a roll-up."""


def kept_since(now: float) -> tuple[int, int]:
    """Return since when a store keeps minutes, a full hour, and since when it keeps hours."""
    return (
        int(now - _MINUTES_KEPT_SECS) // _HOUR * _HOUR,
        int(now - _HOURS_KEPT_SECS) // _HOUR * _HOUR,
    )


class RollupSums:
    """Roll-ups by minute. Not thread-safe: callers hold the store's lock.

    Attributes:
        sums: Count and seconds of each.
    """

    def __init__(self, rows: Iterable[Rollup] = ()) -> None:
        self.sums: dict[RollupKey, list[float]] = {}
        for one in rows:
            self._add((one.at, one.queue, one.task, one.kind, one.bucket), one.secs, one.count)

    def succeeded(self, successes: Iterable[Settlement]) -> None:
        """Count plain successes, as ``changed`` does.

        This runs for each job, and nearly all are like the one before: of those it only takes the
        sums. Comparisons in a chain, or of an int with a float, would take three times as long.
        """
        queue = task = ""
        minute = until = took_above = took_most = waited_above = waited_most = 0.0
        count, took_secs, waited_secs, ends, waits = 0, 0.0, 0.0, [0.0, 0.0], [0.0, 0.0]
        for one in successes:
            record, began, ended = one.record, one.started_at, one.finished_at
            took, waited = ended - began, began - record.created_at
            if (
                took > took_most
                or took <= took_above
                or waited > waited_most
                or waited <= waited_above
                or ended >= until
                or ended < minute
                or record.run_at
                or record.queue != queue
                or record.func_name != task
            ):
                _add_to(ends, took_secs, count)
                _add_to(waits, waited_secs, count)
                count, took_secs, waited_secs = 0, 0.0, 0.0
                queue, task = record.queue, record.func_name
                minute = ended // _MINUTE * _MINUTE
                until = minute + _MINUTE
                if not began:  # nobody knows how long it ran
                    self._add((int(minute), queue, task, "success", UNTIMED), 0.0)
                    queue = ""
                    continue
                bucket = bisect_left(ROLLUP_BOUNDS, took)
                took_above, took_most = _EDGES[bucket], _EDGES[bucket + 1]
                ends = self._sum((int(minute), queue, task, "success", bucket))
                waited = began - max(record.created_at, record.run_at)
                bucket = bisect_left(ROLLUP_BOUNDS, waited)
                waited_above, waited_most = _EDGES[bucket], _EDGES[bucket + 1]
                waits = self._sum((int(minute), queue, "", "waited", bucket))
            count += 1
            took_secs += took
            waited_secs += waited
        _add_to(ends, took_secs, count)
        _add_to(waits, waited_secs, count)

    def changed(self, change: Change) -> None:
        """Count the effect of a change on a job."""
        if change.finished_at is None:
            return
        at, before = int(change.finished_at) // _MINUTE * _MINUTE, change.before
        took, bucket = 0.0, UNTIMED
        if (times := _times(change)) is not None:
            took, waited = times
            bucket = bisect_left(ROLLUP_BOUNDS, took)
            self._add((at, before.queue, "", "waited", bisect_left(ROLLUP_BOUNDS, waited)), waited)
        if kind := _kind_of(change):
            self._add((at, before.queue, before.func_name, kind, bucket), took)

    def add(self, others: RollupSums) -> None:
        """Add what others have counted."""
        for key, (count, secs) in others.sums.items():
            self._add(key, secs, count)

    def rows(self) -> list[Rollup]:
        """Return the roll-ups by time."""
        return [
            Rollup(*key, int(count), max(secs, 0.0))  # negative where a clock was set back
            for key, (count, secs) in sorted(self.sums.items())
        ]

    def between(self, since: float, until: float, step: int) -> list[Rollup]:
        """Return the roll-ups of longer steps; see ``LeasedJobQueue.rollups``."""
        start = since // step * step
        found = RollupSums()
        for key, (count, secs) in self.sums.items():
            if start <= key[0] < until:
                found._add((key[0] // step * step, *key[1:]), secs, count)
        return found.rows()

    def condense(self, now: float) -> None:
        """Combine the minutes of old hours, and forget what is too old."""
        minutes_since, hours_since = kept_since(now)
        condensed = RollupSums()
        for key, (count, secs) in self.sums.items():
            at = key[0]
            if at >= hours_since:
                place = at if at >= minutes_since else at // _HOUR * _HOUR
                condensed._add((place, *key[1:]), secs, count)
        self.sums = condensed.sums

    def _add(self, key: RollupKey, secs: float, count: float = 1) -> None:
        _add_to(self._sum(key), secs, count)

    def _sum(self, key: RollupKey) -> list[float]:
        known = self.sums.get(key)
        if known is None:
            known = self.sums[key] = [0.0, 0.0]
        return known


def _add_to(known: list[float], secs: float, count: float) -> None:
    known[0] += count
    known[1] += secs


def rollups_of(successes: Iterable[Settlement]) -> RollupSums:
    """Return what these plain successes add to a store's roll-ups."""
    rollups = RollupSums()
    rollups.succeeded(successes)
    return rollups


def _kind_of(change: Change) -> str:
    """Return what a change counts as, besides the wait of its attempt; mostly nothing.

    A job that goes to another store, or comes from there with what it has become, is not counted.
    """
    status, closed = change.status, change.closed
    if status is JobStatus.PENDING:
        return "retried" if closed is not None and closed.outcome in _FAILURES else ""
    if status is JobStatus.DEAD:
        is_counted = change.before.status is not JobStatus.PENDING
    elif status is JobStatus.CANCELLED:
        is_counted = change.settles or change.error is UNSET
    else:
        is_counted = change.settles
    return _KINDS.get(status, "") if is_counted else ""


_KINDS = {
    JobStatus.SUCCESS: "success",
    JobStatus.FAILED: "failed",
    JobStatus.DEAD: "dead",
    JobStatus.CANCELLED: "cancelled",
}
