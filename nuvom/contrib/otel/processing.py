"""Spans of what a worker does: receive, process, settle, reap.

A process span begins when an attempt starts and ends with the task's code; what became of it
is known only after the settle, so that spans are finished with the times of then. The span of
a worker that is killed is never finished: another worker's reap tells of the loss.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, set_span_in_context

from nuvom import events
from nuvom.contrib.otel import names
from nuvom.contrib.otel.carrying import attached, context_of, headers_of, without_span
from nuvom.contrib.otel.sending import (
    SendingMiddleware,
    attributes_of,
    current_place,
    fail,
    place_of_span,
)
from nuvom.logs.formats import add_tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager

    from opentelemetry.trace import Span, TracerProvider

    from nuvom.core.clock import Clock
    from nuvom.core.record import JobRecord, StoredError
    from nuvom.logs.formats import TracePlace

_MOST_LINKS = 128  # what SDKs keep of one span by default
_NANO = 1_000_000_000


class _Open(NamedTuple):
    """An attempt whose span has not ended."""

    job: JobRecord
    span: Span
    context: Context
    began: int


class ProcessingMiddleware(SendingMiddleware):
    """Follows the jobs of the workers in this process.

    Args:
        is_child_of_sender: Process spans continue the sender's trace; else they begin one of
            their own that is linked to it, which is right for retries, delays and fan-out.
        by_task: Process spans are named after the task and not after the queue.
        creates: Each job of a ``.map()`` has a span of its own, too.
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
        """Start following; return functions that end it."""
        return [
            bus.accompany(self),
            add_tracer(self._place_of),
            bus.subscribe(events.JobEnqueued, self.note_sent),
            bus.subscribe(events.JobsClaimed, self._claimed),
            bus.subscribe(events.JobStarted, self._started),
            bus.subscribe(events.JobTimedOut, self._timed_out),
            bus.subscribe(events.JobSucceeded, self._succeeded),
            bus.subscribe(events.JobFailed, self._failed),
            bus.subscribe(events.JobRetrying, self._retrying),
            bus.subscribe(events.JobCancelled, self._cancelled),
            bus.subscribe(events.JobFenced, self._fenced),
            bus.subscribe(events.JobReaped, self._reaped),
            bus.subscribe(events.JobDead, self._reaped),
            bus.subscribe(events.WorkerStopped, self._stopped),
        ]

    def _place_of(self, job_id: str | None) -> TracePlace | None:
        """Return where a log record belongs: to the span of the job that it is about."""
        found = None if job_id is None else self._open.get(job_id)
        return current_place(None) if found is None else place_of_span(found.span)

    # ---- where code runs ------------------------------------------------------------------

    def running(self, job: JobRecord) -> AbstractContextManager[object]:
        """Be entered around a task's code: its process span is the current one."""
        found = self._open.get(job.id)
        return attached(context_of(job) if found is None else found.context)

    def handing_over(self, job: JobRecord) -> Mapping[str, str]:
        """Return the context of the process span, for the code in a child process."""
        found = self._open.get(job.id)
        return {} if found is None else headers_of(found.context)

    # ---- what happens ---------------------------------------------------------------------

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
        parent = sender if self._is_child else without_span(sender)
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

    def _succeeded(self, event: events.JobSucceeded) -> None:
        self._end(event.job.id, "success", secs=event.duration_secs)

    def _failed(self, event: events.JobFailed) -> None:
        self._end(event.job.id, "failure", error=event.error, secs=event.duration_secs)

    def _retrying(self, event: events.JobRetrying) -> None:
        self._end(event.job.id, "retry", error=event.error, secs=event.duration_secs)

    def _cancelled(self, event: events.JobCancelled) -> None:
        self._end(event.job_id, "cancelled")

    def _fenced(self, event: events.JobFenced) -> None:
        self._end(event.job.id, "stale", epoch=event.job.lease_epoch)

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
        if event.job.suspect:  # it had started, so that an attempt was lost
            fail(span, "lost", "its worker died or went silent", now)
        span.end(now)

    def _stopped(self, event: events.WorkerStopped) -> None:
        """End what a worker has handed back or left behind."""
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
    """Return links to where jobs were sent, each place once."""
    found = {}
    for job in jobs:
        sender = trace.get_current_span(context_of(job)).get_span_context()
        if sender.is_valid:
            found[sender.span_id] = Link(sender)
    return list(found.values())[:_MOST_LINKS]
