"""How the pump sleeps: on its own bell, or on that of the queue as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.execution.bell import Bell, Nap

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.core.clock import Clock
    from nuvom.execution.at_once import AtOnce
    from nuvom.queue_backends.base import BaseJobQueue

_START_SECS = 0.0003  # for slots to begin what was claimed; the pump's way back would hold them up


class Sleeper:
    """Sleeps for the pump, in its thread; ``wake`` may be called from any.

    Args:
        at_once: What slots may do without the pump while it sleeps on the queue.
        goes_on: Whether nothing follows for the worker from the end of a job.

    Attributes:
        bell: Its own.
        is_on_queue: It sleeps on the queue's bell as well.
        lets_start: It sleeps only until slots have begun what was claimed; there may be more.
        has_taken_all: What the last claim told, noted by the pump: True when it got fewer jobs
            than it had asked for. None: there was none since it went to sleep.
    """

    def __init__(
        self, queue: BaseJobQueue, clock: Clock, at_once: AtOnce, *, goes_on: bool
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._at_once = at_once
        self._goes_on = goes_on
        self.bell = Bell()
        self.is_on_queue = self.lets_start = False
        self.has_taken_all: bool | None = None

    def wake(self) -> None:
        """End a sleep, or the next one."""
        self.bell.ring()
        if self.is_on_queue:
            self._queue.interrupt()

    def sleep(self, nap: Nap, look: Callable[[], bool]) -> bool:
        """Sleep; return whether there is news.

        Args:
            look: Looks for anything to do, and claims; returns whether there was something.
        """
        if not nap.is_on_queue:
            return self._clock.wait(self.bell, nap.secs)
        self.is_on_queue = True
        self._at_once.is_open = self._goes_on
        self.has_taken_all = None
        try:
            return self.bell.wait(0) or self._sleep_on_queue(nap.secs, look)
        finally:
            self.is_on_queue = self.lets_start = self._at_once.is_open = False

    def _sleep_on_queue(self, secs: float, look: Callable[[], bool]) -> bool:
        has_news = self._queue.wait_for_work(secs, look)
        if has_news and self.has_taken_all is None:
            look()  # at once, before the pump does whatever else is due
        if self.has_taken_all:
            self.lets_start = True
            self._clock.wait(self.bell, _START_SECS)
        elif self.has_taken_all is False:
            self._queue.notify()  # who stores many jobs rings one worker; each has the next woken
        return has_news
