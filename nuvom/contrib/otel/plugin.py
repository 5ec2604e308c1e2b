"""The plugin of workers, and what programs call that only send jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.contrib.otel.metrics import JobMetrics
from nuvom.contrib.otel.spans import ProcessingMiddleware, SendingMiddleware, current_place
from nuvom.events import EventBus, JobEnqueued, default_bus
from nuvom.logs.formats import add_tracer
from nuvom.plugins.contracts import Plugin

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from nuvom.config.settings import Settings
    from nuvom.plugins.contracts import Extras, RunningSystem


class OTelPlugin(Plugin):
    """Traces and measures a worker, with the providers that the program has set up.

    Args:
        parent: ``link`` gives each attempt a trace of its own, linked to the sender's;
            ``message`` makes it part of the sender's trace.
        span_names: ``queue`` or ``task``: what process spans are named after.
        map_create_spans: A span for each job that a ``.map()`` sends, beside that of the call.
        tracer_provider, meter_provider: The global ones where None.
    Raises: ValueError: an argument is none of its words.
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
        self._is_child = parent == "message"
        self._by_task = span_names == "task"
        self._creates = map_create_spans
        self._providers = tracer_provider, meter_provider
        self._ends: list[Callable[[], None]] = []

    def start(self, settings: Settings, extras: Extras) -> None:
        """Follow the jobs of this process."""
        del settings
        tracers, meters = self._providers
        self._extras = extras
        spans = ProcessingMiddleware(
            extras["clock"],
            tracers,
            is_child_of_sender=self._is_child,
            by_task=self._by_task,
            creates=self._creates,
        )
        self._metrics = JobMetrics(meters)
        bus = extras["events"]
        self._ends = [*spans.subscribe(bus), *self._metrics.subscribe(bus)]

    def update_runtime(self, runtime: RunningSystem) -> None:
        """Measure the queues, too, from now on."""
        del runtime
        self._metrics.watch(self._extras["inspector"], self._extras["clock"])

    def stop(self) -> None:
        """Stop following. What was made is the providers' to send."""
        while self._ends:
            self._ends.pop()()


def instrument(
    tracer_provider: TracerProvider | None = None,
    *,
    map_create_spans: bool = False,
    bus: EventBus = default_bus,
) -> Callable[[], None]:
    """Trace the jobs that this program sends, each with the context it is sent in.

    Args:
        map_create_spans: As of ``OTelPlugin``.
    Returns: a function that ends it; calling it twice is fine.
    """
    middleware = SendingMiddleware(tracer_provider, creates=map_create_spans)
    ends = [
        bus.accompany(middleware),
        bus.subscribe(JobEnqueued, middleware.note_sent),
        add_tracer(current_place),
    ]

    def end() -> None:
        while ends:
            ends.pop()()

    return end
