"""Nuvom's log: standard logging under the name ``nuvom``.

The library only writes events to its loggers. Shells (command line, worker process) call
``configure_logging``; importing Nuvom or enqueueing changes no handlers and no levels.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Generic, TextIO, TypeVar

from nuvom.core.guard import engine_call
from nuvom.logs.formats import JobFields, make_format

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nuvom.core.clock import Clock

K = TypeVar("K")

ROOT = "nuvom"

logging.getLogger(ROOT).addHandler(logging.NullHandler())


def get_logger(name: str = ROOT) -> logging.Logger:
    """Return the logger ``nuvom``, or its child ``name``."""
    is_below = name == ROOT or name.startswith(f"{ROOT}.")
    return logging.getLogger(name if is_below else f"{ROOT}.{name}")


def log_event(
    logger: logging.Logger,
    level: int,
    event: str,
    text: str,
    *,
    fields: Mapping[str, object] | None = None,
    error: BaseException | None = None,
) -> None:
    """Log one event. It never raises, even if a user's handler fails.

    Args:
        event: Its stable dotted name, for example ``job.finished``.
        text: A sentence, which is not interpreted.
        fields: Additional fields by name; ``traceback`` is a stored traceback. Never pass
            arguments and results of jobs.
        error: An exception whose traceback is logged.
    """
    if not logger.isEnabledFor(level):
        return
    try:
        logger.log(
            level,
            "%s",
            text,
            exc_info=error,
            extra={**(fields or {}), "event": event},
            stacklevel=2,
        )
    except Exception as failure:  # noqa: BLE001  # a user's handler must not fail a job
        _complain(logger, failure)


def _complain(logger: logging.Logger, failure: Exception) -> None:
    # Report a failing handler as the standard library does: on standard error, unless disabled.
    if logging.raiseExceptions and logging.lastResort is not None:
        text = f"a log handler failed: {type(failure).__name__}"
        fields = {"name": logger.name, "levelno": logging.WARNING, "msg": text}
        logging.lastResort.handle(logging.makeLogRecord(fields))


def configure_logging(
    level: str | int = "INFO",
    fmt: str | None = None,
    *,
    stream: TextIO | None = None,
    worker: str | None = None,
    color: bool | None = None,
) -> LogHandler:
    """Write this process's log records, including users' own, to ``stream``. For shells only.

    A second call replaces the first.

    Args:
        level: Lowest level shown.
        fmt: ``rich``, ``plain``, ``json`` or ``logfmt``; None means rich on a terminal,
            else plain.
        stream: Standard error by default.
        worker: Id of the worker that runs in this process.
        color: Whether ``rich`` uses colours; None detects it from the terminal.
    Returns: the handler, which is attached to the root logger.
    """
    out = stream or sys.stderr
    handler = LogHandler(out, make_format(fmt, out, color=color), fields=JobFields(worker, _host()))
    root = logging.getLogger()
    root.setLevel(level)
    reset_logging()
    root.addHandler(handler)
    return handler


def reset_logging() -> None:
    """Undo ``configure_logging``, except for the root logger's level."""
    own = own_handlers()
    _flush(own)
    for handler in own:
        logging.getLogger().removeHandler(handler)
        handler.close()


def own_handlers() -> list[LogHandler]:
    """Return the handlers that ``configure_logging`` has attached: none or one."""
    handlers = logging.getLogger().handlers
    return [handler for handler in handlers if isinstance(handler, LogHandler)]


def unchanged(line: str) -> str:
    """Return ``line``."""
    return line


def flush_logs() -> None:
    """Flush what handlers buffer. Never raises; idempotent."""
    _flush([*logging.getLogger().handlers, *logging.getLogger(ROOT).handlers])


def _flush(handlers: Sequence[logging.Handler]) -> None:
    for handler in handlers:
        try:
            handler.flush()
        except Exception as failure:  # noqa: BLE001  # a user's handler must not keep the worker from stopping
            _complain(logging.getLogger(ROOT), failure)


def _host() -> str:
    from platform import node  # noqa: PLC0415  # for shells only

    return node()


# ---- the handler ------------------------------------------------------------------------


class RateLimit(Generic[K]):
    """Admits a number of equal events per time window, and counts the others.

    A window begins with its first event. Not thread-safe: its user must hold a lock.

    Args:
        per_secs: Length of a window.
    """

    def __init__(self, per_secs: float, clock: Clock) -> None:
        self._per_secs = per_secs
        self._clock = clock
        self._windows: dict[K, list[float]] = {}  # end, and how many are left; oldest first

    def admit(self, key: K, most: int) -> bool:
        """Return whether this is one of the first ``most`` events of its window."""
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = [self._clock.monotonic() + self._per_secs, most]
        window[1] -= 1
        return window[1] >= 0

    def ended(self, *, at_once: bool = False) -> list[tuple[K, int]]:
        """Remove the windows that have ended; return how many events each held back.

        Args:
            at_once: End all of them.
        """
        found = []
        while self._windows:
            key, (end, left) = next(iter(self._windows.items()))
            if not at_once and self._clock.monotonic() < end:
                break
            del self._windows[key]
            if left < 0:
                found.append((key, int(-left)))
        return found


class LogHandler(logging.Handler):
    """Writes each record at once, whole, to a stream that it does not own.

    Whatever the record holds and whatever happens to the stream, logging a line never fails the
    code that logs it.

    Attributes:
        lost: Records that could not be written.
        around: Applied to each line before it is written. A progress bar on the same terminal uses
            this to stay below the log.
    """

    def __init__(
        self,
        stream: TextIO | None,
        log_format: logging.Formatter,
        *,
        fields: JobFields | None = None,
    ) -> None:
        super().__init__()
        self.lost = 0
        self.around: Callable[[str], str] = unchanged
        self._stream = stream
        self.setFormatter(log_format)
        self.addFilter(fields or JobFields())

    @engine_call
    def handle(self, record: logging.LogRecord) -> bool:
        """Write the record; return whether it passed the filters and did not fail."""
        try:
            passed: Any = self.filter(record)
            if isinstance(passed, logging.LogRecord):  # since Python 3.12 it may be another one
                record = passed
            if passed:
                # The base class takes the lock before its ``try``, where an exception leaks it.
                with self.lock:  # type: ignore[union-attr]  # created by the base class
                    self.emit(record)
            return bool(passed)
        except Exception:  # noqa: BLE001  # a user's filter, a full disk, a closed pipe
            self.lost += 1
            return False

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record."""
        if self._stream is None:  # a program without a console
            return
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        line = self.around(f"{self._text(record)}\n")
        line = line.encode(encoding, "backslashreplace").decode(encoding)
        self._stream.write(line)  # one call, so that lines of several processes stay whole
        self._stream.flush()

    @engine_call
    def flush(self) -> None:
        """Flush the stream."""
        with self.lock:  # type: ignore[union-attr]  # created by the base class
            if self._stream is not None:
                self._stream.flush()

    def _text(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Exception as error:  # noqa: BLE001  # a user's arguments: a failing __str__, or too few of them
            return self.format(_complaint(record, error))


def _complaint(record: logging.LogRecord, error: Exception) -> logging.LogRecord:
    """Return a record that says where a log call is wrong, without the call's content."""
    text = f"the log call at {record.pathname}:{record.lineno} failed: {type(error).__name__}"
    complaint = logging.makeLogRecord(
        {"name": record.name, "levelno": logging.WARNING, "levelname": "WARNING", "msg": text}
    )
    complaint.nuvom_fields = vars(record).get("nuvom_fields", {})
    return complaint
