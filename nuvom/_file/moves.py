"""What a delivery does to a job, as the ``Change`` that states it. Pure: no clock, no store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nuvom._file.rows import Change
from nuvom.core.record import JobStatus

if TYPE_CHECKING:
    from nuvom._file.rows import Row
    from nuvom.core.outcome import Settlement
    from nuvom.core.record import JobRecord, StoredError

_PENDING, _RUNNING, _PARKED = JobStatus.PENDING, JobStatus.RUNNING, JobStatus.PARKED


def claimed(row: Row, owner: str, lease_until: float) -> Change:
    """Return the state of a job that ``owner`` claims."""
    state = row.state
    return Change(
        row.id,
        _RUNNING,
        state.epoch + 1,
        state.attempt + 1,
        state.deliveries + 1,
        state.suspect,
        state.run_at,
        owner,
        lease_until,
        state.settled_epoch,
    )


def settled(row: Row, one: Settlement, now: float) -> Change:
    """Return the state of a job whose attempt is closed as ``one`` says."""
    state = row.state
    # PARKED means that nobody knew the task: no user code ran, so that no attempt was made.
    closed = None if one.status is _PARKED else (state.attempt, one.outcome, state.epoch)
    return Change(
        row.id,
        one.status,
        state.epoch,
        state.attempt if one.keeps_attempt else state.attempt - 1,
        state.deliveries - 1,
        run_at=one.run_at if one.status is _PENDING else state.run_at,
        owner=state.owner,
        settled_epoch=state.epoch,
        started_at=one.started_at or None,
        finished_at=now if one.status is _PARKED else one.finished_at or now,
        closed=closed,
        error=one.error,
        result=one.result,
        cleared=True,
    )


def released(row: Row, now: float, *, started: bool) -> Change:
    """Return the state of a job that is given back."""
    state = row.state
    return _changed(
        row,
        status=_PENDING,
        attempt=state.attempt - 1,
        deliveries=state.deliveries - 1,
        finished_at=now if started else state.finished_at,
        closed=(state.attempt, "released", state.epoch) if started else None,
    )


def recovered(row: Row, after: JobRecord, now: float, error: StoredError | None) -> Change:
    """Return the state of a job that was taken back from a worker.

    Args:
        after: What ``nuvom.core.recovery.recovered`` made of it.
        error: Set when it had started.
    """
    state = row.state
    return _changed(
        row,
        status=after.status,
        epoch=after.lease_epoch,
        attempt=after.attempt,
        deliveries=after.deliveries,
        suspect=after.suspect,
        run_at=after.run_at,
        finished_at=now,
        closed=None if error is None else (state.attempt, "lost", state.epoch),
        error=error,
    )


def given_up(row: Row, now: float, error: StoredError) -> Change:
    """Return the state of a PARKED job that waited too long."""
    return _changed(
        row, status=JobStatus.DEAD, epoch=row.state.epoch + 1, finished_at=now, error=error
    )


def cancelled(row: Row, now: float) -> Change:
    """Return the state of a job that is cancelled, whether it waits or runs."""
    state = row.state
    was_running = state.status is _RUNNING
    return _changed(
        row,
        status=JobStatus.CANCELLED,
        epoch=state.epoch + 1,
        suspect=False,
        finished_at=now,
        closed=(state.attempt, "cancelled", state.epoch) if was_running else None,
    )


def retried(row: Row) -> Change:
    """Return the state of an ended job that is to run again as if for the first time."""
    state = row.state
    return Change(row.id, epoch=state.epoch + 1, settled_epoch=state.settled_epoch, cleared=True)


def unparked(row: Row) -> Change:
    """Return the state of a PARKED job whose task is known now."""
    return _changed(row, status=_PENDING)


def _changed(row: Row, **fields: object) -> Change:
    return msgspec.structs.replace(row.state, **{"closed": None, "cleared": False, **fields})
