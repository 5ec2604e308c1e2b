"""Who touches whose logging, and what ``configure_logging`` writes."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from textwrap import dedent

import pytest

from nuvom.log import (
    LogHandler,
    configure_logging,
    flush_logs,
    get_logger,
    log_event,
    reset_logging,
)

from .logging_cases import WORKER, Job, inside, make_job


@pytest.fixture(autouse=True)
def root() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    before = root.level
    yield root
    reset_logging()
    root.setLevel(before)


def ours(root: logging.Logger) -> list[logging.Handler]:
    return [handler for handler in root.handlers if isinstance(handler, LogHandler)]


def test_importing_leaves_the_logging_of_the_program_alone() -> None:
    program = """
        import logging
        root = logging.getLogger()
        def state():
            return root.level, root.handlers[:], logging.raiseExceptions, logging.getLoggerClass()
        before = state()
        levels = dict(logging._levelToName)
        import nuvom.log, nuvom.logs.events
        assert state() == before
        assert levels == logging._levelToName
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


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("nuvom", "nuvom"),
        ("nuvom.worker", "nuvom.worker"),
        ("worker", "nuvom.worker"),
        ("nuvomish", "nuvom.nuvomish"),
    ],
)
def test_all_loggers_are_below_nuvom(given: str, name: str) -> None:
    assert name == get_logger(given).name
    assert "nuvom" == get_logger().name


def test_configured_log_shows_users_own_loggers_with_the_fields_of_the_job(
    root: logging.Logger,
) -> None:
    stream = io.StringIO()
    configure_logging("INFO", "json", stream=stream, worker=WORKER)
    with inside(Job(make_job())):
        logging.getLogger("app.mail").info("sent %d", 3)
    found = json.loads(stream.getvalue())

    assert ("app.mail", "sent 3", "tasks.add", "000000aa", "thread") == tuple(
        found[key] for key in ("logger", "msg", "task", "worker", "lane")
    )
    assert found["host"]


def test_level_counts_for_users_loggers_too() -> None:
    stream = io.StringIO()
    configure_logging("WARNING", "plain", stream=stream)
    logging.getLogger("app").info("no")
    logging.getLogger("app").warning("yes")
    get_logger("worker").info("no")

    assert "app: yes\n" == stream.getvalue().partition("WARNING  ")[2]


def test_second_call_takes_the_place_of_the_first(root: logging.Logger) -> None:
    first = configure_logging("INFO", "plain", stream=io.StringIO())
    second = configure_logging(logging.DEBUG, "json", stream=io.StringIO())

    assert [second] == ours(root)
    assert first is not second
    assert logging.DEBUG == root.level


def test_handlers_of_the_program_are_left_alone(root: logging.Logger) -> None:
    other = logging.NullHandler()
    root.addHandler(other)
    try:
        configure_logging(stream=io.StringIO())
        reset_logging()
        assert other in root.handlers
        assert [] == ours(root)
    finally:
        root.removeHandler(other)


def test_default_is_standard_error_and_plain_without_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging()
    get_logger().info("hello")

    out, err = capsys.readouterr()
    assert "" == out
    assert err.endswith("INFO     nuvom: hello\n")


def test_program_without_standard_error_can_be_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    configure_logging()
    get_logger().error("hello")


def test_colour_can_be_forced() -> None:
    stream = io.StringIO()
    configure_logging("INFO", "rich", stream=stream, color=True)
    get_logger().info("hello")

    assert "\x1b[" in stream.getvalue()


def test_unknown_format_changes_nothing(root: logging.Logger) -> None:
    handler = configure_logging("INFO", "plain", stream=io.StringIO())

    with pytest.raises(ValueError, match="no log format"):
        configure_logging("DEBUG", "xml")

    assert [handler] == ours(root)
    assert logging.INFO == root.level


def test_unknown_level_changes_nothing(root: logging.Logger) -> None:
    with pytest.raises(ValueError, match="LOUD"):
        configure_logging("LOUD", "plain", stream=io.StringIO())

    assert [] == ours(root)


# ---- events ---------------------------------------------------------------------------------


def test_event_has_its_name_and_its_fields() -> None:
    stream = io.StringIO()
    configure_logging("INFO", "json", stream=stream)
    log_event(
        get_logger("plugins"),
        logging.WARNING,
        "plugin.error",
        "100 % of %s failed",
        fields={"plugin": "x"},
        error=ValueError("bad"),
    )
    found = json.loads(stream.getvalue())

    assert ("plugin.error", "100 % of %s failed", "x", "nuvom.plugins", "ValueError: bad") == tuple(
        found[key] for key in ("event", "msg", "plugin", "logger", "traceback")
    )


def test_event_below_the_level_costs_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    configure_logging("WARNING", "plain", stream=io.StringIO())
    logger = get_logger("quiet")
    monkeypatch.setattr(logger, "handle", lambda record: pytest.fail("a record was made"))

    log_event(logger, logging.INFO, "a.b", "text")


class Broken(logging.Handler):
    """A handler that fails where the standard ones would have caught it."""

    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("CANARY")

    def flush(self) -> None:
        raise OSError("CANARY")


@pytest.fixture
def broken() -> Iterator[logging.Logger]:
    logger = get_logger("broken")
    handler = Broken()
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)


def test_failing_handler_of_the_users_is_told_on_standard_error_and_not_raised(
    broken: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    log_event(broken, logging.ERROR, "a.b", "text")

    assert "a log handler failed: OSError\n" == capsys.readouterr().err


def test_it_is_not_told_where_the_program_has_switched_that_off(
    broken: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log_event(broken, logging.ERROR, "a.b", "text")
    monkeypatch.setattr(logging, "raiseExceptions", True)
    monkeypatch.setattr(logging, "lastResort", None)
    log_event(broken, logging.ERROR, "a.b", "text")

    assert "" == capsys.readouterr().err


# ---- the end --------------------------------------------------------------------------------


def test_taking_the_log_back_flushes_it() -> None:
    stream = io.StringIO()
    configure_logging("INFO", "plain", stream=stream)
    for _ in range(12):
        log_event(get_logger(), logging.INFO, "a.b", "again")
    reset_logging()

    assert "again (and 2 more times)" in stream.getvalue()


def test_flushing_goes_on_after_a_handler_that_fails(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = Broken()
    root.addHandler(bad)
    try:
        stream = io.StringIO()
        configure_logging("INFO", "plain", stream=stream)
        handler = ours(root)[0]
        flushed: list[bool] = []
        handler.flush = lambda: flushed.append(True)  # type: ignore[method-assign]  # to see it
        flush_logs()
    finally:
        root.removeHandler(bad)

    assert [True] == flushed
    assert "a log handler failed: OSError\n" == capsys.readouterr().err
