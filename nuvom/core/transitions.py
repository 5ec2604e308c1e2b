"""Every change of a job's status, as one pure function each: a record goes in, a ``Change`` out.

The table of counters in ``docs/guarantees.md`` describes this file. A store applies a change only
if the job is still as it was when the change was made, so no lock is needed between reading and
writing. Enqueue, claim and the plain success do not use a ``Change``: see ``StoreQueue``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from nuvom.core.record import FINAL, Attempt, JobRecord, JobSnapshot, JobStatus, StoredError
from nuvom.core.views import failure_group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuvom.core.outcome import Settlement

_PENDING, _RUNNING, _SUCCESS = JobStatus.PENDING, JobStatus.RUNNING, JobStatus.SUCCESS
_DEAD, _CANCELLED, _PARKED = JobStatus.DEAD, JobStatus.CANCELLED, JobStatus.PARKED
FAILURES = frozenset({JobStatus.FAILED, _DEAD})
WAITING = frozenset({_PENDING, _PARKED})
RETRYABLE = FINAL - {_SUCCESS}
RENAMABLE = RETRYABLE | {_PARKED}

HELD_UNTIL = 2.0**33
"""When a held copy would be due: in the year 2242, which no timer is too short for."""

_ELSEWHERE = "JobMoved"  # the error type of a job that lives in another store


class Change(Struct, frozen=True, kw_only=True, tag="change", omit_defaults=True, gc=False):
    """The new state of a job, applied only if the job still matches ``before``.

    A store compares ``id``, ``ref``, ``lease_epoch`` and ``status`` of ``before`` with its row.
    If all four match, it writes everything below in one step and clears the job's progress and
    lease; otherwise it writes nothing. A final job's unique key becomes free, unless
    ``unique_for`` holds it longer.

    Attributes:
        before: The job as claimed or as read.
        status, lease_epoch, attempt, deliveries, suspect, run_at: As in ``JobRecord``.
        started_at, finished_at: As in ``JobSnapshot``; for a PARKED job, when it was parked.
        result: The encoded result of a SUCCESS.
        error: Why the last attempt failed; UNSET keeps the error that the store has.
        closed: The attempt to add to the history; the store fills in the worker.
        children: Jobs to enqueue in the same step. They are never refused because their queue is
            full, since the finished attempt would run again. A child whose unique key is taken is
            dropped.
        settles: Whether this is the worker's report. Applying it again changes nothing but counts
            as applied, since the first answer may have been lost.
        starts_anew: Whether the job restarts as if just enqueued: no worker has had it, and it
            takes its unique key. If the key is not free, nothing changes.
    """

    before: JobRecord
    status: JobStatus
    lease_epoch: int
    attempt: int
    deliveries: int
    suspect: bool
    run_at: float
    started_at: float | None = None
    finished_at: float | None = None
    result: bytes | None = None
    error: StoredError | UnsetType | None = UNSET
    closed: Attempt | None = None
    children: tuple[JobRecord, ...] = ()
    settles: bool = False
    starts_anew: bool = False

    @property
    def after(self) -> JobRecord:
        """The record once the change is applied."""
        return replace(
            self.before,
            status=self.status,
            lease_epoch=self.lease_epoch,
            attempt=self.attempt,
            deliveries=self.deliveries,
            suspect=self.suspect,
            run_at=self.run_at,
        )

    @property
    def fingerprint(self) -> str | None:
        """The failure group that the job now belongs to, None unless it failed."""
        if self.status not in FAILURES:
            return None
        error = None if self.error is UNSET else self.error
        return failure_group(self.status, self.before.func_name, error)


class LostDelivery(NamedTuple):
    """A claimed job whose worker will never report on it.

    Attributes:
        record: As claimed.
        started: Whether user code had started, or may have.
    """

    record: JobRecord
    started: bool


# ---- deliveries ----------------------------------------------------------------------------


def claimed(record: JobRecord, ref: int) -> JobRecord:
    """Return a waiting job's record once it is leased. Stores may implement this themselves.

    Args:
        ref: The store's number of the row.
    """
    return replace(
        record,
        ref=ref,
        status=_RUNNING,
        lease_epoch=record.lease_epoch + 1,
        attempt=record.attempt + 1,
        deliveries=record.deliveries + 1,
    )


def settled(one: Settlement, now: float) -> Change:
    """Return the change for a job when its worker reports."""
    record, status = one.record, one.status
    is_parked = status is _PARKED
    has_run = status not in (_PARKED, _CANCELLED)  # else nobody knew the task, or it expired
    started_at, finished_at = one.started_at or None, one.finished_at or now
    closed = None
    if has_run and status is not _SUCCESS:  # the job's own row tells of its success
        closed = _attempt(record, one.outcome, finished_at, started_at=started_at, error=one.error)
    return Change(
        before=as_claimed(record),
        status=status,
        lease_epoch=record.lease_epoch,
        attempt=record.attempt if one.keeps_attempt else record.attempt - 1,
        deliveries=record.deliveries - 1,
        suspect=False,
        run_at=one.run_at if status is _PENDING else record.run_at,
        started_at=started_at,
        finished_at=now if is_parked else finished_at,
        result=one.result,
        error=one.error,
        closed=closed,
        children=one.children,
        settles=True,
    )


def released(record: JobRecord, now: float, *, started: bool) -> Change:
    """Return the change for a claimed job that its worker gives back.

    Args:
        started: Whether user code had started.
    """
    return Change(
        before=as_claimed(record),
        status=_PENDING,
        lease_epoch=record.lease_epoch,
        attempt=record.attempt - 1,
        deliveries=record.deliveries - 1,
        suspect=record.suspect,
        run_at=record.run_at,
        finished_at=now if started else None,
        closed=_attempt(record, "released", now) if started else None,
    )


def as_claimed(record: JobRecord) -> JobRecord:
    """Return a delivery's record so that only a RUNNING job matches it."""
    return record if record.status is _RUNNING else replace(record, status=_RUNNING)


