"""The points of a call: where they are, and what happens there."""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from tests.conformance.list_queue import ListQueue
from tests.lab.points import Points, folders_of

HERE = str(Path(__file__).parent)


def points(**options: Any) -> Points:
    """Return the points of functions in this file."""
    return Points(HERE, **options)


class Steps:
    """Notes how far a call has come."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def walk(self) -> None:
        self.done.append("first")
        self.inner()
        self.done.append("last")

    def inner(self) -> None:
        self.done.append("inner")


def test_a_call_is_interrupted_at_each_point_and_not_beyond() -> None:
    left = []
    walked = points()
    for number in range(1, 100):
        steps = Steps()
        is_cut = walked.interrupt(steps.walk, number)
        if walked.count < number:
            break
        assert is_cut
        left.append(steps.done)
    assert not is_cut
    # The start, a call of C code, a call and start of a function, another call of C code ...
    assert left[0] == []
    assert left[1] == ["first"]
    assert left[-1] == ["first", "inner", "last"]
    assert len(left) == walked.count == 6


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="there `with` makes calls")
def test_a_lock_taken_before_a_try_is_lost_at_one_point_only() -> None:
    def careless(lock: Any) -> None:
        lock.acquire()
        try:
            len("")
        finally:
            lock.release()

    def careful(lock: Any) -> None:
        with lock:
            len("")

    lost = {careless: 0, careful: 0}
    for function in lost:
        for number in range(1, 20):
            lock = Lock()
            points().interrupt(lambda: function(lock), number)  # noqa: B023  # called at once
            lost[function] += lock.locked()
    assert lost == {careless: 1, careful: 0}


def test_a_pause_comes_when_its_call_has_returned() -> None:
    seen = []
    for number in range(1, 7):
        steps = Steps()
        points().stop_at(steps.walk, number, lambda: seen.append(list(steps.done)))  # noqa: B023  # called at once
        assert steps.done == ["first", "inner", "last"]
    assert seen[:2] == [[], ["first"]]
    assert seen[-1] == ["first", "inner", "last"]


def test_a_loop_counts_so_often_and_what_follows_still_does() -> None:
    def loops() -> None:
        for _ in range(50):
            len("")
        len("")

    every, few = points(), points(passes=3)
    every.stop_at(loops, 0, lambda: None)
    few.stop_at(loops, 0, lambda: None)
    assert every.count > 100
    assert few.count == 1 + 1 + 2 * 3 + 1  # its start, range, three passes, what follows


def test_finalizers_are_left_alone() -> None:
    class Ends:
        def __del__(self) -> None:
            len("")

    def ends() -> None:
        Ends()

    walked = points()
    walked.stop_at(ends, 0, lambda: None)
    assert walked.count == 2  # its start, and the call of the class


def test_the_code_of_a_backend_is_in_its_packages() -> None:
    found = folders_of(ListQueue())
    assert str(Path(HERE).parent) in found
    assert any(folder.endswith("nuvom") for folder in found)
    assert not any("python3" in Path(folder).name for folder in found)
