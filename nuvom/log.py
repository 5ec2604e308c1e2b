"""The log of Nuvom: standard logging under the name ``nuvom``.

The library only writes events to its loggers. Shells (command line, worker process) call
``configure_logging``; importing Nuvom or enqueueing touches no handler and no level of anyone.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, TextIO

from nuvom.logs.fields import JobFields
from nuvom.logs.formats import make_format
from nuvom.logs.handlers import LogHandler

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = "nuvom"

logging.getLogger(ROOT).addHandler(logging.NullHandler())


def get_logger(name: str = ROOT) -> logging.Logger:
    """Return the logger ``nuvom``, or the one called ``name`` below it."""
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
    """Write one event. It never raises: a user's handler that fails is the user's affair.

    Args:
        event: Its stable dotted name, such as ``job.finished``.
        text: A sentence; nothing in it is interpreted.
        fields: Further fields by name. ``rate_key`` says which events count as repeated;
            ``traceback`` is a stored traceback. Arguments and results of jobs never go here.
        error: Its traceback is logged.
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
    except Exception as failure:  # noqa: BLE001  # a user's handler: it must not fail a job
        _complain(logger, failure)


def _complain(logger: logging.Logger, failure: Exception) -> None:
    # As the standard library does where a handler fails: on standard error, unless told not to.
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
    """Write records of this process, users' own included, to ``stream``. For shells only.

    A second call takes the place of the first.

    Args:
        level: Least level shown.
        fmt: ``rich``, ``plain``, ``json`` or ``logfmt``; None means rich on a terminal,
            else plain.
        stream: Standard error unless given.
        worker: Id of the worker that this process is.
        color: Whether ``rich`` uses colours; None asks the terminal.
    Returns: the handler, which sits on the root logger.
    """
    out = stream or sys.stderr
    handler = LogHandler(out, make_format(fmt, out, color=color), fields=JobFields(worker, _host()))
    root = logging.getLogger()
    root.setLevel(level)
    reset_logging()
    root.addHandler(handler)
    return handler


def reset_logging() -> None:
    """Take back ``configure_logging``, but for the root logger's level."""
    root = logging.getLogger()
    own = [handler for handler in root.handlers if isinstance(handler, LogHandler)]
    _flush(own)
    for handler in own:
        root.removeHandler(handler)
        handler.close()


def flush_logs() -> None:
    """Write out what handlers hold back or buffer. Never raises; twice is fine."""
    _flush([*logging.getLogger().handlers, *logging.getLogger(ROOT).handlers])


def _flush(handlers: Sequence[logging.Handler]) -> None:
    for handler in handlers:
        try:
            handler.flush()
        except Exception as failure:  # noqa: BLE001  # a user's handler: the worker still stops
            _complain(logging.getLogger(ROOT), failure)


def _host() -> str:
    from platform import node  # noqa: PLC0415  # for shells only

    return node()
