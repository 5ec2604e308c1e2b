"""What pages read of the store: the same for all tabs that ask within a moment.

A change that open pages are told of ends the moment, so that none of them shows an older state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.inspection import figures
from nuvom.inspection.inspector import COUNTED_JOBS
from nuvom.inspection.overview import attention

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuvom.contrib.dashboard.visit import Visit
    from nuvom.core.views import QueueStats
    from nuvom.inspection.figures import Flow, QueueFigures, Recent
    from nuvom.inspection.overview import Check

_SECS = 1.5
_RECENT_SECS = 3.0
_ATTENTION_SECS = 2.0
_FLOW_SHARE = 1 / 1800  # of its window: 2 s for an hour, 48 s for a day
_SHORTEST_FLOW_SECS, _LONGEST_FLOW_SECS = 2.0, 60.0


def recent(visit: Visit) -> Recent:
    """Return the rows of the history that many figures share."""
    return visit.site.kept(
        "recent",
        _RECENT_SECS,
        lambda: figures.recent(visit.inspector, visit.now),
        until_change=True,
    )


def queues(visit: Visit) -> list[QueueFigures]:
    """Return the figures of each queue."""
    return visit.site.kept(
        "queues",
        _SECS,
        lambda: figures.queues(
            visit.inspector, recent(visit)._replace(now=visit.now), stats(visit)
        ),
        until_change=True,
    )


def stats(visit: Visit) -> Sequence[QueueStats]:
    """Return the counts of each queue, which may take long in a large store."""
    return visit.site.kept(
        "stats", _SECS, lambda: visit.inspector.stats(COUNTED_JOBS), until_change=True
    )


def flow(visit: Visit, secs: int, queue: str | None = None) -> Flow:
    """Return what ended in the last ``secs`` seconds; longer windows are kept for longer."""
    kept_secs = min(max(secs * _FLOW_SHARE, _SHORTEST_FLOW_SECS), _LONGEST_FLOW_SECS)
    return visit.site.kept(
        ("flow", secs, queue),
        kept_secs,
        lambda: figures.flow(visit.inspector, visit.now, secs, queue=queue),
        until_change=secs <= figures.HOUR,
    )


def concerns(visit: Visit) -> list[Check]:
    """Return what needs attention."""
    return visit.site.kept(
        "attention",
        _ATTENTION_SECS,
        lambda: list(attention(visit.runtime, visit.inspector)),
        until_change=True,
    )
