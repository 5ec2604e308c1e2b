"""What the pump sleeps on."""

from __future__ import annotations

import threading

import pytest

from nuvom.errors import BackendUnavailable
from nuvom.execution.bell import Bell, Nap, Rounds, drive
from tests.engine import LIMIT_SECS


def test_silent_bell_is_waited_for_in_vain() -> None:
    assert not Bell().wait(0)


def test_ring_ends_one_wait() -> None:
    bell = Bell()
    bell.ring()
    assert [True, False] == [bell.wait(0), bell.wait(0)]


def test_bell_that_rings_already_rings_once() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    assert [True, False] == [bell.wait(), bell.wait(0)]


def test_bell_tells_whether_a_ring_is_yet_to_be_heard() -> None:
    bell = Bell()
    told = [bell.has_rung]
    bell.ring()
    told.append(bell.has_rung)
    bell.wait(0)
    assert [False, True, False] == [*told, bell.has_rung]


def test_any_thread_may_ring() -> None:
    bell = Bell()
    thread = threading.Thread(target=bell.ring)
    thread.start()
    assert bell.wait(LIMIT_SECS)
    thread.join()


# ---- what waits for the pump's loop ---------------------------------------------------------


def test_loop_is_sent_whether_there_was_news() -> None:
    heard: list[bool] = []

    def rounds() -> Rounds:
        heard.append((yield Nap(1.0)))
        heard.append((yield Nap(2.0, is_on_queue=True)))

    drive(rounds(), lambda nap: nap.is_on_queue)
    assert [False, True] == heard


def test_trouble_with_the_store_in_a_wait_is_the_loops_to_deal_with() -> None:
    told: list[str] = []

    def rounds() -> Rounds:
        try:
            yield Nap(1.0)
        except BackendUnavailable as error:
            told.append(error.what)
            yield Nap(0.0)

    def sleep(nap: Nap) -> bool:
        if nap.secs:
            raise BackendUnavailable("the store", "it is locked")
        return True

    drive(rounds(), sleep)
    assert 1 == len(told)


def test_whatever_else_goes_wrong_in_a_wait_ends_the_loop() -> None:
    def rounds() -> Rounds:
        yield Nap(1.0)

    def sleep(_nap: Nap) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        drive(rounds(), sleep)
