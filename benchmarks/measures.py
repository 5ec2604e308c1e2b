"""The measures, the same for every peer. Each takes an adapter and returns figures.

A drain is counted from the moment at which the first stored job runs until the last result can
be read, so that a worker's start is no part of it (it is a figure of its own). Results are
counted in the store and never by the tasks.
"""

from __future__ import annotations

import random
import statistics
import time
from typing import TYPE_CHECKING, Any

import body
from worker_process import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.base import Adapter

Figures = dict[str, float]
FIRST, WARM = 0, 20  # places of marks: the first job, and jobs before the ones that count
WARM_CALLS = 200
LIMIT_SECS = 120.0
START_LIMIT_SECS = 40.0
NAP_SECS = (0.02, 0.04)  # between jobs for an idle worker
PAUSE_SECS = 0.01  # of a job whose result somebody waits for already
LOOK_SECS, LOOK_SHARE = 0.002, 0.01  # between two counts of results, at least
LOOK_AHEAD = 0.5  # of the time that the rest would take; to count a store keeps it from its work


def enqueue(adapter: Adapter, scale: float) -> Figures:
    """Single calls for each second, one after the other, while no worker runs."""
    return {"enqueue": _stored(adapter, adapter.calls, _scaled(adapter.peer.enqueue, scale))}


def bulk(adapter: Adapter, scale: float) -> Figures:
    """Jobs for each second, stored by one call for all."""
    if not adapter.has_bulk:
        return {}
    return {"bulk": _stored(adapter, adapter.bulk, _scaled(adapter.peer.bulk, scale))}


def _stored(adapter: Adapter, store: Callable[[int], None], count: int) -> float:
    adapter.clear()
    store(WARM_CALLS)
    began = time.perf_counter()
    store(count)
    rate = count / (time.perf_counter() - began)
    adapter.clear()
    return rate


def drain(adapter: Adapter, scale: float) -> Figures:
    """Jobs for each second that one worker runs from a full queue."""
    count = _scaled(adapter.peer.drain, scale)
    adapter.clear()
    fill(adapter, count)
    if adapter.in_process:
        return _drain_here(adapter, count)
    with Worker(adapter) as worker:
        secs = until_drained(adapter, count)
    adapter.clear()
    figures = {"drain": count / secs, "drain_jobs": float(count)}
    return figures | _cpu("drain_cpu_secs", worker.cpu_secs)


def start(adapter: Adapter, scale: float) -> Figures:
    """Seconds from the worker's command to its first job; CPU time of doing no more."""
    del scale
    if adapter.in_process:
        return {}
    adapter.clear()
    body.clear_marks()
    adapter.mark(FIRST)
    with Worker(adapter) as worker:
        ran_at = body.await_moment(FIRST, START_LIMIT_SECS)
        began = worker.began
    adapter.clear()
    return {"start_secs": (ran_at - began) / 1e9} | _cpu("start_cpu_secs", worker.cpu_secs)


def pick_up(adapter: Adapter, scale: float) -> Figures:
    """Milliseconds from the call to the start of the job, in an idle worker."""

    def one(place: int) -> float:
        began = time.perf_counter_ns()
        adapter.mark(place)
        return (body.await_moment(place, START_LIMIT_SECS) - began) / 1e6

    return _latency("pick_up_ms", adapter, one, scale) if not adapter.in_process else {}


def result(adapter: Adapter, scale: float) -> Figures:
    """Milliseconds from the end of a job until its result is with a caller who waits for it."""

    def one(place: int) -> float:
        handle = adapter.mark(place, PAUSE_SECS)
        adapter.wait(handle, START_LIMIT_SECS)
        ended = time.perf_counter_ns()
        return (ended - body.moment(place)) / 1e6

    if adapter.in_process or not adapter.keeps_results:
        return {}
    return _latency("result_ms", adapter, one, scale)


MEASURES: dict[str, Callable[[Any, float], Figures]] = {
    "enqueue": enqueue,
    "bulk": bulk,
    "drain": drain,
    "start": start,
    "pick_up": pick_up,
    "result": result,
}


# ---- parts, also used by reach.py ---------------------------------------------------------


def fill(adapter: Adapter, count: int) -> None:
    """Store a marking job and ``count`` no-op jobs behind it."""
    body.clear_marks()
    adapter.mark(FIRST)
    adapter.bulk(count)


def until_drained(adapter: Adapter, count: int) -> float:
    """Return the seconds from the first job to the last result of what ``fill`` stored."""
    began = body.await_moment(FIRST, START_LIMIT_SECS)
    while (done := adapter.finished()) <= count:
        secs = (time.perf_counter_ns() - began) / 1e9
        if secs > LIMIT_SECS:
            raise TimeoutError(f"{done} of {count} jobs were done in {secs:.0f} s")
        rest_secs = secs * (count + 1 - done) / max(done, 1)
        ahead = min(LOOK_AHEAD * rest_secs, secs)
        time.sleep(max(LOOK_SECS, LOOK_SHARE * secs, ahead))
    return (time.perf_counter_ns() - began) / 1e9


def _drain_here(adapter: Adapter, count: int) -> Figures:
    cpu = time.process_time()
    secs = adapter.drain_here(count)
    used = time.process_time() - cpu
    if (done := adapter.finished()) < count:
        raise RuntimeError(f"{done} of {count} jobs were done")
    adapter.clear()
    return {"drain": count / secs, "drain_jobs": float(count), "drain_cpu_secs": used}


def _latency(name: str, adapter: Adapter, one: Callable[[int], float], scale: float) -> Figures:
    count = max(20, int(100 * scale))
    adapter.clear()
    body.clear_marks()
    with Worker(adapter):
        adapter.mark(FIRST)
        body.await_moment(FIRST, START_LIMIT_SECS)
        found = []
        for place in range(1, WARM + count + 1):
            time.sleep(random.uniform(*NAP_SECS))  # noqa: S311  # out of step with any timer
            found.append(one(place))
    adapter.clear()
    found = sorted(found[WARM:])
    p95 = found[int(0.95 * (len(found) - 1))]
    return {f"{name}_median": statistics.median(found), f"{name}_p95": p95}


def _scaled(count: int, scale: float) -> int:
    return max(100, int(count * scale))


def _cpu(name: str, secs: float | None) -> Figures:
    return {} if secs is None else {name: secs}
