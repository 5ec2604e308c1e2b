"""The metric series: those of the store, read on each scrape, and those of this process.

The store's series are correct for any number of processes. What the store cannot know is counted
here: calls into the store, workers of this process, and other plugins' figures. Each set of labels
stays small.
"""

from __future__ import annotations

import os
import platform
import re
from collections import Counter, defaultdict
from itertools import accumulate
from typing import TYPE_CHECKING

import prometheus_client as client
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from nuvom._version import __version__
from nuvom.core.views import TOOK_BOUNDS, WAITED_BOUNDS, QueueStats
from nuvom.errors import InvalidManifest
from nuvom.events import BackendCalled, BackendFailed, JobFenced, WorkerAsked, WorkerStopped
from nuvom.host.platforms import resident_bytes
from nuvom.plugins.registry import metrics_providers
from nuvom.queue_backends.base import Capability
from nuvom.scheduler.store import all_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any, TypeAlias

    from nuvom.core.clock import Clock
    from nuvom.core.views import Total, WorkerInfo
    from nuvom.events import EventBus
    from nuvom.plugins.contracts import Inspector, RunningSystem

    Samples: TypeAlias = Mapping[Any, float]  # by tuples of label values

OTHER = "other"
MOST_TASKS = 500
MOST_QUEUES = 200
MOST_SCHEDULES = 200
_QUEUE_STATES = ("ready", "scheduled", "retrying", "running", "parked")
_WORKER_STATES = ("alive", "quiet", "stopping", "stuck", "silent")
_SCHEDULE_STATES = ("active", "paused", "disabled", "ended")
_OUTCOMES = ("success", "failure", "timeout", "cancelled", "dead")
_SHORT_ID = 8
_BY_TASK = {
    "enqueued": ("nuvom_jobs_enqueued_total", "Jobs stored."),
    "started": (
        "nuvom_jobs_started_total",
        "Attempts started; counted once they have ended or are lost.",
    ),
    "retried": ("nuvom_job_retries_total", "Attempts that another one follows."),
}
_BY_QUEUE = {
    "lost": ("nuvom_jobs_lost_total", "Attempts that ended without a report."),
    "redelivered": (
        "nuvom_redeliveries_total",
        "Jobs given back to their queue after such an attempt.",
    ),
}
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_OPS = ("claim", "settle", "keep")  # always shown, even with 0 errors
_OP_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


# ---- families ---------------------------------------------------------------------------


class Capped:
    """Label values of one kind: shows the first ``most``; the rest become ``other``.

    The first values keep their place for the life of the process, so that no series changes its
    meaning between scrapes.
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
    """A histogram's counts by bucket, and the sum of the observed values."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, place: int, count: int, total: float) -> None:
        """Record ``count`` values in the bucket at ``place``, with the sum ``total``."""
        self._counts[place] += count
        self.total += total

    @property
    def buckets(self) -> list[tuple[str, float]]:
        """The upper bound of each bucket, and how many values do not exceed it."""
        bounds = [*(repr(float(bound)) for bound in self._bounds), "+Inf"]
        return list(zip(bounds, accumulate(self._counts), strict=True))


def gauge(name: str, about: str, samples: Samples, labels: Sequence[str] = ()) -> Metric:
    """Return a family of gauges; ``samples`` by label values."""
    return _filled(GaugeMetricFamily(name, about, labels=labels), samples)


def counter(name: str, about: str, samples: Samples, labels: Sequence[str] = ()) -> Metric:
    """Return a family of counters; ``name`` ends in ``_total``."""
    return _filled(CounterMetricFamily(name, about, labels=labels), samples)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, samples: Samples) -> Metric:
    for values, value in samples.items():
        family.add_metric(values, value)
    return family


def histogram(
    name: str, about: str, samples: Mapping[Any, Distribution], labels: Sequence[str]
) -> Metric:
    """Return a family of histograms."""
    family = HistogramMetricFamily(name, about, labels=labels)
    for values, one in samples.items():
        family.add_metric(values, one.buckets, sum_value=one.total)
    return family


def merged(families: Iterable[Metric]) -> list[Metric]:
    """Return the families that have samples, with families of the same name merged."""
    found: dict[str, Metric] = {}
    for family in families:
        # The client adds the time at which it created a series, which is of no use to anybody.
        shown = [one for one in family.samples if not one.name.endswith("_created")]
        if family.name in found:
            found[family.name].samples.extend(shown)
        elif shown:
            family.samples = shown
            found[family.name] = family
    return list(found.values())


