"""The child processes of a lane: one by one, all of them, and the thread that sees to them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Any

import pytest

from nuvom.execution import child_process
from nuvom.execution.child_process import ChildPool, ChildProcess, ChildSupervisor
from nuvom.execution.frames import AskStack, Ready
from nuvom.execution.lanes import CHILD_PROGRAM, is_child
from nuvom.testing.clock import FakeClock
from tests.engine import wait_until
from tests.unit.execution.children import LISTEN, Nest, make_work, nest

posix = pytest.mark.skipif(sys.platform == "win32", reason="it is about signals")

SPEAK = (
    "import os, sys; sys.stdin.buffer.raw.readline(); "
    "os.write(1, bytes.fromhex('0000000791a5') + b'ready'); sys.stdin.buffer.read()"
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


def test_child_gets_the_path_before_all_frames(nursery: Nest, tmp_path: Path) -> None:
    nursery.program(
        f"import sys; line = sys.stdin.buffer.raw.readline(); "
        f"open({str(tmp_path / 'got')!r}, 'wb').write(line + sys.stdin.buffer.read())"
    )
    child = nursery.child()
    child.talk()
    child.leave()
    wait_until(lambda: bool(nursery.gone))
    line, _, frames = (tmp_path / "got").read_bytes().partition(b"\n")
    assert [os.fspath(entry) for entry in sys.path] == json.loads(line)
    assert b"hello" in frames


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
    child._process.wait()
    for _ in range(3):
        child.post(b"x" * 100_000)
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


@posix
def test_child_that_is_asked_may_tidy_up(nursery: Nest, tmp_path: Path) -> None:
    tidied = tmp_path / "tidied"
    nursery.program(
        "import os, signal, sys, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (open({str(tidied)!r}, 'w'), sys.exit(5)))\n"
        "sys.stdin.buffer.raw.readline(); os.write(1, b'up.'); time.sleep(60)"
    )
    child = nursery.child()
    child.post(b"line\n")
    assert child._process.stdin is not None
    assert child._process.stdout is not None
    child._process.stdin.write(b"line\n")
    assert b"up." == child._process.stdout.read(3)
    child.close()
    child.talk()
    wait_until(lambda: bool(nursery.gone))
    assert "exit code 5" == nursery.gone[0][1]
    assert tidied.exists()


def test_child_knows_that_it_is_one() -> None:
    assert not is_child()
    program = "from nuvom.execution.lanes import is_child; print(is_child())"
    command = [sys.executable, "-c", program, CHILD_PROGRAM]
    told = subprocess.run(command, capture_output=True, check=True)
    assert b"True" == told.stdout.strip()


def test_missing_interpreter_is_an_error_of_the_system(
    nursery: Nest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", None)
    with pytest.raises(OSError, match=r"No such file|denied"):
        nursery.child()


# ---- which children there are ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("waiting", "starting", "idle", "busy", "missing"),
    [
        (0, 0, 0, 0, 0),
        (1, 0, 0, 0, 1),
        (9, 0, 0, 0, 3),
        (1, 1, 0, 0, 0),
        (2, 1, 0, 0, 1),
        (1, 0, 1, 0, 0),
        (5, 1, 0, 1, 1),
        (5, 0, 0, 3, 0),
    ],
)
def test_as_many_children_are_missing_as_work_waits_for_and_places_allow(
    nursery: Nest, *, waiting: int, starting: int, idle: int, busy: int, missing: int
) -> None:
    pool = ChildPool(3)
    for number in range(starting + idle + busy):
        child = nursery.child()
        assert pool.add(child)
        if number >= starting:
            pool.ready(child)
    for number in range(busy):
        pool.assign(make_work(str(number)))
    assert missing == max(0, pool.missing(waiting))


def idle_in(pool: ChildPool, nursery: Nest) -> ChildProcess:
    child = nursery.child()
    assert pool.add(child)
    pool.ready(child)
    return child


def test_end_of_an_earlier_attempt_is_not_that_of_the_next(nursery: Nest) -> None:
    pool = ChildPool(1)
    child = idle_in(pool, nursery)
    pool.assign(make_work("1"))
    pool.ended(child, 1, is_worn=False)
    second = make_work("2")
    pool.assign(second)
    assert pool.runs(child, 1) is None
    assert pool.ended(child, 1, is_worn=False) is None
    assert second is child.attempt


def test_worn_child_leaves_and_takes_no_place(nursery: Nest) -> None:
    pool = ChildPool(1)
    child = idle_in(pool, nursery)
    pool.assign(make_work())
    pool.ended(child, 1, is_worn=True)
    assert [child] == pool.unused()
    assert 1 == pool.missing(1)
    assert not pool.is_empty


def test_only_the_child_that_runs_an_attempt_is_let_go(nursery: Nest) -> None:
    pool, work = ChildPool(2), make_work()
    for _ in range(2):
        idle_in(pool, nursery)
    busy = pool.assign(work)
    assert pool.let_go(make_work()) is None
    assert busy is pool.let_go(work)
    assert busy.attempt is None
    assert pool.let_go(work) is None
    assert {busy} == pool.leaving


@pytest.mark.parametrize("state", ["starting", "idle", "busy", "leaving"])
def test_child_that_has_ended_is_forgotten_from_any_state(nursery: Nest, state: str) -> None:
    pool, child, work = ChildPool(1), nursery.child(), make_work()
    pool.add(child)
    if state != "starting":
        pool.ready(child)
    if state in ("busy", "leaving"):
        pool.assign(work)
    if state == "leaving":
        pool.let_go(work)
    expected = (state == "starting", work if state == "busy" else None)
    assert expected == pool.forget(child)
    assert pool.is_empty


def test_closed_pool_wants_no_child(nursery: Nest) -> None:
    pool = ChildPool(3)
    starting, late = nursery.child(), nursery.child()
    pool.add(starting)
    idle = idle_in(pool, nursery)
    assert {starting, idle} == set(pool.close())
    assert 0 == pool.missing(5)
    assert not pool.add(late)
    pool.ready(starting)
    assert [] == pool.idle
    assert {starting, idle, late} == pool.leaving


# ---- the thread that starts and ends them -----------------------------------------------------


class House:
    """A supervisor with its pool; the clock stands still."""

    def __init__(self, nursery: Nest, chores: Any = ()) -> None:
        self.nursery = nursery
        self.clock = FakeClock()
        self.pool = ChildPool(2)
        self.waiting = 0
        self.given_up: list[str] = []
        self.faults = 0
        self.supervisor = ChildSupervisor(
            self.pool,
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
        was_starting, _ = self.pool.forget(child)
        if was_starting:
            self.supervisor.failed_to_start(how)
        self.supervisor.wake()

    def leaving_child(self) -> ChildProcess:
        child, work = self.idle_child(), make_work()
        self.pool.assign(work)
        self.pool.let_go(work)
        return child

    def idle_child(self) -> ChildProcess:
        child = self.nursery.child()
        child.talk()
        self.pool.add(child)
        self.pool.ready(child)
        return child


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    # The children themselves go by real time: only the supervisor's waits are the test's.
    with nest(monkeypatch) as nursery:
        house = House(nursery)
        yield house
        house.nursery.end()
        house.pool.close()
        for child in list(house.pool.leaving):
            house.pool.forget(child)
        house.supervisor.wake()
        house.supervisor.join()
        assert [] == nursery.crashes


def test_children_start_when_work_waits(house: House) -> None:
    house.supervisor.start()
    house.supervisor.start()  # twice is once
    house.waiting = 5
    house.supervisor.wake()
    wait_until(lambda: len(house.pool.starting) == 2)
    assert 2 == len(house.nursery.children)


def test_start_is_tried_again_after_a_while(house: House) -> None:
    house.faults, house.waiting = 1, 1
    house.supervisor.start()
    wait_until(lambda: house.supervisor._start_at > 0)
    assert [] == house.nursery.children
    house.clock.advance(0.1)
    wait_until(lambda: len(house.pool.starting) == 1)
    assert [] == house.given_up


def test_work_is_given_up_when_no_child_comes_up(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "_START_WAITS_SECS", (0.0, 0.0))
    house.nursery.program("raise SystemExit(7)")
    house.waiting = 1
    house.supervisor.start()
    wait_until(lambda: bool(house.given_up))
    assert ["no child process could be started for it: exit code 7"] == house.given_up
    assert 3 == len(house.nursery.children)


def test_success_makes_earlier_failures_forgotten(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "_START_WAITS_SECS", (0.0,))
    house.supervisor.failed_to_start("once")
    house.supervisor.came_up(house.nursery.child())
    house.supervisor.failed_to_start("twice")
    assert [] == house.given_up
    house.supervisor.failed_to_start("three times")
    assert 1 == len(house.given_up)


def test_child_that_does_not_come_up_is_killed(house: House) -> None:
    house.waiting = 1
    house.supervisor.start()
    wait_until(lambda: bool(house.pool.starting))
    house.waiting = 0
    house.clock.advance(child_process._START_SECS)
    wait_until(lambda: bool(house.nursery.gone))
    assert house.pool.is_empty


def test_child_that_does_not_end_is_killed_after_its_grace(house: House) -> None:
    house.nursery.program("import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)")
    house.supervisor.start()
    child = house.leaving_child()
    house.supervisor.end(child)
    house.clock.advance(child_process.GRACE_SECS / 2)
    house.supervisor.wake()
    assert not child.was_killed
    house.clock.advance(child_process.GRACE_SECS / 2)
    wait_until(lambda: bool(house.nursery.gone))
    assert child.was_killed


def test_child_that_must_go_is_killed_at_once(house: House) -> None:
    house.supervisor.start()
    child = house.leaving_child()
    house.supervisor.end(child, at_once=True)
    wait_until(lambda: bool(house.nursery.gone))
    assert child.was_killed


def test_worn_child_leaves_by_itself(house: House) -> None:
    house.nursery.program(LISTEN)
    house.supervisor.start()
    child = house.idle_child()
    house.pool.assign(make_work())
    house.pool.ended(child, 1, is_worn=True)
    house.supervisor.dismiss(child)
    wait_until(lambda: bool(house.nursery.gone))
    assert (child, "exit code 0") == house.nursery.gone[0]
    assert not child.was_killed


def test_idle_children_leave_when_the_lane_ends(house: House) -> None:
    house.nursery.program(LISTEN)
    house.supervisor.start()
    child = house.idle_child()
    house.supervisor.close()
    house.supervisor.join()
    assert [(child, "exit code 0")] == house.nursery.gone


def test_child_that_starts_while_the_lane_ends_is_killed(house: House) -> None:
    house.nursery.program(LISTEN)
    made = house.make

    def make() -> ChildProcess:
        house.supervisor.close()
        return made()

    house.supervisor._make = make
    house.waiting = 1
    house.supervisor.start()
    house.supervisor.join()
    assert house.nursery.children[0].was_killed
    assert house.pool.is_empty


def test_chores_are_called_when_they_want(house: House) -> None:
    called: list[float] = []
    began = house.clock.monotonic()

    def chore(now: float) -> float:
        called.append(now)
        return began + 5 if len(called) == 1 else inf

    house.supervisor._chores = (chore,)
    house.supervisor.start()
    wait_until(lambda: len(called) == 1)
    house.clock.advance(5)
    wait_until(lambda: len(called) == 2)
    assert [began, began + 5] == called


def test_failing_chore_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def chore(_now: float) -> float:
        raise LookupError("a fault of the engine")

    with nest(monkeypatch) as nursery:
        house = House(nursery, chores=(chore,))
        house.supervisor.start()
        house.supervisor.join()
        assert ["a fault of the engine"] == [str(error) for error in nursery.crashes]
    assert [] == [one for one in threading.enumerate() if one.name == "nuvom-children"]
