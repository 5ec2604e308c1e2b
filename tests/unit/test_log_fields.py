"""The job that a log record was written in, and the fields that it shows."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import Any

import pytest

from nuvom.logs.formats import (
    JobFields,
    TracePlace,
    add_tracer,
    event_of,
    fields_of,
    is_own,
    traceback_of,
)

from .logging_cases import WORKER, Job, failing, inside, make_job


def record_of(name: str = "app", msg: str = "hello", **extra: Any) -> logging.LogRecord:
    return logging.makeLogRecord({"name": name, "msg": msg, **extra})


def seen(record: logging.LogRecord, worker: str | None = None) -> dict[str, object]:
    assert JobFields(worker, "host").filter(record)
    return fields_of(record)


def test_record_inside_a_job_has_its_fields() -> None:
    with inside(Job(make_job(queue="mail"), lane="async")):
        fields = seen(record_of())

    assert {
        "job_id": "0198f000-0000-7000-8000-000000000001",
        "task": "tasks.add",
        "queue": "mail",
        "attempt": 1,
        "lease_epoch": 3,
        "worker": "000000aa",
        "lane": "async",
        "pid": os.getpid(),
        "host": "host",
    } == fields


def test_record_outside_a_job_has_those_of_the_worker_at_most() -> None:
    assert {} == seen(record_of())
    assert {"worker": "000000aa", "pid": os.getpid(), "host": "host"} == seen(record_of(), WORKER)


def test_fields_are_attributes_too_so_that_a_format_of_the_users_may_name_them() -> None:
    record = record_of()
    JobFields().filter(record)
    assert "None None" == logging.Formatter("%(job_id)s %(worker)s").format(record)

    record = record_of()
    with inside(Job(make_job())):
        JobFields().filter(record)
    assert "tasks.add 1" == logging.Formatter("%(task)s %(attempt)d").format(record)


def test_users_extra_cannot_take_the_place_of_a_field() -> None:
    with inside(Job(make_job())):
        fields = seen(record_of(job_id="forged", event="job.finished", note="x"))

    assert "0198f000-0000-7000-8000-000000000001" == fields["job_id"]
    assert {"note": "x"} == fields["extra"]


def test_users_extra_outside_a_job_stays_an_extra() -> None:
    record = record_of(job_id="mine", queue="mine")

    assert {"extra": {"job_id": "mine", "queue": "mine"}} == seen(record)
    assert "log" == event_of(record)


def test_own_event_about_another_job_is_not_given_the_running_one() -> None:
    with inside(Job(make_job())):
        record = record_of(
            "nuvom.worker", event="job.enqueued", job_id="other", task="t", worker=None
        )
        fields = seen(record)

    assert {"job_id": "other", "task": "t"} == fields
    assert "job.enqueued" == event_of(record)


def test_own_event_shows_its_fields_and_the_end_of_the_workers_id() -> None:
    record = record_of("nuvom.worker", event="worker.stopped", worker=WORKER, jobs=3)

    assert {"worker": "000000aa", "pid": os.getpid(), "host": "host", "jobs": 3} == seen(record)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (record_of("nuvom.x", event="a.b"), True),
        (record_of("nuvom", event="a.b"), True),
        (record_of("nuvom.x"), False),
        (record_of("nuvomish", event="a.b"), False),
        (record_of("app.nuvom", event="a.b"), False),
    ],
)
def test_own_events_are_those_of_our_loggers(record: logging.LogRecord, expected: object) -> None:
    assert expected is is_own(record)


def test_secrets_in_extras_are_masked() -> None:
    fields = seen(record_of(password="CANARY", user={"api_key": "CANARY", "name": "x"}))

    assert {"password": "***", "user": {"api_key": "***", "name": "x"}} == fields["extra"]


def test_trace_and_span_stand_beside_the_fields_of_every_record() -> None:
    assert {"trace_id": "ab", "span_id": "cd"} == seen(record_of(trace_id="ab", span_id="cd"))


def test_a_tracer_tells_the_place_of_records_until_it_ends() -> None:
    asked: list[str | None] = []

    def place_of(job_id: str | None) -> TracePlace | None:
        asked.append(job_id)
        return TracePlace("ab", "cd") if job_id else None

    end = add_tracer(place_of)
    own = {"name": "nuvom.worker", "event": "job.finished", "job_id": "7"}
    told = seen(record_of(**own))
    assert ("ab", "cd") == (told["trace_id"], told["span_id"])
    assert "trace_id" not in seen(record_of(job_id="7"))  # a user's, who may say what they like
    assert "ef" == seen(record_of(**own, trace_id="ef"))["trace_id"]
    end()
    end()
    assert "trace_id" not in seen(record_of(**own))
    assert ["7", None] == asked


def test_fields_that_were_set_in_another_thread_are_kept() -> None:
    record = record_of()
    with inside(Job(make_job())):
        JobFields().filter(record)
    with inside(Job(make_job("other"))):
        fields = seen(record)

    assert "0198f000-0000-7000-8000-000000000001" == fields["job_id"]


def test_formats_do_without_the_filter() -> None:
    assert {} == fields_of(record_of())


def test_no_job_sees_the_fields_of_another_on_one_event_loop() -> None:
    async def run(number: int) -> list[object]:
        with inside(Job(make_job(f"job-{number}"), lane="async")):
            found = []
            for _ in range(20):
                await asyncio.sleep(0)
                found.append(seen(record_of())["job_id"])
            return found

    async def run_all() -> list[list[object]]:
        return await asyncio.gather(*(run(number) for number in range(10)))

    for number, ids in enumerate(asyncio.run(run_all())):
        assert {f"job-{number}"} == set(ids)


def error_record(error: BaseException, **extra: Any) -> logging.LogRecord:
    return record_of(exc_info=failing(error), **extra)


def test_traceback_is_that_of_the_exception_without_locals() -> None:
    local_canary = "CANARY"
    text = traceback_of(error_record(ValueError("bad")))

    assert text.startswith("Traceback (most recent call last):")
    assert text.endswith("ValueError: bad")
    assert local_canary not in text


def test_traceback_of_an_event_goes_before_that_of_an_exception() -> None:
    record = error_record(ValueError("bad"), event="x.y", traceback="stored\n")
    record.name = "nuvom"

    assert "stored" == traceback_of(record)


def test_users_extra_is_no_traceback() -> None:
    assert "" == traceback_of(record_of(traceback="forged"))
    assert "" == traceback_of(record_of("nuvom", event="x.y", traceback=None))
    assert "" == traceback_of(record_of(exc_info=(None, None, None)))


def test_passwords_in_an_exceptions_text_are_masked() -> None:
    assert "CANARY" not in traceback_of(error_record(ValueError("password=" + "CANARY")))


def test_deep_traceback_keeps_the_innermost_frames() -> None:
    def down(depth: int) -> None:
        if depth:
            down(depth - 1)
        else:
            raise ValueError("at the bottom")

    try:
        down(500)
    except ValueError:
        text = traceback_of(record_of(exc_info=sys.exc_info()))

    assert text.endswith("ValueError: at the bottom")
    assert text.count("down(depth - 1)") < 60


def test_stack_that_was_asked_for_follows() -> None:
    assert "Stack (most recent call last):\n  here" == traceback_of(
        record_of(stack_info="Stack (most recent call last):\n  here")
    )
