"""What a log record says besides its text: the job it was written in, and fields of events.

``JobFields`` puts them on records; the formats read them with ``fields_of``. The names are a
contract, ``nuvom.log/1``: see ``docs/logging.md``.
"""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, NamedTuple

from nuvom.core import job_context
from nuvom.core.text import clip, mask_text, mask_value

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMA = "nuvom.log/1"
NO_EVENT = "log"  # the event of a record that is no event of ours

_JOB = ("job_id", "task", "queue", "attempt", "lease_epoch", "worker", "lane")
_TRACE = ("trace_id", "span_id")
_HIDDEN = ("event", "message", "asctime", "rate_key", "traceback", "taskName", "nuvom_fields")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))).union(_HIDDEN, _TRACE)
_SHORT_ID = 8
_DEEPEST_STACK = 50


class TracePlace(NamedTuple):
    """Where in a trace something happened; both hexadecimal."""

    trace_id: str
    span_id: str


_tracers: list[Callable[[str | None], TracePlace | None]] = []


def add_tracer(place_of: Callable[[str | None], TracePlace | None]) -> Callable[[], None]:
    """Have log records tell their place in a trace.

    Args:
        place_of: Called for each record that is written, with the id of the job that an event
            of Nuvom's is about, else None; in the thread that logs. It must not raise.
    Returns: a function that ends it; calling it twice is fine.
    """
    _tracers.append(place_of)

    def end() -> None:
        if place_of in _tracers:
            _tracers.remove(place_of)

    return end


def short_id(full: str) -> str:
    """Return the end of an id: ids begin with the time, so that only ends tell them apart."""
    return full[-_SHORT_ID:]


class JobFields(logging.Filter):
    """Adds the running job's id, task, queue, attempt, lease epoch, worker and lane.

    It belongs on a handler, where it sees the records of all loggers. Outside a job the
    fields are None, so that a format may name them.
    """

    def __init__(self, worker: str | None = None, host: str | None = None) -> None:
        super().__init__()
        self._worker = worker
        self._host = host

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields, as attributes and together as ``nuvom_fields``; let all pass."""
        values = vars(record)
        if "nuvom_fields" in values:  # from another thread, where the job was known
            return True
        job = job_context.current.get()
        own = is_own(record)
        if own and "job_id" in values:
            fields = {name: values.get(name) for name in _JOB}
        else:
            fields = dict.fromkeys(_JOB) if job is None else _of_job(job)
        worker = str(fields["worker"] or (own and values.get("worker")) or self._worker or "")
        fields["worker"] = short_id(worker) or None
        if worker:
            fields.update(pid=record.process, host=self._host)
        for name, value in fields.items():
            if value is None:
                values.setdefault(name, None)
            else:
                values[name] = value
        record.nuvom_fields = fields
        if _tracers and values.get("trace_id") is None:
            _add_trace(values, values.get("job_id") if own else None)
        return True


def _add_trace(values: dict[str, object], job_id: str | None) -> None:
    for place_of in _tracers:
        place = place_of(job_id)
        if place is not None:
            values.update(place._asdict())
            return


def _of_job(job: job_context.JobContext) -> dict[str, object]:
    record = job.record
    return {
        "job_id": record.id,
        "task": record.func_name,
        "queue": record.queue,
        "attempt": record.attempt,
        "lease_epoch": record.lease_epoch,
        "worker": job.worker,
        "lane": job.lane,
    }


def is_own(record: logging.LogRecord) -> bool:
    """Return whether the record is an event of ours, and not of a user's logger."""
    return record.name.partition(".")[0] == "nuvom" and hasattr(record, "event")


def event_of(record: logging.LogRecord) -> str:
    """Return the event's dotted name; ``log`` for whatever is no event of ours."""
    return str(vars(record)["event"]) if is_own(record) else NO_EVENT


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """Return the fields that have a value: the job's, the worker's, then the event's.

    What a user's log call gave as ``extra`` is under the one key ``extra``; it cannot take
    the place of a field of ours. Values under telling names are masked.
    """
    values = vars(record)
    fields: dict[str, object] = dict(values.get("nuvom_fields", {}))
    given = {
        name: mask_value(name, value)
        for name, value in values.items()
        if name not in _STANDARD and (name not in fields or fields[name] is None)
    }
    if is_own(record):
        fields.update(given)
    fields.update({name: values.get(name) for name in _TRACE})
    if not is_own(record):
        fields["extra"] = {name: one for name, one in given.items() if one is not None} or None
    return {name: value for name, value in fields.items() if value is not None}


def traceback_of(record: logging.LogRecord) -> str:
    """Return the traceback that belongs to the record, or nothing.

    It is that of an event, or of the exception of the log call; without local variables, the
    innermost frames only, and masked.
    """
    text = vars(record).get("traceback") if is_own(record) else None
    if not isinstance(text, str) and record.exc_info and record.exc_info[1] is not None:
        lines = traceback.format_exception(record.exc_info[1], limit=-_DEEPEST_STACK)
        text = "".join(lines)
    parts = [text if isinstance(text, str) else "", record.stack_info or ""]
    return clip(mask_text("\n".join(part.rstrip("\n") for part in parts if part)))
