"""What becomes of the jobs of a worker that died: one pure decision.

Reapers of backends that hold records in memory call ``recovered``; it knows no clock and no
store. How a worker's death is noticed, and which jobs had started, is the backend's affair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nuvom.core.record import JobRecord, JobStatus, StoredError

if TYPE_CHECKING:
    from collections.abc import Sequence


class LostDelivery(NamedTuple):
    """A claimed job that nobody will report on.

    Attributes:
        record: As claimed.
        started: Whether user code had started, or may have.
    """

    record: JobRecord
    started: bool


def recovered(lost: Sequence[LostDelivery], *, now: float, max_deliveries: int) -> list[JobRecord]:
    """Return what the jobs of one dead worker become, in order: PENDING or DEAD.

    Where suspects had started only they are charged with the death; jobs that had started
    beside them become suspects without a charge. The first charge delays nothing, a later one
    sets ``run_at`` as many seconds ahead as there are charges.

    Args:
        lost: All that this worker leaves at this moment.
        now: Seconds since the epoch.
        max_deliveries: Charges at which a job is DEAD.
    """
    has_suspect = any(started and record.suspect for record, started in lost)
    return [
        _recovered(
            record,
            started=started,
            charged=started and (record.suspect or not has_suspect),
            now=now,
            max_deliveries=max_deliveries,
        )
        for record, started in lost
    ]


def died_error(record: JobRecord) -> StoredError:
    """Return why a job is DEAD that ``recovered`` made so, or why its last attempt was lost."""
    times = "once" if record.deliveries <= 1 else f"{record.deliveries} times"
    return StoredError(
        "WorkerDied",
        f"the worker process died {times} while this job ran",
        fingerprint=f"WorkerDied:{record.func_name}",
    )


def parked_error(record: JobRecord) -> StoredError:
    """Return why a job is DEAD that was PARKED for too long."""
    return StoredError(
        "TaskNotFound",
        f"no worker knew the task {record.func_name} for as long as parked_ttl_secs allows",
        fingerprint=f"TaskNotFound:{record.func_name}",
    )


def _recovered(
    record: JobRecord, *, started: bool, charged: bool, now: float, max_deliveries: int
) -> JobRecord:
    deliveries = record.deliveries if charged else record.deliveries - 1
    is_dead = charged and deliveries >= max_deliveries
    return record.replace(
        status=JobStatus.DEAD if is_dead else JobStatus.PENDING,
        attempt=record.attempt - 1,
        deliveries=deliveries,
        lease_epoch=record.lease_epoch + 1,
        suspect=record.suspect or started,
        run_at=now + deliveries if charged and deliveries > 1 else record.run_at,
    )
