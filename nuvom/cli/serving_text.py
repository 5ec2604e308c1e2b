"""What a worker says of itself when it starts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nuvom._version import __version__
from nuvom.cli.text import ago, quoted
from nuvom.diagnosis.findings import store_place
from nuvom.errors import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuvom.config.settings import Settings
    from nuvom.plugins.lifecycle import PluginSet
    from nuvom.worker import Worker

_SURVIVES = {"full": "survives a power cut", "normal": "survives the death of any process"}


def start_lines(worker: Worker, plugins: PluginSet) -> Iterator[str]:
    """Yield one line each: version, project, store, slots, queues, tasks, promise, plugins."""
    runtime = worker.runtime
    settings = runtime.settings
    yield f"nuvom {__version__}  worker {worker.id[-8:]}  pid {os.getpid()}"
    yield f"  project   {quoted(settings.root)} ({settings.environment})"
    yield f"  store     {_store(settings)}"
    yield f"  slots     {plural(worker.threads, 'thread')}, {worker.async_slots:,} async"
    yield f"  queues    {_queues(worker)}"
    yield f"  tasks     {_tasks(worker)}"
    yield f"  delivery  {worker.promise}"
    for loaded in plugins.started:
        yield f"  plugin    {loaded.describe()}"
    yield "Ready. Ctrl-C stops it."


def setting_warnings(settings: Settings) -> Iterator[str]:
    """Yield what somebody who starts a worker with these settings may not have meant."""
    if settings.queue_backend == "memory":
        yield (
            "The queue backend memory is in this process: no job of another program or command "
            "gets here. Use sqlite or file, or nuvom.local_worker() in the program that enqueues."
        )


def start_warnings(worker: Worker) -> Iterator[str]:
    """Yield what to know of a worker's settings and of its queue before relying on them."""
    yield from setting_warnings(worker.runtime.settings)
    backend = worker.runtime.settings.queue_backend
    if worker.promise == "at most once":
        yield (
            f"The queue backend {backend} has no leases: jobs are delivered at most once, and "
            "those running when a worker dies are lost."
        )


def supervisor_lines(settings: Settings) -> Iterator[str]:
    """Yield what the supervisor of several workers says before they start."""
    yield f"nuvom {__version__}  supervisor  pid {os.getpid()}"
    yield f"  project   {quoted(settings.root)} ({settings.environment})"
    yield f"  store     {_store(settings)}"
    slots = f"{plural(settings.max_workers, 'thread')}, {settings.async_slots:,} async"
    yield f"  workers   {settings.processes}, each with {slots}"
    yield "Ctrl-C stops them, SIGHUP replaces them one after the other."


def _store(settings: Settings) -> str:
    queue, results = settings.queue_backend, settings.result_backend
    backend = queue if queue == results else f"{queue}, results {results}"
    place = store_place(settings)
    if place is None:
        return backend
    if place.is_relative_to(settings.root):
        place = place.relative_to(settings.root)
    durability = f"durability {settings.durability} ({_SURVIVES[settings.durability]})"
    return f"{backend} in {quoted(place)}, {durability}"


def _queues(worker: Worker) -> str:
    served = "all, also later ones"
    if worker.queues is not None:
        served = ", ".join(worker.queues)
    elif worker.exclude:
        served = f"all but {', '.join(worker.exclude)}"
    limits = [f"{most} of {queue}" for queue, most in worker.concurrency.items()]
    return f"{served}; at most {', '.join(limits)} at once" if limits else served


def _tasks(worker: Worker) -> str:
    runtime = worker.runtime
    count = len(runtime.registry)
    try:
        written = os.stat(runtime.settings.manifest_file).st_mtime
    except OSError:
        return f"{count}, no manifest"
    return f"{count}, manifest written {ago(written, runtime.clock.now())}"
