"""The names of task states, as in ``celery.states``."""

from __future__ import annotations

from nuvom.core.record import JobSnapshot, JobStatus

PENDING = "PENDING"
RECEIVED = "RECEIVED"
STARTED = "STARTED"
SUCCESS = "SUCCESS"
FAILURE = "FAILURE"
REVOKED = "REVOKED"
REJECTED = "REJECTED"
RETRY = "RETRY"
IGNORED = "IGNORED"

READY_STATES = frozenset({SUCCESS, FAILURE, REVOKED})
UNREADY_STATES = frozenset({PENDING, RECEIVED, STARTED, REJECTED, RETRY})
EXCEPTION_STATES = frozenset({RETRY, FAILURE, REVOKED})
PROPAGATE_STATES = frozenset({FAILURE, REVOKED})
ALL_STATES = READY_STATES | UNREADY_STATES | EXCEPTION_STATES

_OF_STATUS = {
    JobStatus.PENDING: PENDING,
    JobStatus.PARKED: PENDING,
    JobStatus.RUNNING: STARTED,
    JobStatus.SUCCESS: SUCCESS,
    JobStatus.FAILED: FAILURE,
    JobStatus.DEAD: FAILURE,
    JobStatus.CANCELLED: REVOKED,
}


def state_of(snapshot: JobSnapshot) -> str:
    """Return the state of a job; one that waits for another attempt is in RETRY."""
    is_between = snapshot.status is JobStatus.PENDING and snapshot.record.attempt > 0
    return RETRY if is_between and snapshot.error is not None else _OF_STATUS[snapshot.status]
