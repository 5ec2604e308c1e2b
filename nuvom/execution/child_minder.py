"""The thread of a process lane that starts its children, sees them off and keeps its times.

On Linux a child ends with the thread that started it, so that one thread starts them all and
lives for as long as any does. What children run is none of its business: the lane's chores
(deadlines, memory) are called from here.
"""

from __future__ import annotations

import logging
import threading
from math import inf
from typing import TYPE_CHECKING

from nuvom.host import processes as platforms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nuvom.core.clock import Clock
    from nuvom.execution.child_pool import ChildPool
    from nuvom.execution.child_process import ChildProcess

    Chore = Callable[[float], float]

GRACE_SECS = 1.0  # between telling a child to end and killing it
_LEAVE_SECS = 2.0  # for a child without work to end by itself
_HOOK_SECS = 5.0  # for the commit that a worn child's hooks wait for
_START_SECS = 60.0  # for a child to come up
_START_WAITS_SECS = (0.1, 0.5, 2.0)  # after each that did not, until its jobs are given up
_LOG = logging.getLogger("nuvom.worker")


class ChildMinder:
    """Keeps as many children as there is work for.

    Args:
        make: Starts a process. Raises OSError when that cannot be.
        waiting: Returns how many attempts wait for a child.
        give_up: Called with a reason when no child comes up.
        chores: Called with the monotonic time whenever the minder is up; each returns when it
            wants to be called again, ``inf`` for not before the next ``wake``.
        crashed: Called when the thread fails.
    """

    def __init__(
        self,
        pool: ChildPool,
        clock: Clock,
        *,
        make: Callable[[], ChildProcess],
        waiting: Callable[[], int],
        give_up: Callable[[str], None],
        chores: Sequence[Chore],
        crashed: Callable[[BaseException], None],
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._make = make
        self._waiting = waiting
        self._give_up = give_up
        self._chores = (self._start_missing, *chores, self._see_off)
        self._crashed = crashed
        self._tether = platforms.Tether()
        self._bell = threading.Event()
        self._thread: threading.Thread | None = None
        self._failed_starts = 0
        self._start_at = 0.0

    def start(self) -> None:
        """Start the thread, unless it runs; only ever from one thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._main, name="nuvom-children", daemon=True)
            self._thread.start()

    def wake(self) -> None:
        """Have it look again now."""
        self._bell.set()

    def close(self) -> None:
        """Start no more children, and let those end that do nothing."""
        for child in self._pool.close():
            self._dismiss(child)
        self.wake()

    def join(self) -> None:
        """Wait for the last child to end, no longer than a killed one takes."""
        if self._thread is not None:
            self._thread.join(max(GRACE_SECS, _LEAVE_SECS) + GRACE_SECS)

    # ---- one child ----------------------------------------------------------------------

    def end(self, child: ChildProcess, *, at_once: bool = False) -> None:
        """Tell a leaving child to stop what it does, and see to it that it ends."""
        now = self._clock.monotonic()
        child.kill_at = now if at_once else now + GRACE_SECS
        child.close()
        self.wake()

    def retire(self, child: ChildProcess) -> None:
        """Let a leaving child end by itself, once it has called the hooks that it owes."""
        child.leave_at = self._clock.monotonic() + _HOOK_SECS
        self.wake()

    def came_up(self, child: ChildProcess) -> None:
        """Note that a child has started."""
        self._failed_starts = 0
        self._pool.ready(child)

    def failed_to_start(self, how: str) -> None:
        """Try again after a while; give up after some times."""
        _LOG.warning(
            "a child of the process lane did not start: %s", how, extra={"event": "child.failed"}
        )
        tries = self._failed_starts
        self._failed_starts += 1
        if tries < len(_START_WAITS_SECS):
            self._start_at = self._clock.monotonic() + _START_WAITS_SECS[tries]
        else:
            self._failed_starts = 0
            self._give_up(f"no child process could be started for it: {how}")
        self.wake()

    def _dismiss(self, child: ChildProcess) -> None:
        child.kill_at = self._clock.monotonic() + _LEAVE_SECS
        child.leave()

    # ---- the thread ---------------------------------------------------------------------

    def _main(self) -> None:
        try:
            while not (self._pool.is_closed and self._pool.is_empty):
                self._bell.clear()
                now = self._clock.monotonic()
                next_at = min(chore(now) for chore in self._chores)
                secs = None if next_at == inf else max(0.0, next_at - self._clock.monotonic())
                self._clock.wait(self._bell, secs)
        except Exception as error:  # noqa: BLE001  # outermost: a fault of the engine must not pass in silence
            self._crashed(error)

    def _start_missing(self, now: float) -> float:
        while self._pool.missing(self._waiting()) > 0:
            if now < self._start_at:
                return self._start_at
            try:
                child = self._make()
            except OSError as error:
                self.failed_to_start(str(error))
                continue
            child.tie_to(self._tether)
            child.kill_at = now + _START_SECS
            if not self._pool.add(child):  # the lane was stopped meanwhile
                child.kill_at = now
            child.talk()
        return inf

    def _see_off(self, now: float) -> float:
        """Let worn children leave, and kill those whose time is over."""
        next_at = inf
        for child in self._pool.unused():
            if child.leave_at is not None and (not child.hooks_due or now >= child.leave_at):
                child.leave_at = None
                self._dismiss(child)
            if child.kill_at is not None and now >= child.kill_at:
                child.kill()
                child.kill_at = now + GRACE_SECS  # and again: nothing else is left to do
            next_at = min(next_at, child.leave_at or inf, child.kill_at or inf)
        return next_at