# ---- series of the store ----------------------------------------------------------------


def short(worker: str) -> str:
    """Return a worker's id in the form that Nuvom shows everywhere."""
    return worker[-_SHORT_ID:]


class StoreSeries:
    """Reads the store through the inspector, as the command line does."""

    def __init__(self, runtime: RunningSystem, inspector: Inspector, clock: Clock) -> None:
        self._runtime = runtime
        self._inspector = inspector
        self._clock = clock
        self._tasks, self._queues = Capped(MOST_TASKS), Capped(MOST_QUEUES)
        self._schedules, self._unnamed = Capped(MOST_SCHEDULES), 0
        self._seen: set[str] = set()  # queues

    def collect(self) -> Iterator[Metric]:
        """Yield all families. Raises: whatever the store raises."""
        versions = (__version__, platform.python_version(), self._runtime.settings.queue_backend)
        about = "Versions and queue backend; always 1."
        yield gauge("nuvom_build_info", about, {versions: 1}, ["version", "python", "backend"])
        yield from self._of_schedules()
        if Capability.INSPECTION not in self._runtime.queue.capabilities:
            yield _old_size(self._runtime.queue.qsize())
            return
        stats, workers = self._inspector.backlog(), self._inspector.workers()
        totals = self._inspector.totals()
        # A queue in which nothing waits any more is at 0, not absent.
        known = {*(one.queue for one in stats), *(one.queue for one in totals), *self._seen}
        self._seen = known
        named = {one.queue for one in stats}
        stats += [QueueStats(queue=name) for name in sorted(known - named)]
        yield from self._of_totals(totals, known)
        yield from self._of_queues(stats)
        yield from _of_workers(workers)
        yield from self._of_files()
        # Names from earlier versions, kept for one more minor release.
        alive = sum(one.state == "alive" for one in workers)
        yield gauge("nuvom_worker_count", "Deprecated: use nuvom_workers.", {(): alive})
        running, about = sum(one.running for one in stats), 'nuvom_queue_jobs{state="running"}'
        yield gauge("nuvom_inflight_jobs", f"Deprecated: use {about}.", {(): running})
        yield _old_size(sum(one.waiting for one in stats))
        overflow = {
            ("task",): self._tasks.overflow(one.task for one in totals),
            ("queue",): self._queues.overflow([*known, *(one.queue for one in totals)]),
            ("schedule",): self._unnamed,
        }
        yield gauge("nuvom_label_overflow", "Values shown as other, by label.", overflow, ["label"])

    def _of_totals(self, totals: list[Total], queues: Iterable[str]) -> Iterator[Metric]:
        """Yield the store's own counts; nothing if it has never counted: absent is not 0.

        A series starts at 0 as soon as its queue or task is known, so that a rate shows the first
        failure too.
        """
        if not totals:
            return
        sums = _Sums({self._queues.shown(queue) for queue in queues})
        # The busiest first, so that they keep their names if not all can.
        for one in sorted(totals, key=lambda total: -total.count):
            sums.add(one, self._queues.shown(one.queue), self._tasks.shown(one.task))
        yield from sums.families()

    def _of_queues(self, stats: list[QueueStats]) -> Iterator[Metric]:
        now = self._clock.now()
        by_queue: dict[str, list[QueueStats]] = {}
        for one in stats:
            by_queue.setdefault(self._queues.shown(one.queue), []).append(one)
        jobs, dead, paused, ages = {}, {}, {}, {}
        for queue, ones in by_queue.items():
            for state in _QUEUE_STATES:
                jobs[queue, state] = sum(getattr(one, state) for one in ones)
            dead[queue,] = sum(one.dead for one in ones)
            paused[queue,] = any(one.paused_by is not None for one in ones)
            waits = [now - one.oldest_ready_at for one in ones if one.oldest_ready_at is not None]
            ages[queue,] = max([0.0, *waits])
        of_queue = ["queue"]
        yield gauge("nuvom_queue_jobs", "Jobs that have not ended.", jobs, ["queue", "state"])
        yield gauge("nuvom_jobs_dead", "DEAD jobs that are kept.", dead, of_queue)
        yield gauge("nuvom_queue_paused", "Whether the queue is paused.", paused, of_queue)
        about = "How long the oldest job that could start waits."
        yield gauge("nuvom_queue_oldest_ready_age_seconds", about, ages, of_queue)

    def _of_schedules(self) -> Iterator[Metric]:
        """Yield the counts that schedules keep of themselves, and how late the latest one is."""
        store = self._runtime.schedule_store
        if store is None:
            return
        states, fires, missed = Counter[str](), Counter[tuple[str, str]](), Counter[tuple[str]]()
        named = set[str]()
        for one in all_records(store):
            states[one.state] += 1
            if one.rule.at is None:  # one that fires once removes itself, and its counts, then
                named.add(one.name)
                name = self._schedules.shown(one.name)
                fires[name, "enqueued"] += one.fired
                fires[name, "skipped"] += one.skipped
                missed[name,] += one.missed
        self._unnamed = self._schedules.overflow(named)
        due_at = store.next_due_at()
        late = 0.0 if due_at is None else max(0.0, store.clock.now() - due_at)
        numbers, labels = {(state,): states[state] for state in _SCHEDULE_STATES}, ["schedule"]
        yield gauge("nuvom_schedules", "Schedules, by state.", numbers, ["state"])
        about = "Fires that enqueued a job, and those that would have overlapped."
        yield counter("nuvom_schedule_fires_total", about, fires, [*labels, "outcome"])
        about = "Fires that were too late to be made."
        yield counter("nuvom_schedule_missed_total", about, missed, labels)
        about = "How long the schedule that is due first has been due."
        yield gauge("nuvom_schedule_overdue_seconds", about, {(): late})

    def _of_files(self) -> Iterator[Metric]:
        size = self._inspector.store_size()
        if size is not None:
            yield gauge("nuvom_store_bytes", "Size of the store.", {(): size.used})
            yield gauge(
                "nuvom_store_free_bytes", "Free bytes of the store's disk.", {(): size.free}
            )
            yield gauge("nuvom_store_disk_bytes", "All bytes of the store's disk.", {(): size.disk})
        try:
            is_stale = self._inspector.is_manifest_stale()
        except InvalidManifest:
            is_stale = True
        about = "Whether the list of tasks is out of date."
        yield gauge("nuvom_manifest_stale", about, {(): is_stale})


