"""R22, F33: a worker at work for long keeps neither memory nor files nor threads.

A minute by default, which shows a leak that is not small. Half an hour, for the full counts:
``TEST_SOAK_SECS=1800 python3 dev.py test tests/reliability/test_soak.py --slow
-o faulthandler_timeout=2400``.
"""

from __future__ import annotations

import gc
import os
import statistics
import struct
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.record import JobStatus
from nuvom.inspection.inspector import Inspector
from nuvom.runtime import Runtime
from tests.engine import Engine
from tests.reliability import soak
from tests.reliability.workspace import Workspace, unfinished, wait_for

SECS = float(os.environ.get("TEST_SOAK_SECS", "60"))
FULL_SECS = 1800.0
JOBS_PER_SEC = 125  # 225,000 in half an hour
WARM_UP = 0.2  # of the time
FILES_OF_A_CHILD = THREADS_OF_A_CHILD = 2
FIRST_JOBS = 20_000  # fill the caches of all connections; so many must have been pruned, too
FIRST_CHILDREN_JOBS = 100  # have all children made
MOST_KIB_PER_100K = 1024
MOST_SLOWER = 1.2
DRAIN_SECS = 60.0
WARM_SECS = 200.0
_TICK_SECS = 0.02

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


class Size(NamedTuple):
    """What a worker has, when it has nothing to do; without what each of its children takes.

    A child that was killed is made anew when the next job needs it.
    """

    jobs: int
    rss_kib: int
    files: int
    threads: int
    children: int


def size_of(pid: int, jobs: int) -> Size:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    status = dict(line.split(":", 1) for line in lines)
    rss, threads = int(status["VmRSS"].split()[0]), int(status["Threads"])
    tasks = Path(f"/proc/{pid}/task").iterdir()
    children = sum(len((one / "children").read_text(encoding="ascii").split()) for one in tasks)
    files = len(os.listdir(f"/proc/{pid}/fd")) - children * FILES_OF_A_CHILD
    return Size(jobs, rss, files, threads - children * THREADS_OF_A_CHILD, children)


def warm_up(runtime: Runtime) -> None:
    """Have a worker do all that it does only once, and wait until its store is empty again."""
    now = SYSTEM_CLOCK.monotonic()
    soak.quick.map([(number, now) for number in range(FIRST_JOBS)])
    soak.apart.map([(number, now) for number in range(FIRST_CHILDREN_JOBS)])
    wait_for(lambda: not any(one.success for one in Inspector(runtime).stats()), WARM_SECS, "full")


def produce(runtime: Runtime, first: int, secs: float, rate: float) -> int:
    """Enqueue jobs at a steady rate; return the number of the next one."""
    began = SYSTEM_CLOCK.monotonic()
    number = first
    while (elapsed := SYSTEM_CLOCK.monotonic() - began) < secs:
        while number - first < elapsed * rate:
            soak.kind_of(number).delay(number, SYSTEM_CLOCK.monotonic())
            number += 1
        SYSTEM_CLOCK.sleep(_TICK_SECS)
    wait_for(lambda: not unfinished(runtime), DRAIN_SECS, "it never drained")
    return number


def settled_size(pid: int, jobs: int) -> Size:
    """Return the size once the threads that timed-out code was left in have ended."""
    sizes = [size_of(pid, jobs)]

    def is_at_rest() -> bool:
        SYSTEM_CLOCK.sleep(0.2)
        sizes.append(size_of(pid, jobs))
        return sizes[-1][2:] == sizes[-2][2:]

    wait_for(is_at_rest, DRAIN_SECS, "its threads come and go")
    return sizes[-1]


def p99_millis(waits: list[float]) -> float:
    return statistics.quantiles(waits, n=100)[-1] * 1000


@needs_proc
@pytest.mark.slow
@pytest.mark.timeout(SECS + 300)
def test_r22_f33_a_worker_that_works_for_long_grows_in_nothing(
    tmp_path: Path, figures: Callable[[str], None]
) -> None:
    # Results are pruned at once, so that the file stays as large as it is; failures stay.
    workspace = Workspace(tmp_path, settings={"result_ttl_secs": 2.0})
    noted = tmp_path / "waits"
    env = {soak.WAITS_VARIABLE: str(noted)}
    with (
        workspace.open() as runtime,
        workspace.processes(1, "soak", env=env, threads=4, prune_secs=3.0) as processes,
    ):
        (pid,) = processes.running
        warm_up(runtime)
        warm = settled_size(pid, produce(runtime, 0, SECS * WARM_UP, JOBS_PER_SEC))
        noted_when_warm = noted.stat().st_size
        last = produce(runtime, warm.jobs, SECS * (1 - WARM_UP), JOBS_PER_SEC)
        end = settled_size(pid, last)
        failed = sum(one.failed for one in Inspector(runtime).stats())
    waits = [one for (one,) in struct.iter_unpack("d", noted.read_bytes()[noted_when_warm:])]
    part = len(waits) // 6
    first, final = p99_millis(waits[:part]), p99_millis(waits[-part:])
    jobs = end.jobs - warm.jobs
    grown = end.rss_kib - warm.rss_kib
    figures(
        f"{SECS:g} s, {end.jobs} jobs, {failed} FAILED: RSS {warm.rss_kib} KiB when warm, "
        f"{grown:+} KiB {jobs} jobs later; files {warm.files} to {end.files}, threads "
        f"{warm.threads} to {end.threads}, children {warm.children} to {end.children}; p99 from "
        f"enqueue to start {first:.1f} ms in the first sixth, {final:.1f} ms in the last"
    )
    assert failed == sum(soak.ends_badly(number) for number in range(last))
    assert grown <= MOST_KIB_PER_100K * max(1.0, jobs / 100_000)
    assert end.files <= warm.files
    assert end.threads <= warm.threads
    if SECS >= FULL_SECS:
        assert final <= MOST_SLOWER * first


# ---- what jobs leave behind in a process -------------------------------------------------------


@dataclass(eq=False)
class Parcel:
    """An argument that can be asked whether it is still there."""

    number: int


class LostError(Exception):
    """What a task raises."""


def test_f33_arguments_results_and_exceptions_of_ended_jobs_are_let_go(engine: Engine) -> None:
    alive: weakref.WeakSet[object] = weakref.WeakSet()

    def carry(parcel: Parcel) -> Parcel:
        alive.add(parcel)
        if parcel.number % 2:
            error = LostError(parcel)
            alive.add(error)
            raise error
        return parcel

    task = engine.task(carry, name="tests.carry", retries=0)
    with engine.worker(threads=2):
        jobs = task.map([(Parcel(number),) for number in range(100)])
        wait_for(lambda: not unfinished(engine.runtime), DRAIN_SECS, "it never drained")
        statuses = [one.status for one in jobs]
        assert [JobStatus.SUCCESS, JobStatus.FAILED] * 50 == statuses
        gc.collect()
        assert not list(alive)
