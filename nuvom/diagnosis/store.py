"""Checks of what is stored: the backend, workers, queues, and jobs that cannot go on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nuvom._version import __version__
from nuvom.diagnosis.findings import Finding, fail, failed, ok, store_place, warn
from nuvom.errors import NuvomError, plural
from nuvom.inspection import Inspector
from nuvom.queue_backends.sqlite.queue import SQLiteJobQueue
from nuvom.runtime import build_runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuvom.config.settings import Settings
    from nuvom.config.sources import Loaded
    from nuvom.core.views import QueueStats


def store_findings(loaded: Loaded) -> Iterator[Finding]:
    """Yield whether the store answers, and what in it needs somebody."""
    try:
        runtime = build_runtime(loaded, allow_project_plugins=False)
    except NuvomError as error:
        yield failed("store", error)
        return
    try:
        if isinstance(runtime.queue, SQLiteJobQueue):
            runtime.queue.store.db.check()
        inspector = Inspector(runtime)
        yield ok("store", _describe(loaded.settings, inspector.stats()))
        if loaded.settings.queue_backend == "memory":
            text = "in memory jobs end with the program that made them, and no worker gets them"
            yield warn("store", text, "Use sqlite or file, or nuvom.local_worker() in the program.")
        yield from _job_findings(inspector)
    except NuvomError as error:
        yield failed("store", error)
    finally:
        runtime.stop()


def _describe(settings: Settings, stats: list[QueueStats]) -> str:
    place = store_place(settings)
    waiting = sum(one.waiting for one in stats)
    counts = f"{plural(len(stats), 'queue')}, {plural(waiting, 'job')} waiting"
    text = f"{settings.queue_backend}, {counts}"
    if place is None:
        return text
    if not place.exists():
        return f"{settings.queue_backend}, {place} (not made yet)"
    size = f", {os.stat(place).st_size / 1e6:.1f} MB" if place.is_file() else ""
    return f"{text}, durability {settings.durability}, {place}{size}"


def _job_findings(inspector: Inspector) -> Iterator[Finding]:
    yield from _worker_findings(inspector)
    for stats in inspector.stats():
        yield from _queue_findings(inspector, stats)
    for task, count in inspector.parked_tasks().items():
        are = "is" if count == 1 else "are"
        text = f"{plural(count, 'job')} {are} PARKED: no running worker knows the task {task}"
        fix = "Start or restart a worker that has it: workers look for tasks when they start."
        yield fail("parked", text, fix)


def _worker_findings(inspector: Inspector) -> Iterator[Finding]:
    workers = inspector.workers()
    alive = [one for one in workers if one.state != "silent"]
    yield ok("workers", f"{len(alive)} alive")
    for one in workers:
        if one.state == "silent":
            text = f"{one.id[-8:]} (pid {one.pid} on {one.host}) has not been heard of for"
            yield warn("workers", f"{text} {one.beat_age_secs:.0f} s", "Its jobs are taken back.")
        elif one.version not in ("", __version__):
            text = f"{one.id[-8:]} runs nuvom {one.version}, this is {__version__}"
            yield warn("workers", text, "Restart it.")


def _queue_findings(inspector: Inspector, stats: QueueStats) -> Iterator[Finding]:
    name = stats.queue
    if stats.paused_by is not None:
        text = f"{name} is paused by {stats.paused_by}"
        yield warn("queues", text, f"To go on: nuvom queues resume {name}")
    elif stats.ready and inspector.workers_on(name) == 0:
        wait = "waits" if stats.ready == 1 else "wait"
        text = f"{plural(stats.ready, 'job')} {wait} on {name}, and no worker serves it"
        yield warn("queues", text, "Start one: nuvom runworker")
    if stats.dead:
        text = f"DEAD on {name}: {plural(stats.dead, 'job')}, under which workers died"
        yield warn("queues", text, "See: nuvom errors")
