"""When a worker ends by itself, and what it still may do until then."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nuvom.core.clock import Clock
    from nuvom.execution.lanes import Lane


class Limits(NamedTuple):
    """When a worker ends by itself, and how much it does at once.

    Attributes:
        burst: When no job is ready and none runs.
        max_jobs: After so many claimed jobs.
        max_secs: After so many seconds.
        concurrency: At most so many jobs of a queue at once, by queue; others have no limit.
    """

    burst: bool = False
    max_jobs: int | None = None
    max_secs: float | None = None
    concurrency: Mapping[str, int] | None = None


class Ends:
    """Watches the limits of a worker, from the moment at which this is made.

    Args:
        max_stuck: How many slots may be stuck.
    """

    def __init__(
        self, limits: Limits, clock: Clock, lanes: Iterable[Lane], *, max_stuck: int
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._lanes = tuple(lanes)
        self._max_stuck = max_stuck
        secs = limits.max_secs
        self._ends_at = inf if secs is None else clock.monotonic() + secs

    def jobs_left(self, claimed: int) -> float:
        """Return how many jobs the worker may still claim."""
        most = self._limits.max_jobs
        return inf if most is None else most - claimed

    def secs_left(self) -> float:
        """Return for how long it may go on."""
        return inf if self._ends_at == inf else max(0.0, self._ends_at - self._clock.monotonic())

    def reason(self, claimed: int, *, has_work: bool) -> str | None:
        """Return why it is to end now, None when it is not."""
        if not has_work and self.jobs_left(claimed) <= 0:
            return "max-jobs"
        if self.secs_left() <= 0:
            return "max-secs"
        is_stuck = sum(lane.stuck() for lane in self._lanes) >= self._max_stuck
        return "stuck-threads" if is_stuck else None
