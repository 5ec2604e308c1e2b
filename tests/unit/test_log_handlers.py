"""The handler: whole lines, limited repetition, and never a failure for who logs."""

from __future__ import annotations

import errno
import io
import logging
from collections.abc import Callable
from typing import Any

import pytest

from nuvom.core.clock import Clock
from nuvom.log import LogHandler
from nuvom.testing.conformance import law
from tests.engine import LIMIT_SECS
from tests.lab.points import Points

from .logging_cases import Collector


class Hand(Clock):
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.secs = 1000.0

    def monotonic(self) -> float:
        return self.secs


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def logger() -> logging.Logger:
    """A logger named as ours, apart from the tree and from whoever listens there."""
    return logging.Logger("nuvom.test", logging.DEBUG)  # noqa: LOG001  # outside the tree


@pytest.fixture
def collector(logger: logging.Logger, clock: Hand) -> Collector:
    return Collector(logger, clock=clock)


def event(logger: logging.Logger, text: str = "the store failed", **extra: object) -> None:
    logger.error(text, extra={"event": "backend.error", **extra})


# ---- repetition -----------------------------------------------------------------------------


def test_ten_equal_events_a_minute_are_written_and_then_a_count(
    logger: logging.Logger, collector: Collector, clock: Hand
) -> None:
    for _ in range(15):
        event(logger)
    assert 10 == len(collector.lines)

    clock.secs += 60
    event(logger)

    assert 12 == len(collector.lines)
    assert "the store failed (and 5 more times)  repeats=5" in collector.lines[10]
    assert collector.lines[11].endswith("the store failed")


def test_ten_equal_events_bring_no_count(
    logger: logging.Logger, collector: Collector, clock: Hand
) -> None:
    for _ in range(10):
        event(logger)
    clock.secs += 60
    event(logger)

    assert 11 == len(collector.lines)
    assert "more times" not in collector.text


def test_any_later_record_brings_the_count(
    logger: logging.Logger, collector: Collector, clock: Hand
) -> None:
    for _ in range(11):
        event(logger)
    clock.secs += 60
    logger.info("something else")

    assert "(and 1 more times)" in collector.lines[10]
    assert "something else" in collector.lines[11]


def test_flushing_brings_the_count_once(logger: logging.Logger, collector: Collector) -> None:
    for _ in range(12):
        event(logger)
    collector.handler.flush()
    collector.handler.flush()

    assert 11 == len(collector.lines)
    assert "(and 2 more times)" in collector.lines[10]


@pytest.mark.parametrize(
    ("fields", "written"),
    [
        (lambda number: {"text": f"failure {number % 3}"}, 30),
        (lambda number: {"text": f"failure {number}", "rate_key": "failure"}, 10),
        (lambda number: {"job_id": f"job-{number}"}, 30),
        (lambda number: {"job_id": f"job-{number}", "rate_key": "hook"}, 10),
        (lambda _: {"rate_key": False}, 30),
    ],
)
def test_text_job_and_rate_key_say_what_is_equal(
    logger: logging.Logger,
    collector: Collector,
    fields: Callable[[int], dict[str, Any]],
    written: int,
) -> None:
    for number in range(30):
        event(logger, **fields(number))

    assert written == len(collector.lines)


def test_what_users_log_is_never_limited(logger: logging.Logger, collector: Collector) -> None:
    for _ in range(30):
        logger.info("the same again")

    assert 30 == len(collector.lines)


def test_count_has_neither_the_traceback_nor_the_arguments_again(
    logger: logging.Logger, collector: Collector
) -> None:
    for _ in range(11):
        logger.error("%s failed", "x", extra={"event": "a.b"}, exc_info=ValueError("bad"))
    collector.handler.flush()

    assert "x failed (and 1 more times)" in collector.lines[-1]


def test_memory_of_the_limit_is_bounded(logger: logging.Logger, collector: Collector) -> None:
    for number in range(3000):
        event(logger, f"failure {number}")

    assert len(collector.handler._limit._windows) <= 1001


