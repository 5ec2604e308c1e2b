"""Queues: how much waits and runs in each, and whether it is paused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.contrib.dashboard import readings
from nuvom.contrib.dashboard.visit import Page

if TYPE_CHECKING:
    from nuvom.contrib.dashboard.visit import Visit


def queues(visit: Visit) -> Page:
    """Show all queues."""
    return Page("queues.html", {"queues": readings.queues(visit)})
