"""Figures from roll-ups: how many ended in each step of time, and how long they took.

Pure functions of rows, so that a page, a chart and ``--json`` agree on each figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.core.views import ROLLUP_BOUNDS, UNTIMED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

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
