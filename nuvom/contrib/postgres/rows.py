"""Jobs as rows: what the columns are, and how a row becomes a record or a snapshot."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from nuvom.core.ids import valid_name
from nuvom.core.record import FINAL, Attempt, JobRecord, JobSnapshot, JobStatus, StoredError
from nuvom.core.views import AuditEntry, WorkerInfo
from nuvom.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nuvom.core.transitions import Change
    from nuvom.core.views import Rollup, Total

CODES = {
    JobStatus.PENDING: 0,
    JobStatus.RUNNING: 1,
    JobStatus.SUCCESS: 2,
    JobStatus.FAILED: 3,
    JobStatus.DEAD: 4,
    JobStatus.CANCELLED: 5,
    JobStatus.PARKED: 6,
}
STATUSES = {**{code: status for status, code in CODES.items()}, 7: JobStatus.PENDING}
STATUSES[8] = JobStatus.PENDING
ENDED = [CODES[status] for status in FINAL]
READY, SCHEDULED, SUSPECT = 0, 7, 8  # kinds of waiting jobs; 6 is PARKED

pack = msgspec.msgpack.Encoder().encode
unpack_error = msgspec.msgpack.Decoder(StoredError).decode
unpack_attempt = msgspec.msgpack.Decoder(Attempt).decode
unpack_worker = msgspec.msgpack.Decoder(WorkerInfo).decode
unpack_entry = msgspec.msgpack.Decoder(AuditEntry).decode


def escaped(text: Any) -> Any:
    """Return a text, or None, without the character that PostgreSQL cannot store."""
    return text and text.replace("\\", "\\\\").replace("\0", "\\0")


def unescaped(text: Any) -> Any:
    """Return what ``escaped`` was given."""
    return text and re.sub(r"\\(.)", lambda pair: "\0" if pair[1] == "0" else pair[1], text)


def job_values(job: JobRecord, most: int | None, now: float | None) -> tuple[Any, ...]:
    """Return the arguments of the server's ``enqueue``. Raises: InvalidId."""
    until = None if job.unique_for is None else job.created_at + job.unique_for
    return (
        valid_name("a job id", job.id),
        valid_name("a queue", job.queue),
        escaped(job.func_name),
        job.priority,
        job.created_at,
        job.run_at,
        job.result_ttl_secs,
        escaped(job.unique_key),
        until,
        job.encode(),
        most,
        now,
    )


def change_values(change: Change, now: float | None) -> tuple[Any, ...]:
    """Return the arguments of the server's ``change``."""
    before = change.before
    return (
        before.ref,
        before.lease_epoch,
        CODES[before.status],
        CODES[change.status],
        change.lease_epoch,
        change.attempt,
        change.deliveries,
        change.suspect,
        change.run_at,
        change.started_at,
        change.finished_at,
        change.result,
        pack(change.error) if change.error else None,
        change.error is UNSET,
        escaped(change.fingerprint),
        None if change.closed is None else pack(change.closed),
        change.settles,
        change.starts_anew,
        now,
    )


def counts(rows: Iterable[Total] | Iterable[Rollup]) -> str:
    """Return an argument of the server's ``add_counts``."""
    changed = [msgspec.structs.replace(one, task=escaped(one.task)) for one in rows]
    return msgspec.json.encode(changed).decode()


def running_record(row: tuple[Any, ...]) -> JobRecord:
    """Return the record of a row of ``take_lost``."""
    ref, record, *counters = row[:7]
    return _record(record, CODES[JobStatus.RUNNING], ref, counters)


def snapshot(row: tuple[Any, ...]) -> JobSnapshot:
    """Return the snapshot of a row of the view ``seen``."""
    data, kind, ref, *counters = row[4:12]
    owner, started_at, finished_at, progress, error, result = row[12:]
    claimed_at = None
    if kind == CODES[JobStatus.RUNNING]:
        claimed_at, started_at = started_at, None
    try:
        record = _record(data, kind, ref, counters)
    except PayloadError:
        damaged = JobRecord.of_damaged(row[1], unescaped(row[3]), queue=row[2])
        record = _changed(damaged, kind, ref, counters)
    return JobSnapshot(
        record=record,
        result=result,
        error=None if error is None else unpack_error(error),
        worker=owner,
        started_at=started_at,
        finished_at=finished_at,
        progress=None if progress is None else tuple(json.loads(progress)),
        claimed_at=claimed_at,
    )


def _record(data: bytes, kind: int, ref: int, counters: list[Any]) -> JobRecord:
    """Return a record as it was enqueued, but for what has changed since. Raises: PayloadError."""
    return _changed(JobRecord.decode(data), kind, ref, counters)


def _changed(record: JobRecord, kind: int, ref: int, counters: list[Any]) -> JobRecord:
    names = ("lease_epoch", "attempt", "deliveries", "suspect", "run_at")
    changed = dict(zip(names, counters, strict=True))
    return record.replace(ref=ref, status=STATUSES[kind], **changed)
