"""Slots that run jobs in threads, and what happens to those whose attempt is closed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from math import inf

import pytest

from nuvom.core.guard import AttemptClosed, UserCall, of_thread
from nuvom.execution import thread_lane
from nuvom.execution.thread_lane import ThreadLane
from nuvom.testing import FakeClock
from tests.engine import LIMIT_SECS
from tests.unit.execution.bench import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def lane(bench: Bench) -> Iterator[ThreadLane]:
    lane = ThreadLane(2, bench.context, bench)
    lane.start()
    yield lane
    lane.stop()
    assert [] == bench.crashes


class Gate:
    """Code that says that it runs, and goes on when it is let."""

    def __init__(self) -> None:
        self.runs = threading.Semaphore(0)
        self.go = threading.Event()
        self.ended = threading.Event()
        self.told: list[type[BaseException]] = []

    def wait(self) -> None:
        self.runs.release()
        try:
            while not self.go.wait(0.001):  # back in Python code every millisecond
                pass
        except BaseException as error:
            self.told.append(type(error))
            raise
        finally:
            self.ended.set()

    def stubborn(self) -> None:
        """Run on whatever is raised."""
        self.runs.release()
        while not self.go.is_set():
            try:
                self.go.wait(0.001)
            except BaseException as error:  # noqa: BLE001  # the point
                self.told.append(type(error))
        self.ended.set()

    def is_running(self, times: int = 1) -> None:
        for _ in range(times):
            assert self.runs.acquire(timeout=LIMIT_SECS)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.go.set()


def assert_all_slots_work(bench: Bench, lane: ThreadLane) -> None:
    """Check that as many attempts run at once as there are slots."""
    before, gate = len(bench.finished), Gate()
    lane.submit([bench.work(gate.wait) for _ in range(lane.size)])
    try:
        gate.is_running(lane.size)
    finally:
        gate.go.set()
    bench.wait_for(before + lane.size)


# ---- running --------------------------------------------------------------------------------


def test_thrifty_slots_leave_each_other_asleep_until_nudged(
    bench: Bench, lane: ThreadLane, gate: Gate
) -> None:
    bench.wait_until(lambda: lane.free() == 2)
    lane.is_thrifty = True
    lane.submit([bench.work(gate.wait) for _ in range(2)])
    gate.is_running()
    assert (1, 1) == (lane.free(), len(lane.ready))
    lane.nudge()
    gate.is_running()
    assert (0, 0) == (lane.free(), len(lane.ready))


# ---- closed by somebody else ----------------------------------------------------------------


def test_slot_of_code_that_cannot_be_stopped_is_replaced(
    bench: Bench, lane: ThreadLane, gate: Gate
) -> None:
    stubborn = [bench.work(gate.stubborn) for _ in range(2)]
    lane.submit(stubborn)
    gate.is_running(2)
    for work in stubborn:
        bench.close(lane, work)

    assert_all_slots_work(bench, lane)
    assert 2 == lane.stuck()
    gate.go.set()
    bench.wait_until(lambda: lane.stuck() == 0)
    assert 2 == len(bench.finished)


def test_closing_at_any_moment_costs_no_slot_and_harms_no_neighbour(
    bench: Bench, lane: ThreadLane
) -> None:
    work = [bench.work(lambda number=number: number) for number in range(3000)]
    closed: list[int] = []

    def closer() -> None:
        for number in range(0, 3000, 2):
            if bench.attempts.close(work[number]):
                closed.append(number)
                lane.close_attempt(work[number])

    thread = threading.Thread(target=closer)
    thread.start()
    lane.submit(work)
    thread.join()
    values = {bench.value(one) for one in bench.wait_for(3000 - len(closed))}
    assert set(range(3000)) - set(closed) == values
    assert_all_slots_work(bench, lane)


# ---- deadlines ------------------------------------------------------------------------------


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def timed(clock: FakeClock) -> Iterator[tuple[Bench, ThreadLane]]:
    bench = Bench(clock)
    lane = ThreadLane(2, bench.context, bench)
    lane.start()
    yield bench, lane
    lane.stop()
    clock.advance(10)
    assert [] == bench.crashes


def test_a_short_limit_is_kept_though_the_watchdog_slept_when_the_attempt_began(
    timed: tuple[Bench, ThreadLane], clock: FakeClock, gate: Gate
) -> None:
    bench, lane = timed
    bench.wait_until(lambda: clock.monotonic() < lane._looks_at < inf)
    lane.submit([bench.work(gate.wait, timeout_secs=0.1)])
    gate.is_running()
    clock.advance(0.11)
    assert "timeout" == bench.wait_for()[0].outcome


def test_limit_is_kept_though_the_mark_of_the_start_took_longer_than_it(
    timed: tuple[Bench, ThreadLane], clock: FakeClock, gate: Gate
) -> None:
    bench, lane = timed
    marking, marked = threading.Event(), threading.Event()

    def mark(_record: object) -> None:
        marking.set()
        marked.wait(LIMIT_SECS)

    bench.runner._mark_started = mark
    lane.submit([bench.work(gate.wait, timeout_secs=0.1)])
    assert marking.wait(LIMIT_SECS)
    clock.advance(0.11)
    bench.wait_until(lambda: clock.monotonic() < lane._looks_at < inf)
    marked.set()
    gate.is_running()
    clock.advance(0.11)
    assert "timeout" == bench.wait_for()[0].outcome


# ---- hooks ----------------------------------------------------------------------------------


def test_hook_runs_before_the_attempts_that_wait(
    bench: Bench, lane: ThreadLane, gate: Gate
) -> None:
    order: list[str] = []
    bench.occupy(lane, gate, 2)
    lane.submit([bench.work(lambda: order.append("job"))])
    lane.run_hook(lambda: order.append("hook"))
    gate.go.set()
    bench.wait_for(3)
    bench.wait_until(lambda: len(order) == 2)
    assert ["hook", "job"] == order


def _as_users_code(function: Callable[[], object]) -> None:
    guard = of_thread.guard
    assert guard is not None
    guard.outside(UserCall(), function)


def test_hook_that_hangs_gives_up_its_slot(
    timed: tuple[Bench, ThreadLane],
    clock: FakeClock,
    gate: Gate,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench, lane = timed
    caplog.set_level(logging.WARNING, "nuvom.worker")
    lane.run_hook(partial(_as_users_code, gate.stubborn))
    gate.is_running()
    clock.advance(thread_lane._HOOK_SECS - 1)
    lane._close_overdue(clock.monotonic())
    assert 0 == lane.stuck()
    clock.advance(2)
    bench.wait_until(lambda: lane.stuck() == 1)
    assert_all_slots_work(bench, lane)
    bench.wait_until(lambda: "in stubborn" in caplog.text)  # told after the slot was replaced
    assert "a hook was left behind after 30 s; it is at:" in caplog.text
    bench.wait_until(lambda: gate.told == [AttemptClosed])


# ---- the end --------------------------------------------------------------------------------


def test_no_slot_is_made_for_an_attempt_closed_at_the_end(
    bench: Bench, lane: ThreadLane, gate: Gate
) -> None:
    (work,) = bench.occupy(lane, gate)
    lane.stop()
    bench.close(lane, work)
    assert gate.ended.wait(LIMIT_SECS)
    assert 1 == len(lane._slots)
