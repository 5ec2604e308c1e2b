"""Calls that an exception cuts short at each of their points, and what they leave behind."""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from nuvom.testing.conformance.law import Hand
from tests.lab.points import Interruption, Points

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

LIMIT_SECS = 30.0
_DESCRIPTORS = "/proc/self/fd"


def interrupt_everywhere(
    prepare: Callable[[int], tuple[Callable[[], object], Callable[[bool], object]]],
    *,
    step: int = 1,
    counts_files: bool = True,
) -> int:
    """Interrupt a call at each of its points in turn; return how many it has.

    Args:
        prepare: Given the number of the point, returns a fresh call, and what looks at what was
            left behind. That is told whether the exception came out of the call, whose traceback
            is still there meanwhile, and with it all that the call had in its variables.
        step: Every so many points are tried, for calls that have very many.
        counts_files: In the end as many are open as before.
    """
    points, number = Points(), 1 - step
    gc.collect()  # files of earlier tests
    before = descriptors()
    while True:
        number += step
        call, check = prepare(number)
        caught: list[BaseException] = []
        is_cut = points.interrupt(lambda: _keep(call, caught), number)  # noqa: B023  # called now
        if points.count < number:
            return points.count
        try:
            check(is_cut)
        except AssertionError as error:
            raise AssertionError(f"interrupted at point {number}, {points.place}") from error
        caught.clear()
        del call, check
        if not counts_files or descriptors() == before:
            continue
        gc.collect()
        left = descriptors() - before
        assert left == 0, f"{left} files left open at point {number}, {points.place}"


def pause_everywhere(
    prepare: Callable[[int], tuple[Callable[[], object], Callable[[], None], Callable[[], object]]],
) -> int:
    """Pause a call at each of its points in turn; return how many it has.

    Args:
        prepare: Given the number of the point, returns a fresh call, what happens in the pause,
            and what looks at the outcome.
    """
    points, number = Points(), 0
    while True:
        number += 1
        call, pause, check = prepare(number)
        points.stop_at(call, number, pause)
        if points.count < number:
            return number - 1
        try:
            check()
        except AssertionError as error:
            raise AssertionError(f"paused at point {number}, {points.place}") from error


def _keep(call: Callable[[], object], caught: list[BaseException]) -> None:
    try:
        call()
    except Interruption as error:
        caught.append(error)
        raise


def in_thread(work: Callable[[], T]) -> T:
    """Return what ``work`` returns in another thread; it has to end soon."""
    answers: list[T] = []
    hand = Hand(lambda: answers.append(work()))
    hand.start()
    hand.finish(LIMIT_SECS)
    return answers[0]


def beside(work: Callable[[], object]) -> Hand:
    """Begin ``work`` in another thread, and wait for its end if it comes at once."""
    hand = Hand(work)
    hand.start()
    hand.join(0.02)  # longer only if it waits for whoever called this
    return hand


def descriptors() -> int:
    """Return how many files this process has open; 0 where the system does not tell."""
    with suppress(FileNotFoundError):
        return len(os.listdir(_DESCRIPTORS))
    return 0
