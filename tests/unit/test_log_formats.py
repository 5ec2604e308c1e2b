"""Records as text: one event is one line, and no line can be forged."""

from __future__ import annotations

import io
import json
import logging
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuvom.logs import formats as log_formats
from nuvom.logs.formats import JobFields, RichFormat, make_format, pairs, timestamp

from .logging_cases import FORGERIES, FORMATS, WORKER, Job, failing, inside, make_job

ANSI = re.compile(r"\x1b\[[0-9;]*m")
HEADS = {
    "plain": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ "),
    "rich": re.compile(r"\d\d:\d\d:\d\d [A-Z]+ "),
    "json": re.compile(r'\{"schema": "nuvom\.log/1", "ts": "'),
    "logfmt": re.compile(r"ts=\d{4}-"),
}


def written(fmt: str, name: str = "app", *, worker: str | None = None, **fields: Any) -> str:
    values = {"name": name, "msg": "hello", "levelno": 20, "levelname": "INFO", "created": 0.0}
    record = logging.makeLogRecord({**values, **fields})
    JobFields(worker, "host").filter(record)
    return make_format(fmt, io.StringIO()).format(record)


def bare_record(**fields: object) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "app", **fields})


def test_moment_is_rfc_3339_in_utc_with_milliseconds() -> None:
    assert "1970-01-01T00:00:00.000Z" == timestamp(0)
    assert "2026-08-01T12:34:56.789Z" == timestamp(1_785_587_696.7891)
    assert "2026-08-01T12:34:57.000Z" == timestamp(1_785_587_696.9996)


def test_plain_line_has_time_level_logger_text_and_fields() -> None:
    with inside(Job(make_job())):
        line = written("plain", worker=WORKER)

    assert (
        "1970-01-01T00:00:00.000Z INFO     app: hello  "
        "job_id=0198f000-0000-7000-8000-000000000001 task=tasks.add queue=default attempt=1 "
        "worker=000000aa lane=thread"
    ) == line
    assert "1970-01-01T00:00:00.000Z INFO     app: hello" == written("plain")


def test_json_line_is_the_contract() -> None:
    """A key that goes, is renamed or changes its type needs a new ``nuvom.log`` number."""
    with inside(Job(make_job())):
        line = written(
            "json",
            "nuvom.worker",
            event="job.finished",
            worker=WORKER,
            outcome="failure",
            duration_s=0.5,
            wait_s=1.25,
            error_type="ValueError",
            error_fp="ab12",
            trace_id="0af7",
            span_id="b7ad",
            schedule="nightly",
            traceback="Traceback",
        )
    found = json.loads(line)
    pid = found.pop("pid")

    assert isinstance(pid, int)
    assert {
        "schema": "nuvom.log/1",
        "ts": "1970-01-01T00:00:00.000Z",
        "level": "INFO",
        "logger": "nuvom.worker",
        "event": "job.finished",
        "msg": "hello",
        "job_id": "0198f000-0000-7000-8000-000000000001",
        "task": "tasks.add",
        "queue": "default",
        "attempt": 1,
        "lease_epoch": 3,
        "worker": "000000aa",
        "lane": "thread",
        "host": "host",
        "outcome": "failure",
        "duration_s": 0.5,
        "wait_s": 1.25,
        "error_type": "ValueError",
        "error_fp": "ab12",
        "trace_id": "0af7",
        "span_id": "b7ad",
        "schedule": "nightly",
        "traceback": "Traceback",
    } == found


def test_json_of_a_users_record_has_an_event_and_its_extra_apart() -> None:
    found = json.loads(written("json", msg="größer\n", note={"a": [1, None]}, when=FORMATS[0]))

    assert "log" == found["event"]
    assert "größer\n" == found["msg"]
    assert {"note": {"a": [1, None]}, "when": "plain"} == found["extra"]


def test_json_writes_values_that_it_does_not_know_as_text() -> None:
    found = json.loads(written("json", where={1}, path=io, size=float("inf"), raw=b"x"))

    assert "{1}" == found["extra"]["where"]
    assert "inf" == found["extra"]["size"]
    assert "b'x'" == found["extra"]["raw"]


def test_logfmt_quotes_what_needs_quotes() -> None:
    extra: dict[str, Any] = {"note": "", "user": {"name": "x y", "id": 1.5}, "odd key=": 1}
    line = written("logfmt", msg='say "hi"\\', **extra)

    assert (
        'ts=1970-01-01T00:00:00.000Z level=INFO logger=app event=log msg="say \\"hi\\"\\\\" '
        'extra.note="" extra.user.name="x y" extra.user.id=1.5 extra.odd_key_=1'
    ) == line


def test_rich_line_is_short_and_without_colour_where_there_is_no_terminal() -> None:
    with inside(Job(make_job())):
        line = written("rich", worker=WORKER)

    assert "hello  job_id=00000001 task=tasks.add" == line.split("     ", 1)[1]
    assert ANSI.search(line) is None


