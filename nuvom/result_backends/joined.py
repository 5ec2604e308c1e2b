"""Results beside a queue on a server: what the queue has settled, and outcomes given directly."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from nuvom.core.record import JobRecord, JobSnapshot, JobStatus, StoredError
from nuvom.result_backends.full import SnapshotResults

if TYPE_CHECKING:
    from collections.abc import Iterable


class JoinedResults(SnapshotResults):
    """Results in two places of one store: the jobs of a queue that it has joined, and its own."""

    # ---- abstract methods -----------------------------------------------------------------

    @abstractmethod
    def find_job(self, job_id: str) -> JobSnapshot | None:
        """Return a job of the joined queue, None if there is no such job or queue."""

    @abstractmethod
    def find_outcome(self, job_id: str) -> JobSnapshot | None:
        """Return the outcome that was given directly, or None."""

    @abstractmethod
    def all_jobs(self) -> Iterable[JobSnapshot]:
        """Return all jobs of the joined queue, newest first."""

    @abstractmethod
    def all_outcomes(self) -> Iterable[JobSnapshot]:
        """Return all outcomes that were given directly, newest first."""

    @abstractmethod
    def put(self, outcome: JobSnapshot, *, is_sure: bool) -> bool:
        """Store an outcome and wake those who wait for results.

        Unless ``is_sure``, it is refused where the stored one is final and of the same or a later
        delivery. Returns: whether it was stored.
        """

    @abstractmethod
    def now(self) -> float:
        """Return the store's time."""

    # ---- results --------------------------------------------------------------------------

    def find(self, job_id: str) -> JobSnapshot | None:
        """Return what is known about a job; see the contract."""
        return _latest(self.find_job(job_id), self.find_outcome(job_id))

    def find_all(self) -> list[JobSnapshot]:
        """Return what is known about every job, newest first."""
        found = {one.record.id: one for one in self.all_jobs()}
        for kept in self.all_outcomes():
            latest = _latest(found.get(kept.record.id), kept)
            if latest is not None:
                found[kept.record.id] = latest
        return list(found.values())

    def keep(
        self,
        job_id: str,
        record: JobRecord | None,
        status: JobStatus,
        *,
        result: bytes | None = None,
        error: StoredError | None = None,
    ) -> bool:
        """Store an outcome; see the contract."""
        known = None if record is not None else self.find(job_id)
        given = record or (JobRecord(job_id, "") if known is None else known.record)
        outcome = JobSnapshot(
            record=given.replace(id=job_id, status=status),
            result=result,
            error=error,
            finished_at=self.now() if status.is_final else None,
        )
        return self.put(outcome, is_sure=record is None)

    def set_record(self, record: JobRecord) -> None:
        """Store a job that has no outcome yet; see the contract."""
        self.put(JobSnapshot(record=record), is_sure=False)


def _latest(row: JobSnapshot | None, kept: JobSnapshot | None) -> JobSnapshot | None:
    """Return what is said of a job last: by its queue, or to this backend directly."""
    if kept is None or row is None:
        return row or kept
    is_settled = kept.status.is_final and kept.record.lease_epoch >= row.record.lease_epoch
    return kept if is_settled else row
