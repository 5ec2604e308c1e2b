"""Trace context in job headers: put in where a job is sent, taken out where it runs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import context, metrics, propagate, trace

from nuvom.contrib.otel import names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.context import Context

    from nuvom.core.record import JobRecord

MOST_BYTES = 8192  # of all headers together
_BAGGAGE = "baggage"
# Of the global provider, whenever the program sets one.
_dropped = metrics.get_meter("nuvom").create_counter(names.BAGGAGE_DROPPED, "{message}")


def headers_of(current: Context | None = None) -> dict[str, str]:
    """Return the headers that stand for a context; without baggage if that is too large."""
    headers: dict[str, str] = {}
    propagate.inject(headers, context=current)
    if is_too_large(headers):
        headers.pop(_BAGGAGE, None)
        _dropped.add(1)
    return headers


def is_too_large(headers: Mapping[str, str]) -> bool:
    """Return whether headers need more room than a job has for them."""
    return sum(len(name) + len(value.encode()) for name, value in headers.items()) > MOST_BYTES


def context_of(job: JobRecord) -> Context:
    """Return the context that a job was sent in; malformed headers are none."""
    return propagate.extract(job.headers or {}, context=context.Context())


def without_span(current: Context) -> Context:
    """Return a context in which the next span begins a trace of its own; baggage stays."""
    return trace.set_span_in_context(trace.INVALID_SPAN, current)


@contextmanager
def attached(current: Context) -> Iterator[None]:
    """Make a context the current one for the block."""
    token = context.attach(current)
    try:
        yield
    finally:
        context.detach(token)
