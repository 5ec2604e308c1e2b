"""What the table leaves on disk of a job: large records, results, tracebacks, attempts.

Called inside a turn, so that nobody drops what is read. A damaged traceback or attempt is left
out; a damaged result or record is an error, since nobody may take it for none.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from nuvom._file.frames import JOB, WHOLE
from nuvom._file.rows import Change, Whole, current, decode_changes, decode_whole, encode
from nuvom.core.record import Attempt, JobSnapshot, JobStatus, StoredError
from nuvom.errors import CorruptRecord

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
    """Return the encoded result, or None. Raises: CorruptRecord."""
    return _state_at(log, row, row.result_at).result if row.result_at else None


def error(log: Log, row: Row) -> StoredError | None:
    """Return why the last attempt failed, or None; where it is damaged, without traceback."""
    with suppress(CorruptRecord):
        return _state_at(log, row, row.error_at).error if row.error_at else None
    return row.error


def attempts(log: Log, row: Row) -> list[Attempt]:
    """Return the closed attempts, oldest first; damaged ones are left out."""
    found: list[Attempt] = []
    for at in row.history:
        with suppress(CorruptRecord):
            entry = _entry_at(log, row, at)
            found += entry.attempts if isinstance(entry, Whole) else [_attempt(entry)]
    return found


def whole(log: Log, row: Row) -> bytes:
    """Return all about a job as the body of one entry. Raises: CorruptRecord."""
    kept = None
    with suppress(CorruptRecord):  # the job itself goes on without
        kept = result(log, row)
    state = msgspec.structs.replace(row.state, cleared=False, error=error(log, row), result=kept)
    return encode(Whole(row.seq, record_data(log, row), state, row.progress, attempts(log, row)))


def _state_at(log: Log, row: Row, at: int) -> Change:
    entry = _entry_at(log, row, at)
    return entry.state if isinstance(entry, Whole) else entry


def _entry_at(log: Log, row: Row, at: int) -> Whole | Change:
    kind, body = log.read(at, row.id)
    if kind == WHOLE:
        return decode_whole(body)
    return next(change for change in decode_changes(body) if change.id == row.id)


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