def taken_back(lost: Sequence[LostDelivery], now: float, max_deliveries: int) -> list[Change]:
    """Return the changes that make the jobs of one dead or silent worker PENDING or DEAD.

    If suspects had started, only they are charged for the death. Other jobs that had started
    become suspects without a charge. The first charge causes no delay; a later one sets
    ``run_at`` as many seconds ahead as there are charges.

    Args:
        lost: All jobs that this worker leaves behind at this moment.
        now: Seconds since the epoch.
        max_deliveries: Number of charges at which a job is DEAD.
    Returns: changes in an order in which a prefix may be applied: while a suspect that had
        started is still held, the next call does not charge its neighbours either.
    """
    has_suspect = any(started and record.suspect for record, started in lost)
    return [
        _taken_back(one, now, max_deliveries, charges=one.record.suspect or not has_suspect)
        for one in sorted(lost, key=lambda one: one.started and one.record.suspect)
    ]


def _taken_back(lost: LostDelivery, now: float, max_deliveries: int, *, charges: bool) -> Change:
    record, started = lost
    is_charged = started and charges
    deliveries = record.deliveries if is_charged else record.deliveries - 1
    is_dead = is_charged and deliveries >= max_deliveries
    error = died_error(record.func_name, deliveries) if started else UNSET
    closed = _attempt(record, "lost", now, error=error) if error is not UNSET else None
    return Change(
        before=record,
        status=_DEAD if is_dead else _PENDING,
        lease_epoch=record.lease_epoch + 1,
        attempt=record.attempt - 1,
        deliveries=deliveries,
        suspect=record.suspect or started,
        run_at=now + deliveries if is_charged and deliveries > 1 else record.run_at,
        finished_at=now,
        error=error,
        closed=closed,
    )


# ---- what people and the reaper do ---------------------------------------------------------


def cancelled(seen: JobSnapshot, now: float) -> Change | None:
    """Return the change that cancels a job; None if it has already ended."""
    record = seen.record
    if record.status in FINAL:
        return None
    was_running = record.status is _RUNNING
    return _moved(
        seen,
        _CANCELLED,
        lease_epoch=record.lease_epoch + 1,
        suspect=False,
        started_at=None if was_running else seen.started_at,
        finished_at=now,
        closed=_attempt(record, "cancelled", now) if was_running else None,
    )


