"""How many jobs a worker claims at once: as many as its slots finish in a moment.

Quick jobs are claimed by hundreds, so that a full queue is worked off in bulk; slow ones are
claimed as slots get free, so that no job waits behind a slow one while another worker idles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nuvom.execution.lanes import Lane

_MOMENT_SECS = 0.02
_CAP = 1024  # beyond it nothing is gained, and more would wait for one worker
_AHEAD_SECS = 0.1  # of work that waits for a slot
_NEWEST_COUNTS = 0.2  # of the mean
_PATIENCE_SECS = 0.5  # of jobs that wait here for a slot; then others may have them


class Pace:
    """Estimates the rate of finished jobs, and from it the size of a claim.

    Args:
        slots: Least size.
        cap: Greatest size, None for the built-in one.

    Attributes:
        cap: As given; at most so many are claimed at once, for whatever lane.
    """

    def __init__(self, slots: int, cap: int | None) -> None:
        self._least = slots if cap is None else min(slots, cap)
        self.cap = _CAP if cap is None else cap
        self.batch = self._least

    def finished(self, count: int, secs: float) -> None:
        """Take note that ``count`` jobs were finished in ``secs`` seconds of work.

        The size at most doubles at a time, and halves at once when jobs get slow.
        """
        if secs <= 0 or count <= 0:
            return
        target = int(count * _MOMENT_SECS / secs)
        self.batch = max(self._least, min(self.cap, target, self.batch * 2))

    def slowed(self) -> None:
        """Take note that nothing was finished for a while."""
        self.batch = max(self._least, self.batch // 2)

    def stalled(self) -> None:
        """Take note that jobs wait here behind slow ones: claim no further ahead."""
        self.batch = self._least

    @property
    def is_bulk(self) -> bool:
        """Whether jobs are quick enough to be held ready beyond the free slots."""
        return self.batch > self._least


class Lead:
    """How many attempts a lane keeps ready beyond its free slots: a moment's work, or none.

    Attributes:
        size: That many; 0 until it is known how long attempts take.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._mean_secs: float | None = None
        self.size = 0

    def took(self, secs: float) -> None:
        """Take note of how long an attempt took."""
        before = secs if self._mean_secs is None else self._mean_secs
        mean = self._mean_secs = before + _NEWEST_COUNTS * (secs - before)
        most = _CAP // self._slots
        each = most if mean * most <= _AHEAD_SECS else int(_AHEAD_SECS / mean)
        self.size = self._slots * each


class Patience:
    """Knows for which lane the last jobs were claimed so long ago that others may want them."""

    def __init__(self) -> None:
        self._claimed_at: dict[str, float] = {}

    def begins(self, lane: str, now: float) -> None:
        """Take note that jobs were claimed for a lane."""
        self._claimed_at[lane] = now

    def is_over(self, lanes: Iterable[Lane], now: float) -> list[Lane]:
        """Return the lanes in which jobs have waited for too long while all slots were at work."""
        before = now - _PATIENCE_SECS
        return [
            lane
            for lane in lanes
            if lane.backlog() and self._claimed_at.get(lane.name, now) < before and not lane.free()
        ]
