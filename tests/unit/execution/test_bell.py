"""What the pump sleeps on."""

from __future__ import annotations

import threading

from nuvom.execution.bell import Bell
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


def test_any_thread_may_ring() -> None:
    bell = Bell()
    thread = threading.Thread(target=bell.ring)
    thread.start()
    assert bell.wait(LIMIT_SECS)
    thread.join()
