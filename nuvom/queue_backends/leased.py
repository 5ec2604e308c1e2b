"""The contract of a queue backend whose deliveries are leased, fenced and recoverable.

A claim gives one owner the right to a job until its lease ends; each claim raises
``lease_epoch``, and every later write applies only while the epoch is still the same. The
laws are stated as tests in ``nuvom.testing.conformance``; how PostgreSQL and Redis would do
each method is in ``docs/decisions/0002-five-methods-and-capabilities.md``.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.ids import new_id
from nuvom.queue_backends.base import BaseJobQueue, Capability

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nuvom.core.outcome import Settlement
    from nuvom.core.record import Attempt, JobRecord, JobSnapshot, JobStatus
    from nuvom.core.views import ErrorGroup, QueueStats, StoreSize, Total, WorkerInfo


class LeasedJobQueue(BaseJobQueue):
    """A queue with leases, inspection and control. Built as ``cls(settings)``.

    ``owner`` is a worker's id: random for each start. An owner need not be announced before
    it claims, but only ``announce`` makes it visible in ``workers``.
    """

    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.BULK,
            Capability.SCHEDULED,
            Capability.PRIORITY,
            Capability.UNIQUE,
            Capability.LEASES,
            Capability.WAKE_UP,
            Capability.INSPECTION,
            Capability.CONTROL,
        }
    )
    _own_id: str | None = None

    # ---- delivery -----------------------------------------------------------------------

    @abstractmethod
    def claim(
        self,
        n: int,
        owner: str,
        queues: Sequence[str] | None = None,
        *,
        exclude: Sequence[str] = (),
        without: Iterable[str] = (),
        suspects: int = 1,
    ) -> list[JobRecord]:
        """Give ``owner`` a lease on at most ``n`` due jobs.

        Each returned record is RUNNING with ``lease_epoch``, ``attempt`` and ``deliveries``
        raised by one. Paused queues are left alone.

        Args:
            n: 1 or more.
            queues: Served queues, in order of preference; None means all but ``exclude``.
            without: Task names that are not wanted.
            suspects: At most so many jobs during which a worker died before; 0 or 1.
        Returns: suspects first; of each queue the lower priority number, then the older.
        """

    def mark_started(self, job: JobRecord) -> None:
        """Note that user code of a claimed job starts now; survives this process's death.

        Deliveries without a mark are not charged when a worker dies. A backend without marks
        charges every claimed job.
        """

    @abstractmethod
    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Close attempts: status, result, error, next run and children, in one step each.

        Durable when it returns. Returns, in order, False where the lease was lost: nothing
        of that settlement was stored. Calling twice is safe: a settlement already applied
        gives True again until the job is claimed or retried anew.
        """

    @abstractmethod
    def release(self, jobs: Sequence[JobRecord]) -> list[bool]:
        """Give claimed jobs back, due at once; attempt and delivery are not charged.

        ``lease_epoch`` stays as it is. Where user code had started, the history keeps an
        attempt ``released``; elsewhere nothing.

        Returns, in order, False where the lease was lost.
        """

    @abstractmethod
    def extend(self, owner: str) -> dict[str, int]:
        """Renew the lease on all jobs of ``owner``; also the owner's heartbeat.

        Returns: id and ``lease_epoch`` of each job that it still holds.
        """

    @abstractmethod
    def reap(self) -> list[JobRecord]:
        """Take back jobs whose owner died or whose lease ended; wake jobs that became due.

        Any process may call it at any time. Returns the recovered records, now PENDING or,
        at ``max_deliveries``, DEAD; also jobs PARKED for longer than ``parked_ttl_secs``.
        """

    @abstractmethod
    def next_due_secs(self) -> float | None:
        """Return seconds until the next scheduled job is due, or None when there is none.

        A job that is due already is ready, and no longer scheduled, whoever has noticed.
        """

    @abstractmethod
    def report_progress(
        self, job: JobRecord, done: float, total: float | None, message: str
    ) -> bool:
        """Keep a running job's progress until the attempt ends; False when the lease is lost."""

    # ---- workers ------------------------------------------------------------------------

    @abstractmethod
    def announce(self, worker: WorkerInfo) -> None:
        """Make a worker visible, or update what is shown of it."""

    @abstractmethod
    def retire(self, owner: str) -> None:
        """Forget a worker that stopped in good order. Its jobs must be settled or released."""

    @abstractmethod
    def workers(self) -> list[WorkerInfo]:
        """Return the announced workers that are not known to be dead, oldest first.

        A worker whose process is seen to be dead is not among them, however young its last
        beat is. What is shown of the others by the age of their beat is decided by
        ``nuvom.core.views.seen_worker``: silent after one lease, gone after ``GONE_LEASES``.
        """

    @abstractmethod
    def command(self, owner: str, word: str) -> bool:
        """Leave ``quiet``, ``resume``, ``stop`` or ``stacks`` for a worker.

        Returns: False where ``workers`` does not show it.
        Raises: ValueError: another word.
        """

    @abstractmethod
    def commands(self, owner: str) -> list[str]:
        """Take the words left for ``owner``, oldest first."""

    @abstractmethod
    def control_version(self) -> int:
        """Return a number that changes whenever a cancel, pause or command is written.

        Costs next to nothing, so that a worker can look several times a second.
        """

    @abstractmethod
    def unpark(self, tasks: Iterable[str]) -> int:
        """Make PARKED jobs of ``tasks`` PENDING, due at once; return how many."""

    # ---- control ------------------------------------------------------------------------

    @abstractmethod
    def cancel(self, job_id: str) -> JobStatus | None:
        """Cancel a job that is not final: CANCELLED at once, with a raised epoch.

        Returns: the status *before* (a final one means that nothing changed), None if unknown.
        """

    @abstractmethod
    def retry(self, job_id: str) -> JobStatus | None:
        """Make a FAILED, DEAD or CANCELLED job PENDING: counters at 0, epoch raised.

        A job whose ``unique_key`` another live job holds by now stays as it is: two would run.

        Returns: the status *before*; any other means that nothing changed; None if unknown.
        """

    @abstractmethod
    def pause(self, queue: str, by: str) -> None:
        """Let no job of ``queue`` be claimed until ``resume``."""

    @abstractmethod
    def resume(self, queue: str) -> bool:
        """Undo ``pause``; False when it was not paused."""

    @abstractmethod
    def purge(self, queue: str) -> int:
        """Remove the waiting jobs of ``queue`` (PENDING and PARKED); return how many."""

    @abstractmethod
    def prune(self, *, success_before: float, failed_before: float, limit: int = 1000) -> int:
        """Remove at most ``limit`` final jobs that finished before the given moments.

        Args:
            success_before: For SUCCESS without a ``result_ttl_secs`` of their own.
            failed_before: For FAILED, DEAD and CANCELLED.
        """

    # ---- inspection ---------------------------------------------------------------------

    @abstractmethod
    def get(self, job_id: str) -> JobSnapshot | None:
        """Return one job, or None."""

    @abstractmethod
    def find_ids(self, suffix: str, limit: int = 6) -> list[str]:
        """Return ids that end in ``suffix``, newest first."""

    @abstractmethod
    def page(
        self,
        *,
        statuses: Iterable[JobStatus] = (),
        queue: str | None = None,
        task: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[JobSnapshot]:
        """Return jobs, newest first; ``before`` is the id of the last job of the page before.

        ``result`` and the error's traceback may be left out of a page's snapshots.
        """

    @abstractmethod
    def attempts(self, job_id: str) -> list[Attempt]:
        """Return the closed attempts that are kept, oldest first."""

    @abstractmethod
    def stats(self) -> list[QueueStats]:
        """Return counts for each queue that has or had jobs or is paused, by name."""

    @abstractmethod
    def error_groups(self, limit: int = 50) -> list[ErrorGroup]:
        """Return failures grouped by ``nuvom.core.views.failure_group``, latest first."""

    def failed_ids(self, fingerprint: str) -> list[str]:
        """Return ids of the FAILED and DEAD jobs of a group, newest first."""
        raise self._lacks(Capability.INSPECTION, f"cannot list failures of {fingerprint}")

    @property
    def parked_tasks(self) -> Mapping[str, int]:
        """Names of tasks that jobs are PARKED for, with their number."""
        raise self._lacks(Capability.INSPECTION, "cannot list parked tasks")

    # ---- totals -------------------------------------------------------------------------

    def keep_totals(self) -> None:
        """Have the store count what happens from now on, in all processes that use it.

        Each count is part of the step that it counts, so that a killed process neither loses
        nor doubles any. Calling it again changes nothing.
        """
        raise self._lacks(Capability.TOTALS, "cannot keep totals")

    def totals(self) -> list[Total]:
        """Return what was counted since ``keep_totals`` was first called; else nothing."""
        return []

    def store_size(self) -> StoreSize | None:
        """Return how large the store is, None where that cannot be told."""
        return None

    # ---- the specification's two methods ------------------------------------------------

    def dequeue(self, timeout: float | None = None) -> JobRecord | None:
        """Claim one job under this instance's own owner id, waiting at most ``timeout`` s."""
        jobs = self.pop_batch(1)
        if not jobs and timeout:
            jobs = self._wait_and_pop(timeout)
        return jobs[0] if jobs else None

    def pop_batch(self, batch_size: int) -> list[JobRecord]:
        """Claim jobs under this instance's own owner id, to be settled or released."""
        return self.claim(batch_size, self.own_id)

    @property
    def own_id(self) -> str:
        """The owner id under which ``dequeue`` and ``pop_batch`` claim."""
        if self._own_id is None:
            self._own_id = new_id()
        return self._own_id

    def _wait_and_pop(self, timeout: float) -> list[JobRecord]:
        """Claim one job as soon as there is one, at most ``timeout`` seconds."""
        claimed: list[JobRecord] = []

        def try_again() -> bool:
            claimed.extend(self.pop_batch(1))
            return bool(claimed)

        deadline = SYSTEM_CLOCK.monotonic() + timeout
        while not claimed and (left := deadline - SYSTEM_CLOCK.monotonic()) > 0:
            due = self.next_due_secs()
            self.wait_for_work(left if due is None else min(left, due), try_again)
        return claimed
