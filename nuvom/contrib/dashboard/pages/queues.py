"""Queues: how much waits and runs in each, and whether it is paused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.contrib.dashboard import actions, frame, readings
from nuvom.contrib.dashboard.pages.overview import NONE, Figure, flow_context, number
from nuvom.contrib.dashboard.visit import Done, Page
from nuvom.errors import QueueNotFound, plural
from nuvom.inspection.formats import rate_text
from nuvom.inspection.inspector import counts_by_status

if TYPE_CHECKING:
    from nuvom.contrib.dashboard.visit import Visit
    from nuvom.inspection.figures import QueueFigures


def queues(visit: Visit) -> Page:
    """Show all queues."""
    context = {"queues": readings.queues(visit), "sees_queues": visit.inspector.sees_processes}
    return Page("queues.html", context)


def queue(visit: Visit) -> Page:
    """Show one queue: its figures, its flow, and who works on it. Raises: QueueNotFound."""
    return _shown(visit, asks=visit.asked("purge") == "1" and visit.may("purge"))


def purge(visit: Visit) -> Done | Page:
    """Remove the waiting jobs of a queue whose name the person has typed, or ask for it again.

    Raises: QueueNotFound, HttpError.
    """
    visit.require("purge")
    name, typed = visit.named("name"), visit.form.get("confirm", "").strip()
    if typed != name:
        return _shown(visit, asks=True, wrong=typed)._replace(status=422)
    entry = actions.purge(visit, typed)
    return Done(f"Queue {name} is purged: {plural(entry.done, 'waiting job')} removed.")


def _shown(visit: Visit, *, asks: bool, wrong: str | None = None) -> Page:
    """Return the page of a queue, with the question before a purge and what was typed wrongly."""
    name = visit.named("name")
    found = {one.stats.queue: one for one in readings.queues(visit)}
    if name not in found:
        visit.site.forget()  # it may be new
        found = {one.stats.queue: one for one in readings.queues(visit)}
    if name not in found:
        raise QueueNotFound(name, [*found])
    one = found[name]
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
        "stored": [
            (word, frame.number(count.n, is_more=count.is_more))
            for word, count in counts_by_status([one.stats]).items()
        ],
        "asks": asks,
        "wrong": wrong,
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
    workers = "" if one.workers is None else f"{plural(one.workers, 'worker')} alive"
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
        Figure("Scheduled", f"{stats.scheduled:,}", "", f"{stats.retrying:,} waiting to retry"),
        Figure("Finished", rate, "per min", "in the last 5 min"),
        Figure("Failed, 24 h", failed, "", before),
        Figure("Oldest ready", *oldest, "the longest wait" if one.oldest_secs else "no job waits"),
    ]