def retried(seen: JobSnapshot, now: float) -> Change | None:
    """Return the change that runs an ended job again; None if its status does not allow it.

    A job that was moved to another store can only be run there. One that expired may start now.
    """
    record = seen.record
    has_expired = record.expires_at is not None and record.expires_at <= now
    if record.status not in RETRYABLE or home_of(seen) is not None:
        return None
    return _moved(
        seen,
        _PENDING,
        lease_epoch=record.lease_epoch + 1,
        attempt=0,
        deliveries=0,
        suspect=False,
        run_at=now if has_expired else 0.0,
        started_at=None,
        finished_at=None,
        error=None,
        starts_anew=True,
    )


def repeated(record: JobRecord, job_id: str, now: float, **changes: object) -> JobRecord:
    """Return the record of a new job that repeats another one, and is linked to it."""
    return replace(
        record,
        id=job_id,
        created_at=now,
        run_at=0.0,
        retried_from=record.id,
        status=_PENDING,
        attempt=0,
        deliveries=0,
        lease_epoch=0,
        suspect=False,
        ref=0,
        **changes,
    )


def unparked(seen: JobSnapshot) -> Change:
    """Return the change that wakes a PARKED job once a worker knows its task."""
    return _moved(seen, _PENDING)


def given_up(seen: JobSnapshot, now: float) -> Change:
    """Return the change that gives up a job that was PARKED for too long."""
    record = seen.record
    return _moved(
        seen,
        _DEAD,
        lease_epoch=record.lease_epoch + 1,
        finished_at=now,
        error=parked_error(record.func_name),
    )


# ---- moves to another store ----------------------------------------------------------------
#
# The new store first gets a held copy, which no worker there can claim. Then the old store gives
# the job up, and last the copy becomes what the job was. So never more than one of them can run.


def held(record: JobRecord) -> JobRecord:
    """Return a job's record as it is enqueued in another store, where it has no past yet."""
    return replace(
        record,
        status=_PENDING,
        attempt=0,
        deliveries=0,
        lease_epoch=0,
        suspect=False,
        run_at=HELD_UNTIL,
        ref=0,
    )


def is_held(seen: JobSnapshot) -> bool:
    """Return whether this is a copy whose job another store has not given up yet."""
    return seen.status is _PENDING and seen.record.run_at >= HELD_UNTIL


def home_of(seen: JobSnapshot) -> str | None:
    """Return which store has the job in place of this one; None for any other job."""
    is_elsewhere = seen.error is not None and seen.error.type == _ELSEWHERE
    return seen.error.message if is_elsewhere and seen.status is _CANCELLED else None  # type: ignore[union-attr]  # is_elsewhere


def left_to(home: str, seen: JobSnapshot, now: float) -> Change:
    """Return the change that ends a waiting job, or a held copy, as the store ``home`` has the job.

    The counters and ``run_at`` stay: a held copy takes them over.
    """
    return _moved(
        seen,
        _CANCELLED,
        lease_epoch=seen.record.lease_epoch + 1,
        finished_at=now,
        error=StoredError(_ELSEWHERE, home),
    )


def held_again(seen: JobSnapshot) -> Change:
    """Return the change that makes a held copy of a job that has been in this store before."""
    return _moved(
        seen,
        _PENDING,
        lease_epoch=seen.record.lease_epoch + 1,
        run_at=HELD_UNTIL,
        started_at=None,
        finished_at=None,
        error=None,
        starts_anew=True,
    )


