"""The history of jobs under test, kept outside the store, and a checker for it.

Workers, producers and the driver of a fault test append events to one file, each with a single
write; events that a kill still tears apart are skipped. ``check`` then looks for the ways in which
a queue can break its promises. It knows no backend and trusts no store.

The idea comes from Jepsen's checkers *total-queue* and *set-full*.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from dataclasses import dataclass, field, fields
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, Any

from nuvom.core.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    Events = list[Mapping[str, Any]]

# Events. ``job`` is an id, ``pid`` the process involved.
ENQUEUE_INVOKE = "enqueue-invoke"  # a producer is about to enqueue something
ENQUEUE_OK = "enqueue-ok"  # ``job`` was accepted
START = "start"  # user code of ``job`` starts under ``epoch`` in ``pid``
END = "end"  # user code of ``job`` has ended in ``pid``
FINISH_OK = "finish-ok"  # a final outcome of ``job`` was committed under ``epoch``
FENCED = "fenced"  # an outcome of ``job`` under ``epoch`` was dropped
RETRYING = "retrying"  # another attempt of ``job`` was committed after that under ``epoch``
RELEASED = "released"  # ``pid`` released ``job``
KILL = "kill"  # ``pid`` was sent a signal that it cannot catch; it was gone at ``over``
FREEZE = "freeze"  # ``pid`` was sent a signal to freeze; ``over`` is its thaw or end
THAW = "thaw"  # ``pid`` continues
TERM = "term"  # ``pid`` was asked to stop cleanly

THAW_SECS = 0.25
"""A start this soon after a thaw may have been decided before the freeze, with a valid lease.

This cannot be prevented; the outcome of such a run is fenced.
"""


class HistoryLog:
    """Appends events to a file; any number of processes may append to the same one."""

    def __init__(self, path: Path | str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, event: str, **details: Any) -> None:
        """Append an event with the time and ``pid``, by default that of this process."""
        line = {"at": SYSTEM_CLOCK.monotonic(), "event": event, "pid": os.getpid(), **details}
        # The leading newline ends a line left unfinished by a kill in the middle of a write.
        os.write(self._descriptor, f"\n{json.dumps(line)}\n".encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_history(path: Path | str) -> list[dict[str, Any]]:
    """Return all events in order of time; skip incomplete ones."""
    with open(path, encoding="utf-8", errors="replace") as stream:
        events = [event for line in stream if (event := parse_event(line)) is not None]
    return sorted(events, key=lambda one: float(one["at"]))


def parse_event(line: str | bytes) -> dict[str, Any] | None:
    """Return the event that a line holds; None for a blank or incomplete line."""
    try:
        event: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return event


@dataclass
class Findings:
    """The ways in which a history breaks the promises; empty means a pass.

    Attributes:
        lost: Accepted jobs that the store does not know.
        unexpected: Jobs that started but were never enqueued.
        double_finalised: Jobs with two committed final outcomes.
        started_after_final: Jobs that started after their final outcome was committed.
        overlapping_live_leases: Jobs with two runs at the same time, neither excused by a kill or
            a freeze.
        unexplained_starts: Starts after the first with no kill, freeze, release or retry
            before them.
        attempts_over_limit: Jobs that started more often than allowed.
        stuck: Jobs that are not final although every fault is over.
        wrong_results: Jobs whose stored result is not what the task returns.
    """

    lost: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    double_finalised: list[str] = field(default_factory=list)
    started_after_final: list[str] = field(default_factory=list)
    overlapping_live_leases: list[str] = field(default_factory=list)
    unexplained_starts: list[str] = field(default_factory=list)
    attempts_over_limit: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    wrong_results: list[str] = field(default_factory=list)

    @property
    def is_valid(self) -> bool:
        """Whether nothing was found."""
        return not any(getattr(self, one.name) for one in fields(self))

    def counts(self) -> dict[str, int]:
        """Return the number of findings of each kind."""
        return {one.name: len(getattr(self, one.name)) for one in fields(self)}


@dataclass(frozen=True)
class Repeats:
    """Repeated starts of jobs, by what a fault did to the previous start.

    Attributes:
        cut_short: Its code was running when its process was killed, frozen or stopped.
        uncommitted: Its code had ended, but its outcome was not in the store yet.
        thawed: It was decided before a freeze, and made by a process that had just thawed.
    """

    cut_short: int = 0
    uncommitted: int = 0
    thawed: int = 0


def count_repeats(events: Iterable[Mapping[str, Any]]) -> Repeats:
    """Return how many repeated starts the faults of a history caused."""
    history = list(events)
    faults = _Faults(history)
    counts: Counter[str] = Counter()
    for starts in _runs(history).values():
        for earlier, later in pairwise(starts):
            if faults.was_just_thawed(later):
                counts["thawed"] += 1
            elif befell := faults.between(earlier, later.start):
                counts["cut_short" if earlier.end > max(befell) else "uncommitted"] += 1
    return Repeats(**counts)


def check(
    events: Iterable[Mapping[str, Any]],
    final: Mapping[str, str],
    *,
    wrong_results: Iterable[str] = (),
    most_starts: float = inf,
) -> Findings:
    """Return what is wrong with a history once everything has had time to end.

    Args:
        events: The events in order of time.
        final: Status of each job that the store knows, by id.
        wrong_results: Jobs whose result the caller found to be wrong.
        most_starts: How often one job may start, its first start included.
    """
    history = list(events)
    accepted = {one["job"] for one in history if one["event"] == ENQUEUE_OK}
    runs = _runs(history)
    faults = _Faults(history)
    # A job whose producer was killed before it could record the acceptance may be in the store.
    has_producers = any(one["event"] == ENQUEUE_INVOKE for one in history)
    known = accepted | final.keys() if has_producers else accepted
    ends = _times(history, FINISH_OK)
    return Findings(
        lost=sorted(accepted - final.keys()),
        unexpected=sorted(runs.keys() - known),
        double_finalised=sorted(job for job, times in ends.items() if len(times) > 1),
        started_after_final=_started_after_final(runs, ends, faults),
        overlapping_live_leases=_overlapping(runs, faults),
        unexplained_starts=_unexplained(runs, faults, _Handovers(history)),
        attempts_over_limit=[job for job, starts in runs.items() if len(starts) > most_starts],
        stuck=sorted(job for job, status in final.items() if status not in _FINAL),
        wrong_results=list(wrong_results),
    )


_FINAL = frozenset({"SUCCESS", "FAILED", "DEAD", "CANCELLED"})


@dataclass
class _Run:
    pid: int
    start: float
    epoch: int
    end: float = inf  # if its end was never recorded


def _runs(history: Events) -> dict[str, list[_Run]]:
    """Return each job's starts, in order, with the end of its code if there was one."""
    runs: dict[str, list[_Run]] = defaultdict(list)
    for one in history:
        if one["event"] == START:
            runs[one["job"]].append(_Run(one["pid"], one["at"], one["epoch"]))
        elif one["event"] == END:
            open_runs = [
                run for run in runs[one["job"]] if run.pid == one["pid"] and run.end == inf
            ]
            if open_runs:
                open_runs[-1].end = one["at"]
    return runs


