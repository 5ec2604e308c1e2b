"""The points of a call: where they are, and what happens there."""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from tests.lab.points import Points

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
