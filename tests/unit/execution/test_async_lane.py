"""Coroutines on one event loop: places, deadlines, cancellations, and a loop that is blocked."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from nuvom.core.record import JobStatus
from nuvom.execution import async_lane
from nuvom.execution.async_lane import AsyncLane
from nuvom.hooks import Hooks
from tests.engine import LIMIT_SECS, untraced, wait_until
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
    """A coroutine that blocks its loop, in C, until it is told."""

    def __init__(self) -> None:
        self.there = threading.Semaphore(0)
        self.go = threading.Event()

    async def block(self) -> None:
        self.there.release()
        self.go.wait(LIMIT_SECS)

    def is_there(self) -> None:
        assert self.there.acquire(timeout=LIMIT_SECS)


@pytest.fixture
def blocker() -> Iterator[Blocker]:
    blocker = Blocker()
    yield blocker
    blocker.go.set()


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


def test_a_coroutine_does_not_see_what_an_earlier_one_has_set(
    bench: Bench, lane: AsyncLane
) -> None:
    tenant = ContextVar("tenant", default="nobody")

    async def task() -> str:
        before = tenant.get()
        tenant.set("somebody")
        return before

    lane.submit([bench.work(task) for _ in range(5)])  # more than there are places
    assert ["nobody"] * 5 == [bench.value(one) for one in bench.wait_for(5)]


# ---- closed by somebody else ----------------------------------------------------------------


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


# ---- a loop that is blocked -----------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_lane, "_LOOK_SECS", 0.05)
    for name in ("_STANDS_SECS", "_BLOCKED_SECS"):
        monkeypatch.setattr(async_lane, name, 0.2)
    monkeypatch.setattr(async_lane, "_TURN_SECS", 0.02)


@untraced
def test_loop_that_is_blocked_in_c_is_left_behind_and_goes_on_some_time(
    bench: Bench, impatient: None, blocker: Blocker, caplog: pytest.LogCaptureFixture
) -> None:
    lane = AsyncLane(3, bench.context, bench)
    lane.start()
    gate = Gate()
    bench.occupy(lane, gate)  # the neighbour
    old = lane._thread
    lane.submit([bench.work(blocker.block, timeout_secs=0.05), bench.work(gate.wait)])
    blocker.is_there()
    gate.is_running()  # what had not begun runs on another loop
    assert lane._thread is not old
    assert "blocks the event loop" in caplog.text
    bench.wait_until(lambda: "loop was left behind" in caplog.text)
    assert 1 == lane.stuck()
    bench.wait_until(lambda: lane.free() == 1)
    assert ["timeout"] == [one.outcome for one in bench.wait_for()]
    blocker.go.set()
    bench.wait_until(lambda: lane.stuck() == 0)
    gate.open()  # both: the neighbour goes on where it was
    bench.wait_for(3)
    bench.wait_until(old.loop.is_closed)
    lane.stop()
    assert [] == bench.crashes


def test_attempt_on_a_loop_that_was_left_behind_can_be_closed(
    bench: Bench, impatient: None, lane: AsyncLane, blocker: Blocker, gate: Gate
) -> None:
    (neighbour,) = bench.occupy(lane, gate)
    lane.submit([bench.work(blocker.block, timeout_secs=0.05)])
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
    lane.submit([bench.work(blocker.block)])  # without a deadline: nobody may close it
    blocker.is_there()
    bench.wait_until(lambda: lane.free() == 0)
    idles = bench.idles
    blocker.go.set()
    bench.wait_until(lambda: lane.free() == 2)
    assert bench.idles > idles
    assert ["success"] == [one.outcome for one in bench.wait_for()]


# ---- the end --------------------------------------------------------------------------------


def test_coroutines_can_clean_up_when_the_lane_stops(bench: Bench, gate: Gate) -> None:
    lane = AsyncLane(2, bench.context, bench)
    bench.occupy(lane, gate)
    lane.stop()
    assert gate.ended.is_set()
    assert [asyncio.CancelledError] == gate.told
    assert lane._thread.loop.is_closed()


def test_coroutine_that_swallows_the_end_is_left_behind(
    bench: Bench, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(async_lane, "_LEAVE_SECS", 0.05)
    lane = AsyncLane(2, bench.context, bench)
    lane.submit([bench.work(gate.stubborn)])
    gate.is_running()
    lane.stop()
    bench.wait_until(lane._thread.loop.is_closed)
    assert not gate.ended.is_set()
    forget(lane)


def forget(lane: AsyncLane) -> None:
    """Do away with coroutines of a loop that is closed, so that nothing warns of them."""
    for place in list(lane._runs.values()):
        place.task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is known
        place.attempt.is_cancelled = True
        coroutine: Any = place.task.get_coro()
        coroutine.close()


# ---- hooks around all jobs ------------------------------------------------------------------


def test_what_a_hook_opened_is_closed_although_its_coroutine_was_closed_before_it_began(
    bench: Bench, lane: AsyncLane, gate: Gate
) -> None:
    hooks = bench.runner.hooks = Hooks()
    has_begun, may_end = threading.Event(), threading.Event()
    seen: list[str] = []

    def begin() -> None:
        has_begun.set()
        may_end.wait(LIMIT_SECS)
        seen.append("before")

    hooks.add(hooks.before_each, begin)
    hooks.add(hooks.each_error, lambda error: seen.append(type(error).__name__))
    attempt = bench.work(gate.wait)
    lane.submit([attempt])
    assert has_begun.wait(LIMIT_SECS)
    bench.close(lane, attempt)
    may_end.set()
    wait_until(lambda: len(seen) == 2)
    assert ["before", "CancelledError"] == seen
