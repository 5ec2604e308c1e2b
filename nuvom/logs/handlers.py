"""The handler that writes log records, and that keeps repetition out of them.

Installed by ``nuvom.log.configure_logging`` only. Whatever a record holds and whatever becomes
of the stream, logging a line never fails the code that logs it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TextIO

from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.core.guard import engine_call
from nuvom.logs.fields import JobFields, is_own

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_KEYS = 1000


class RateLimit:
    """Lets ten equal events a minute through, and counts the others.

    Only events of ours are limited: what a user's code logs is the user's. Events are equal
    when name, level and ``rate_key`` are; without a ``rate_key`` the text stands for it, and
    events of jobs are not limited; nor are those with a ``rate_key`` of False. Not
    thread-safe: the handler's lock guards it.
    """

    def __init__(
        self, most: int = 10, per_secs: float = 60.0, *, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._most = most
        self._per_secs = per_secs
        self._clock = clock
        self._windows: dict[tuple[object, ...], _Window] = {}

    def admit(self, record: logging.LogRecord) -> list[logging.LogRecord]:
        """Return what is to be written now: counts of earlier records, and perhaps this one."""
        now = self._clock.monotonic()
        due = list(self._ended(now))
        key = _key(record)
        if key is None:
            return [*due, record]
        window = self._windows.setdefault(key, _Window(now))
        if window.seen < self._most:
            window.seen += 1
            due.append(record)
        else:
            window.held += 1
            window.latest = record
        return due

    def drain(self) -> list[logging.LogRecord]:
        """Return the counts of everything held back so far."""
        return list(self._ended(float("inf")))

    def _ended(self, now: float) -> Iterator[logging.LogRecord]:
        # The oldest window is the first one, so that this costs nothing while none has ended.
        while self._windows:
            key, window = next(iter(self._windows.items()))
            if now - window.began < self._per_secs and len(self._windows) <= _MOST_KEYS:
                return
            del self._windows[key]
            if window.latest is not None:
                yield _count(window.latest, window.held)


def _key(record: logging.LogRecord) -> tuple[object, ...] | None:
    """Return what equal events have in common, or None where the record is not limited."""
    values = vars(record)
    given = values.get("rate_key")
    if not is_own(record) or given is False or (given is None and values.get("job_id")):
        return None
    return values["event"], record.levelno, given or record.getMessage()


class _Window:
    __slots__ = ("began", "held", "latest", "seen")

    def __init__(self, began: float) -> None:
        self.began = began
        self.seen = 0
        self.held = 0
        self.latest: logging.LogRecord | None = None


_NOT_COUNTED = frozenset(
    {"args", "created", "exc_info", "exc_text", "msecs", "relativeCreated", "traceback"}
)


def _count(latest: logging.LogRecord, held: int) -> logging.LogRecord:
    kept = {name: one for name, one in vars(latest).items() if name not in _NOT_COUNTED}
    text = f"{latest.getMessage()} (and {held} more times)"
    return logging.makeLogRecord({**kept, "msg": text, "repeats": held})


class LogHandler(logging.Handler):
    """Writes each record at once, whole, to a stream that it does not own.

    Attributes:
        lost: Records that could not be written.
    """

    def __init__(
        self,
        stream: TextIO | None,
        log_format: logging.Formatter,
        *,
        fields: JobFields | None = None,
        limit: RateLimit | None = None,
    ) -> None:
        super().__init__()
        self.lost = 0
        self._stream = stream
        self._limit = limit or RateLimit()
        self.setFormatter(log_format)
        self.addFilter(fields or JobFields())

    @engine_call
    def handle(self, record: logging.LogRecord) -> bool:
        """Write the record; return whether it passed the filters and was no failure."""
        try:
            passed: Any = self.filter(record)
            if isinstance(passed, logging.LogRecord):  # since Python 3.12 it may be another one
                record = passed
            if passed:
                # The base class takes the lock before its ``try``, where an exception leaks it.
                with self.lock:  # type: ignore[union-attr]  # the base class has made it
                    self.emit(record)
            return bool(passed)
        except Exception:  # noqa: BLE001  # a user's filter, a full disk, a closed pipe
            self.lost += 1
            return False

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, and what the rate limit had held back."""
        for one in self._limit.admit(record):
            self._write(self._text(one))

    @engine_call
    def flush(self) -> None:
        """Write the counts of what was held back, and empty the stream's buffer."""
        with self.lock:  # type: ignore[union-attr]  # the base class has made it
            for one in self._limit.drain():
                self._write(self._text(one))
            if self._stream is not None:
                self._stream.flush()

    def _text(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Exception as error:  # noqa: BLE001  # a user's arguments: their __str__, or too few of them
            return self.format(_complaint(record, error))

    def _write(self, text: str) -> None:
        if self._stream is None:  # a program without a console
            return
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        line = f"{text}\n".encode(encoding, "backslashreplace").decode(encoding)
        self._stream.write(line)  # one call, so that lines of several processes stay whole
        self._stream.flush()


def _complaint(record: logging.LogRecord, error: Exception) -> logging.LogRecord:
    """Return a record that says where a log call is wrong, without anything that it holds."""
    text = f"the log call at {record.pathname}:{record.lineno} failed: {type(error).__name__}"
    complaint = logging.makeLogRecord(
        {"name": record.name, "levelno": logging.WARNING, "levelname": "WARNING", "msg": text}
    )
    complaint.nuvom_fields = vars(record).get("nuvom_fields", {})
    return complaint
