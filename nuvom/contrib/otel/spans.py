"""Spans for sending and processing jobs, and trace context in job headers.

Sending has the spans enqueue and create, inside the span fire if a schedule sends. A worker has
receive, process, settle and reap. A process span covers the time from the start of an attempt to
the end of the task's code. The outcome is known only after the settle, so spans are finished then,
with the earlier times. A killed worker never finishes its span: another worker's reap reports the
loss. The middleware that makes the sending spans also works in child processes of a worker.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry import context, metrics, propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, set_span_in_context

from nuvom import events
from nuvom._version import __version__
from nuvom.contrib.otel import names
from nuvom.core.text import mask_text
from nuvom.logs.formats import TracePlace, add_tracer
from nuvom.scheduler.record import SCHEDULE, SCHEDULED_FOR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from opentelemetry.trace import Span, TracerProvider
    from opentelemetry.util.types import AttributeValue

    from nuvom.core.clock import Clock
    from nuvom.core.record import JobRecord, StoredError

MOST_BYTES = 8192  # for all headers together
_BAGGAGE = "baggage"
# From the global provider, whenever the program sets one.
_dropped = metrics.get_meter("nuvom").create_counter(names.BAGGAGE_DROPPED, "{message}")
_MOST_LINKS = 128  # the SDKs' default limit per span
_NANO = 1_000_000_000
_OUTCOMES: dict[type[events.Event], str] = {
    events.JobSucceeded: "success",
    events.JobFailed: "failure",
    events.JobRetrying: "retry",
}
_sent: ContextVar[list[str] | None] = ContextVar("nuvom_otel_sent", default=None)


# ---- context ----------------------------------------------------------------------------


def headers_of(current: Context | None = None) -> dict[str, str]:
    """Return the headers for a context, without the baggage if that is too large."""
    headers: dict[str, str] = {}
    propagate.inject(headers, context=current)
    if sum(len(name) + len(value.encode()) for name, value in headers.items()) > MOST_BYTES:
        headers.pop(_BAGGAGE, None)
        _dropped.add(1)
    return headers


def context_of(job: JobRecord) -> Context:
    """Return the context that a job was sent in, ignoring malformed headers."""
    return propagate.extract(job.headers or {}, context=context.Context())


@contextmanager
def attached(current: Context) -> Iterator[None]:
    """Make ``current`` the current context for the block."""
    token = context.attach(current)
    try:
        yield
    finally:
        context.detach(token)


# ---- spans ------------------------------------------------------------------------------


def attributes_of(job: JobRecord, operation: str, kind: str = "") -> dict[str, AttributeValue]:
    """Return the attributes that all spans of one job share."""
    found: dict[str, AttributeValue] = {
        names.SYSTEM: "nuvom",
        names.DESTINATION: job.queue,
        names.OPERATION_NAME: operation,
        names.OPERATION_TYPE: kind or operation,
        names.TASK: job.func_name,
    }
    if job.id:  # a whole .map() has none
        found[names.MESSAGE_ID] = job.id
    return found


def fail(span: Span, error_type: str, message: str, at: int | None = None) -> None:
    """Mark a span as failed, with one event that has masked secrets and no local variables."""
    span.set_status(Status(StatusCode.ERROR, error_type))
    span.set_attribute(names.ERROR_TYPE, error_type)
    told = {"exception.type": error_type, "exception.message": mask_text(message)}
    span.add_event("exception", told, at)


def place_of_span(span: Span) -> TracePlace | None:
    """Return a span's place in its trace, as shown in log lines; None if it is not a real span."""
    found = span.get_span_context()
    if not found.is_valid:
        return None
    return TracePlace(trace.format_trace_id(found.trace_id), trace.format_span_id(found.span_id))


def current_place(job_id: str | None) -> TracePlace | None:
    """Return the place of the current span."""
    del job_id
    return place_of_span(trace.get_current_span())


def in_child(*, creates: bool = False) -> SendingMiddleware:
    """Return the middleware for a child process, and add the trace to the child's log lines."""
    add_tracer(current_place)
    return SendingMiddleware(creates=creates)


def in_child_that_creates() -> SendingMiddleware:
    """Do the same as ``in_child``, with a span for each job of a ``.map()``."""
    return in_child(creates=True)


