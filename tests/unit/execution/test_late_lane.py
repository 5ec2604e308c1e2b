"""A lane that is loaded when there is work for it, and behaves as an idle one until then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nuvom.execution.late_lane import LateLane
from nuvom.execution.running import RunningJob
from nuvom.testing import make_job
from nuvom.worker import Worker
from tests.engine import Engine, make_runtime

HEAVY = ("asyncio", "nuvom.execution.async_lane", "nuvom.execution.process_lane", "subprocess")


class RealLane:
    """A lane that says what it was asked, and what it was asked for."""

    name = "real"

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def call(*_args: object) -> str:
            self.calls.append(name)
            return name

        return call


@pytest.fixture
def real() -> RealLane:
    return RealLane()


@pytest.fixture
def lane(real: RealLane) -> LateLane:
    return LateLane("real", 3, lambda: real)


def test_it_is_an_idle_lane_until_it_is_loaded(lane: LateLane, real: RealLane) -> None:
    running = RunningJob(make_job(), "worker", None, 0.0)
    lane.start()
    lane.close_attempt(running)
    assert (3, 3, 0, 0) == (lane.free(), lane.room(), lane.backlog(), lane.stuck())
    assert ([], {}, True) == (lane.take_back(), lane.stacks(), running.is_cancelled)
    lane.stop()
    assert [] == real.calls


@pytest.mark.parametrize("first", ["submit", "run_hook"])
def test_its_first_work_starts_it(lane: LateLane, real: RealLane, first: str) -> None:
    lane.start()
    getattr(lane, first)([])
    getattr(lane, first)([])
    assert ["start", first, first] == real.calls


def test_what_was_loaded_before_the_start_is_started_once(lane: LateLane, real: RealLane) -> None:
    assert real is lane.load()
    lane.start()
    assert ["start"] == real.calls


@pytest.mark.parametrize(
    "method", ["free", "room", "backlog", "take_back", "stacks", "stuck", "stop"]
)
def test_all_is_handed_on_from_then_on(lane: LateLane, real: RealLane, method: str) -> None:
    lane.load()
    getattr(lane, method)()
    lane.close_attempt(RunningJob(make_job(), "worker", None, 0.0))
    assert [method, "close_attempt"] == real.calls


# ---- in a worker ----------------------------------------------------------------------------


def loaded(worker: Worker) -> list[str]:
    """Return the names of the late lanes that are there."""
    lanes = [lane for lane in worker._lanes if isinstance(lane, LateLane)]
    return [lane.name for lane in lanes if lane._lane is not None]


def test_worker_loads_the_lanes_that_it_will_need(project: Path) -> None:
    with Engine(make_runtime(project)) as engine:
        assert [] == loaded(Worker(engine.runtime))

        @engine.task
        async def wait() -> None: ...

        assert ["async"] == loaded(Worker(engine.runtime))
    with Engine(make_runtime(project, max_memory_per_child=1 << 30)) as engine:
        assert ["process"] == loaded(Worker(engine.runtime))


def test_worker_of_plain_tasks_loads_neither_loop_nor_children(project: Path) -> None:
    (project / "tasks.py").write_text("from nuvom import task\n\n@task\ndef one(): return 1\n")
    program = f"""
import sys
import tasks
from nuvom.worker import start_worker_pool
job = tasks.one.delay()
start_worker_pool(burst=True)
assert job.get(0) == 1
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=project, capture_output=True, text=True, check=False
    )
    assert ("[]\n", 0) == (done.stdout, done.returncode), done.stderr
