"""What the table leaves on disk of a job: large records, results, tracebacks, attempts.

Called inside a turn, so that nobody drops what is read. Where something is damaged it is set
aside, and the job goes on without it; only a job whose record is damaged cannot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nuvom._file.frames import CHANGES, JOB, WHOLE
from nuvom._file.rows import Change, Whole, current, decode_changes, decode_whole, encode
from nuvom.errors import CorruptRecord
from nuvom.record import Attempt, JobSnapshot, JobStatus, StoredError

if TYPE_CHECKING:
    from nuvom._file.log import Log
    from nuvom._file.rows import Row


def record_data(log: Log, row: Row) -> bytes:
    """Return the record as enqueued. Raises: CorruptRecord."""
    if row.data is not None:
        return row.data
    kind, body = log.read(row.at, row.id)
    return body if kind == JOB else decode_whole(body).record


def snapshot(log: Log, row: Row, *, is_whole: bool = True) -> JobSnapshot:
    """Return all that is known of a job. Raises: CorruptRecord.

    Args:
        is_whole: Read the result and the traceback, too.
    """
    state = row.state
    return JobSnapshot(
        record=current(row, record_data(log, row)),
        result=result(log, row) if is_whole and state.status is JobStatus.SUCCESS else None,
        error=error(log, row) if is_whole else row.error,
        worker=state.owner,
        started_at=state.started_at,
        finished_at=state.finished_at,
        progress=row.progress,
    )


def result(log: Log, row: Row) -> bytes | None:
    """Return the encoded result, or None."""
    found = _state_at(log, row, row.result_at)
    return None if found is None else found.result


def error(log: Log, row: Row) -> StoredError | None:
    """Return why the last attempt failed, or None."""
    found = _state_at(log, row, row.error_at)
    return row.error if found is None or found.error is None else found.error


def attempts(log: Log, row: Row) -> list[Attempt]:
    """Return the closed attempts, oldest first."""
    found: list[Attempt] = []
    for at in row.history:
        entry = _entry_at(log, row, at)
        if isinstance(entry, Whole):
            found += entry.attempts
        elif entry is not None and entry.closed is not None:
            found.append(_attempt(entry))
    return found


def whole(log: Log, row: Row) -> bytes:
    """Return all about a job as the body of one entry. Raises: CorruptRecord."""
    state = msgspec.structs.replace(
        row.state, closed=None, cleared=False, error=error(log, row), result=result(log, row)
    )
    return encode(Whole(row.seq, record_data(log, row), state, row.progress, attempts(log, row)))


def _state_at(log: Log, row: Row, at: int) -> Change | None:
    entry = _entry_at(log, row, at) if at else None
    return entry.state if isinstance(entry, Whole) else entry


def _entry_at(log: Log, row: Row, at: int) -> Whole | Change | None:
    try:
        kind, body = log.read(at, row.id)
    except CorruptRecord:  # the log's readers set it aside
        return None
    if kind == WHOLE:
        return decode_whole(body)
    if kind == CHANGES:
        return next((change for change in decode_changes(body) if change.id == row.id), None)
    return None


def _attempt(change: Change) -> Attempt:
    number, outcome, epoch = change.closed or (0, "", 0)
    return Attempt(
        number=number,
        outcome=outcome,
        lease_epoch=epoch,
        worker=change.owner,
        started_at=change.started_at,
        finished_at=change.finished_at,
        error=change.error,
    )
