"""Records as text: each has the fields of its job, is one line, and cannot forge another."""

from __future__ import annotations

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

from nuvom.logs.formats import JobFields, make_format

from .logging_cases import FORGERIES, FORMATS, Job, failing, inside, make_job

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


# ---- formats --------------------------------------------------------------------------------


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


def test_rich_is_for_terminals_and_colours_levels_and_tracebacks() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    values = {"name": "app", "levelname": "WARNING", "exc_info": failing(ValueError("bad"))}
    text = make_format(None, Terminal(), color=True).format(logging.makeLogRecord(values))
    assert "\x1b[33mWARNING" in text
    assert ANSI.search(text.split("\n")[-1])
    assert "    | ValueError: bad" == ANSI.sub("", text).split("\n")[-1]


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
