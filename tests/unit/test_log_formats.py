"""Records as text: each has the fields of its job, is one line, and cannot forge another."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuvom.logs.formats import JobFields, TracePlace, add_tracer, make_format

from .logging_cases import FORGERIES, FORMATS, WORKER, Job, failing, inside, make_job

ANSI = re.compile(r"\x1b\[[0-9;]*m")
HEADS = {
    "plain": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ "),
    "rich": re.compile(r"\d\d:\d\d:\d\d [A-Z]+ "),
    "json": re.compile(r'\{"schema": "nuvom\.log/1", "ts": "'),
    "logfmt": re.compile(r"ts=\d{4}-"),
}
JOB = Job(make_job())
OF_JOB = {
    "job_id": "0198f000-0000-7000-8000-000000000001",
    "task": "tasks.add",
    "queue": "default",
    "attempt": 1,
    "lease_epoch": 3,
    "worker": "000000aa",
    "lane": "thread",
    "pid": os.getpid(),
    "host": "host",
}
OF_WORKER = {name: OF_JOB[name] for name in ("worker", "pid", "host")}


def written(fmt: str, name: str = "app", *, worker: str | None = None, **fields: Any) -> str:
    values = {"name": name, "msg": "hello", "levelno": 20, "levelname": "INFO", "created": 0.0}
    record = logging.makeLogRecord({**values, **fields})
    JobFields(worker, "host").filter(record)
    return make_format(fmt, io.StringIO()).format(record)


def found(name: str = "app", **fields: Any) -> dict[str, Any]:
    """Return what the JSON of a record holds besides the keys that all have."""
    line: dict[str, Any] = json.loads(written("json", name, **fields))
    return {key: value for key, value in line.items() if key not in ("schema", "ts", "level")}


# ---- fields ---------------------------------------------------------------------------------


def test_a_record_has_the_fields_of_its_job_or_worker() -> None:
    plain = {"logger": "app", "event": "log", "msg": "hello"}
    assert plain == found()
    assert plain | OF_WORKER == found(worker=WORKER)
    with inside(JOB):
        assert plain | OF_JOB == found()


def test_fields_are_attributes_that_a_format_of_the_users_may_name() -> None:
    records = [logging.makeLogRecord({"name": "app"}) for _ in range(2)]
    JobFields().filter(records[0])
    with inside(JOB):
        JobFields().filter(records[1])
    shown = [logging.Formatter("%(job_id)s %(lane)s").format(record) for record in records]
    assert ["None None", f"{OF_JOB['job_id']} thread"] == shown


def test_an_extra_of_the_users_takes_the_place_of_no_field_and_secrets_in_it_are_masked() -> None:
    extra = {"job_id": "forged", "event": "job.finished", "traceback": "forged"}
    with inside(JOB):
        shown = found(**extra, user={"api_key": "CANARY", "name": "x"})
    assert (OF_JOB["job_id"], "log") == (shown["job_id"], shown["event"])
    assert {"user": {"api_key": "***", "name": "x"}} == shown["extra"]
    assert "traceback" not in shown
    assert "log" == found("nuvomish", event="a.b")["event"]


def test_an_event_about_another_job_is_not_given_the_running_one() -> None:
    with inside(JOB):
        shown = found("nuvom.worker", event="job.enqueued", job_id="other", task="t", worker=None)
    assert ("job.enqueued", "other", "t") == tuple(
        shown[key] for key in ("event", "job_id", "task")
    )
    assert "attempt" not in shown
    assert "3" == str(found("nuvom.worker", event="worker.stopped", jobs=3)["jobs"])


def test_a_tracer_tells_the_place_of_records_until_it_ends() -> None:
    def place_of(job_id: str | None) -> TracePlace | None:
        return TracePlace("ab", "cd") if job_id else None

    end = add_tracer(place_of)
    own = {"name": "nuvom.worker", "event": "job.finished", "job_id": "7"}
    shown = found(**own)
    assert ("ab", "cd") == (shown["trace_id"], shown["span_id"])
    assert "trace_id" not in found(job_id="7")  # a user's, who may say what they like
    assert "ef" == found(**own, trace_id="ef")["trace_id"]
    end()
    end()
    assert "trace_id" not in found(**own)


def test_no_job_sees_the_fields_of_another_on_one_event_loop() -> None:
    async def run(number: int) -> set[str]:
        with inside(Job(make_job(f"job-{number}"), lane="async")):
            ids = set()
            for _ in range(20):
                await asyncio.sleep(0)
                ids.add(found()["job_id"])
            return ids

    async def run_all() -> list[set[str]]:
        return await asyncio.gather(*(run(number) for number in range(10)))

    assert [{f"job-{number}"} for number in range(10)] == asyncio.run(run_all())


def test_a_traceback_has_no_locals_no_passwords_and_only_the_innermost_frames() -> None:
    def down(depth: int) -> None:
        local = "CAN" + "ARY"
        if not depth:
            raise ValueError("password=" + local)
        down(depth - 1)

    try:
        down(500)
    except ValueError:
        text = found(exc_info=sys.exc_info())["traceback"]
    assert text.startswith("Traceback (most recent call last):")
    assert "CANARY" not in text
    assert text.count("down(depth - 1)") < 60


def test_the_traceback_of_an_event_goes_before_that_of_an_exception() -> None:
    error: dict[str, Any] = {"exc_info": failing(ValueError("bad")), "event": "x.y"}
    assert "stored" == found("nuvom", **error, traceback="stored\n")["traceback"]
    assert "here" == found(stack_info="here")["traceback"]
    assert "traceback" not in found(exc_info=(None, None, None))


# ---- formats --------------------------------------------------------------------------------


def test_plain_line_has_time_level_logger_text_and_fields() -> None:
    with inside(JOB):
        line = written("plain", created=1_785_587_696.9996)
    assert (
        "2026-08-01T12:34:57.000Z INFO     app: hello  "
        "job_id=0198f000-0000-7000-8000-000000000001 task=tasks.add queue=default attempt=1 "
        "worker=000000aa lane=thread"
    ) == line


def test_json_line_is_the_contract() -> None:
    """A key that goes, is renamed or changes its type needs a new ``nuvom.log`` number."""
    fields: dict[str, Any] = {
        "event": "job.finished",
        "outcome": "failure",
        "duration_s": 0.5,
        "wait_s": 1.25,
        "error_type": "ValueError",
        "error_fp": "ab12",
        "trace_id": "0af7",
        "span_id": "b7ad",
        "traceback": "Traceback",
    }
    with inside(JOB):
        line = json.loads(written("json", "nuvom.worker", **fields))
    head = {"schema": "nuvom.log/1", "ts": "1970-01-01T00:00:00.000Z", "level": "INFO"}
    assert {**head, "logger": "nuvom.worker", "msg": "hello", **OF_JOB, **fields} == line


def test_json_writes_values_that_it_does_not_know_as_text() -> None:
    extra = found(msg="größer\n", where={1}, size=float("inf"), note={"a": [1, None]})["extra"]
    assert {"where": "{1}", "size": "inf", "note": {"a": [1, None]}} == extra


def test_logfmt_quotes_what_needs_quotes() -> None:
    extra: dict[str, Any] = {"note": "", "user": {"name": "x y", "id": 1.5}, "odd key=": 1}
    line = written("logfmt", msg='say "hi"\\', none={}, **extra)
    assert (
        'ts=1970-01-01T00:00:00.000Z level=INFO logger=app event=log msg="say \\"hi\\"\\\\" '
        'extra.note="" extra.user.name="x y" extra.user.id=1.5 extra.odd_key_=1'
    ) == line


def test_rich_line_leaves_out_what_is_usual_or_in_its_text() -> None:
    with inside(JOB):
        line = written("rich")
    assert "hello  job_id=00000001 task=tasks.add" == line.split("     ", 1)[1]
    with inside(Job(make_job(queue="mail", attempt=2), lane="async")):
        line = written("rich", msg="tasks.add succeeded in 5 ms")
    fields = "job_id=00000001 queue=mail attempt=2 lane=async"
    assert line.endswith(f" tasks.add succeeded in 5 ms  {fields}")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def rich(*, color: bool | None = True, **fields: object) -> str:
    return make_format(None, Terminal(), color=color).format(
        logging.makeLogRecord({"name": "app", **fields})
    )


def test_rich_is_for_terminals_and_colours_levels_and_tracebacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "\x1b[33mWARNING" in rich(levelname="WARNING")
    assert "NOTICE" in rich(levelname="NOTICE")
    coloured = rich(msg="oops", exc_info=failing(ValueError("bad")))
    lines = ANSI.sub("", coloured).split("\n")
    assert "    | Traceback (most recent call last):" == lines[1]
    assert "    | ValueError: bad" == lines[-1]
    assert ANSI.search(coloured.split("\n")[-1])
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert ANSI.search(rich(color=None))
    assert not ANSI.search(rich(color=False))
    monkeypatch.setattr("rich.console.detect_legacy_windows", lambda: True)
    assert not ANSI.search(rich())
    for stream in (io.StringIO(), None):
        assert "Plain" in type(make_format(None, stream)).__name__  # type: ignore[arg-type]  # a program without a console


# ---- nothing can be forged ------------------------------------------------------------------


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("text", FORGERIES)
def test_hostile_text_stays_on_its_line_wherever_it_stands(fmt: str, text: str) -> None:
    own = {"event": "job.finished", "job_id": text, "task": text, "error_type": text}
    for fields in (
        {"msg": "%s", "args": (text,)},
        {"name": text},
        {"user": {text: text}},
        {"name": "nuvom.worker", "msg": text, **own},
    ):
        line = written(fmt, **fields)
        assert [line] == line.splitlines()
        assert all(char.isprintable() for char in line)
        assert HEADS[fmt].match(line)


@pytest.mark.parametrize("text", FORGERIES)
def test_hostile_text_cannot_add_a_field(text: str) -> None:
    assert "log" == found(msg=text, note=text)["event"]
    without_texts = re.sub(r'"(\\.|[^"\\])*"', "TEXT", written("logfmt", msg=text, note=text))
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
        assert [] == rest or fmt in ("plain", "rich")


@given(st.text(), st.sampled_from(FORMATS))
def test_any_text_at_all_stays_on_its_line(text: str, fmt: str) -> None:
    assert 1 == len(written(fmt, msg=text, note=text, name=f"app.{text}").splitlines())


@pytest.mark.parametrize("fmt", FORMATS)
def test_passwords_are_masked_in_our_events_and_the_users_text_is_left_alone(fmt: str) -> None:
    own = written(fmt, "nuvom.worker", msg="failed: password=CANARY", event="job.finished")
    assert "CANARY" not in own
    assert "tokens: 5" in written(fmt, msg="tokens: 5")


def test_very_long_text_is_cut() -> None:
    assert len(written("json", msg="x" * 1_000_000)) < 70_000
