"""R15, F38: the wall clock may jump, go back or stand still; no lease ends and no job is early."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nuvom.config.settings import Settings
from nuvom.core.clock import Clock
from nuvom.queue_backends.file import FileJobQueue
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.testing.builders import make_job, make_settlement
from nuvom.testing.clock import FakeClock
from tests.engine import Engine, make_runtime, with_backends

HOUR, DAY = 3600.0, 86400.0
NOW = 1_750_000_000.0
IN_2039 = 2**31 - NOW + 400 * DAY
JUMPS = {
    "an hour on": HOUR,
    "an hour back": -HOUR,
    "a day on": DAY,
    "a day back": -DAY,
    "beyond 2038": IN_2039,
    "to 1970": -NOW + 1,
    "a suspend of eight hours": 8 * HOUR,  # the monotonic clock stands still meanwhile
}
KINDS: dict[str, Callable[..., LeasedJobQueue]] = {
    "memory": MemoryJobQueue,
    "file": FileJobQueue,
    "sqlite": SQLiteJobQueue,
}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture(params=KINDS)
def queue(
    project: Path, clock: FakeClock, request: pytest.FixtureRequest
) -> Iterator[LeasedJobQueue]:
    queue = KINDS[request.param](Settings(root=project), clock=clock)
    yield queue
    queue.stop()


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
def test_r15_no_jump_of_the_wall_clock_ends_a_lease(
    queue: LeasedJobQueue, clock: FakeClock, jump: float
) -> None:
    job = make_job()
    queue.enqueue(job)
    (claimed,) = queue.claim(1, "worker")
    clock.jump(jump)
    assert queue.reap() == []
    assert queue.extend("worker") == {job.id: claimed.lease_epoch}
    assert queue.claim(1, "another") == []
    assert queue.settle([make_settlement(claimed, value=1)]) == [True]


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
def test_r15_a_lease_ends_after_its_time_whatever_the_wall_clock_says(
    queue: LeasedJobQueue, clock: FakeClock, jump: float
) -> None:
    queue.enqueue(make_job())
    (claimed,) = queue.claim(1, "worker")
    clock.jump(jump)
    clock.advance(Settings().lease_secs + 0.1)
    (recovered,) = queue.reap()
    assert recovered.id == claimed.id


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
def test_r15_a_job_is_never_handed_out_before_its_time(
    queue: LeasedJobQueue, clock: FakeClock, jump: float
) -> None:
    """The time is asked anew at each claim: no wait was counted down before the jump."""
    due_at = NOW + HOUR
    job = make_job(run_at=due_at)
    queue.enqueue(job)
    clock.jump(jump)
    queue.reap()
    is_due = clock.now() >= due_at
    assert [one.id for one in queue.claim(1, "worker")] == [job.id] * is_due
    if not is_due:
        clock.jump(due_at - clock.now() - 0.01)
        assert queue.claim(1, "worker") == []
        clock.jump(0.02)
        queue.reap()
        assert [one.id for one in queue.claim(1, "worker")] == [job.id]


class SetClock(Clock):
    """The system's clocks, of which the wall clock can be set."""

    offset = 0.0

    def now(self) -> float:
        return super().now() + self.offset


@pytest.mark.parametrize("kind", KINDS)
def test_f38_a_worker_that_waits_for_a_job_sees_the_clock_being_set(
    project: Path, kind: str
) -> None:
    clock = SetClock()
    given: dict[str, Any] = {"queue_backend": kind, "result_backend": kind}
    runtime = make_runtime(project, clock=clock, **given)
    runtime = with_backends(runtime, queue=KINDS[kind](runtime.settings, clock=clock))
    with Engine(runtime) as engine, engine.worker() as worker:
        task = engine.task(clock.now, name="tests.now")
        later, sooner = task.options(delay=HOUR).delay(), task.delay()
        assert sooner.get(timeout=20) < clock.now() + 60
        assert worker.finished_jobs <= 1
        clock.offset = HOUR
        assert later.get(timeout=20) >= NOW
