"""Adds fields to log records, and formats them as plain text, JSON, logfmt or rich text.

``JobFields`` adds the running job to records. One event is one line in every format, and no
content of a record can pass for another line. A traceback is a field in ``json`` and ``logfmt``;
in the formats for people it follows as lines that begin with a bar. The field names are a
contract, ``nuvom.log/1``: see ``docs/logging.md``.
"""

from __future__ import annotations

import json
import logging
import re
import time
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from nuvom.core import job_context
from nuvom.core.text import clip, mask_text, mask_value, one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.text import Text

SCHEMA = "nuvom.log/1"

_JOB = ("job_id", "task", "queue", "attempt", "lease_epoch", "worker", "lane")
_TRACE = ("trace_id", "span_id")
_HIDDEN = ("event", "message", "asctime", "traceback", "taskName", "nuvom_fields")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))).union(_HIDDEN, _TRACE)
_SHORT_ID = 8
_DEEPEST_STACK = 50


class TracePlace(NamedTuple):
    """A position in a trace; both ids are hexadecimal."""

    trace_id: str
    span_id: str


_tracers: list[Callable[[str | None], TracePlace | None]] = []


def add_tracer(place_of: Callable[[str | None], TracePlace | None]) -> Callable[[], None]:
    """Make log records include their place in a trace.

    Args:
        place_of: Called for each record written, in the thread that logs. It receives the job's
            id if the record is one of Nuvom's events about a job, else None. It must not raise.
    Returns: a function that undoes this; safe to call twice.
    """
    _tracers.append(place_of)

    def end() -> None:
        if place_of in _tracers:
            _tracers.remove(place_of)

    return end


def short_id(full: str) -> str:
    """Return the end of an id: ids start with the time, so only their ends distinguish them."""
    return full[-_SHORT_ID:]


class JobFields(logging.Filter):
    """Adds the running job's id, task, queue, attempt, lease epoch, worker and lane.

    Attach it to a handler, where it sees the records of all loggers. Outside a job the fields
    are None, so that a format string may use them.
    """

    def __init__(self, worker: str | None = None, host: str | None = None) -> None:
        super().__init__()
        self._worker = worker
        self._host = host

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields, both as attributes and as ``nuvom_fields``; accept every record."""
        values = vars(record)
        if "nuvom_fields" in values:  # added in another thread, which knew the job
            return True
        job = job_context.current.get()
        own = is_own(record)
        if own and "job_id" in values:
            fields = {name: values.get(name) for name in _JOB}
        else:
            fields = dict.fromkeys(_JOB)
            if job is not None:
                fields |= job_fields(job.record) | {"worker": job.worker, "lane": job.lane}
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


def job_fields(record: Any) -> dict[str, object]:  # noqa: ANN401  # records are of a layer above
    """Return the fields that say which job and attempt a ``JobRecord`` belongs to."""
    return {
        "job_id": record.id,
        "task": record.func_name,
        "queue": record.queue,
        "attempt": record.attempt,
        "lease_epoch": record.lease_epoch,
    }


def is_own(record: logging.LogRecord) -> bool:
    """Return whether the record is one of our events, not from a user's logger."""
    return record.name.partition(".")[0] == "nuvom" and hasattr(record, "event")


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """Return the fields that have a value: first the job's, then the worker's, then the event's.

    The ``extra`` of a user's log call is under the single key ``extra``, so that it cannot
    override our fields. Values under sensitive names are masked.
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
    """Return the record's traceback, or an empty string.

    It comes from the event or from the log call's exception. It has no local variables, is
    limited to the innermost frames, and is masked.
    """
    text = vars(record).get("traceback") if is_own(record) else None
    if not isinstance(text, str) and record.exc_info and record.exc_info[1] is not None:
        lines = traceback.format_exception(record.exc_info[1], limit=-_DEEPEST_STACK)
        text = "".join(lines)
    parts = [text if isinstance(text, str) else "", record.stack_info or ""]
    return clip(mask_text("\n".join(part.rstrip("\n") for part in parts if part)))


# ---- formats ----------------------------------------------------------------------------

FORMATS = ("rich", "plain", "json", "logfmt")

_BARE = re.compile(r"[\w.:/+@-]+")  # text that needs no quotes in logfmt
_NOT_IN_KEYS = re.compile(r"[^\w.-]")
_BAR = "    | "
# For machines, or already in the text.
_NOT_FOR_PEOPLE = frozenset(
    {"lease_epoch", "pid", "host", "outcome", "duration_s", "wait_s", "error_type", "error_fp"}
)
_USUAL = {"queue": "default", "attempt": 1, "lane": "thread"}
_LEVEL_STYLES = {
    "DEBUG": "dim",
    "INFO": "green",
    "WARNING": "yellow",
    "ERROR": "bold red",
    "CRITICAL": "bold white on red",
}


def timestamp(seconds: float) -> str:
    """Return a Unix time in ``seconds`` as RFC 3339 in UTC, with milliseconds."""
    millis = round(seconds * 1000)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(millis // 1000))
    return f"{whole}.{millis % 1000:03d}Z"


def text_of(record: logging.LogRecord) -> str:
    """Return the record's text; passwords in our events are masked."""
    text = clip(record.getMessage())
    return mask_text(text) if is_own(record) else text


