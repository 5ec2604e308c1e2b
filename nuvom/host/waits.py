"""Waits of coroutines: one thread looks for all of them, so that none takes a thread of its own.

A thread for each would be too many, and those of asyncio's executor are few: waits in them would
keep everything else from running. This module knows nothing of jobs.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.host.fork import drop_at_fork

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

T = TypeVar("T")

LONGEST_WAIT_SECS = 1.0  # a lost wake-up costs no more than this
POLL_SECS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


class _Waitable(Protocol):
    def wait(self, timeout: float) -> object: ...


class SharedWaits:
    """What coroutines of this process wait for in one store. Usable from any thread."""

    def __init__(self) -> None:
        self.drop_in_child()
        drop_at_fork(self)

    def drop_in_child(self) -> None:
        """Forget everything: the thread is the parent's."""
        self._lock = threading.Lock()
        self._looks: dict[Future[Any], Callable[[], Any]] = {}
        self._is_running = False
        self._thread: threading.Thread | None = None

    def stop(self) -> None:
        """Wait for the thread to leave the store, if nothing is waited for any longer."""
        with self._lock:
            is_needed = not all(found.done() for found in self._looks)
            thread = None if is_needed else self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(2 * LONGEST_WAIT_SECS)

    def add(
        self,
        look: Callable[[], T | None],
        waiter: Callable[[], AbstractContextManager[_Waitable | None]],
    ) -> Future[T]:
        """Return a future for what ``look()`` returns as soon as that is not None, or raises.

        What is there already may take a second to be found; cancel the future to stop looking.

        Args:
            look: Called in another thread after each wake-up, and at least once a second.
            waiter: As ``BaseResultBackend.waiter``; that of the first wait serves all.
        """
        from concurrent.futures import Future  # noqa: PLC0415  # whoever awaits has loaded it

        found: Future[T] = Future()
        with self._lock:
            if not self._is_running:
                self._thread = threading.Thread(
                    target=self._run, args=(waiter,), name="nuvom-waits", daemon=True
                )
                self._thread.start()  # it begins with the lock
                self._is_running = True
            self._looks[found] = look
        return found

    def _run(self, waiter: Callable[[], AbstractContextManager[_Waitable | None]]) -> None:
        try:
            if not self._look_at_all():  # over already: the store may have been closed since
                return
            with waiter() as wakeup:
                self._look_until_nothing_is_left(wakeup)
        except BaseException as error:  # noqa: BLE001  # each waiting coroutine raises it
            with self._lock:
                waiting, self._looks, self._is_running = self._looks, {}, False
            for found in waiting:
                if found.set_running_or_notify_cancel():
                    found.set_exception(error)

    def _look_until_nothing_is_left(self, wakeup: _Waitable | None) -> None:
        rounds = 0
        while self._look_at_all():
            if wakeup is None:
                SYSTEM_CLOCK.sleep(POLL_SECS[min(rounds, len(POLL_SECS) - 1)])
            else:
                wakeup.wait(LONGEST_WAIT_SECS)
            rounds += 1

    def _look_at_all(self) -> bool:
        """Look for each; return whether anything is still waited for."""
        with self._lock:
            looks = list(self._looks.items())
        ended = [found for found, look in looks if _look(found, look)]
        with self._lock:
            for found in ended:
                self._looks.pop(found, None)
            self._is_running = bool(self._looks)
            return self._is_running


def _look(found: Future[T], look: Callable[[], T | None]) -> bool:
    """Return whether the wait is over."""
    if found.cancelled():
        return True
    try:
        value = look()
    except BaseException as error:  # noqa: BLE001  # the waiting coroutine raises it
        if found.set_running_or_notify_cancel():
            found.set_exception(error)
        return True
    if value is not None and found.set_running_or_notify_cancel():
        found.set_result(value)
    return value is not None
