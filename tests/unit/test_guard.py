"""What keeps a thread from being interrupted inside the engine, and what then ends its code."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nuvom.core.guard import (
    AttemptClosed,
    Guard,
    UserCall,
    engine_call,
    is_closed_here,
    users_items,
)
from tests.engine import LIMIT_SECS, wait_until

ROUNDS = 100


class Code:
    """A user's code, which says where it is and goes on when it is let."""

    def __init__(self) -> None:
        self.runs = threading.Event()
        self.go = threading.Event()

    def wait(self) -> None:
        """Run Python code until let go."""
        self.runs.set()
        while not self.go.wait(0.001):
            pass

    @engine_call
    def wait_inside(self) -> str:
        """Do the same inside the engine, as one call that no closing ends."""
        self.wait()
        return "done"

    @engine_call
    def wait_until_closed(self) -> None:
        """Wait inside the engine as ``job.get()`` does."""
        self.runs.set()
        while not is_closed_here():
            self.go.wait(0.001)
        raise AttemptClosed


class Slot:
    """A thread that runs a user's code as a slot does: each in a call from the engine.

    Attributes:
        ends: What each call ended with: an exception, or None.
        is_closed: Whether the engine's own code was taken for closed after a call.
    """

    def __init__(self) -> None:
        self.guard = Guard()
        self.ends: list[BaseException | None] = []
        self.is_closed = False
        self._thread: threading.Thread | None = None

    def start(self, *calls: tuple[UserCall, Callable[[], object]]) -> None:
        self._thread = threading.Thread(target=self.guard.run, args=(self._run, calls), daemon=True)
        self._thread.start()

    def _run(self, calls: tuple[tuple[UserCall, Callable[[], object]], ...]) -> None:
        for code, function in calls:
            try:
                self.guard.outside(code, function)
            except BaseException as error:  # noqa: BLE001  # it is what is looked at
                self.ends.append(error)
            else:
                self.ends.append(None)
            self.is_closed = self.is_closed or is_closed_here()

    def closes(self, code: UserCall) -> None:
        """Close code as the watchdog does: try until its thread can be interrupted."""
        wait_until(lambda: self.guard.close(code))

    def join(self) -> list[type[BaseException] | None]:
        """Wait for the end; return the kinds of ``ends``."""
        assert self._thread is not None
        self._thread.join(LIMIT_SECS)
        assert not self._thread.is_alive(), "its thread did not come free"
        return [None if one is None else type(one) for one in self.ends]


@pytest.fixture
def slot() -> Slot:
    return Slot()


@pytest.fixture
def code() -> Iterator[Code]:
    code = Code()
    yield code
    code.go.set()


@pytest.fixture
def attempt() -> UserCall:
    return UserCall()


def is_running(code: Code) -> None:
    assert code.runs.wait(LIMIT_SECS)


# ---- outside and inside ---------------------------------------------------------------------


def test_code_is_interrupted_at_once_while_it_is_outside(
    slot: Slot, code: Code, attempt: UserCall
) -> None:
    slot.start((attempt, code.wait))
    is_running(code)
    assert slot.guard.close(attempt)
    assert [AttemptClosed] == slot.join()
    assert not slot.is_closed, "the engine goes on"


def test_code_inside_the_engine_is_interrupted_when_the_call_returns_and_only_once(
    slot: Slot, code: Code, attempt: UserCall
) -> None:
    seen: list[object] = []
    after = Code()

    def users() -> None:
        try:
            code.wait_inside()
        except AttemptClosed as error:
            seen.append(error.__context__)
        after.wait()
        seen.append(after.wait_inside())

    slot.start((attempt, users))
    is_running(code)
    assert not slot.guard.close(attempt), "it is inside: nobody interrupts it"
    code.go.set()
    is_running(after)
    assert slot.guard.close(attempt), "there is nothing left to tell it"
    after.go.set()
    assert [None] == slot.join()
    assert [None, "done"] == seen


def test_wait_inside_the_engine_ends_at_once(slot: Slot, code: Code, attempt: UserCall) -> None:
    slot.start((attempt, code.wait_until_closed))
    is_running(code)
    assert not slot.guard.close(attempt)
    assert [AttemptClosed] == slot.join()


def test_calls_within_a_call_are_one_call(slot: Slot, code: Code, attempt: UserCall) -> None:
    steps: list[str] = []

    @engine_call
    def outer() -> None:
        steps.append(code.wait_inside())
        steps.append(code.wait_inside())

    slot.start((attempt, outer))
    is_running(code)
    assert not slot.guard.close(attempt)
    code.go.set()
    assert [AttemptClosed] == slot.join()
    assert ["done", "done"] == steps


