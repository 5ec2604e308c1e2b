"""Series of the whole store, read when they are scraped: right for any number of processes."""

from __future__ import annotations

import platform
from collections import Counter
from typing import TYPE_CHECKING

from nuvom._version import __version__
from nuvom.contrib.prometheus.families import Capped, gauge
from nuvom.contrib.prometheus.totals_series import TotalsSeries
from nuvom.errors import InvalidManifest
from nuvom.queue_backends.base import Capability

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from nuvom.core.clock import Clock
    from nuvom.core.views import QueueStats, WorkerInfo
    from nuvom.plugins.contracts import Inspector, RunningSystem

MOST_TASKS = 500
MOST_QUEUES = 200
_QUEUE_STATES = ("ready", "scheduled", "retrying", "running", "parked")
_WORKER_STATES = ("alive", "quiet", "stopping", "stuck", "silent")
_SHORT_ID = 8


def short(worker: str) -> str:
    """Return a worker's id as it is shown everywhere."""
    return worker[-_SHORT_ID:]


class StoreSeries:
    """Reads the store through the inspector, as the command line does."""

    def __init__(self, runtime: RunningSystem, inspector: Inspector, clock: Clock) -> None:
        self._runtime = runtime
        self._inspector = inspector
        self._clock = clock
        self._tasks, self._queues = Capped(MOST_TASKS), Capped(MOST_QUEUES)
        self._totals = TotalsSeries(self._tasks, self._queues)

    def collect(self) -> Iterator[Metric]:
        """Yield all families. Raises what the store raises."""
        yield from self._build_info()
        if Capability.INSPECTION not in self._runtime.queue.capabilities:
            yield from _old_size(self._runtime.queue.qsize())
            return
        stats, workers = self._inspector.stats(), self._inspector.workers()
        totals = self._inspector.totals()
        known = [one.queue for one in stats]
        yield from self._totals.collect(totals, known)
        yield from self._of_queues(stats)
        yield from _of_workers(workers)
        yield from self._of_files()
        yield from _old_names(stats, workers)
        overflow = gauge("nuvom_label_overflow", "Values shown as other, by label.", ["label"])
        overflow.add_metric(["task"], self._tasks.overflow(one.task for one in totals))
        overflow.add_metric(["queue"], self._queues.overflow([*known, *(t.queue for t in totals)]))
        yield overflow

    def _build_info(self) -> Iterator[Metric]:
        labels = ["version", "python", "backend"]
        info = gauge("nuvom_build_info", "Versions and queue backend; always 1.", labels)
        backend = self._runtime.settings.queue_backend
        info.add_metric([__version__, platform.python_version(), backend], 1)
        yield info

    def _of_queues(self, stats: list[QueueStats]) -> Iterator[Metric]:
        jobs = gauge("nuvom_queue_jobs", "Jobs that have not ended.", ["queue", "state"])
        dead = gauge("nuvom_jobs_dead", "DEAD jobs that are kept.", ["queue"])
        age = gauge(
            "nuvom_queue_oldest_ready_age_seconds",
            "How long the oldest job that could start waits.",
            ["queue"],
        )
        paused = gauge("nuvom_queue_paused", "Whether the queue is paused.", ["queue"])
        now = self._clock.now()
        counts: Counter[tuple[str, str]] = Counter()
        ages: dict[str, float] = {}
        for one in stats:
            queue = self._queues.shown(one.queue)
            for state in _QUEUE_STATES:
                counts[queue, state] += getattr(one, state)
            counts[queue, "dead"] += one.dead
            counts[queue, "paused"] |= one.paused_by is not None
            waits = 0.0 if one.oldest_ready_at is None else max(0.0, now - one.oldest_ready_at)
            ages[queue] = max(waits, ages.get(queue, 0.0))
        for queue, secs in ages.items():
            for state in _QUEUE_STATES:
                jobs.add_metric([queue, state], counts[queue, state])
            dead.add_metric([queue], counts[queue, "dead"])
            paused.add_metric([queue], counts[queue, "paused"])
            age.add_metric([queue], secs)
        yield from (jobs, dead, age, paused)

    def _of_files(self) -> Iterator[Metric]:
        size = self._inspector.store_size()
        if size is not None:
            for name, about, value in (
                ("nuvom_store_bytes", "Size of the store.", size.used),
                ("nuvom_store_free_bytes", "Free bytes of the store's disk.", size.free),
                ("nuvom_store_disk_bytes", "All bytes of the store's disk.", size.disk),
            ):
                family = gauge(name, about)
                family.add_metric([], value)
                yield family
        stale = gauge("nuvom_manifest_stale", "Whether the list of tasks is out of date.")
        try:
            stale.add_metric([], self._inspector.is_manifest_stale())
        except InvalidManifest:
            stale.add_metric([], 1)
        yield stale


def _of_workers(workers: list[WorkerInfo]) -> Iterator[Metric]:
    states = Counter(one.state for one in workers)
    number = gauge("nuvom_workers", "Workers not known to be dead.", ["state"])
    for state in _WORKER_STATES:
        number.add_metric([state], states[state])
    slots = gauge("nuvom_worker_slots", "Slots for threads.", ["worker", "state"])
    beat = gauge("nuvom_worker_heartbeat_age_seconds", "Time since the last heartbeat.", ["worker"])
    for one in workers:
        busy = min(one.running, one.slots)
        slots.add_metric([short(one.id), "busy"], busy)
        slots.add_metric([short(one.id), "idle"], one.slots - busy)
        beat.add_metric([short(one.id)], one.beat_age_secs)
    yield from (number, slots, beat)


def _old_names(stats: list[QueueStats], workers: list[WorkerInfo]) -> Iterator[Metric]:
    """Yield what earlier versions called otherwise, for one more minor release."""
    count = gauge("nuvom_worker_count", "Deprecated: use nuvom_workers.")
    count.add_metric([], sum(one.state == "alive" for one in workers))
    inflight = gauge("nuvom_inflight_jobs", 'Deprecated: use nuvom_queue_jobs{state="running"}.')
    inflight.add_metric([], sum(one.running for one in stats))
    yield from (count, inflight)
    yield from _old_size(sum(one.waiting for one in stats))


def _old_size(jobs: int) -> Iterator[Metric]:
    size = gauge("nuvom_queue_size", "Jobs that wait. Deprecated where there is nuvom_queue_jobs.")
    size.add_metric([], jobs)
    yield size
