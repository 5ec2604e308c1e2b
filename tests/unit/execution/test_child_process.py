"""The child processes of a lane: one by one, all of them, and the thread that sees to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nuvom.execution import child_process
from nuvom.execution.child_process import ChildProcess, ChildSupervisor
from nuvom.execution.frames import AskStack, Ready
from nuvom.testing.clock import FakeClock
from tests.engine import wait_until
from tests.unit.execution.children import LISTEN, Nest, make_work, nest

SPEAK = (
    "import os, sys; os.write(1, bytes.fromhex('0000000791a5') + b'ready'); sys.stdin.buffer.read()"
)


@pytest.fixture
def nursery(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nest]:
    with nest(monkeypatch) as found:
        yield found
    assert [] == found.crashes


def test_what_a_child_says_is_heard_before_it_is_gone(nursery: Nest) -> None:
    nursery.program(SPEAK)
    child = nursery.child()
    child.talk()
    wait_until(lambda: bool(nursery.heard))
    child.leave()
    wait_until(lambda: bool(nursery.gone))
    assert [Ready()] == nursery.heard
    assert [(child, "exit code 0")] == nursery.gone


def test_order_is_made_when_its_turn_comes(nursery: Nest) -> None:
    nursery.program(LISTEN)
    child, made = nursery.child(), []

    def order() -> AskStack | None:
        made.append(1)
        return AskStack(1) if len(made) == 1 else None

    child.post(order)
    child.post(order)
    assert [] == made
    child.talk()
    child.leave()
    wait_until(lambda: bool(nursery.gone))
    assert [1, 1] == made


def test_fault_in_an_order_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def order() -> None:
        raise LookupError("a fault of the engine")

    with nest(monkeypatch) as nursery:
        nursery.program(LISTEN)
        child = nursery.child()
        child.post(order)
        child.talk()
        wait_until(lambda: bool(nursery.gone))
        assert ["a fault of the engine"] == [str(error) for error in nursery.crashes]


def test_fault_in_hearing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with nest(monkeypatch) as nursery:
        nursery.program(SPEAK)
        child = nursery.child()
        child._hear = lambda _child, _frame: 1 / 0  # type: ignore[assignment]  # a fault
        child.talk()
        wait_until(lambda: bool(nursery.crashes))
        assert isinstance(nursery.crashes[0], ZeroDivisionError)


def test_orders_to_a_child_that_is_gone_are_dropped(nursery: Nest) -> None:
    nursery.program("raise SystemExit(3)")
    child = nursery.child()
    child.process.wait()
    for _ in range(3):
        child.post(AskStack(1))
    child.talk()
    wait_until(lambda: bool(nursery.gone))
    assert "exit code 3" == nursery.gone[0][1]
    child.kill()
    child.close()  # nobody else's process is told anything


def test_child_that_only_closes_its_pipe_is_ended(nursery: Nest) -> None:
    nursery.program("import os, time; os.close(1); time.sleep(60)")
    nursery.child().talk()
    wait_until(lambda: bool(nursery.gone))
    assert nursery.gone[0][1] != "exit code 0"


# ---- the thread that starts and ends them -----------------------------------------------------


class House:
    """A supervisor of two children at most; its clock stands still."""

    def __init__(self, nursery: Nest, chores: Any = ()) -> None:
        self.nursery = nursery
        self.clock = FakeClock()
        self.waiting = 0
        self.given_up: list[str] = []
        self.faults = 0
        self.supervisor = ChildSupervisor(
            2,
            self.clock,
            make=self.make,
            waiting=lambda: self.waiting,
            give_up=self.give_up,
            chores=chores,
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
        was_starting, _ = self.supervisor.forget(child)
        if was_starting:
            self.supervisor.failed_to_start(how)
        self.supervisor.wake()

    def starting(self, waiting: int = 1) -> list[ChildProcess]:
        """Let so many attempts wait; return the children that start for them."""
        self.waiting = waiting
        self.supervisor.start()
        self.supervisor.wake()
        wait_until(lambda: self.supervisor.missing() <= 0)
        self.waiting = 0
        return self.supervisor.in_state("starting")

    def idle(self) -> ChildProcess:
        (child,) = self.starting()
        self.supervisor.came_up(child)
        return child


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    # The children themselves go by real time: only the supervisor's waits are the test's.
    with nest(monkeypatch) as nursery:
        nursery.program(LISTEN)
        house = House(nursery)
        yield house
        house.nursery.end()
        house.supervisor.close()
        house.supervisor.join()
        assert [] == nursery.crashes


def test_as_many_children_start_as_work_waits_for_and_slots_allow(house: House) -> None:
    assert 1 == len(house.starting(waiting=1))
    assert 2 == len(house.starting(waiting=5))
    for child in house.starting(waiting=5):
        house.supervisor.came_up(child)
    house.waiting = 2  # as many as are idle
    assert 0 == house.supervisor.missing()


def test_end_of_an_earlier_attempt_is_not_that_of_the_next(house: House) -> None:
    child, first, second = house.idle(), make_work("1"), make_work("2")
    child.take(first)
    assert first is house.supervisor.ended(child, 1, is_worn=False)
    child.take(second)
    assert house.supervisor.runs(child, 1) is None
    assert house.supervisor.ended(child, 1, is_worn=False) is None
    assert second is child.attempt


def test_worn_child_takes_no_slot_and_leaves_by_itself(house: House) -> None:
    child = house.idle()
    child.take(make_work())
    house.supervisor.ended(child, 1, is_worn=True)
    assert 2 == len(house.starting(waiting=2))
    wait_until(lambda: bool(house.nursery.gone))
    assert (child, "exit code 0") == house.nursery.gone[0]
    assert not child.was_killed


def test_start_is_tried_again_after_a_while(house: House) -> None:
    house.faults, house.waiting = 1, 1
    house.supervisor.start()
    wait_until(lambda: house.supervisor._start_at > 0)
    assert [] == house.nursery.children
    house.clock.advance(0.1)
    wait_until(lambda: len(house.nursery.children) == 1)
    assert [] == house.given_up


def test_work_is_given_up_when_no_child_comes_up_and_earlier_failures_are_forgotten(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "_START_WAITS_SECS", (0.0, 0.0))
    house.supervisor.failed_to_start("once")
    house.idle()
    house.nursery.program("raise SystemExit(7)")
    house.waiting = 2
    house.supervisor.wake()
    wait_until(lambda: bool(house.given_up))
    assert ["no child process could be started for it: exit code 7"] == house.given_up
    assert 4 == len(house.nursery.children)


def test_child_that_does_not_come_up_is_killed(house: House) -> None:
    (child,) = house.starting()
    house.clock.advance(child_process._START_SECS)
    wait_until(lambda: bool(house.nursery.gone))
    assert child.was_killed


def test_only_the_child_that_runs_an_attempt_is_ended_and_killed_after_its_grace(
    house: House,
) -> None:
    house.nursery.program("import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)")
    child, work = house.idle(), make_work()
    child.take(work)
    other = house.idle()
    house.supervisor.end(make_work())
    house.supervisor.end(work)
    house.clock.advance(child_process.GRACE_SECS / 2)
    house.supervisor.wake()
    assert not child.was_killed
    house.clock.advance(child_process.GRACE_SECS / 2)
    wait_until(lambda: bool(house.nursery.gone))
    assert (True, "idle") == (child.was_killed, other.state)


def test_idle_children_leave_when_the_lane_ends(house: House) -> None:
    child = house.idle()
    house.supervisor.close()
    house.supervisor.join()
    assert [(child, "exit code 0")] == house.nursery.gone
    assert 0 == house.supervisor.missing()


def test_child_that_starts_while_the_lane_ends_is_killed(house: House) -> None:
    made = house.make

    def make() -> ChildProcess:
        house.supervisor.close()
        return made()

    house.supervisor._make = make
    house.waiting = 1
    house.supervisor.start()
    house.supervisor.join()
    assert house.nursery.children[0].was_killed


def test_chores_are_called_when_they_want_and_may_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[float] = []

    def chore(now: float) -> float:
        called.append(now)
        if len(called) == 2:
            raise LookupError("a fault of the engine")
        return began + 5

    with nest(monkeypatch) as nursery:
        house = House(nursery, chores=(chore,))
        began = house.clock.monotonic()
        house.supervisor.start()
        wait_until(lambda: len(called) == 1)
        house.clock.advance(5)
        house.supervisor.join()
        assert [began, began + 5] == called
        assert ["a fault of the engine"] == [str(error) for error in nursery.crashes]