def test_rich_line_leaves_out_what_its_text_says_and_shows_what_is_unusual() -> None:
    with inside(Job(make_job(queue="mail", attempt=2), lane="async")):
        line = written("rich", msg="tasks.add succeeded in 5 ms", worker=WORKER)

    fields = "job_id=00000001 queue=mail attempt=2 lane=async"
    assert line.endswith(f" tasks.add succeeded in 5 ms  {fields}")


@pytest.mark.parametrize(
    ("level", "codes"),
    [("DEBUG", "2"), ("INFO", "32"), ("WARNING", "33"), ("ERROR", "1;31"), ("CRITICAL", "1;37;41")],
)
def test_rich_colours_the_level(level: str, codes: str) -> None:
    record = bare_record(msg="hello", levelname=level)

    line = RichFormat(io.StringIO(), color=True).format(record)

    assert f"\x1b[{codes}m{level}" in line


def test_rich_gives_a_level_of_the_users_own_no_colour() -> None:
    record = bare_record(msg="hello", levelname="NOTICE")

    assert "NOTICE" in RichFormat(io.StringIO(), color=True).format(record)


def test_rich_colours_a_traceback_behind_bars() -> None:
    record = bare_record(msg="oops", exc_info=failing(ValueError("bad")))

    coloured = RichFormat(io.StringIO(), color=True).format(record)

    lines = ANSI.sub("", coloured).split("\n")
    assert "    | Traceback (most recent call last):" == lines[1]
    assert "    | ValueError: bad" == lines[-1]
    assert ANSI.search(coloured.split("\n")[-1]) is not None


def test_no_colour_is_used_when_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    record = bare_record(msg="x")

    assert ANSI.search(RichFormat(io.StringIO()).format(record)) is not None
    assert ANSI.search(RichFormat(io.StringIO(), color=False).format(record)) is None


def test_old_windows_console_gets_no_colour_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rich.console.detect_legacy_windows", lambda: True)

    assert ANSI.search(RichFormat(io.StringIO(), color=True).format(bare_record())) is None


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_default_is_rich_on_a_terminal_and_plain_elsewhere() -> None:
    assert isinstance(make_format(None, Terminal()), RichFormat)
    assert isinstance(make_format(None, io.StringIO()), log_formats.PlainFormat)
    assert isinstance(make_format(None, None), log_formats.PlainFormat)  # type: ignore[arg-type]  # a program without a console


def test_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="no log format 'xml': one of rich, plain, json, logfmt"):
        make_format("xml", io.StringIO())


# ---- nothing can be forged ------------------------------------------------------------------


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("text", FORGERIES)
def test_hostile_text_stays_on_its_line_wherever_it_stands(fmt: str, text: str) -> None:
    own = {"event": "job.finished", "job_id": text, "task": text, "error_type": text}
    for fields in (
        {"msg": text},
        {"msg": "%s", "args": (text,)},
        {"name": text},
        {"note": text},
        {"user": {text: text}},
        {"name": "nuvom.worker", "msg": text, **own},
    ):
        line = written(fmt, **fields)

        assert [line] == line.splitlines()
        assert all(char.isprintable() for char in line)
        assert HEADS[fmt].match(line)


@pytest.mark.parametrize("fmt", ["json", "logfmt"])
@pytest.mark.parametrize("text", FORGERIES)
def test_hostile_text_cannot_add_a_field(fmt: str, text: str) -> None:
    line = written(fmt, msg=text, note=text)

    if fmt == "json":
        assert "log" == json.loads(line)["event"]
    else:
        without_texts = re.sub(r'"(\\.|[^"\\])*"', "TEXT", line)
        assert 1 == without_texts.count("event=")


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("text", FORGERIES)
def test_hostile_traceback_cannot_pass_for_a_line_of_the_log(fmt: str, text: str) -> None:
    for fields in (
        {"name": "nuvom.worker", "event": "job.finished", "traceback": f"Traceback\n{text}"},
        {"exc_info": failing(ValueError(text))},
    ):
        first, *rest = written(fmt, **fields).splitlines()

        assert HEADS[fmt].match(first)
        assert all(line.startswith("    | ") and line.isprintable() for line in rest)
        if fmt in ("json", "logfmt"):
            assert [] == rest


@given(st.text(), st.sampled_from(FORMATS))
def test_any_text_at_all_stays_on_its_line(text: str, fmt: str) -> None:
    assert 1 == len(written(fmt, msg=text, note=text, name=f"app.{text}").splitlines())


@pytest.mark.parametrize("fmt", FORMATS)
def test_own_events_mask_passwords_in_their_text(fmt: str) -> None:
    line = written(fmt, "nuvom.worker", msg="failed: password=CANARY", event="job.finished")

    assert "CANARY" not in line


@pytest.mark.parametrize("fmt", FORMATS)
def test_what_a_user_writes_is_left_as_it_is(fmt: str) -> None:
    assert "tokens: 5" in written(fmt, msg="tokens: 5")


def test_very_long_text_is_cut() -> None:
    assert len(written("json", msg="x" * 1_000_000)) < 70_000


def test_pairs_of_an_empty_mapping_are_none() -> None:
    assert [] == pairs({"a": {}})
