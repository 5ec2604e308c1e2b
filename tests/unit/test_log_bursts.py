"""Some lines a second, and a count of the rest."""

from __future__ import annotations

import threading

import pytest

from nuvom.core.clock import Clock, Waitable
from nuvom.logs.events import Bursts


class Seconds(Clock):
    """A clock whose seconds end when the test says so."""

    def __init__(self) -> None:
        self.secs = 0.0
        self._waiting = threading.Semaphore(0)
        self._over = threading.Semaphore(0)

    def monotonic(self) -> float:
        return self.secs

    def wait(self, event: Waitable, secs: float | None = None) -> bool:
        self._waiting.release()
        while not event.wait(0.005):
            if self._over.acquire(blocking=False):
                return False
        return True

    def end_second(self) -> None:
        """Let a second pass for whoever waits for it."""
        assert self._waiting.acquire(timeout=30)
        self.secs += 1
        self._over.release()

    def until_waiting(self) -> None:
        assert self._waiting.acquire(timeout=30)
        self._waiting.release()


class Reports(list[tuple[str, int]]):
    def __call__(self, word: str, held: int) -> None:
        self.append((word, held))


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def reports() -> Reports:
    return Reports()


def admitted(bursts: Bursts, number: int, word: str = "finished", most: int = 20) -> int:
    return sum(bursts.admit(word, most) for _ in range(number))


def reporters() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "nuvom-log-counts"]


def test_few_events_of_each_second_all_pass_without_a_thread(
    clock: Seconds, reports: Reports
) -> None:
    bursts = Bursts(clock, reports)
    for _ in range(2):
        assert 20 == admitted(bursts, 20)
        clock.secs += 1
    assert [] == reporters()
    bursts.stop()
    assert [] == reports


def test_rest_is_counted_once_a_second_even_when_nothing_follows(
    clock: Seconds, reports: Reports
) -> None:
    bursts = Bursts(clock, reports)

    assert 20 == admitted(bursts, 1000)
    clock.end_second()
    clock.until_waiting()

    assert [("finished", 980)] == reports
    bursts.stop()


def test_thread_ends_once_nothing_is_held_back(clock: Seconds, reports: Reports) -> None:
    bursts = Bursts(clock, reports)
    admitted(bursts, 21)
    (thread,) = reporters()
    clock.end_second()
    clock.end_second()
    thread.join(30)

    assert not thread.is_alive()
    assert [("finished", 1)] == reports
    assert 20 == admitted(bursts, 21)
    assert 1 == len(reporters())
    bursts.stop()
    assert [("finished", 1), ("finished", 1)] == reports


def test_words_are_counted_apart(clock: Seconds, reports: Reports) -> None:
    bursts = Bursts(clock, reports)

    assert 20 == admitted(bursts, 30)
    assert 100 == admitted(bursts, 150, "failed", 100)
    assert 2 == admitted(bursts, 2, "retried", 100)
    bursts.stop()

    assert [("finished", 10), ("failed", 50)] == reports


def test_word_that_is_not_full_does_not_end_the_second_of_one_that_is(
    clock: Seconds, reports: Reports
) -> None:
    bursts = Bursts(clock, reports)
    admitted(bursts, 30)
    clock.secs += 5
    admitted(bursts, 1, "failed", 100)
    bursts.stop()

    assert [("finished", 10)] == reports


def test_stopping_reports_at_once_and_ends_the_thread(clock: Seconds, reports: Reports) -> None:
    bursts = Bursts(clock, reports)
    admitted(bursts, 25)
    (thread,) = reporters()

    bursts.stop()
    bursts.stop()

    assert [("finished", 5)] == reports
    assert not thread.is_alive()
    assert thread.daemon


def test_nothing_is_lost_when_many_threads_count(clock: Seconds, reports: Reports) -> None:
    bursts = Bursts(clock, reports)
    passed: list[int] = []
    threads = [
        threading.Thread(target=lambda: passed.append(admitted(bursts, 2000))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    bursts.stop()

    assert 8000 == sum(passed) + sum(held for _, held in reports)
    assert 20 == sum(passed)
