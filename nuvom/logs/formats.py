"""How a log record becomes text: plain, JSON, logfmt, or coloured for a terminal.

One event is one line in each of them, and nothing that a record holds can look like another
line. A traceback is a field in ``json`` and ``logfmt``; for people it follows as lines that
begin with a bar.
"""

from __future__ import annotations

import json
import logging
import re
import time
from typing import TYPE_CHECKING, TextIO

from nuvom.core.text import clip, mask_text, one_line
from nuvom.logs.fields import SCHEMA, event_of, fields_of, is_own, short_id, traceback_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

FORMATS = ("rich", "plain", "json", "logfmt")

_BARE = re.compile(r"[\w.:/+@-]+")  # needs no quotes in logfmt
_NOT_IN_KEYS = re.compile(r"[^\w.-]")
_BAR = "    | "
# For machines, or said in the text already.
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
    """Return a moment as RFC 3339, UTC, with milliseconds; ``seconds`` since the epoch."""
    millis = round(seconds * 1000)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(millis // 1000))
    return f"{whole}.{millis % 1000:03d}Z"


def text_of(record: logging.LogRecord) -> str:
    """Return what the record says; events without passwords."""
    text = clip(record.getMessage())
    return mask_text(text) if is_own(record) else text


class PlainFormat(logging.Formatter):
    """For people and files: time, level, logger, text, fields; then a traceback behind bars."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and those of the traceback."""
        head = f"{timestamp(record.created)} {record.levelname:<8} {one_line(record.name)}:"
        fields = " ".join(pairs(_for_people(record)))
        line = f"{head} {one_line(text_of(record))}" + (f"  {fields}" if fields else "")
        # No line of a traceback can pass for a line of the log.
        return "\n".join([line, *(f"{_BAR}{one}" for one in _lines(record))])


class LogfmtFormat(logging.Formatter):
    """``key=value`` pairs on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        return " ".join(pairs(_everything(record)))


class JsonFormat(logging.Formatter):
    """One JSON object on one line, all ASCII; its keys are the contract ``nuvom.log/1``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        return json.dumps({"schema": SCHEMA, **_everything(record)}, default=_as_text)


class RichFormat(logging.Formatter):
    """Coloured for a terminal. Nothing in a record is taken for markup."""

    def __init__(self, stream: TextIO, *, color: bool | None = None) -> None:
        super().__init__()
        from rich.console import Console, detect_legacy_windows  # noqa: PLC0415  # terminals only

        # An old Windows console prints colour codes as they are.
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
        """Return one line, and those of the traceback, with the terminal's colour codes."""
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
        name = "rich" if _is_terminal(stream) else "plain"
    if name == "rich":
        return RichFormat(stream, color=color)
    formats = {"plain": PlainFormat, "json": JsonFormat, "logfmt": LogfmtFormat}
    if name not in formats:
        raise ValueError(f"no log format {name!r}: one of {', '.join(FORMATS)}")
    return formats[name]()


def pairs(fields: dict[str, object], prefix: str = "") -> list[str]:
    """Return ``key=value`` for each field; a value with anything but word characters in quotes."""
    found = []
    for key, value in fields.items():
        name = f"{prefix}{_NOT_IN_KEYS.sub('_', key)}"
        if isinstance(value, dict):
            found += pairs(value, f"{name}.")
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
        "event": event_of(record),
        "msg": text_of(record),
        **fields_of(record),
    }
    traceback = traceback_of(record)
    if traceback:
        everything["traceback"] = traceback
    return everything


def _for_people(record: logging.LogRecord) -> dict[str, object]:
    return {key: one for key, one in fields_of(record).items() if key not in _NOT_FOR_PEOPLE}


def _for_a_terminal(record: logging.LogRecord, text: str) -> dict[str, object]:
    """Return the fields less what is as usual, or known to whoever started the worker."""
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


def _is_terminal(stream: TextIO) -> bool:
    return hasattr(stream, "isatty") and stream.isatty()
