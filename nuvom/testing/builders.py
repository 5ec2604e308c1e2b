"""Jobs, schedules and settlements for tests, with sensible defaults for everything not given."""

from __future__ import annotations

from typing import Any

import msgspec

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.ids import new_id
from nuvom.core.outcome import Settlement
from nuvom.core.record import JobRecord, JobStatus, StoredError
from nuvom.scheduler.record import ScheduleRecord, ScheduleRule
from nuvom.serialization.msgpack_codec import MsgpackCodec

_CODEC = MsgpackCodec()
_OUTCOMES = {
    JobStatus.SUCCESS: "success",
    JobStatus.FAILED: "failure",
    JobStatus.PENDING: "retry",
    JobStatus.CANCELLED: "cancelled",
}


def make_job(func_name: str = "tests.probe", *args: Any, **fields: Any) -> JobRecord:
    """Return the record of a call of ``func_name(*args)``, as the dispatcher would build it.

    Args:
        fields: Fields of the record; ``kwargs`` is a plain dict of the call's arguments.
    """
    packed_args, packed_kwargs = _CODEC.encode_call(args, fields.pop("kwargs", {}))
    given: dict[str, Any] = {
        "id": new_id(),
        "args": msgspec.Raw(packed_args),
        "kwargs": msgspec.Raw(packed_kwargs),
        "created_at": SYSTEM_CLOCK.now(),
        **fields,
    }
    return JobRecord(func_name=func_name, **given)


def make_schedule(name: str = "probe", **fields: Any) -> ScheduleRecord:
    """Return an hourly schedule of ``tests.probe`` as a store keeps it, at its first revision.

    Args:
        fields: Fields of the record that differ from the defaults.
    """
    given: dict[str, Any] = {"id": new_id(), "rule": ScheduleRule(interval=3600.0), "revision": 1}
    job = fields.pop("job", None) or make_job().replace(id="", created_at=0.0)
    return ScheduleRecord(name=name, job=job, **{**given, **fields})


def make_settlement(
    record: JobRecord,
    status: JobStatus = JobStatus.SUCCESS,
    value: object = None,
    **fields: Any,
) -> Settlement:
    """Return a settlement that closes the attempt of a claimed job.

    Args:
        value: What the task returned; encoded for a SUCCESS.
        fields: Fields of the settlement that differ from the defaults.
    """
    now = SYSTEM_CLOCK.now()
    given: dict[str, Any] = {"started_at": now, "finished_at": now}
    given["outcome"] = _OUTCOMES.get(status, "success")
    if status is JobStatus.SUCCESS:
        given["result"] = _CODEC.encode_value(value)
    elif status is JobStatus.FAILED:
        given["error"] = StoredError("ValueError", "no", fingerprint="ValueError:probe")
    elif status is JobStatus.PARKED:
        given["keeps_attempt"] = False
    return Settlement(record=record, status=status, **{**given, **fields})
