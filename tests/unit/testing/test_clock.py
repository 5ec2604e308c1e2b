from __future__ import annotations

from threading import Condition, Event, Thread

import pytest

from nuvom.testing import FakeClock

LIMIT_SECS = 30.0


def test_time_stands_still_until_it_is_advanced() -> None:
    clock = FakeClock(now=100.0)
    before = clock.monotonic()
    clock.advance(2.5)
    assert (102.5, before + 2.5) == (clock.now(), clock.monotonic())


def test_time_does_not_pass_backwards() -> None:
    with pytest.raises(ValueError, match="backwards"):
        FakeClock().advance(-1.0)


def test_the_wall_clock_can_jump_while_no_time_passes() -> None:
    clock = FakeClock(now=100.0)
    before = clock.monotonic()
    clock.jump(-3600.0)
    assert (-3500.0, before) == (clock.now(), clock.monotonic())


def test_sleep_ends_when_enough_time_has_passed() -> None:
    clock, wakes = FakeClock(), Event()

    def sleep() -> None:
        clock.sleep(10.0)
        wakes.set()

    thread = Thread(target=sleep, daemon=True)
    thread.start()
    for _ in range(1000):
        if wakes.is_set():
            break
        clock.advance(1.0)
        thread.join(0.001)
    assert wakes.wait(LIMIT_SECS)


def test_wait_ends_when_the_event_is_set() -> None:
    event = Event()
    answers: list[bool] = []
    thread = Thread(target=lambda: answers.append(FakeClock().wait(event, 10.0)), daemon=True)
    thread.start()
    event.set()
    thread.join(LIMIT_SECS)
    assert answers == [True]


def test_wait_ends_when_its_time_has_passed() -> None:
    clock, answers = FakeClock(), list[bool]()
    thread = Thread(target=lambda: answers.append(clock.wait(Event(), 10.0)), daemon=True)
    thread.start()
    while thread.is_alive():
        clock.advance(5.0)
        thread.join(0.005)
    assert answers == [False]


def test_wait_holds_a_condition_as_its_own_wait_does() -> None:
    clock, condition, answers = FakeClock(), Condition(), list[bool]()

    def wait() -> None:
        with condition:
            answers.append(clock.wait(condition, 10.0))

    thread = Thread(target=wait, daemon=True)
    thread.start()
    while thread.is_alive():
        with condition:
            condition.notify_all()
        thread.join(0.001)
    assert answers == [True]
