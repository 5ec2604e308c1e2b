"""Series of this one process: what the store cannot know of a worker, and others' figures."""

from __future__ import annotations

import os
import re
import threading
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from nuvom.contrib.prometheus.families import Capped, Distribution, counter, gauge, histogram
from nuvom.contrib.prometheus.store_series import MOST_QUEUES, short
from nuvom.events import BackendCalled, BackendFailed, JobFenced, WorkerAsked, WorkerStopped
from nuvom.host.processes import resident_bytes
from nuvom.plugins.registry import metrics_providers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.core import Metric

    from nuvom.core.clock import Clock
    from nuvom.events import EventBus
    from nuvom.plugins.contracts import RunningSystem

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_OP_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class ProcessSeries:
    """Listens to the bus of its process. None of its events comes more often than a batch."""

    def __init__(self, bus: EventBus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._lock = threading.Lock()
        self._queues = Capped(MOST_QUEUES)
        self._ops: dict[str, Distribution] = defaultdict(lambda: Distribution(_OP_BOUNDS))
        self._errors: Counter[str] = Counter({"claim": 0, "settle": 0, "keep": 0})
        self._stale: Counter[str] = Counter()
        self._asked: dict[str, tuple[float, int]] = {}

    def subscribe(self) -> list[Callable[[], None]]:
        """Start listening; return functions that end it."""
        return [
            self._bus.subscribe(BackendCalled, self._called),
            self._bus.subscribe(BackendFailed, self._failed),
            self._bus.subscribe(JobFenced, self._fenced),
            self._bus.subscribe(WorkerAsked, self._has_asked),
            self._bus.subscribe(WorkerStopped, self._stopped),
        ]

    def _called(self, event: BackendCalled) -> None:
        with self._lock:
            self._ops[event.op].observe(event.duration_secs)

    def _failed(self, event: BackendFailed) -> None:
        with self._lock:
            self._errors[event.op] += 1

    def _fenced(self, event: JobFenced) -> None:
        with self._lock:
            self._stale[self._queues.shown(event.job.queue)] += 1

    def _has_asked(self, event: WorkerAsked) -> None:
        self._asked[event.worker] = (self._clock.monotonic(), event.leaked)

    def _stopped(self, event: WorkerStopped) -> None:
        self._asked.pop(event.worker, None)

    def collect(self, runtime: RunningSystem) -> Iterator[Metric]:
        """Yield all families."""
        yield from self._of_backend()
        yield from self._of_workers()
        errors = counter(
            "nuvom_plugin_errors_total", "Failed calls into plugins.", ["plugin", "hook"]
        )
        for labels, count in runtime.plugin_errors.items():
            errors.add_metric(labels, count)
        yield errors
        yield from self._provided()

    def _of_backend(self) -> Iterator[Metric]:
        took = histogram(
            "nuvom_backend_op_duration_seconds", "How long calls into the store took.", ["op"]
        )
        errors = counter("nuvom_backend_errors_total", "Calls into the store that failed.", ["op"])
        stale = counter(
            "nuvom_stale_settles_total",
            "Outcomes dropped since the lease had passed to another worker.",
            ["queue"],
        )
        with self._lock:
            for op, one in self._ops.items():
                one.write(took, [op])
            for op, count in self._errors.items():
                errors.add_metric([op], count)
            for queue, count in self._stale.items():
                stale.add_metric([queue], count)
        yield from (took, errors, stale)

    def _of_workers(self) -> Iterator[Metric]:
        now, memory = self._clock.monotonic(), resident_bytes(os.getpid())
        age = gauge(
            "nuvom_worker_last_claim_loop_age_seconds",
            "Time since the worker last asked for jobs, which it does each second if it has room.",
            ["worker"],
        )
        slots = gauge("nuvom_worker_slots", "Slots for threads.", ["worker", "state"])
        rss = gauge("nuvom_worker_rss_bytes", "Memory of the worker's process.", ["worker"])
        for worker, (asked_at, leaked) in list(self._asked.items()):
            age.add_metric([short(worker)], max(0.0, now - asked_at))
            slots.add_metric([short(worker), "leaked"], leaked)
            if memory is not None:
                rss.add_metric([short(worker)], memory)
        yield from (age, slots, rss)

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
                    continue
                family = gauge(metric, f"Provided by {name}.")
                family.add_metric([], value)
                yield family
