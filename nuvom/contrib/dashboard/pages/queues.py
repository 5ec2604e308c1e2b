"""Queues: how much waits and runs in each, and whether it is paused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.contrib.dashboard import frame, readings
from nuvom.contrib.dashboard.pages.overview import NONE, Figure, flow_context, number
from nuvom.contrib.dashboard.visit import Page
from nuvom.errors import QueueNotFound, plural
from nuvom.inspection import figures
from nuvom.inspection.formats import rate_text

if TYPE_CHECKING:
    from nuvom.contrib.dashboard.visit import Visit
    from nuvom.inspection.figures import QueueFigures


def queues(visit: Visit) -> Page:
    """Show all queues."""
    context = {"queues": readings.queues(visit), "sees_queues": visit.inspector.sees_processes}
    return Page("queues.html", context)


def queue(visit: Visit) -> Page:
    """Show one queue: its figures, its flow, and who works on it. Raises: QueueNotFound."""
    name = visit.named("name")
    if name not in readings.stats(visit):
        visit.site.forget()  # it may be new
    found = readings.stats(visit)
    if name not in found:
        raise QueueNotFound(name, [*found])
    lately = readings.recent(visit)._replace(now=visit.now)
    one = figures.queue(visit.inspector, lately, found[name])
    word = frame.window(visit)
    flow = readings.flow(visit, frame.WINDOWS[word][0], name)
    serving = [
        worker for worker in visit.inspector.workers() if not worker.queues or name in worker.queues
    ]
    context = {
        "one": one,
        "name": name,
        "window": word,
        "figures": _figures(visit, one),
        "workers": serving,
        "asks": visit.asked("purge") == "1" and visit.may("purge"),
        **flow_context(visit, flow, word),
    }
    return Page("queue.html", context)


def _figures(visit: Visit, one: QueueFigures) -> list[Figure]:
    stats = one.stats
    oldest = (NONE, "") if one.oldest_secs is None else number(one.oldest_secs)
    failed = NONE if one.failed is None else f"{one.failed:,}"
    before = "" if one.failed_before is None else f"{one.failed_before:,} the day before"
    rate = NONE if one.per_min is None else rate_text(one.per_min)
    slots = "" if one.slots is None else f"of {plural(one.slots, 'slot')}"
    workers = "" if one.workers is None else f"{plural(one.workers, 'live worker')}"
    jobs = frame.jobs
    return [
        Figure(
            "Ready to run",
            f"{stats.ready:,}",
            "",
            "could start now",
            jobs(visit, status="PENDING", queue=stats.queue),
        ),
        Figure(
            "Running",
            f"{stats.running:,}",
            slots,
            workers,
            jobs(visit, status="RUNNING", queue=stats.queue),
        ),
        Figure(
            "Later", f"{stats.scheduled + stats.retrying:,}", "", f"{stats.retrying:,} to retry"
        ),
        Figure("Finished", rate, "per min", "in the last 5 min"),
        Figure("Failed, 24 h", failed, "", before),
        Figure(
            "Oldest ready", *oldest, "has waited so long" if one.oldest_secs else "no job waits"
        ),
    ]
