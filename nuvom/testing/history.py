"""What happened to jobs under test, kept outside the store, and the check of it.

Workers, producers and the driver of a fault test append events to one file, each with a
single write, so that a kill cannot tear them apart. ``check`` then looks for the ways in which
a queue can break its word. It knows no backend and trusts no store.

Source of the idea: the checkers *total-queue* and *set-full* of Jepsen.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from nuvom.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

# Events. ``job`` is an id, ``pid`` the process concerned.
ENQUEUE_INVOKE = "enqueue-invoke"  # a producer is about to enqueue ``key``
ENQUEUE_OK = "enqueue-ok"  # ``key`` was accepted as ``job``
START = "start"  # user code of ``job`` starts under ``epoch`` in ``pid``
END = "end"  # user code of ``job`` has ended in ``pid``
FINISH_OK = "finish-ok"  # a final outcome of ``job`` was committed under ``epoch``
FENCED = "fenced"  # an outcome of ``job`` under ``epoch`` was dropped
RETRYING = "retrying"  # another attempt of ``job`` was committed
RELEASED = "released"  # ``job`` was handed back by ``pid``
KILL = "kill"  # ``pid`` was sent a signal that it could not catch, and at ``dead`` was gone
FREEZE = "freeze"  # ``pid`` was stopped
THAW = "thaw"  # ``pid`` goes on
TERM = "term"  # ``pid`` was asked to stop in good order


class HistoryLog:
    """Appends events to a file; any number of processes may append to the same one."""

    def __init__(self, path: Path | str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, event: str, **details: Any) -> None:
        """Append one event with the time and this process's pid, unless ``pid`` is given."""
        line = {"at": SYSTEM_CLOCK.monotonic(), "event": event, "pid": os.getpid(), **details}
        os.write(self._descriptor, json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_history(path: Path | str) -> list[dict[str, Any]]:
    """Return all events, in the order of their time."""
    with open(path, encoding="utf-8") as stream:
        events = [json.loads(line) for line in stream]
    return sorted(events, key=lambda one: float(one["at"]))


@dataclass
class Findings:
    """The ways in which a history breaks the promises; all empty is a pass.

    Attributes:
        lost: Accepted jobs without a final status.
        unexpected: Jobs that started although nobody enqueued them.
        double_finalised: Jobs with two committed final outcomes.
        overlapping_live_leases: Jobs that ran twice at a time while neither run was excused
            by a kill or a freeze.
        unexplained_starts: Starts after the first with no kill, freeze, release or retry
            before them.
        stuck: Jobs that are not final though every fault is over.
        wrong_results: Jobs whose stored result is not what the task returns.
    """

    lost: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    double_finalised: list[str] = field(default_factory=list)
    overlapping_live_leases: list[str] = field(default_factory=list)
    unexplained_starts: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    wrong_results: list[str] = field(default_factory=list)

    @property
    def is_valid(self) -> bool:
        """Whether nothing was found."""
        return not any(getattr(self, one.name) for one in fields(self))

    def counts(self) -> dict[str, int]:
        """Return how many were found of each kind."""
        return {one.name: len(getattr(self, one.name)) for one in fields(self)}


def check(
    events: Iterable[Mapping[str, Any]],
    final: Mapping[str, str],
    *,
    wrong_results: Iterable[str] = (),
) -> Findings:
    """Return what is wrong with a history after everything was given time to end.

    Args:
        events: In the order of their time.
        final: Status of each job that the store knows, by id.
        wrong_results: Jobs whose result the caller found to be wrong.
    """
    history = list(events)
    found = Findings(wrong_results=list(wrong_results))
    accepted = {one["job"] for one in history if one["event"] == ENQUEUE_OK}
    invoked = any(one["event"] == ENQUEUE_INVOKE for one in history)
    found.lost = sorted(accepted - final.keys())
    found.stuck = sorted(job for job, status in final.items() if status not in _FINAL)
    finishes: dict[str, int] = defaultdict(int)
    for one in history:
        if one["event"] == FINISH_OK:
            finishes[one["job"]] += 1
    found.double_finalised = sorted(job for job, count in finishes.items() if count > 1)
    runs = _runs(history)
    if not invoked:
        found.unexpected = sorted(runs.keys() - accepted)
    else:  # an invoke without an answer may or may not have stored its job
        found.unexpected = sorted(runs.keys() - final.keys() - accepted)
    faults = _faults(history)
    for job, attempts in runs.items():
        _check_runs(job, attempts, faults, _excuses(history, job), found)
    return found


_FINAL = frozenset({"SUCCESS", "FAILED", "DEAD", "CANCELLED"})


@dataclass
class _Run:
    pid: int
    start: float
    end: float  # infinite when nobody has seen it end


def _runs(history: list[Mapping[str, Any]]) -> dict[str, list[_Run]]:
    """Return each job's starts, in order, with the end of its code where there was one."""
    runs: dict[str, list[_Run]] = defaultdict(list)
    for one in history:
        if one["event"] == START:
            runs[one["job"]].append(_Run(one["pid"], one["at"], float("inf")))
        elif one["event"] == END:
            for run in reversed(runs[one["job"]]):
                if run.pid == one["pid"] and run.end == float("inf"):
                    run.end = one["at"]
                    break
    return runs


def _faults(history: list[Mapping[str, Any]]) -> dict[int, list[tuple[float, float]]]:
    """Return what befell each process, as the time in which it happened."""
    faults: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for one in history:
        if one["event"] in (KILL, FREEZE, TERM):
            faults[one["pid"]].append((one["at"], one.get("dead", one["at"])))
    return faults


def _excuses(history: list[Mapping[str, Any]], job: str) -> list[float]:
    return [
        one["at"] for one in history if one["event"] in (RELEASED, RETRYING) and one["job"] == job
    ]


def _check_runs(
    job: str,
    runs: list[_Run],
    faults: dict[int, list[tuple[float, float]]],
    excuses: list[float],
    found: Findings,
) -> None:
    for earlier, later in pairwise(runs):
        during = [
            at
            for at, until in faults.get(earlier.pid, ())
            if at <= later.start and until >= earlier.start
        ]
        is_excused = bool(during) or any(earlier.start <= at <= later.start for at in excuses)
        if not is_excused:
            found.unexplained_starts.append(job)
        ended = min([earlier.end, *during])
        if ended > later.start:
            found.overlapping_live_leases.append(job)
