"""The thread that starts children and sees them off."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from math import inf
from typing import Any

import pytest

from nuvom.core.record import JobRecord
from nuvom.execution import child_minder
from nuvom.execution.child_minder import ChildMinder
from nuvom.execution.child_pool import ChildPool
from nuvom.execution.child_process import ChildProcess
from nuvom.execution.running import RunningJob
from nuvom.testing.clock import FakeClock
from tests.engine import wait_until
from tests.unit.execution.children import LISTEN, Nest, make_work, nest


class House:
    """A minder with its pool; the clock stands still."""

    def __init__(self, nursery: Nest, clock: FakeClock, **options: Any) -> None:
        self.nursery = nursery
        self.clock = clock
        self.pool = ChildPool(2)
        self.waiting = 0
        self.given_up: list[str] = []
        self.faults = 0
        self.minder = ChildMinder(
            self.pool,
            clock,
            make=options.pop("make", self.make),
            waiting=lambda: self.waiting,
            give_up=self.give_up,
            chores=options.pop("chores", ()),
            crashed=nursery.crashes.append,
        )
        nursery.on_gone = self.gone

    def make(self) -> ChildProcess:
        if self.faults:
            self.faults -= 1
            raise OSError("no room for a process")
        return self.nursery.child()

    def give_up(self, reason: str) -> None:
        self.waiting = 0
        self.given_up.append(reason)

    def gone(self, child: ChildProcess, how: str) -> None:
        was_starting, _ = self.pool.forget(child)
        if was_starting:
            self.minder.failed_to_start(how)
        self.minder.wake()

    def idle_child(self) -> ChildProcess:
        child = self.nursery.child()
        child.talk()
        self.pool.add(child)
        self.pool.ready(child)
        return child


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    # The children themselves go by real time: only the minder's waits are the test's.
    with nest(monkeypatch) as nursery:
        house = House(nursery, FakeClock())
        yield house
        house.nursery.end()
        house.pool.close()
        for child in list(house.pool.leaving):
            house.pool.forget(child)
        house.minder.wake()
        house.minder.join()
        assert [] == nursery.crashes


def test_children_start_when_work_waits(house: House) -> None:
    house.minder.start()
    house.minder.start()  # twice is once
    house.waiting = 5
    house.minder.wake()
    wait_until(lambda: len(house.pool.starting) == 2)
    assert 2 == len(house.nursery.children)


def test_start_is_tried_again_after_a_while(house: House) -> None:
    house.faults, house.waiting = 1, 1
    house.minder.start()
    wait_until(lambda: house.minder._start_at > 0)
    assert [] == house.nursery.children
    house.clock.advance(0.1)
    wait_until(lambda: len(house.pool.starting) == 1)
    assert [] == house.given_up


def test_work_is_given_up_when_no_child_comes_up(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_minder, "_START_WAITS_SECS", (0.0, 0.0))
    house.nursery.program("raise SystemExit(7)")
    house.waiting = 1
    house.minder.start()
    wait_until(lambda: bool(house.given_up))
    assert ["no child process could be started for it: exit code 7"] == house.given_up
    assert 3 == len(house.nursery.children)


def test_success_makes_earlier_failures_forgotten(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_minder, "_START_WAITS_SECS", (0.0,))
    house.minder.failed_to_start("once")
    house.minder.came_up(house.nursery.child())
    house.minder.failed_to_start("twice")
    assert [] == house.given_up
    house.minder.failed_to_start("three times")
    assert 1 == len(house.given_up)


def test_child_that_does_not_come_up_is_killed(house: House) -> None:
    house.waiting = 1
    house.minder.start()
    wait_until(lambda: bool(house.pool.starting))
    house.waiting = 0
    house.clock.advance(child_minder._START_SECS)
    wait_until(lambda: bool(house.nursery.gone))
    assert house.pool.is_empty


def test_child_that_does_not_end_is_killed_after_its_grace(house: House) -> None:
    house.nursery.program("import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)")
    house.minder.start()
    child = house.idle_child()
    work = make_work()
    house.pool.assign(work)
    house.pool.let_go(work)
    house.minder.end(child)
    house.clock.advance(child_minder.GRACE_SECS / 2)
    house.minder.wake()
    assert not child.was_killed
    house.clock.advance(child_minder.GRACE_SECS / 2)
    wait_until(lambda: bool(house.nursery.gone))
    assert child.was_killed


def test_child_that_must_go_is_killed_at_once(house: House) -> None:
    house.minder.start()
    child = house.idle_child()
    work = make_work()
    house.pool.assign(work)
    house.pool.let_go(work)
    house.minder.end(child, at_once=True)
    wait_until(lambda: bool(house.nursery.gone))
    assert child.was_killed


def worn_child(house: House) -> ChildProcess:
    house.nursery.program(LISTEN)
    house.minder.start()
    child = house.idle_child()
    house.pool.assign(make_work())
    house.pool.ended(child, 1, is_worn=True)
    return child


def test_worn_child_leaves_by_itself(house: House) -> None:
    child = worn_child(house)
    house.minder.retire(child)
    wait_until(lambda: bool(house.nursery.gone))
    assert (child, "exit code 0") == house.nursery.gone[0]
    assert not child.was_killed


def test_worn_child_waits_for_the_hooks_that_it_owes(house: House) -> None:
    child = worn_child(house)
    due = child.owe_hooks(RunningJob(JobRecord("job", "f"), "worker", None, 0.0))
    house.minder.retire(child)
    house.clock.advance(child_minder._HOOK_SECS / 2)
    house.minder.wake()
    assert child.leave_at is not None
    child.hooks_called(due.token)
    house.minder.wake()
    wait_until(lambda: bool(house.nursery.gone))
    assert due.are_over.is_set()


def test_worn_child_waits_for_its_hooks_no_longer_than_a_while(house: House) -> None:
    child = worn_child(house)
    child.owe_hooks(RunningJob(JobRecord("job", "f"), "worker", None, 0.0))
    house.minder.retire(child)
    house.clock.advance(child_minder._HOOK_SECS)
    wait_until(lambda: bool(house.nursery.gone))
    assert not child.was_killed


def test_idle_children_leave_when_the_lane_ends(house: House) -> None:
    house.nursery.program(LISTEN)
    house.minder.start()
    child = house.idle_child()
    house.minder.close()
    house.minder.join()
    assert [(child, "exit code 0")] == house.nursery.gone


def test_child_that_starts_while_the_lane_ends_is_killed(house: House) -> None:
    house.nursery.program(LISTEN)
    made = house.make

    def make() -> ChildProcess:
        house.minder.close()
        return made()

    house.minder._make = make
    house.waiting = 1
    house.minder.start()
    house.minder.join()
    assert house.nursery.children[0].was_killed
    assert house.pool.is_empty


def test_minder_without_children_has_nothing_to_wait_for(house: House) -> None:
    house.minder.close()
    house.minder.join()


def test_chores_are_called_when_they_want(house: House) -> None:
    called: list[float] = []
    began = house.clock.monotonic()

    def chore(now: float) -> float:
        called.append(now)
        return began + 5 if len(called) == 1 else inf

    house.minder._chores = (chore,)
    house.minder.start()
    wait_until(lambda: len(called) == 1)
    house.clock.advance(5)
    wait_until(lambda: len(called) == 2)
    assert [began, began + 5] == called


def test_failing_chore_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def chore(_now: float) -> float:
        raise LookupError("a fault of the engine")

    with nest(monkeypatch) as nursery:
        house = House(nursery, FakeClock(), chores=(chore,))
        house.minder.start()
        house.minder.join()
        assert ["a fault of the engine"] == [str(error) for error in nursery.crashes]
    assert [] == [one for one in threading.enumerate() if one.name == "nuvom-children"]
