"""Between rows of the table ``jobs`` and the words of the engine."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from nuvom._sqlite.schema import RUNNING, STATUS
from nuvom.core.record import JobRecord, JobSnapshot, JobStatus, StoredError
from nuvom.errors import PayloadError

# What a snapshot is made of, in this order. ``payloads`` is joined for large records.
SNAPSHOT_COLUMNS = (
    "j.seq, j.status, j.run_at, j.attempt, j.deliveries, j.lease_epoch, j.suspect, j.owner, "
    "j.started_at, j.finished_at, j.progress, coalesce(j.record, p.record), j.error, "
    "j.id, j.task, j.queue, j.priority, j.created_at"
)
SNAPSHOT_FROM = "FROM jobs j LEFT JOIN payloads p ON p.seq = j.seq"

_ERROR = msgspec.msgpack.Decoder(StoredError)
_encode_error = msgspec.msgpack.Encoder().encode
_RUNNING = JobStatus.RUNNING  # a member of an enum takes long to look up in Python 3.11
set_field = msgspec.structs.force_setattr


def encode_error(error: StoredError | None) -> bytes | None:
    """Return the stored form of an error."""
    return None if error is None else _encode_error(error)


def decode_error(data: bytes | None) -> StoredError | None:
    """Return the error that ``encode_error`` stored."""
    return None if data is None else _ERROR.decode(data)


def become_claimed(
    record: JobRecord,
    seq: int,
    counts: tuple[int, int, int] = (1, 1, 1),
    *,
    is_suspect: bool = False,
) -> None:
    """Bring a record that was just decoded to the state of its row.

    Args:
        counts: lease_epoch, attempt and deliveries, as they are in the row.

    A record is immutable to everybody else; nobody has seen this one yet, and setting five
    fields costs a fifth of making a copy.
    """
    epoch, attempt, deliveries = counts
    set_field(record, "ref", seq)
    set_field(record, "lease_epoch", epoch)
    set_field(record, "attempt", attempt)
    set_field(record, "deliveries", deliveries)
    set_field(record, "status", _RUNNING)
    if is_suspect:
        set_field(record, "suspect", True)  # the field's value


def snapshot(row: tuple[Any, ...], result: bytes | None = None) -> JobSnapshot:
    """Return the snapshot of a row of ``SNAPSHOT_COLUMNS``.

    Raises: PayloadError: it has what the table would never accept; the file is damaged.
    """
    (seq, code, run_at, attempt, deliveries, epoch, suspect, owner, started, finished) = row[:10]
    progress, data, error = row[10:13]
    if code == RUNNING:
        started = finished = None  # the columns tell of the attempt before
    else:
        progress = None
    if not isinstance(code, int) or not 0 <= code < len(STATUS):
        raise PayloadError(f"row {seq} of the jobs has the status {code!r}: run `nuvom doctor`")
    record = _record_of(data, row[13:18])
    set_field(record, "ref", seq)
    set_field(record, "status", STATUS[code])
    set_field(record, "run_at", run_at)
    set_field(record, "attempt", attempt)
    set_field(record, "deliveries", deliveries)
    set_field(record, "lease_epoch", epoch)
    set_field(record, "suspect", bool(suspect))
    return JobSnapshot(
        record=record,
        result=result,
        error=decode_error(error),
        worker=owner,
        started_at=started,
        finished_at=finished,
        progress=None if progress is None else tuple(json.loads(progress)),
    )


def _record_of(data: bytes | None, columns: tuple[Any, ...]) -> JobRecord:
    """Return the stored record; where it is damaged, what the row itself says of the job."""
    try:
        return JobRecord.decode(data or b"")
    except PayloadError:
        job_id, task, queue, priority, created_at = columns
        return JobRecord(job_id, task, queue=queue, priority=priority, created_at=created_at)
