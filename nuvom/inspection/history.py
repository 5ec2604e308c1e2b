"""Figures from roll-ups: how many ended in each step of time, and how long they took.

Pure functions of rows, so that a page, a chart and ``--json`` agree on each figure; and what keeps
rows for readers that ask again and again.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Literal, NamedTuple

from nuvom.core.views import ROLLUP_BOUNDS, UNTIMED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from nuvom.core.views import Rollup


def series(
    rows: Iterable[Rollup],
    since: float,
    until: float,
    step: int,
    *,
    kinds: Collection[str],
    queue: str | None = None,
    task: str | None = None,
) -> list[int]:
    """Return the count of each step from ``since`` until before ``until``, also where it is 0.

    Args:
        rows: Of the same step, or of a shorter one that divides it.
        since: Seconds since the epoch, rounded down to a multiple of ``step``.
    """
    start = int(since // step) * step
    counts = [0] * max(0, -int((start - until) // step))
    for one in _wanted(rows, kinds, queue, task):
        place = (one.at - start) // step
        if 0 <= place < len(counts):
            counts[place] += one.count
    return counts


def by_name(rows: Iterable[Rollup], name: Literal["queue", "task"]) -> dict[str, list[Rollup]]:
    """Return the rows of each queue or task, so that many can be looked at in one pass."""
    found: defaultdict[str, list[Rollup]] = defaultdict(list)
    for one in rows:
        found[getattr(one, name)].append(one)
    return found


def total(
    rows: Iterable[Rollup],
    kinds: Collection[str],
    *,
    queue: str | None = None,
    task: str | None = None,
) -> int:
    """Return the sum of the counts."""
    return sum(one.count for one in _wanted(rows, kinds, queue, task))


def percentile(
    rows: Iterable[Rollup],
    share: float,
    *,
    kinds: Collection[str],
    queue: str | None = None,
    task: str | None = None,
) -> float | None:
    """Return how many seconds a share of the attempts did not exceed; None if none was timed.

    The value is interpolated inside its bucket, as if all in it were spread evenly. In the last
    bucket, which has no upper bound, it is the mean of that bucket.

    Args:
        share: From 0 to 1, such as 0.95.
    """
    counts = [0] * (len(ROLLUP_BOUNDS) + 1)
    secs = 0.0  # in the last bucket
    for one in _wanted(rows, kinds, queue, task):
        if one.bucket != UNTIMED:
            counts[one.bucket] += one.count
            secs += one.secs if one.bucket == len(ROLLUP_BOUNDS) else 0.0
    left = share * sum(counts)
    lower = 0.0
    for count, upper in zip(counts, ROLLUP_BOUNDS, strict=False):
        if count and left <= count:
            return lower + (upper - lower) * max(left, 0.0) / count
        left -= count
        lower = upper
    return secs / counts[-1] if counts[-1] else None


def _wanted(
    rows: Iterable[Rollup], kinds: Collection[str], queue: str | None, task: str | None
) -> Iterator[Rollup]:
    for one in rows:
        if one.kind in kinds and queue in (None, one.queue) and task in (None, one.task):
            yield one


# ---- rows that are kept ------------------------------------------------------------------------

_OPEN_SECS = 60.0  # so long after its end may a step still change: transactions end late
_DAY = 86_400


class _Kept(NamedTuple):
    """The rows of all steps from ``since`` until before ``until``, in order of time."""

    since: float
    until: float
    rows: list[Rollup]


class KeptHistory:
    """Rows of closed steps, which change no more, so that only the latest are read again.

    For servers and screens that show the same hours every second. It holds the widest window that
    was asked for, for each step and each number of days before now. Safe to use from any thread;
    while one reads, others wait for what it gets.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[tuple[int, int], _Kept] = {}

    def rows(
        self,
        read: Callable[[float, float, int], list[Rollup]],
        span: tuple[float, float],
        step: int,
        now: float,
    ) -> list[Rollup]:
        """Return the rows of a time span.

        Args:
            read: Returns rows of the store; see ``LeasedJobQueue.rollups``.
            span: ``since`` and ``until``, as for ``read``.
        """
        since, until = span[0] // step * step, span[1]
        closed = max(since, min(until, now - _OPEN_SECS) // step * step)
        key = step, round((now - until) / _DAY)
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or since < kept.since or not since <= kept.until <= closed:
                kept = _Kept(since, closed, read(since, closed, step))
            elif kept.until < closed:
                newer = read(kept.until, closed, step)
                first = kept.since + closed - kept.until  # so the window keeps its width
                older = (one for one in kept.rows if one.at >= first)
                kept = _Kept(first, closed, [*older, *newer])
            self._kept[key] = kept
        rest = read(closed, until, step) if closed < until else []
        return [*(one for one in kept.rows if one.at >= since), *rest]
