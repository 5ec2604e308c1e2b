"""Counts what happens to jobs, for stores that cannot do so themselves (SQLite uses triggers)."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from nuvom.core.record import JobStatus
from nuvom.core.views import TOOK_BOUNDS, WAITED_BOUNDS, Total

if TYPE_CHECKING:
    from collections.abc import Iterable

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
        began, ended = change.started_at, change.finished_at
        has_run = change.settles and status is not JobStatus.PARKED
        if has_run and began is not None and ended is not None:
            outcome = ""
            if status is JobStatus.SUCCESS:  # with an error: a timeout that the policy ignores
                outcome = "timeout" if change.error else "success"
            waited = began - max(before.created_at, before.run_at)
            self._add_attempt((queue, task, outcome), ended - began, waited)
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
