"""A clock that tests move by hand."""

from __future__ import annotations

from threading import Condition
from typing import TYPE_CHECKING

from nuvom.core.clock import Clock

if TYPE_CHECKING:
    from nuvom.core.clock import Waitable

_START = 1_750_000_000.0  # a day in 2025; nothing depends on it
_LOOK_SECS = 0.002  # real time between two checks of an event set by other code


class FakeClock(Clock):
    """Time that stands still until ``advance`` is called, from this or another thread.

    ``sleep`` and ``wait`` block until the clock has been advanced far enough, which another thread
    must do.
    """

    def __init__(self, now: float = _START) -> None:
        self._moved = Condition()
        self._now = now
        self._monotonic = 1000.0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, secs: float) -> None:
        """Let ``secs`` seconds pass, 0 or more."""
        if secs < 0:
            raise ValueError(f"time cannot pass backwards ({secs}); jump() sets the wall clock")
        with self._moved:
            self._now += secs
            self._monotonic += secs
            self._moved.notify_all()

    def jump(self, secs: float) -> None:
        """Move the wall clock forward, or back if negative; no time passes."""
        with self._moved:
            self._now += secs

    def sleep(self, secs: float) -> None:
        until = self._monotonic + secs
        with self._moved:
            self._moved.wait_for(lambda: self._monotonic >= until)

    def wait(self, event: Waitable, secs: float | None = None) -> bool:
        if secs is None:
            return event.wait()
        until = self._monotonic + secs
        while self._monotonic < until:
            if event.wait(_LOOK_SECS):
                return True
        return event.wait(0)


class FreezableClock(Clock):
    """The system's clocks, until ``freeze`` is called; then the wall clock is moved by hand.

    The monotonic clock always runs: leases and time limits of running jobs stay true, and no wait
    lasts longer than it says.
    """

    def __init__(self) -> None:
        self._frozen: float | None = None

    def now(self) -> float:
        return super().now() if self._frozen is None else self._frozen

    def freeze(self) -> None:
        """Stop the wall clock at the present time."""
        self.move_to(self.now())

    def move_to(self, now: float) -> None:
        """Stop the wall clock at ``now``, in seconds since the epoch."""
        self._frozen = now
