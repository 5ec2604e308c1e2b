"""Counts what happens to jobs, for stores that cannot do it by themselves (SQLite has triggers)."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from nuvom.core.record import JobStatus
from nuvom.core.views import TOOK_BOUNDS, WAITED_BOUNDS, Total

if TYPE_CHECKING:
    from collections.abc import Iterable

_ENDS = {JobStatus.DEAD: "dead", JobStatus.CANCELLED: "cancelled"}
_FAILURES = frozenset({"failure", "timeout", "retry"})


class Ran(NamedTuple):
    """An attempt that ran to its end: how long it took, and how long it had waited to start."""

    took_secs: float
    waited_secs: float


class Tally:
    """Totals of one store. Not thread-safe: whoever changes the store has its lock."""

    def __init__(self, totals: Iterable[Total] = ()) -> None:
        self._sums: dict[tuple[str, str, str, str, int, int], _Sum] = {}
        for one in totals:
            key = one.kind, one.queue, one.task, one.outcome, one.took, one.waited
            self._sums[key] = _Sum(one.count, one.took_secs, one.waited_secs)

    def enqueued(self, queue: str, task: str, count: int = 1) -> None:
        """Count a job that was stored; with -1 one that was not, after all."""
        self._add("enqueued", queue, task, count=count)

    def moved(
        self,
        queue: str,
        task: str,
        status: JobStatus,
        *,
        word: str = "",
        ran: Ran | None = None,
        has_error: bool = False,
    ) -> None:
        """Count a job's step to ``status``.

        Args:
            word: Of the attempt that ended by it, as in ``Attempt.outcome``; empty where none did.
            ran: Of an attempt that ran to its end; None where it was cut off, or none ended.
            has_error: Something is stored as the reason. With a SUCCESS it is a timeout that
                the task's policy ignores.
        """
        if ran is not None:
            outcome = "timeout" if has_error else "success"
            self._add_attempt(queue, task, outcome if status is JobStatus.SUCCESS else "", ran)
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
        """Return what was counted so far."""
        return [
            Total(*key, one.count, one.took_secs, one.waited_secs)
            for key, one in self._sums.items()
            if one.count
        ]

    def _add(self, kind: str, queue: str, task: str, outcome: str = "", *, count: int = 1) -> None:
        self._sums.setdefault((kind, queue, task, outcome, 0, 0), _Sum()).count += count

    def _add_attempt(self, queue: str, task: str, outcome: str, ran: Ran) -> None:
        took, waited = max(ran.took_secs, 0.0), max(ran.waited_secs, 0.0)
        places = bisect_left(TOOK_BOUNDS, took), bisect_left(WAITED_BOUNDS, waited)
        one = self._sums.setdefault(("attempt", queue, task, outcome, *places), _Sum())
        one.count += 1
        one.took_secs += took
        one.waited_secs += waited


class _Sum:
    __slots__ = ("count", "took_secs", "waited_secs")

    def __init__(self, count: int = 0, took_secs: float = 0.0, waited_secs: float = 0.0) -> None:
        self.count = count
        self.took_secs = took_secs
        self.waited_secs = waited_secs
