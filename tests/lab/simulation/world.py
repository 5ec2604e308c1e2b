"""The world of a simulation: one virtual clock, an agenda, chance from a seed, and the history.

Nothing here sleeps or starts a thread. ``World.run`` takes the next entry off the agenda, sets the
clock to its time and calls it; equal seeds give equal worlds.
"""

from __future__ import annotations

import heapq
import random
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

from nuvom.core.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.core.clock import Waitable

_START = 1000.0  # monotonic seconds; nothing depends on it
_WALL = 1_750_000_000.0  # a day in 2025, likewise


class World:
    """Where everything of one simulation happens.

    Attributes:
        now: Monotonic seconds.
        latest_wall: The latest moment that the wall clock has told, before it was set back.
        rng: The only source of chance.
        history: Events as ``nuvom.testing.history.check`` takes them.
    """

    def __init__(self, seed: int) -> None:
        self.now = _START
        self.latest_wall = 0.0
        self._wall_offset = _WALL
        self.rng = random.Random(seed)  # repeatable is what it has to be
        self.history: list[dict[str, Any]] = []
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    @property
    def wall(self) -> float:
        """Seconds since the epoch, as a clock that is right tells them."""
        return self.now + self._wall_offset

    def set_wall(self, by_secs: float) -> None:
        """Set the wall clock, forward or back; no time passes."""
        self.latest_wall = max(self.latest_wall, self.wall)
        self._wall_offset += by_secs

    def after(self, secs: float, act: Callable[[], None]) -> None:
        """Have ``act`` called when ``secs`` seconds have passed."""
        heapq.heappush(self._agenda, (self.now + secs, next(self._order), act))

    def run(self, until: float) -> None:
        """Let time pass until the moment ``until``."""
        while self._agenda and self._agenda[0][0] <= until:
            at, _, act = heapq.heappop(self._agenda)
            self.now = max(self.now, at)
            act()
        self.now = max(self.now, until)

    def note(self, event: str, **details: Any) -> None:
        """Add an event to the history."""
        self.history.append({"at": self.now, "event": event, **details})


class Host(Protocol):
    """The process that the parts of a worker are in."""

    world: World

    def after(self, secs: float, act: Callable[[], None]) -> None:
        """Have ``act`` called in ``secs`` seconds, if the process lives then."""
        ...

    def note(self, event: str, **details: Any) -> None:
        """Add what happens in the process to the history."""
        ...

    def chance(self, most: float) -> float:
        """Return a random number up to ``most``."""
        ...


class VirtualClock(Clock):
    """The world's time as one process sees it.

    Args:
        skew: Seconds by which its wall clock is ahead of others.
    """

    def __init__(self, world: World, skew: float = 0.0) -> None:
        self._world = world
        self._skew = skew

    def now(self) -> float:
        return self._world.wall + self._skew

    def monotonic(self) -> float:
        return self._world.now

    def sleep(self, secs: float) -> None:
        self._world.now += secs

    def wait(self, event: Waitable, secs: float | None = None) -> bool:
        """Return whether ``event`` is set: whoever waits for real yields to the agenda."""
        del secs
        return event.wait(0)
