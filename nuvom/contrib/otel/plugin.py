"""The worker plugin, the entry point for programs that only send jobs, and job metrics."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from opentelemetry import metrics
from opentelemetry.metrics import Observation

from nuvom import events
from nuvom._version import __version__
from nuvom.contrib.otel import names
from nuvom.contrib.otel.spans import ProcessingMiddleware, SendingMiddleware, current_place
from nuvom.core.views import TOOK_BOUNDS
from nuvom.logs.formats import add_tracer
from nuvom.plugins.contracts import Plugin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.metrics import CallbackOptions, MeterProvider
    from opentelemetry.trace import TracerProvider

    from nuvom.config.settings import Settings
    from nuvom.core.clock import Clock
    from nuvom.core.record import JobRecord
    from nuvom.plugins.contracts import Extras, Inspector, RunningSystem

_MOST_TASKS = 500
_OTHER = "other"


class OTelPlugin(Plugin):
    """Adds traces and metrics to a worker, with the providers that the program has set up.

    Args:
        parent: ``link`` gives each attempt its own trace, linked to the sender's; ``message``
            makes it part of the sender's trace.
        span_names: ``queue`` or ``task``: what process spans are named after.
        map_create_spans: Whether each job of a ``.map()`` gets its own span, besides the call's.
        tracer_provider, meter_provider: None means the global provider.
    Raises: ValueError: an argument is not one of its allowed words.
    """

    api_version = "1.0"
    name = "otel"
    provides = ("tracing",)

    def __init__(
        self,
        *,
        parent: str = "link",
        span_names: str = "queue",
        map_create_spans: bool = False,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        if parent not in ("link", "message") or span_names not in ("queue", "task"):
            raise ValueError(
                f"parent is link or message, span_names queue or task; got {parent!r} and "
                f"{span_names!r}"
            )
        self._make_spans = partial(
            ProcessingMiddleware,
            provider=tracer_provider,
            is_child_of_sender=parent == "message",
            by_task=span_names == "task",
            creates=map_create_spans,
        )
        self._meter_provider = meter_provider
        self._ends: list[Callable[[], None]] = []

    def start(self, settings: Settings, extras: Extras) -> None:
        """Start tracing and measuring the jobs of this process."""
        del settings
        self._extras = extras
        self._metrics = JobMetrics(self._meter_provider)
        spans, bus = self._make_spans(extras["clock"]), extras["events"]
        self._ends = [*spans.subscribe(bus), *self._metrics.subscribe(bus)]

    def update_runtime(self, runtime: RunningSystem) -> None:
        """Start measuring the queues as well."""
        del runtime
        self._metrics.watch(self._extras["inspector"], self._extras["clock"])

    def stop(self) -> None:
        """Stop tracing and measuring. The providers export what was recorded."""
        while self._ends:
            self._ends.pop()()


def instrument(
    tracer_provider: TracerProvider | None = None,
    *,
    map_create_spans: bool = False,
    bus: events.EventBus = events.default_bus,
) -> Callable[[], None]:
    """Trace the jobs that this program sends, passing the sender's context along with each.

    Args:
        map_create_spans: As for ``OTelPlugin``.
    Returns: a function that stops tracing; safe to call twice.
    """
    middleware = SendingMiddleware(tracer_provider, creates=map_create_spans)
    ends = [
        bus.accompany(middleware),
        bus.subscribe(events.JobEnqueued, middleware.note_sent),
        add_tracer(current_place),
    ]

    def end() -> None:
        while ends:
            ends.pop()()

    return end


# ---- metrics ----------------------------------------------------------------------------


class JobMetrics:
    """Counts and times the jobs of this process; attributes are queue, task and kind of error.

    Args:
        provider: The meter provider; None means the program's global one.
    """

    def __init__(self, provider: MeterProvider | None = None) -> None:
        self._meter = meter = metrics.get_meter("nuvom", __version__, provider, names.SCHEMA_URL)
        self._sent = meter.create_counter(names.SENT, "{message}", "Jobs sent.")
        self._consumed = meter.create_counter(names.CONSUMED, "{message}", "Jobs claimed.")
        self._called = meter.create_histogram(names.OPERATION_DURATION, "s", "Calls of the store.")
        self._processed = meter.create_histogram(
            names.PROCESS_DURATION,
            "s",
            "Attempts.",
            explicit_bucket_boundaries_advisory=TOOK_BOUNDS,
        )
        self._tasks: set[str] = set()

    def subscribe(self, bus: events.EventBus) -> list[Callable[[], None]]:
        """Start measuring; return functions that stop it."""
        return [
            bus.subscribe(events.JobEnqueued, self._enqueued),
            bus.subscribe(events.JobsClaimed, self._claimed),
            bus.subscribe(events.BackendCalled, self._returned),
            bus.subscribe(events.JobSucceeded, self._settled),
            bus.subscribe(events.JobFailed, self._settled),
            bus.subscribe(events.JobRetrying, self._settled),
        ]

    def watch(self, inspector: Inspector, clock: Clock) -> None:
        """Observe queues and slots whenever the provider collects."""

        def depth(_: CallbackOptions) -> Iterator[Observation]:
            for one in inspector.stats():
                yield Observation(one.waiting, {names.DESTINATION: one.queue})

        def oldest(_: CallbackOptions) -> Iterator[Observation]:
            now = clock.now()
            for one in inspector.stats():
                since = one.oldest_ready_at
                age = 0.0 if since is None else max(0.0, now - since)
                yield Observation(age, {names.DESTINATION: one.queue})

        def slots(_: CallbackOptions) -> Iterator[Observation]:
            for one in inspector.workers():
                busy = min(one.running, one.slots)
                who = {names.WORKER: one.id}
                yield Observation(busy, {**who, names.SLOT_STATE: "busy"})
                yield Observation(one.slots - busy, {**who, names.SLOT_STATE: "idle"})

        observed: tuple[tuple[str, str, Callable[..., Iterable[Observation]]], ...] = (
            (names.DEPTH, "{job}", depth),
            (names.OLDEST_AGE, "s", oldest),
            (names.SLOTS, "{slot}", slots),
        )
        for name, unit, callback in observed:
            self._meter.create_observable_gauge(name, [callback], unit)

    def _about(self, job: JobRecord, error: str = "") -> dict[str, str]:
        task = job.func_name
        if task not in self._tasks:
            if len(self._tasks) < _MOST_TASKS:
                self._tasks.add(task)
            else:
                task = _OTHER
        found = {names.SYSTEM: "nuvom", names.DESTINATION: job.queue, names.TASK: task}
        return {**found, names.ERROR_TYPE: error} if error else found

    def _enqueued(self, event: events.JobEnqueued) -> None:
        self._sent.add(1, self._about(event.job))

    def _claimed(self, event: events.JobsClaimed) -> None:
        for job in event.jobs:
            self._consumed.add(1, self._about(job))

    def _returned(self, event: events.BackendCalled) -> None:
        word = "receive" if event.op == "claim" else event.op
        about = {names.SYSTEM: "nuvom", names.OPERATION_NAME: word}
        self._called.record(event.duration_secs, about)

    def _settled(self, event: events.JobSucceeded | events.JobFailed | events.JobRetrying) -> None:
        error = getattr(event, "error", None)
        about = self._about(event.job, "" if error is None else error.type)
        self._processed.record(event.duration_secs, about)