class SendingMiddleware:
    """Wraps each call that sends jobs in a span, and gives the jobs its context.

    Args:
        provider: The tracer provider; None means the program's global one.
        creates: Each job of a ``.map()`` also has its own span.
    """

    creating: Callable[[JobRecord], Mapping[str, str]]  # set only if wanted

    def __init__(self, provider: TracerProvider | None = None, *, creates: bool = False) -> None:
        self.tracer = trace.get_tracer("nuvom", __version__, provider, names.SCHEMA_URL)
        self.in_child = f"{__name__}:{'in_child_that_creates' if creates else 'in_child'}"
        self._creates = creates
        if creates:
            self.creating = self._create

    @contextmanager
    def sending(self, job: JobRecord) -> Iterator[Mapping[str, str]]:
        """Wrap the storing of one job, or of all jobs of a ``.map()``."""
        with self._firing(job), self._enqueueing(job):
            yield headers_of()

    @contextmanager
    def _firing(self, job: JobRecord) -> Iterator[None]:
        """Wrap the fire of a schedule; other jobs have none."""
        headers = job.headers or {}
        if SCHEDULE not in headers:
            yield
            return
        about: dict[str, AttributeValue] = {
            names.SCHEDULE_ID: headers[SCHEDULE],
            names.SCHEDULE_LAG: job.created_at - float(headers[SCHEDULED_FOR]),
        }
        with self.tracer.start_as_current_span(f"fire {headers[SCHEDULE]}", attributes=about):
            yield

    @contextmanager
    def _enqueueing(self, job: JobRecord) -> Iterator[None]:
        attributes = attributes_of(job, "enqueue", "send")
        if job.id:
            attributes[names.BODY_SIZE] = len(bytes(job.args)) + len(bytes(job.kwargs))
        if job.run_at:
            attributes[names.SCHEDULED_AT] = job.run_at
        with self.tracer.start_as_current_span(
            f"enqueue {job.queue}",
            # Jobs with their own spans are produced by those spans.
            kind=SpanKind.PRODUCER if job.id or not self._creates else SpanKind.CLIENT,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            sent: list[str] = []
            token = _sent.set(sent)
            try:
                yield
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
        return headers_of(set_span_in_context(span))

    def note_sent(self, event: events.JobEnqueued) -> None:
        """Count the jobs of a call; a subscriber for ``JobEnqueued``."""
        sent = _sent.get()
        if sent is not None:
            sent.append(event.job.id)

    def handing_over(self, job: JobRecord) -> Mapping[str, str]:
        """Return no headers: a child of a child uses those that it received."""
        del job
        return {}

    def running(self, job: JobRecord) -> AbstractContextManager[object]:
        """Wrap a task's code in the context that came with the job."""
        return attached(context_of(job))


# ---- spans of a worker ------------------------------------------------------------------


class _Open(NamedTuple):
    """An attempt whose span has not ended."""

    job: JobRecord
    span: Span
    context: Context
    began: int


class ProcessingMiddleware(SendingMiddleware):
    """Traces the jobs of the workers in this process.

    Args:
        is_child_of_sender: Process spans continue the sender's trace. Otherwise each starts its
            own trace, linked to the sender's, which suits retries, delays and fan-out.
        by_task: Process spans are named after the task, not the queue.
        creates: Each job of a ``.map()`` also has its own span.
    """

    def __init__(
        self,
        clock: Clock,
        provider: TracerProvider | None = None,
        *,
        is_child_of_sender: bool = False,
        by_task: bool = False,
        creates: bool = False,
    ) -> None:
        super().__init__(provider, creates=creates)
        self._clock = clock
        self._is_child = is_child_of_sender
        self._by_task = by_task
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}
        self._overdue: dict[str, StoredError] = {}

    def subscribe(self, bus: events.EventBus) -> list[Callable[[], None]]:
        """Start tracing; return functions that stop it."""
        return [
            bus.accompany(self),
            add_tracer(self._place_of),
            bus.subscribe(events.JobEnqueued, self.note_sent),
            bus.subscribe(events.JobsClaimed, self._claimed),
            bus.subscribe(events.JobStarted, self._started),
            bus.subscribe(events.JobTimedOut, self._timed_out),
            bus.subscribe(events.JobSucceeded, self._settled),
            bus.subscribe(events.JobFailed, self._settled),
            bus.subscribe(events.JobRetrying, self._settled),
            bus.subscribe(events.JobCancelled, self._cancelled),
            bus.subscribe(events.JobFenced, self._fenced),
            bus.subscribe(events.JobReaped, self._reaped),
            bus.subscribe(events.JobDead, self._reaped),
            bus.subscribe(events.WorkerStopped, self._stopped),
        ]

    def _place_of(self, job_id: str | None) -> TracePlace | None:
        """Return the place of a log record: the span of the job that it is about."""
        found = None if job_id is None else self._open.get(job_id)
        return current_place(None) if found is None else place_of_span(found.span)

    # ---- where code runs ------------------------------------------------------------------

    def running(self, job: JobRecord) -> AbstractContextManager[object]:
        """Wrap a task's code, with its process span as the current span."""
        found = self._open.get(job.id)
        return attached(context_of(job) if found is None else found.context)

    def handing_over(self, job: JobRecord) -> Mapping[str, str]:
        """Return the context of the process span, for the code in a child process."""
        found = self._open.get(job.id)
        return {} if found is None else headers_of(found.context)

    # ---- events ---------------------------------------------------------------------------

    def _claimed(self, event: events.JobsClaimed) -> None:
        now = self._now()
        queues: dict[str, list[JobRecord]] = {}
        for job in event.jobs:
            queues.setdefault(job.queue, []).append(job)
        for queue, jobs in queues.items():
            span = self.tracer.start_span(
                f"receive {queue}",
                context=Context(),
                kind=SpanKind.CLIENT,
                start_time=now - int(event.took_secs * _NANO),
                links=_links(jobs),
                attributes={
                    names.SYSTEM: "nuvom",
                    names.DESTINATION: queue,
                    names.OPERATION_NAME: "receive",
                    names.OPERATION_TYPE: "receive",
                    names.BATCH_COUNT: len(jobs),
                    names.WORKER: event.worker,
                },
            )
            span.end(now)

    def _started(self, event: events.JobStarted) -> None:
        job, sender, began = event.job, context_of(event.job), self._now()
        # Without a span in it, the next one starts a new trace; baggage stays.
        parent = sender if self._is_child else set_span_in_context(trace.INVALID_SPAN, sender)
        span = self.tracer.start_span(
            f"process {job.func_name if self._by_task else job.queue}",
            context=parent,
            kind=SpanKind.CONSUMER,
            links=[] if self._is_child else _links([job]),
            start_time=began,
            attributes={
                **attributes_of(job, "process"),
                names.ATTEMPT: job.attempt,
                names.MAX_ATTEMPTS: job.max_retries + 1,
                names.LEASE_EPOCH: job.lease_epoch,
                names.WORKER: event.worker,
                names.LANE: event.lane,
            },
        )
        with self._lock:
            self._open[job.id] = _Open(job, span, set_span_in_context(span, parent), began)

    def _timed_out(self, event: events.JobTimedOut) -> None:
        with self._lock:
            if event.job.id in self._open:
                self._overdue[event.job.id] = event.error

    def _settled(self, event: events.JobSucceeded | events.JobFailed | events.JobRetrying) -> None:
        error = getattr(event, "error", None)
        self._end(event.job.id, _OUTCOMES[type(event)], error=error, secs=event.duration_secs)

    def _cancelled(self, event: events.JobCancelled) -> None:
        self._end(event.job_id, "cancelled")

    def _fenced(self, event: events.JobFenced) -> None:
        outcome = "cancelled" if event.was_cancelled else "stale"
        self._end(event.job.id, outcome, epoch=event.job.lease_epoch)

    def _reaped(self, event: events.JobReaped | events.JobDead) -> None:
        now = self._now()
        span = self.tracer.start_span(
            "reap",
            context=Context(),
            links=_links([event.job]),
            start_time=now,
            attributes={**attributes_of(event.job, "reap"), names.REAPED: 1},
        )
        if isinstance(event, events.JobDead):
            span.set_attribute(names.OUTCOME, "dead")
        if event.job.suspect:  # it had started, so an attempt was lost
            fail(span, "lost", "its worker died or went silent", now)
        span.end(now)

    def _stopped(self, event: events.WorkerStopped) -> None:
        """End the spans of attempts that a worker handed back or abandoned."""
        del event
        for job_id in list(self._open):
            self._end(job_id, "released")

    def _end(
        self,
        job_id: str,
        outcome: str,
        *,
        error: StoredError | None = None,
        secs: float | None = None,
        epoch: int | None = None,
    ) -> None:
        with self._lock:
            found = self._open.get(job_id)
            if found is None or epoch not in (None, found.job.lease_epoch):
                return
            del self._open[job_id]
            overdue = self._overdue.pop(job_id, None)
        now = self._now()
        ended = now if secs is None else min(now, found.began + int(secs * _NANO))
        if overdue is not None:
            error, outcome = overdue, "timeout" if outcome != "retry" else outcome
        if error is not None:
            kind = "timeout" if overdue is not None else error.type
            fail(found.span, kind, error.message, ended)
        found.span.set_attribute(names.OUTCOME, outcome)
        settle = self.tracer.start_span(
            f"settle {found.job.queue}",
            context=found.context,
            kind=SpanKind.CLIENT,
            start_time=ended,
            attributes={**attributes_of(found.job, "settle"), names.OUTCOME: outcome},
        )
        settle.end(now)
        found.span.end(ended)

    def _now(self) -> int:
        return int(self._clock.now() * _NANO)


def _links(jobs: Iterable[JobRecord]) -> list[Link]:
    """Return links to the spans that sent the jobs, without duplicates."""
    found = {}
    for job in jobs:
        sender = trace.get_current_span(context_of(job)).get_span_context()
        if sender.is_valid:
            found[sender.span_id] = Link(sender)
    return list(found.values())[:_MOST_LINKS]