def arrived(
    copy: JobSnapshot, job: JobSnapshot, past: Sequence[Attempt], known: Sequence[Attempt] = ()
) -> list[Change]:
    """Return the changes that turn a held copy into its job; the last one lets it run.

    The epoch grows with each, so that of two callers only one succeeds, and so that a claim reads
    ``run_at`` from the row. A PARKED job becomes PENDING: workers of this store may know its task.

    Args:
        job: As it ended in the other store, or as it waited there.
        past: Its closed attempts, oldest first.
        known: Those that the copy has already.
    """
    changes, record = list[Change](), copy.record
    have = {_place(one) for one in known}
    for closed in past:
        if _place(closed) not in have:
            note = _moved(copy, _PENDING, lease_epoch=record.lease_epoch + 1, closed=closed)
            changes.append(replace(note, before=record))
            record = changes[-1].after
    before, has_ended = job.record, job.status in FINAL and home_of(job) is None
    then = job if has_ended else past[-1] if past and before.attempt else None
    arrival = Change(
        before=record,
        status=job.status if has_ended else _PENDING,
        lease_epoch=max(record.lease_epoch + 1, before.lease_epoch),
        attempt=before.attempt,
        deliveries=before.deliveries,
        suspect=before.suspect,
        run_at=before.run_at,
        started_at=then.started_at if then else None,
        finished_at=then.finished_at if then else None,
        result=job.result if has_ended else None,
        error=then.error if then else None,
    )
    return [*changes, arrival]


def _place(closed: Attempt) -> tuple[object, ...]:
    """Return what tells an attempt from the others of its job."""
    return closed.lease_epoch, closed.number, closed.outcome, closed.finished_at


class Recovery(NamedTuple):
    """Decides for a reaper about the jobs that a store finds.

    Attributes:
        now: Seconds since the epoch.
        max_deliveries: Deliveries without a report after which a job is DEAD.
        parked_before: A job parked at or before this time is given up.
    """

    now: float
    max_deliveries: int
    parked_before: float

    def take_back(self, lost: Sequence[LostDelivery]) -> list[Change]:
        """Return the changes for the jobs of one dead or silent worker; see ``taken_back``."""
        return taken_back(lost, self.now, self.max_deliveries)

    def give_up(self, parked: Sequence[JobSnapshot]) -> list[Change]:
        """Return the changes that give up jobs that were PARKED for too long."""
        return [given_up(one, self.now) for one in parked]


def died_error(task: str, deliveries: int) -> StoredError:
    """Return the error of a job that is DEAD, or whose attempt is lost, as its workers died."""
    times = "once" if deliveries <= 1 else f"{deliveries} times"
    return StoredError(
        "WorkerDied",
        f"the worker process died {times} while this job ran",
        fingerprint=f"WorkerDied:{task}",
    )


def parked_error(task: str) -> StoredError:
    """Return the error of a job that is DEAD because it was PARKED for too long."""
    return StoredError(
        "TaskNotFound",
        f"no worker knew the task {task} for as long as parked_ttl_secs allows",
        fingerprint=f"TaskNotFound:{task}",
    )


def success_of(seen: JobSnapshot) -> list[Attempt]:
    """Return the successful attempt of a job, which no history stores, or an empty list."""
    if seen.status is not _SUCCESS:
        return []
    outcome = "success" if seen.error is None else "timeout"  # a timeout that the policy ignores
    closed = _attempt(
        seen.record, outcome, seen.finished_at, started_at=seen.started_at, error=seen.error
    )
    return [replace(closed, worker=seen.worker)]


def _moved(seen: JobSnapshot, status: JobStatus, **fields: object) -> Change:
    """Return a change that sets only the status and the given fields."""
    record = seen.record
    same = {
        "lease_epoch": record.lease_epoch,
        "attempt": record.attempt,
        "deliveries": record.deliveries,
        "suspect": record.suspect,
        "run_at": record.run_at,
        "started_at": seen.started_at,
        "finished_at": seen.finished_at,
    }
    return Change(before=record, status=status, **{**same, **fields})  # type: ignore[arg-type]


def _attempt(
    record: JobRecord,
    outcome: str,
    finished_at: float | None,
    *,
    started_at: float | None = None,
    error: StoredError | None = None,
) -> Attempt:
    return Attempt(
        number=record.attempt,
        outcome=outcome,
        lease_epoch=record.lease_epoch,
        started_at=started_at,
        finished_at=finished_at,
        error=error,
    )
