"""What two threads do to a lane at once, each story at the one point where it went wrong."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Any

import pytest

from nuvom.core.outcome import Settlement
from nuvom.core.record import JobRecord, JobStatus
from nuvom.execution.attempts import OpenAttempt
from nuvom.execution.child_process import ChildProcess
from nuvom.execution.frames import Ended
from nuvom.execution.process_lane import ProcessLane
from nuvom.execution.thread_lane import ThreadLane
from nuvom.testing import FakeClock
from tests.engine import wait_until
from tests.unit.execution.bench import Bench


class Children(Bench):
    """A process lane with one child that exists in name only."""

    def __init__(self) -> None:
        self.time = FakeClock()
        super().__init__(self.time)
        self.lane = ProcessLane(1, self.context, self)
        self.lane._supervisor.start = self.lane._supervisor.wake = lambda: None  # type: ignore[method-assign]
        self.child = ChildProcess.__new__(ChildProcess)
        self.child._clock, self.child._outbox = self.time, SimpleQueue()
        self.child.token = self.child.jobs = 0
        self.child.attempt, self.child.state = None, "idle"
        self.lane._supervisor._children.add(self.child)

    def order(self, **fields: Any) -> OpenAttempt:
        return self.work(threading.get_ident, isolation="process", **fields)


def test_the_next_attempt_of_a_child_does_not_time_out_for_the_one_before() -> None:
    bench = Children()
    overdue, innocent = bench.order(timeout_secs=1.0), bench.order()

    def busy() -> list[tuple[ChildProcess, OpenAttempt]]:
        bench.child.take(innocent)  # the attempt ends between the look and the request
        return [(bench.child, overdue)]

    bench.child.take(overdue)
    overdue.deadline = 0.0
    bench.lane._busy = busy  # type: ignore[method-assign]

    bench.lane._close_overdue(bench.time.monotonic())

    assert bench.child.asked_at is None
    assert [] == bench.finished


def test_a_wall_clock_set_back_takes_no_work_ahead() -> None:
    bench = Children()
    slow = bench.order()
    bench.lane.submit([slow])
    slow.started_at = bench.time.now()
    bench.time.advance(10.0)
    bench.time.jump(-3600.0)
    settlement = Settlement(JobRecord("", ""), JobStatus.SUCCESS, finished_at=bench.time.now())

    bench.lane._hear(bench.child, Ended(bench.child.token, settlement))

    assert 1 == bench.lane.room()


def test_a_worker_that_can_start_no_thread_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    lane = ThreadLane(1, bench.context, bench)
    go = threading.Event()
    lane.start()
    try:
        lane.submit([bench.work(go.wait, timeout_secs=0.5)])
        wait_until(lambda: lane.free() == 0)

        def fail(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", fail)
        wait_until(lambda: bool(bench.crashes))
        assert "can't start new thread" in str(bench.crashes[0])
    finally:
        go.set()
        lane.stop()
