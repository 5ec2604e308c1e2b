"""Who touches whose logging; and a handler that never fails who logs."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from textwrap import dedent
from typing import Any

import pytest

from nuvom.log import (
    LogHandler,
    configure_logging,
    flush_logs,
    get_logger,
    log_event,
    reset_logging,
)
from nuvom.testing.conformance import law
from tests.engine import LIMIT_SECS
from tests.lab.points import Points

from .logging_cases import WORKER, Collector, Job, inside, make_job


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    before = root.level
    yield root
    reset_logging()
    root.setLevel(before)


@pytest.fixture
def logger() -> logging.Logger:
    """A logger named as ours, apart from the tree and from whoever listens there."""
    return logging.Logger("nuvom.test", logging.DEBUG)  # noqa: LOG001  # outside the tree


def ours(root: logging.Logger) -> list[logging.Handler]:
    return [handler for handler in root.handlers if isinstance(handler, LogHandler)]


# ---- the program's logging ------------------------------------------------------------------


def test_importing_leaves_the_logging_of_the_program_alone() -> None:
    program = """
        import logging
        root = logging.getLogger()
        def state():
            return root.level, root.handlers[:], logging.raiseExceptions, logging.getLoggerClass()
        before = state()
        import nuvom.log, nuvom.logs.events
        assert state() == before
        own = logging.getLogger("nuvom")
        assert own.level == logging.NOTSET and own.propagate
        assert [type(one) for one in own.handlers] == [logging.NullHandler]
        nuvom.log.get_logger("x").error("to nobody")
        import sys
        assert not any(name == "rich" or name.startswith("rich.") for name in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(program)], capture_output=True, text=True, check=False
    )
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


def test_a_configured_log_shows_users_own_loggers_with_the_fields_of_the_job(
    root: logging.Logger,
) -> None:
    stream = io.StringIO()
    configure_logging("INFO", "json", stream=stream, worker=WORKER)
    with inside(Job(make_job())):
        logging.getLogger("app.mail").info("sent %d", 3)
    logging.getLogger("app.mail").debug("no")
    found = json.loads(stream.getvalue())
    assert ("app.mail", "sent 3", "tasks.add", "000000aa", "thread") == tuple(
        found[key] for key in ("logger", "msg", "task", "worker", "lane")
    )
    assert found["host"]


def test_a_second_call_takes_the_place_of_the_first_and_none_touches_other_handlers(
    root: logging.Logger,
) -> None:
    other = logging.NullHandler()
    root.addHandler(other)
    try:
        configure_logging("INFO", "plain", stream=io.StringIO())
        second = configure_logging(logging.DEBUG, "json", stream=io.StringIO())
        assert ([second], logging.DEBUG) == (ours(root), root.level)
        with pytest.raises(ValueError, match="no log format 'xml': one of rich"):
            configure_logging("INFO", "xml")
        assert ([second], logging.DEBUG) == (ours(root), root.level)
        reset_logging()
        assert ([], True) == (ours(root), other in root.handlers)
    finally:
        root.removeHandler(other)


class Broken(logging.Handler):
    """A handler that fails where the standard ones would have caught it."""

    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("CANARY")

    flush = emit  # type: ignore[assignment]  # fails, too


def test_a_failing_handler_of_the_users_is_told_on_standard_error_and_not_raised(
    root: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, bad = io.StringIO(), Broken()
    root.addHandler(bad)
    try:
        configure_logging("INFO", "plain", stream=stream)
        log_event(get_logger(), logging.ERROR, "a.b", "text")
        assert "a log handler failed: OSError\n" == capsys.readouterr().err
        flush_logs()
        assert "a log handler failed: TypeError\n" == capsys.readouterr().err
        monkeypatch.setattr(logging, "raiseExceptions", False)
        log_event(get_logger(), logging.ERROR, "a.b", "text")
        assert "" == capsys.readouterr().err
    finally:
        root.removeHandler(bad)


# ---- failures -------------------------------------------------------------------------------


class Odd:
    def __str__(self) -> str:
        raise ValueError("CANARY")


@pytest.mark.parametrize("fmt", ["plain", "rich", "json", "logfmt"])
@pytest.mark.parametrize("args", [("%d", "x"), ("%s %s", 1), (Odd(),), ("no place", 1, 2)])
def test_a_wrong_log_call_is_named_and_does_not_fail(
    logger: logging.Logger, fmt: str, args: tuple[Any, ...]
) -> None:
    collector = Collector(logger, fmt)
    logger.info(*args)
    (line,) = collector.lines
    assert "test_log.py" in line
    assert "Error" in line
    assert "CANARY" not in line


class Closed(io.StringIO):
    """A stream that takes nothing."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


@pytest.mark.parametrize("error", [OSError(28, "No space left"), ValueError("closed")], ids=str)
def test_a_full_disk_or_closed_pipe_does_not_fail_who_logs_and_is_counted(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    handler = LogHandler(Closed(error), logging.Formatter())
    logger.addHandler(handler)
    logger.error("one")
    assert 1 == handler.lost
    assert ("", "") == capsys.readouterr()


@pytest.mark.parametrize("method", ["handle", "flush"])
def test_interruption_at_no_point_keeps_the_handler_from_others(method: str) -> None:
    def a_record(text: str) -> logging.LogRecord:
        return logging.makeLogRecord({"msg": text, "name": "app", "levelno": logging.INFO})

    handler = LogHandler(io.StringIO(), logging.Formatter("%(message)s"))
    arguments = [a_record("in the midst")] if method == "handle" else []
    points, number = Points(), 0
    while points.count >= number:
        number += 1
        points.interrupt(lambda: getattr(handler, method)(*arguments), number)
        other = law.Hand(lambda: handler.handle(a_record("from another thread")))
        other.start()
        other.finish(LIMIT_SECS)
    assert number > 5
