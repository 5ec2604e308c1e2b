"""Real workers make jobs wait as long as the sizing example says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from nuvom import Job, task
from nuvom.config.sources import load
from nuvom.inspection.inspector import Inspector
from nuvom.runtime import Runtime, build_runtime
from tests.cli.shell import end_spawned, spawn
from tests.engine import LIMIT_SECS, in_use
from tests.lab.sizing import simulation
from tests.reliability.workspace import wait_for

WORKERS, SLOTS = 2, 4
MEAN_SECS = 0.2  # asleep, so that no worker is short of CPU
CLOSE_SECS, CLOSE = 0.03, 0.25  # for pick-ups, and a machine that has other work as well
FULL = 400  # jobs in a full queue, to measure how long a slot stands still between two
TASKS = """\
import time
from nuvom import task

@task
def nap(secs: float) -> None:
    time.sleep(secs)
"""


@task(name="tasks.nap")
def nap(secs: float) -> None:
    """Stand for the task of the same name in the workers' project."""


def overhead(runtime: Runtime, seed: int) -> float:
    """Return how many seconds a slot stands still between two jobs, from a full queue."""
    stream = simulation().Stream(1.0, MEAN_SECS / 2)
    jobs = nap.map([(one.secs,) for one in stream.arrivals(FULL, Random(seed))])
    jobs.get(timeout=LIMIT_SECS)
    seen = [arrival(runtime, job) for job in jobs]
    starts = [started_at for _, started_at in seen]
    first, last = min(starts), max(starts)  # until then all slots have something to do
    busy = sum(min(last, started_at + one.secs) - started_at for one, started_at in seen)
    slots = WORKERS * SLOTS
    secs: float = (slots * (last - first) - busy) / (FULL - slots)
    return secs


def arrival(runtime: Runtime, job: Job[None]) -> tuple[Any, float]:
    """Return a job as the simulation takes it, and when it started."""
    seen = job.snapshot()
    (slept,), _ = runtime.codec.decode_call(seen.record.args, seen.record.kwargs)
    assert seen.started_at is not None
    return simulation().Arrival(seen.record.created_at, slept), seen.started_at


def send(busy: float, secs: float, seed: int) -> list[Job[None]]:
    """Enqueue sleeping jobs at random times; return them in the order of arrival."""
    stream = simulation().Stream(busy * WORKERS * SLOTS / MEAN_SECS, MEAN_SECS)
    begun, jobs, pause = time.monotonic(), [], threading.Event()
    for one in stream.arrivals(int(stream.rate * secs), Random(seed)):
        pause.wait(max(0.0, begun + one.at - time.monotonic()))
        jobs.append(nap.delay(one.secs))
    return jobs


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(300)
@pytest.mark.parametrize("busy", [0.7, 0.9])
def test_the_waits_of_real_workers_are_those_of_the_simulation(
    project: Path, seed: int, figures: Callable[[str], None], busy: float
) -> None:
    """The simulation replays the same arrivals and durations, so that chance plays no part."""
    (project / "tasks.py").write_text(TASKS)
    settings = {"queue_backend": "sqlite", "result_backend": "sqlite"}
    try:
        with in_use(build_runtime(load(project, environ={}, overrides=settings))) as runtime:
            inspector = Inspector(runtime)
            for _ in range(WORKERS):
                spawn("runworker", "--quiet", "--threads", SLOTS, cwd=project)
            wait_for(lambda: len(inspector.workers()) == WORKERS, LIMIT_SECS, "no workers")
            between = overhead(runtime, seed)
            jobs = send(busy, 60.0, seed)
            for job in jobs:
                job.get(timeout=LIMIT_SECS)
            seen = [arrival(runtime, job) for job in jobs]
    finally:
        end_spawned()
    sizing = simulation()
    measured = [started_at - one.at for one, started_at in seen]
    layout = {"workers": WORKERS, "slots": SLOTS, "overhead": between}
    predicted = sizing.replay([one for one, _ in seen], **layout)
    stream = sizing.Stream(busy * WORKERS * SLOTS / MEAN_SECS, MEAN_SECS)
    in_the_long_run = sizing.simulate([stream], **layout)[5]
    figures(f"a slot stands still for {between * 1000:.1f} ms between two jobs")
    rows = {"measured": measured, "same arrivals": predicted, "long run": in_the_long_run}
    for name, waits in rows.items():
        middle, late = (sizing.quantile(sorted(waits), share) for share in (0.5, 0.95))
        rows[name] = [middle, late]
        figures(
            f"{busy:.0%} busy, {len(jobs)} jobs, {name}: median {middle:.3f} s, p95 {late:.3f} s"
        )
    for real, expected in zip(rows["measured"], rows["same arrivals"], strict=True):
        assert abs(real - expected) <= CLOSE_SECS + CLOSE * expected