def _times(history: Events, *words: str) -> dict[str, list[float]]:
    """Return when events of these kinds were recorded for each job."""
    times: dict[str, list[float]] = defaultdict(list)
    for one in history:
        if one["event"] in words:
            times[one["job"]].append(one["at"])
    return times


class _Faults:
    """The faults of each process, and when they happened."""

    def __init__(self, history: Events) -> None:
        self._times: dict[int, list[tuple[float, float]]] = defaultdict(list)
        self._thaws: dict[int, list[float]] = defaultdict(list)
        for one in history:
            if one["event"] in (KILL, FREEZE, TERM):
                self._times[one["pid"]].append((one["at"], one.get("over", one["at"])))
            elif one["event"] == THAW:
                self._thaws[one["pid"]].append(one["at"])

    def between(self, run: _Run, until: float) -> list[float]:
        """Return the faults of a run's process between the run's start and ``until``."""
        return [at for at, over in self._times[run.pid] if at <= until and over >= run.start]

    def was_just_thawed(self, run: _Run) -> bool:
        """Whether the run may have been decided before its process was frozen."""
        return any(at <= run.start <= at + THAW_SECS for at in self._thaws[run.pid])


class _Handovers:
    """The attempts after which the store offered a job again, as promised."""

    def __init__(self, history: Events) -> None:
        self._releases = _times(history, RELEASED)
        self._retries = {(one["job"], one["epoch"]) for one in history if one["event"] == RETRYING}

    def explain(self, job: str, earlier: _Run, later: _Run) -> bool:
        """Whether a job's later run may follow the earlier one.

        Another worker may start a retry before the one that committed it has recorded that, so
        its epoch counts, not its time.
        """
        if earlier.epoch != later.epoch and (job, earlier.epoch) in self._retries:
            return True
        return any(earlier.start <= at <= later.start for at in self._releases.get(job, ()))


def _started_after_final(
    runs: Mapping[str, list[_Run]], ends: Mapping[str, list[float]], faults: _Faults
) -> list[str]:
    return [
        job
        for job, times in ends.items()
        for run in runs.get(job, ())
        if run.start > times[0] and not faults.was_just_thawed(run)
    ]


def _unexplained(
    runs: Mapping[str, list[_Run]], faults: _Faults, handovers: _Handovers
) -> list[str]:
    return [
        job
        for job, starts in runs.items()
        for earlier, later in pairwise(starts)
        if not faults.between(earlier, later.start)
        and not handovers.explain(job, earlier, later)
        and not faults.was_just_thawed(later)
    ]


def _overlapping(runs: Mapping[str, list[_Run]], faults: _Faults) -> list[str]:
    return [
        job
        for job, starts in runs.items()
        for earlier, later in pairwise(starts)
        if min([earlier.end, *faults.between(earlier, later.start)]) > later.start
        and not faults.was_just_thawed(later)
    ]