def test_code_that_may_go_on_is_interrupted_outside_only(
    slot: Slot, code: Code, attempt: UserCall
) -> None:
    after, seen = Code(), list[str]()

    def users() -> None:
        seen.append(code.wait_inside())
        try:
            after.wait()
        except LookupError as error:
            seen.append(type(error).__name__)

    slot.start((attempt, users))
    is_running(code)
    assert not slot.guard.interrupt(attempt, LookupError), "it is inside the engine"
    assert not slot.guard.interrupt(UserCall(), LookupError), "it is not the code that runs"
    code.go.set()
    is_running(after)
    assert slot.guard.interrupt(attempt, LookupError)
    assert [None] == slot.join()
    assert ["done", "LookupError"] == seen


# ---- what a user's code makes for the engine ------------------------------------------------


@engine_call
def consume(items: Any, each: Callable[[Any], None] = lambda _: None) -> None:
    for item in users_items(items):
        each(item)


def test_items_are_interrupted_while_they_are_made(
    slot: Slot, code: Code, attempt: UserCall
) -> None:
    def items() -> Iterator[int]:
        yield 1
        code.wait()
        yield 2

    slot.start((attempt, lambda: consume(items())))
    is_running(code)
    assert slot.guard.close(attempt)
    assert [AttemptClosed] == slot.join()


def test_items_end_with_the_one_that_the_engine_had_when_their_code_was_closed(
    slot: Slot, code: Code, attempt: UserCall
) -> None:
    made: list[int] = []
    done: list[str] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            made.append(number)
            yield number

    slot.start((attempt, lambda: consume(items(), lambda _: done.append(code.wait_inside()))))
    is_running(code)
    assert not slot.guard.close(attempt), "between two items it is inside"
    code.go.set()
    assert [AttemptClosed] == slot.join()
    assert [0] == made
    assert ["done"] == done


# ---- cleaning up ----------------------------------------------------------------------------


def test_code_that_cleans_up_may_still_call_the_engine(
    slot: Slot, code: Code, attempt: UserCall
) -> None:
    done: list[str] = []
    cleaning = Code()

    def users() -> None:
        try:
            code.wait()
        finally:
            done.append(cleaning.wait_inside())
            consume([1, 2], lambda item: done.append(str(item)))

    slot.start((attempt, users))
    is_running(code)
    assert slot.guard.close(attempt)
    is_running(cleaning)
    slot.guard.close(attempt)
    cleaning.go.set()
    slot.closes(attempt)
    assert [AttemptClosed] == slot.join()
    assert ["done", "1", "2"] == done


# ---- code that has ended --------------------------------------------------------------------


def test_the_next_code_of_a_thread_pays_for_no_earlier_one(slot: Slot, code: Code) -> None:
    """A hook after the commit is the next code as well."""
    first, second = UserCall(), UserCall()
    slot.start((first, lambda: None), (second, code.wait))
    is_running(code)
    assert slot.guard.close(first)
    assert first.is_closed
    assert not first.is_told
    code.go.set()
    assert [None, None] == slot.join()
    assert not second.is_closed


@pytest.fixture
def often_switched() -> Iterator[None]:
    """Have the threads take turns as often as the interpreter lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def test_code_that_ends_just_as_it_is_closed_is_interrupted_alone(often_switched: None) -> None:
    """At any moment: neither the engine after it nor the next code is ever interrupted."""
    guard, rounds = Guard(), [(UserCall(), UserCall()) for _ in range(ROUNDS)]
    running: deque[UserCall] = deque(maxlen=1)
    closing: deque[UserCall] = deque(maxlen=1)
    ends: list[str] = []
    left: set[tuple[object, bool]] = set()

    def run_until_about_to_be_closed() -> None:
        while not closing:
            pass

    def work() -> None:
        for first, second in rounds:
            closing.clear()
            running.append(first)
            for name, code in (("first", first), ("second", second)):
                try:
                    guard.outside(code, run_until_about_to_be_closed)
                except AttemptClosed:
                    ends.append(name)
                left.add((guard.code, guard.is_inside))
        running.clear()

    thread = threading.Thread(target=guard.run, args=(work,), daemon=True)
    thread.start()
    while thread.is_alive():
        for code in list(running):
            closing.append(code)
            guard.close(code)
    assert not running, "the engine was interrupted"
    assert {"first"} == set(ends)
    assert {(None, True)} == left
    assert len(ends) == sum(first.is_told for first, _ in rounds)