def _of_workers(workers: list[WorkerInfo]) -> Iterator[Metric]:
    states = Counter(one.state for one in workers)
    numbers = {(state,): states[state] for state in _WORKER_STATES}
    yield gauge("nuvom_workers", "Workers not known to be dead.", numbers, ["state"])
    slots: dict[tuple[str, ...], float] = {}
    for one in workers:
        busy = min(one.running, one.slots)
        slots[short(one.id), "busy"] = busy
        slots[short(one.id), "idle"] = one.slots - busy
    yield gauge("nuvom_worker_slots", "Slots for threads.", slots, ["worker", "state"])
    ages = {(short(one.id),): one.beat_age_secs for one in workers}
    about = "Time since the last heartbeat."
    yield gauge("nuvom_worker_heartbeat_age_seconds", about, ages, ["worker"])


def _old_size(jobs: int) -> Metric:
    about = "Jobs that wait. Deprecated where there is nuvom_queue_jobs."
    return gauge("nuvom_queue_size", about, {(): jobs})


class _Sums:
    """The store's totals, summed by the labels shown."""

    def __init__(self, queues: set[str]) -> None:
        self._queues = queues
        self._pairs: dict[tuple[str, str], None] = {}
        self._by_task: Counter[tuple[str, str, str]] = Counter()
        self._by_queue: Counter[tuple[str, str]] = Counter()
        self._finished: Counter[tuple[str, str, str]] = Counter()
        self._took = defaultdict[tuple[str, ...], Distribution](lambda: Distribution(TOOK_BOUNDS))
        self._waited = defaultdict[tuple[str, ...], Distribution](
            lambda: Distribution(WAITED_BOUNDS)
        )

    def add(self, one: Total, queue: str, task: str) -> None:
        self._queues.add(queue)
        self._pairs[queue, task] = None
        self._by_queue[one.kind, queue] += one.count
        self._by_task[one.kind, queue, task] += one.count
        if one.kind in ("attempt", "lost"):
            self._by_task["started", queue, task] += one.count
        if one.outcome:
            self._finished[queue, task, one.outcome] += one.count
        if one.kind == "attempt":
            self._took[queue, task].add(one.took, one.count, one.took_secs)
            self._waited[queue,].add(one.waited, one.count, one.waited_secs)

    def families(self) -> Iterator[Metric]:
        labels = ["queue", "task", "outcome"]
        for kind, (name, about) in _BY_TASK.items():
            counts = {pair: self._by_task[kind, *pair] for pair in self._pairs}
            yield counter(name, about, counts, labels[:2])
        for kind, (name, about) in _BY_QUEUE.items():
            by_queue = {(queue,): self._by_queue[kind, queue] for queue in self._queues}
            yield counter(name, about, by_queue, labels[:1])
        finished = {
            (*pair, outcome): self._finished[*pair, outcome]
            for pair in self._pairs
            for outcome in _OUTCOMES
        }
        yield counter("nuvom_jobs_finished_total", "Jobs that have ended.", finished, labels)
        about = "How long attempts took."
        yield histogram("nuvom_job_duration_seconds", about, self._took, labels[:2])
        about = "How long jobs that could start had waited."
        yield histogram("nuvom_job_wait_seconds", about, self._waited, labels[:1])