class PlainFormat(logging.Formatter):
    """For people and files: time, level, logger, text, fields; then a traceback with bars."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, followed by the lines of the traceback."""
        head = f"{timestamp(record.created)} {record.levelname:<8} {one_line(record.name)}:"
        fields = " ".join(pairs(_for_people(record)))
        line = f"{head} {one_line(text_of(record))}" + (f"  {fields}" if fields else "")
        # The bars keep a traceback line from passing for a log line.
        return "\n".join([line, *(f"{_BAR}{one}" for one in _lines(record))])


class LogfmtFormat(logging.Formatter):
    """``key=value`` pairs on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        return " ".join(pairs(_everything(record)))


class JsonFormat(logging.Formatter):
    """One ASCII-only JSON object per line; its keys are the contract ``nuvom.log/1``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        return json.dumps({"schema": SCHEMA, **_everything(record)}, default=_as_text)


class RichFormat(logging.Formatter):
    """Coloured output for a terminal. Record content is never interpreted as markup."""

    def __init__(self, stream: TextIO, *, color: bool | None = None) -> None:
        super().__init__()
        from rich.console import Console, detect_legacy_windows  # noqa: PLC0415  # terminals only

        # An old Windows console prints colour codes literally.
        is_plain = color is False or detect_legacy_windows()
        self._console: Console = Console(
            file=stream,
            color_system=None if is_plain else "auto",
            force_terminal=color,
            legacy_windows=False,
            markup=False,
            emoji=False,
            highlight=False,
            soft_wrap=True,
        )

    def format(self, record: logging.LogRecord) -> str:
        """Return one line and the lines of the traceback, with the terminal's colour codes."""
        with self._console.capture() as captured:
            self._console.print(self._line(record), end="")
            for line in self._highlighted(record):
                self._console.print("\n", line, sep="", end="")
        return captured.get()

    def _line(self, record: logging.LogRecord) -> Text:
        from rich.text import Text  # noqa: PLC0415  # as above

        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        text = one_line(text_of(record))
        shown = " ".join(pairs(_for_a_terminal(record, text)))
        return Text.assemble(
            (f"{clock} ", "dim"),
            (f"{record.levelname:<8} ", _LEVEL_STYLES.get(record.levelname, "")),
            text,
            (f"  {shown}" if shown else "", "dim"),
        )

    def _highlighted(self, record: logging.LogRecord) -> list[Text]:
        lines = _lines(record)
        if not lines:
            return []
        from rich.syntax import Syntax  # noqa: PLC0415  # slow to import: only for tracebacks
        from rich.text import Text  # noqa: PLC0415  # as above

        syntax = Syntax("", "pytb", theme="ansi_dark", background_color="default")
        coloured = syntax.highlight("\n".join(lines)).split("\n", allow_blank=False)
        return [Text.assemble((_BAR, "dim"), line) for line in coloured]


def make_format(
    name: str | None, stream: TextIO, *, color: bool | None = None
) -> logging.Formatter:
    """Return the format called ``name``: one of ``FORMATS``.

    Args:
        name: None means ``rich`` on a terminal, else ``plain``.
        color: Whether to use colours; None asks the terminal and ``NO_COLOR``.
    Raises: ValueError: there is no such format.
    """
    if name is None:
        name = "rich" if hasattr(stream, "isatty") and stream.isatty() else "plain"
    if name == "rich":
        return RichFormat(stream, color=color)
    formats = {"plain": PlainFormat, "json": JsonFormat, "logfmt": LogfmtFormat}
    if name not in formats:
        raise ValueError(f"no log format {name!r}: one of {', '.join(FORMATS)}")
    return formats[name]()


def pairs(fields: dict[str, object], prefix: str = "") -> list[str]:
    """Return ``key=value`` for each field, quoting values that are not plain words."""
    found = []
    for key, value in fields.items():
        name = f"{prefix}{_NOT_IN_KEYS.sub('_', key)}"
        if isinstance(value, dict):
            found += pairs(value, f"{name}.")
        elif isinstance(value, list | tuple):
            found += [f"{name}={_quoted(','.join(map(_as_text, value)))}"] if value else []
        else:
            found.append(f"{name}={_quoted(_as_text(value))}")
    return found


def _quoted(text: str) -> str:
    if _BARE.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{one_line(escaped)}"'


def _as_text(value: object) -> str:
    return clip(f"{value:.6g}" if isinstance(value, float) else str(value))


def _everything(record: logging.LogRecord) -> dict[str, object]:
    everything: dict[str, object] = {
        "ts": timestamp(record.created),
        "level": record.levelname,
        "logger": record.name,
        "event": str(vars(record)["event"]) if is_own(record) else "log",
        "msg": text_of(record),
        **fields_of(record),
    }
    trace = traceback_of(record)
    if trace:
        everything["traceback"] = trace
    return everything


def _for_people(record: logging.LogRecord) -> dict[str, object]:
    return {key: one for key, one in fields_of(record).items() if key not in _NOT_FOR_PEOPLE}


def _for_a_terminal(record: logging.LogRecord, text: str) -> dict[str, object]:
    """Return the fields without usual values and those known to whoever started the worker."""
    fields = _for_people(record)
    for name, usual in _USUAL.items():
        if fields.get(name) == usual:
            del fields[name]
    if text.startswith(f"{fields.get('task')} "):
        del fields["task"]
    fields.pop("worker", None)
    if "job_id" in fields:
        fields["job_id"] = short_id(str(fields["job_id"]))
    return fields


def _lines(record: logging.LogRecord) -> list[str]:
    return [one_line(line) for line in traceback_of(record).splitlines()]
