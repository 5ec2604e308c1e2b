"""Spans of what is sent, and the middleware that makes them: also in children of a worker."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from nuvom._version import __version__
from nuvom.contrib.otel import names
from nuvom.contrib.otel.carrying import attached, context_of, headers_of
from nuvom.core.text import mask_text
from nuvom.logs.formats import TracePlace, add_tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from opentelemetry.trace import Span, Tracer, TracerProvider
    from opentelemetry.util.types import AttributeValue

    from nuvom.core.record import JobRecord
    from nuvom.events import JobEnqueued

_sent: ContextVar[list[str] | None] = ContextVar("nuvom_otel_sent", default=None)


def tracer_of(provider: TracerProvider | None) -> Tracer:
    """Return the tracer; of the program's global provider where none is given."""
    return trace.get_tracer("nuvom", __version__, provider, names.SCHEMA_URL)


def attributes_of(job: JobRecord, operation: str, kind: str = "") -> dict[str, AttributeValue]:
    """Return what all spans about one job have in common."""
    found: dict[str, AttributeValue] = {
        names.SYSTEM: "nuvom",
        names.DESTINATION: job.queue,
        names.OPERATION_NAME: operation,
        names.OPERATION_TYPE: kind or operation,
        names.TASK: job.func_name,
    }
    if job.id:  # that of a whole .map() has none
        found[names.MESSAGE_ID] = job.id
    return found


def fail(span: Span, error_type: str, message: str, at: int | None = None) -> None:
    """Mark a span as failed, with one event; secrets are masked, and no locals are kept."""
    span.set_status(Status(StatusCode.ERROR, error_type))
    span.set_attribute(names.ERROR_TYPE, error_type)
    told = {"exception.type": error_type, "exception.message": mask_text(message)}
    span.add_event("exception", told, at)


def place_of_span(span: Span) -> TracePlace | None:
    """Return a span's place in its trace, as log lines have it; None where it is no real span."""
    found = span.get_span_context()
    if not found.is_valid:
        return None
    return TracePlace(trace.format_trace_id(found.trace_id), trace.format_span_id(found.span_id))


def current_place(job_id: str | None) -> TracePlace | None:
    """Return the place of the current span."""
    del job_id
    return place_of_span(trace.get_current_span())


def in_child(*, creates: bool = False) -> SendingMiddleware:
    """Return what goes along with jobs in a child process; have its log lines tell their trace."""
    add_tracer(current_place)
    return SendingMiddleware(creates=creates)


def in_child_that_creates() -> SendingMiddleware:
    """Do as ``in_child``, with a span for each job of a ``.map()``."""
    return in_child(creates=True)


class SendingMiddleware:
    """Makes a span around each call that sends jobs, and gives them its context.

    Args:
        provider: Of the spans; the program's global one where None.
        creates: Each job of a ``.map()`` has a span of its own, too.
    """

    creating: Callable[[JobRecord], Mapping[str, str]]  # there where it is wanted

    def __init__(self, provider: TracerProvider | None = None, *, creates: bool = False) -> None:
        self.tracer = tracer_of(provider)
        self.in_child = f"{__name__}:{'in_child_that_creates' if creates else 'in_child'}"
        self._creates = creates
        if creates:
            self.creating = self._create

    @contextmanager
    def sending(self, job: JobRecord) -> Iterator[Mapping[str, str]]:
        """Be entered around the storing of a job, or of all jobs of a ``.map()``."""
        attributes = attributes_of(job, "enqueue", "send")
        if job.id:
            attributes[names.BODY_SIZE] = len(bytes(job.args)) + len(bytes(job.kwargs))
        if job.run_at:
            attributes[names.SCHEDULED_AT] = job.run_at
        with self.tracer.start_as_current_span(
            f"enqueue {job.queue}",
            # Jobs that have spans of their own are produced by those.
            kind=SpanKind.PRODUCER if job.id or not self._creates else SpanKind.CLIENT,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            sent: list[str] = []
            token = _sent.set(sent)
            try:
                yield headers_of()
            except BaseException as error:
                fail(span, type(error).__name__, str(error))
                raise
            finally:
                _sent.reset(token)
                if not job.id:
                    span.set_attribute(names.BATCH_COUNT, len(sent))

    def _create(self, job: JobRecord) -> Mapping[str, str]:
        """Return the context of a span for one job of a ``.map()``."""
        span = self.tracer.start_span(
            f"create {job.queue}",
            kind=SpanKind.PRODUCER,
            attributes=attributes_of(job, "create"),
        )
        span.end()
        return headers_of(trace.set_span_in_context(span))

    def note_sent(self, event: JobEnqueued) -> None:
        """Count the jobs of a call; to be subscribed to ``JobEnqueued``."""
        sent = _sent.get()
        if sent is not None:
            sent.append(event.job.id)

    def handing_over(self, job: JobRecord) -> Mapping[str, str]:
        """Return nothing more: a child of a child has the headers that it was given."""
        del job
        return {}

    def running(self, job: JobRecord) -> AbstractContextManager[object]:
        """Be entered around a task's code: what it does belongs to the context it was given."""
        return attached(context_of(job))
