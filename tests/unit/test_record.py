"""The words of a stored job, and its wire form."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuvom.core.record import (
    EMPTY_KWARGS,
    JobRecord,
    JobStatus,
    RetryPolicy,
)
from nuvom.errors import PayloadError

FULL = JobRecord(
    "id",
    "tests.probe",
    msgspec.Raw(b"\x91\x01"),
    msgspec.Raw(b"\x81\xa1y\x02"),
    queue="mail",
    priority=-3,
    created_at=1.5,
    run_at=2.5,
    max_retries=3,
    retry=RetryPolicy(1.0, "linear", 10.0, jitter=False),
    timeout_secs=0.5,
    timeout_policy="retry",
    store_result=False,
    result_ttl_secs=60.0,
    unique_key="k",
    unique_for=5.0,
    tags=("a", "b"),
    metadata={"a": [1, None, {"b": True}]},
    headers={"traceparent": "00-1"},
    retried_from="other",
    status=JobStatus.RUNNING,
    attempt=2,
    deliveries=1,
    lease_epoch=7,
    suspect=True,
    ref=9,
)


def test_record_survives_its_wire_form() -> None:
    assert FULL == JobRecord.decode(FULL.encode())
    assert JobRecord("id", "f") == JobRecord.decode(memoryview(JobRecord("id", "f").encode()))


def test_records_that_lie_end_to_end_are_read_in_one_step() -> None:
    records = [FULL, JobRecord("id", "f"), FULL]
    data = b"".join(record.encode() for record in records)
    assert records == JobRecord.decode_all(data, 3)
    for bad, count in ((data, 2), (data, 4), (data[:-1], 3), (b"\xc1" + data[1:], 3)):
        with pytest.raises(PayloadError):
            JobRecord.decode_all(bad, count)


def test_record_of_an_older_version_gets_the_defaults() -> None:
    old = msgspec.msgpack.encode(["id", "f", [], {}, "mail"])
    assert JobRecord("id", "f", msgspec.Raw(b"\x90"), EMPTY_KWARGS, "mail") == JobRecord.decode(old)


def test_record_of_a_newer_version_can_be_read() -> None:
    fields = msgspec.msgpack.decode(FULL.encode())
    assert FULL == JobRecord.decode(msgspec.msgpack.encode([*fields, "new", {"field": 1}]))


@given(st.binary(max_size=60))
def test_damaged_bytes_are_a_payload_error(data: bytes) -> None:
    with pytest.raises(PayloadError):
        JobRecord.decode(data)


# ---- as plain data --------------------------------------------------------------------------


@pytest.mark.parametrize("record", [FULL, JobRecord("id", "f")])
def test_record_survives_json(record: JobRecord) -> None:
    assert record == JobRecord.from_dict(json.loads(json.dumps(record.to_dict())))


@pytest.mark.parametrize(
    "changes",
    [
        {"id": None},
        {"args": "no base64!"},
        {"args": 5},
        {"priority": "high"},
        {"priority": 2**70},
        {"status": "LOST"},
        {"retry": {"delay": 5}},
        {"retry": 5},
        {"tags": 5},
        {"tags": [5]},
        {"metadata": {"a": object()}},
        {"metadata": []},
        {"queue": "\ud800"},
    ],
)
def test_plain_data_that_does_not_fit_is_a_payload_error(changes: dict[str, Any]) -> None:
    with pytest.raises(PayloadError):
        JobRecord.from_dict({**FULL.to_dict(), **changes})


@pytest.mark.parametrize(
    ("fields", "has_expired"),
    [
        ({}, True),
        ({"expires_at": None}, False),
        ({"expires_at": 101.0}, False),
        ({"attempt": 2}, False),  # it has run before, and is retried
        ({"deliveries": 2}, False),  # a worker died while it ran
        ({"run_at": 100.0}, False),  # somebody has retried it since
    ],
)
def test_only_a_job_that_has_never_started_expires(
    fields: dict[str, Any], *, has_expired: bool
) -> None:
    first = {"attempt": 1, "deliveries": 1, "lease_epoch": 1, "expires_at": 100.0}
    assert has_expired == JobRecord("id", "task", **{**first, **fields}).has_expired(100.0)
