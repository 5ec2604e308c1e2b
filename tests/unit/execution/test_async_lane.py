"""Coroutines on one event loop: places, deadlines, cancellations, and a loop that is blocked."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from nuvom.core.record import JobStatus
from nuvom.execution import async_lane
from nuvom.execution.async_lane import AsyncLane
from nuvom.execution.attempts import OpenAttempt
from tests.engine import LIMIT_SECS, untraced
from tests.unit.execution.bench import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def lane(bench: Bench) -> Iterator[AsyncLane]:
    lane = AsyncLane(2, bench.context, bench)
    lane.start()
    yield lane
    lane.stop()
    assert [] == bench.crashes


class Gate:
    """A coroutine that says that it runs, and goes on when it is let."""

    def __init__(self) -> None:
        self.runs = threading.Semaphore(0)
        self.ended = threading.Event()
        self.told: list[type[BaseException]] = []
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def wait(self) -> None:
        event = self._announce()
        try:
            await event.wait()
        except BaseException as error:
            self.told.append(type(error))
            raise
        finally:
            self.ended.set()

    async def stubborn(self) -> None:
        """Run on however often it is cancelled."""
        event = self._announce()
        while not event.is_set():
            try:
                await event.wait()
            except asyncio.CancelledError as error:
                self.told.append(type(error))
        self.ended.set()

    def _announce(self) -> asyncio.Event:
        event = asyncio.Event()
        self._waiting.append((asyncio.get_running_loop(), event))
        self.runs.release()
        return event

    def open(self) -> None:
        for loop, event in self._waiting:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    def is_running(self, times: int = 1) -> None:
        for _ in range(times):
            assert self.runs.acquire(timeout=LIMIT_SECS)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


class Blocker:
    """Coroutines that block their loop: in C, or in Python until they are told."""

    def __init__(self) -> None:
        self.there = threading.Semaphore(0)
        self.go = threading.Event()

    async def in_c(self) -> None:
        self._wait_in_c()

    def _wait_in_c(self) -> None:
        self.there.release()
        self.go.wait(LIMIT_SECS)

    async def in_python(self) -> None:
        self.there.release()
        while not self.go.is_set():
            pass

    def is_there(self) -> None:
        assert self.there.acquire(timeout=LIMIT_SECS)


@pytest.fixture
def blocker() -> Iterator[Blocker]:
    blocker = Blocker()
    yield blocker
    blocker.go.set()


async def nothing() -> None: ...


def assert_all_places_work(bench: Bench, lane: AsyncLane) -> None:
    before, gate = len(bench.finished), Gate()
    lane.submit([bench.work(gate.wait) for _ in range(2)])
    try:
        gate.is_running(2)
    finally:
        gate.open()
    bench.wait_for(before + 2)


# ---- running --------------------------------------------------------------------------------


def test_places_bound_how_many_run_at_once(bench: Bench, lane: AsyncLane, gate: Gate) -> None:
    lane.submit([bench.work(gate.wait) for _ in range(5)])
    gate.is_running(2)
    assert (0, 3) == (lane.free(), len(lane.ready))
    for _ in range(3):
        gate.open()
        gate.is_running()
    gate.open()
    bench.wait_for(5)
    assert (2, 0) == (lane.free(), len(lane.ready))
    assert bench.idles > 0


@pytest.mark.parametrize("raises", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_whatever_a_coroutine_raises_is_a_failure(
    bench: Bench, lane: AsyncLane, raises: BaseException
) -> None:
    async def task() -> None:
        raise raises

    lane.submit([bench.work(task)])
    (settlement,) = bench.wait_for()
    assert settlement.error is not None
    assert (JobStatus.FAILED, type(raises).__name__) == (settlement.status, settlement.error.type)
    assert_all_places_work(bench, lane)


def test_exit_of_a_part_that_a_job_has_left_behind_harms_nobody(
    bench: Bench, lane: AsyncLane
) -> None:
    async def task() -> None:
        asyncio.get_running_loop().call_soon(sys.exit, 3)

    lane.submit([bench.work(task)])
    bench.wait_for()
    assert_all_places_work(bench, lane)


def test_failure_of_the_engine_itself_is_told(bench: Bench) -> None:
    def fail(_running: object, _settlement: object) -> None:
        raise ZeroDivisionError

    lane = AsyncLane(2, bench.context, bench.but(finish=fail))
    lane.submit([bench.work(nothing)])
    bench.wait_until(lambda: bool(bench.crashes))
    assert isinstance(bench.crashes[0], ZeroDivisionError)
    lane.stop()


def test_stacks_show_where_each_job_waits(bench: Bench, lane: AsyncLane, gate: Gate) -> None:
    async def outer() -> None:
        await gate.wait()

    work = bench.work(outer)
    lane.submit([work])
    gate.is_running()
    bench.wait_until(lambda: "in wait" in lane.stacks()[work.record.id])
    assert "in outer" in lane.stacks()[work.record.id]


# ---- closed by somebody else ----------------------------------------------------------------


def test_place_of_a_coroutine_that_swallows_the_cancellation_is_given_away(
    bench: Bench, lane: AsyncLane, gate: Gate
) -> None:
    stubborn = [bench.work(gate.stubborn) for _ in range(2)]
    lane.submit(stubborn)
    gate.is_running(2)
    for work in stubborn:
        bench.close(lane, work)
    assert_all_places_work(bench, lane)
    assert 2 == lane.stuck()
    gate.open()
    bench.wait_until(lambda: lane.stuck() == 0)
    assert 2 == len(bench.finished)
    assert 2 == lane.free()


def test_attempt_closed_while_it_waits_never_runs(
    bench: Bench, lane: AsyncLane, gate: Gate
) -> None:
    ran: list[int] = []

    async def task() -> None:
        ran.append(1)

    bench.occupy(lane, gate, 2)
    waiting, after = bench.work(task), bench.work(gate.wait)
    lane.submit([waiting, after])
    bench.close(lane, waiting)
    gate.open()
    gate.is_running()  # the one behind it
    gate.open()
    bench.wait_for(3)
    assert [] == ran


# ---- deadlines ------------------------------------------------------------------------------


def test_coroutine_is_cancelled_at_its_deadline(
    bench: Bench, lane: AsyncLane, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(async_lane, "_LOOK_SECS", LIMIT_SECS)  # by the loop, not by the watchdog
    work = bench.work(gate.wait, timeout_secs=0.05)
    lane.submit([work])
    (settlement,) = bench.wait_for()
    assert (JobStatus.FAILED, "timeout") == (settlement.status, settlement.outcome)
    assert settlement.error is not None
    assert "timed out after 0.05 s" == settlement.error.message
    assert "in wait" in str(settlement.error.traceback)
    assert gate.ended.wait(LIMIT_SECS)
    assert [asyncio.CancelledError] == gate.told
    assert_all_places_work(bench, lane)


def test_attempt_that_was_closed_before_its_deadline_is_left_alone(
    bench: Bench, lane: AsyncLane
) -> None:
    work = bench.work(nothing, timeout_secs=60.0)
    bench.attempts.close(work)
    lane._close_overdue(work)
    assert [] == bench.finished


# ---- a loop that is blocked -----------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_lane, "_LOOK_SECS", 0.05)
    for name in ("_STANDS_SECS", "_BLOCKED_SECS"):
        monkeypatch.setattr(async_lane, name, 0.2)
    monkeypatch.setattr(async_lane, "_TURN_SECS", 0.02)


@pytest.fixture
def blocked(
    bench: Bench, impatient: None, blocker: Blocker, caplog: pytest.LogCaptureFixture
) -> Iterator[tuple[AsyncLane, OpenAttempt]]:
    """Give a lane whose loop is blocked by a job with a deadline."""
    caplog.set_level(logging.WARNING, "nuvom.worker")
    lane = AsyncLane(2, bench.context, bench)
    work = bench.work(blocker.in_c, timeout_secs=600.0)
    lane.submit([work])
    blocker.is_there()
    work.deadline = bench.clock.monotonic()  # now: it must not pass before the loop is blocked
    yield lane, work
    blocker.go.set()
    lane.stop()
    assert [] == bench.crashes


def test_coroutine_that_blocks_the_loop_is_named_once(
    bench: Bench,
    blocked: tuple[AsyncLane, OpenAttempt],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def named() -> int:  # on a busy machine a loop that has not come up yet may be named as well
        told = [one.getMessage() for one in caplog.records if "blocks the event loop" in one.msg]
        return len([text for text in told if "in _wait_in_c" in text])

    bench.wait_until(lambda: named() > 0)
    blocked[0]._look()
    assert 1 == named()


@untraced
def test_loop_that_is_blocked_in_c_is_left_behind_and_goes_on_some_time(
    bench: Bench, impatient: None, blocker: Blocker, caplog: pytest.LogCaptureFixture
) -> None:
    lane = AsyncLane(3, bench.context, bench)
    gate = Gate()
    bench.occupy(lane, gate)  # the neighbour
    old = lane._thread
    lane.submit([bench.work(blocker.in_c, timeout_secs=0.05), bench.work(gate.wait)])
    blocker.is_there()
    gate.is_running()  # what had not begun runs on another loop
    assert lane._thread is not old
    assert "loop was left behind" in caplog.text
    assert 1 == lane.stuck()
    bench.wait_until(lambda: lane.free() == 1)
    assert ["timeout"] == [one.outcome for one in bench.wait_for()]
    blocker.go.set()
    bench.wait_until(lambda: lane.stuck() == 0)
    gate.open()  # both: the neighbour goes on where it was
    bench.wait_for(3)
    assert old is not None
    bench.wait_until(old.loop.is_closed)
    lane.stop()
    assert [] == bench.crashes


def test_cancelled_code_that_blocks_the_loop_makes_room_as_well(
    bench: Bench, impatient: None, lane: AsyncLane, blocker: Blocker
) -> None:
    work = bench.work(blocker.in_c)
    lane.submit([work])
    blocker.is_there()
    bench.close(lane, work)
    assert_all_places_work(bench, lane)


def test_attempt_on_a_loop_that_was_left_behind_can_be_closed(
    bench: Bench, impatient: None, lane: AsyncLane, blocker: Blocker, gate: Gate
) -> None:
    (neighbour,) = bench.occupy(lane, gate)
    lane.submit([bench.work(blocker.in_c, timeout_secs=0.05)])
    blocker.is_there()
    bench.wait_until(lambda: lane.stuck() == 1)
    bench.close(lane, neighbour)
    bench.wait_until(lambda: lane.stuck() == 2)
    assert_all_places_work(bench, lane)
    blocker.go.set()
    bench.wait_until(lambda: lane.stuck() == 0)
    assert [asyncio.CancelledError] == gate.told


def test_blocked_loop_has_no_room_until_it_goes_on(
    bench: Bench, impatient: None, lane: AsyncLane, blocker: Blocker
) -> None:
    lane.submit([bench.work(blocker.in_c)])  # without a deadline: nobody may close it
    blocker.is_there()
    bench.wait_until(lambda: lane.free() == 0)
    idles = bench.idles
    blocker.go.set()
    bench.wait_until(lambda: lane.free() == 2)
    assert bench.idles > idles
    assert ["success"] == [one.outcome for one in bench.wait_for()]


def test_watch_that_fails_stops_the_worker(
    bench: Bench, lane: AsyncLane, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(lane, "_look", fail)
    lane.submit([bench.work(nothing)])
    bench.wait_until(lambda: bool(bench.crashes))
    assert isinstance(bench.crashes.pop(), ZeroDivisionError)


# ---- hooks ----------------------------------------------------------------------------------


class Hook:
    """A hook that says that it runs, and ends when it is let."""

    def __init__(self) -> None:
        self.there, self.go, self.ended = (threading.Event() for _ in range(3))

    def __call__(self) -> None:
        self.there.set()
        self.go.wait(LIMIT_SECS)
        self.ended.set()


def test_hook_before_a_coroutine_may_outlast_its_attempt(bench: Bench, lane: AsyncLane) -> None:
    before = Hook()
    work = bench.work(nothing, before_job=before)
    lane.submit([work])
    assert before.there.wait(LIMIT_SECS)
    bench.close(lane, work)
    assert_all_places_work(bench, lane)
    before.go.set()
    assert before.ended.wait(LIMIT_SECS)
    assert_all_places_work(bench, lane)


# ---- the end --------------------------------------------------------------------------------


def test_coroutines_can_clean_up_when_the_lane_stops(bench: Bench, gate: Gate) -> None:
    lane = AsyncLane(2, bench.context, bench)
    bench.occupy(lane, gate)
    lane.stop()
    assert gate.ended.is_set()
    assert [asyncio.CancelledError] == gate.told
    assert lane._thread is not None
    assert lane._thread.loop.is_closed()


def test_coroutine_that_swallows_the_end_is_left_behind(
    bench: Bench, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(async_lane, "_LEAVE_SECS", 0.05)
    lane = AsyncLane(2, bench.context, bench)
    lane.submit([bench.work(gate.stubborn)])
    gate.is_running()
    lane.stop()
    bench.wait_until(lambda: lane._thread is not None and lane._thread.loop.is_closed())
    assert not gate.ended.is_set()
    forget(lane)


def forget(lane: AsyncLane) -> None:
    """Do away with coroutines of a loop that is closed, so that nothing warns of them."""
    for place in list(lane._runs.values()):
        place.task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is known
        place.attempt.is_cancelled = True
        coroutine: Any = place.task.get_coro()
        coroutine.close()


def test_lane_can_be_stopped_from_its_own_loop(bench: Bench, lane: AsyncLane) -> None:
    async def task() -> None:
        lane.stop()

    lane.submit([bench.work(task)])
    bench.wait_until(lambda: lane._thread is not None and lane._thread.loop.is_closed())