def test_counts_are_not_lost_when_the_memory_is_full(
    logger: logging.Logger, collector: Collector
) -> None:
    for _ in range(12):
        event(logger, "first")
    for number in range(1001):
        event(logger, f"other {number}")

    assert any("first (and 2 more times)" in line for line in collector.lines)


# ---- failures -------------------------------------------------------------------------------


class Odd:
    def __str__(self) -> str:
        raise ValueError("CANARY")


@pytest.mark.parametrize("fmt", ["plain", "rich", "json", "logfmt"])
@pytest.mark.parametrize(
    ("text", "args"), [("%d", ("x",)), ("%s", ()), ("%s", (Odd(),)), ("no place", (1, 2))]
)
def test_wrong_log_call_is_named_and_does_not_fail(
    logger: logging.Logger, fmt: str, text: str, args: tuple[object, ...]
) -> None:
    collector = Collector(logger, fmt)

    logger.info(text, *args) if args else logger.info(text, Odd())

    (line,) = collector.lines
    assert "test_log_handlers.py" in line
    assert "Error" in line
    assert "CANARY" not in line
    assert 0 == collector.handler.lost


class Broken(io.StringIO):
    """A stream that takes nothing."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left"),
        BrokenPipeError(),
        ValueError("closed"),
        RecursionError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_full_disk_or_closed_pipe_does_not_fail_who_logs_and_is_counted(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    handler = LogHandler(Broken(error), logging.Formatter())
    logger.addHandler(handler)

    logger.error("one")
    logger.error("two")

    assert 2 == handler.lost
    assert ("", "") == capsys.readouterr()


def test_filter_of_the_users_that_fails_does_not_fail_who_logs(
    logger: logging.Logger, collector: Collector
) -> None:
    class Bad(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise ValueError

    collector.handler.addFilter(Bad())
    logger.error("one")

    assert 1 == collector.handler.lost
    assert "" == collector.text


def test_filter_of_the_users_is_obeyed(logger: logging.Logger, collector: Collector) -> None:
    collector.handler.addFilter(lambda record: record.getMessage() != "no")
    logger.info("no")
    logger.info("yes")

    assert 1 == len(collector.lines)


def test_interrupt_is_passed_on(logger: logging.Logger) -> None:
    logger.addHandler(LogHandler(Broken(KeyboardInterrupt()), logging.Formatter()))

    with pytest.raises(KeyboardInterrupt):
        logger.error("one")


def test_program_without_a_console_logs_to_nowhere(logger: logging.Logger) -> None:
    handler = LogHandler(None, logging.Formatter())
    logger.addHandler(handler)
    logger.error("one")
    handler.flush()

    assert 0 == handler.lost


def test_text_that_the_console_cannot_show_is_written_as_escapes(logger: logging.Logger) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="cp1252", newline="\n")
    logger.addHandler(LogHandler(stream, logging.Formatter()))

    logger.error("größer → 日")

    assert "größer \\u2192 \\u65e5\n" == raw.getvalue().decode("cp1252")


def test_each_record_is_one_write_and_flushed(logger: logging.Logger) -> None:
    """Else lines of several processes that share a terminal would mix."""
    calls: list[str] = []

    class Counting(io.StringIO):
        def write(self, text: str) -> int:
            calls.append(text)
            return len(text)

        def flush(self) -> None:
            calls.append("flush")

    logger.addHandler(LogHandler(Counting(), logging.Formatter()))
    logger.error("one", exc_info=ValueError("bad"))

    assert 2 == len(calls)
    assert calls[0].endswith("ValueError: bad\n")
    assert "flush" == calls[1]


@pytest.mark.parametrize("method", ["handle", "flush"])
def test_interruption_at_no_point_keeps_the_handler_from_others(method: str) -> None:
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


def a_record(text: str) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": text, "name": "app", "levelno": logging.INFO})
