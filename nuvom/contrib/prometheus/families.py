"""Metric families being built: named once, filled with samples, each label set kept small."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

OTHER = "other"


class Capped:
    """Label values of one kind: the first ``most`` are shown, further ones become ``other``.

    The first stay the first for as long as the process lives, so that no series changes its
    meaning between two scrapes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._shown: set[str] = set()

    def shown(self, value: str) -> str:
        """Return the label for ``value``."""
        if value not in self._shown:
            if len(self._shown) >= self._most:
                return OTHER
            self._shown.add(value)
        return value

    def overflow(self, values: Iterable[str]) -> int:
        """Return how many of ``values`` are shown as ``other``."""
        return len(set(values) - self._shown)


class Distribution:
    """Counts of a histogram by bucket, and the sum of what was counted."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.add(bisect_left(self._bounds, value), 1, value)

    def add(self, place: int, count: int, total: float) -> None:
        """Count ``count`` values of the bucket at ``place`` that add up to ``total``."""
        self._counts[place] += count
        self._sum += total

    def write(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Add this distribution to ``family``."""
        bounds = [*map(_bound_text, self._bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(self._counts), strict=True))
        family.add_metric(labels, buckets, sum_value=self._sum)


def _bound_text(bound: float) -> str:
    return repr(float(bound))


def gauge(name: str, about: str, labels: Sequence[str] = ()) -> GaugeMetricFamily:
    """Return an empty family of gauges."""
    return GaugeMetricFamily(name, about, labels=labels)


def counter(name: str, about: str, labels: Sequence[str] = ()) -> CounterMetricFamily:
    """Return an empty family of counters; ``name`` ends in ``_total``."""
    return CounterMetricFamily(name, about, labels=labels)


def histogram(name: str, about: str, labels: Sequence[str] = ()) -> HistogramMetricFamily:
    """Return an empty family of histograms."""
    return HistogramMetricFamily(name, about, labels=labels)


def merged(families: Iterable[Metric]) -> list[Metric]:
    """Return the families that have samples, those of one name as one."""
    found: dict[str, Metric] = {}
    for family in families:
        if family.name in found:
            found[family.name].samples.extend(family.samples)
        elif family.samples:
            found[family.name] = family
    return list(found.values())