# ---- series of this process -------------------------------------------------------------


class ProcessSeries:
    """Counts events on this process's bus, none of them more frequent than one per batch."""

    def __init__(self, bus: EventBus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._queues = Capped(MOST_QUEUES)
        self._asked: dict[str, tuple[float, int]] = {}
        about = "How long calls into the store took."
        name = "nuvom_backend_op_duration_seconds"
        self._took = client.Histogram(name, about, ["op"], registry=None, buckets=_OP_BOUNDS)
        about = "Calls into the store that failed."
        self._errors = client.Counter("nuvom_backend_errors_total", about, ["op"], registry=None)
        for op in _OPS:
            self._errors.labels(op)
        about = "Outcomes dropped since the lease had passed to another worker."
        self._stale = client.Counter("nuvom_stale_settles_total", about, ["queue"], registry=None)

    def subscribe(self) -> list[Callable[[], None]]:
        """Subscribe; return functions that unsubscribe."""
        return [
            self._bus.subscribe(BackendCalled, self._called),
            self._bus.subscribe(BackendFailed, self._failed),
            self._bus.subscribe(JobFenced, self._fenced),
            self._bus.subscribe(WorkerAsked, self._has_asked),
            self._bus.subscribe(WorkerStopped, self._stopped),
        ]

    def _called(self, event: BackendCalled) -> None:
        self._took.labels(event.op).observe(event.duration_secs)

    def _failed(self, event: BackendFailed) -> None:
        self._errors.labels(event.op).inc()

    def _fenced(self, event: JobFenced) -> None:
        if not event.was_cancelled:
            self._stale.labels(self._queues.shown(event.job.queue)).inc()

    def _has_asked(self, event: WorkerAsked) -> None:
        self._asked[event.worker] = (self._clock.monotonic(), event.leaked)

    def _stopped(self, event: WorkerStopped) -> None:
        self._asked.pop(event.worker, None)

    def collect(self, runtime: RunningSystem) -> Iterator[Metric]:
        """Yield all families."""
        for metric in (self._took, self._errors, self._stale):
            yield from metric.collect()
        yield from self._of_workers()
        about = "Failed calls into plugins."
        errors = runtime.plugin_errors
        yield counter("nuvom_plugin_errors_total", about, errors, ["plugin", "hook"])
        yield from self._provided()

    def _of_workers(self) -> Iterator[Metric]:
        now, memory = self._clock.monotonic(), resident_bytes(os.getpid())
        asked = {short(worker): found for worker, found in list(self._asked.items())}
        ages = {(worker,): max(0.0, now - asked_at) for worker, (asked_at, _) in asked.items()}
        about = (
            "Time since the worker last asked for jobs, which it does each second if it has room."
        )
        yield gauge("nuvom_worker_last_claim_loop_age_seconds", about, ages, ["worker"])
        slots = {(worker, "leaked"): leaked for worker, (_, leaked) in asked.items()}
        yield gauge("nuvom_worker_slots", "Slots for threads.", slots, ["worker", "state"])
        if memory is not None:
            about = "Memory of the worker's process."
            used = {(worker,): memory for worker in asked}
            yield gauge("nuvom_worker_rss_bytes", about, used, ["worker"])

    def _provided(self) -> Iterator[Metric]:
        """Yield the figures that other plugins registered."""
        for name, provider in metrics_providers().items():
            try:
                figures = {key: float(value) for key, value in provider().items()}
            except Exception as error:  # noqa: BLE001  # a plugin's code: any failure is only reported
                self._bus.report(f"metrics of {name}", error)
                continue
            for metric, value in figures.items():
                if _NAME.fullmatch(metric) is None or metric.startswith("nuvom_"):
                    self._bus.report(f"metrics of {name}", ValueError(f"no name: {metric!r}"))
                else:
                    yield gauge(metric, f"Provided by {name}.", {(): value})
