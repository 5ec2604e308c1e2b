"""The contract of a queue backend whose deliveries are leased, fenced and recoverable.

A claim gives one owner the right to a job until its lease ends. Each claim raises
``lease_epoch``, and every later write applies only while the epoch is unchanged. The laws are
stated as tests in ``nuvom.testing.conformance``.
``docs/decisions/0002-five-methods-and-capabilities.md`` shows how PostgreSQL and Redis would
implement each method.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from msgspec.structs import replace

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.ids import new_id
from nuvom.core.views import JobScan
from nuvom.queue_backends.base import BaseJobQueue, Capability

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from nuvom.core.outcome import Settlement
    from nuvom.core.record import Attempt, JobRecord, JobSnapshot, JobStatus
    from nuvom.core.views import (
        AuditEntry,
        ErrorGroup,
        QueueStats,
        Rollup,
        StorePromise,
        StoreSize,
        Total,
        WorkerInfo,
    )

_SCANNED = 500  # jobs that ``scan`` reads at once
_COUNTED = 1000  # jobs of each kind that ``revision`` counts


class ClaimArguments(NamedTuple):
    """The arguments of ``claim``.

    Attributes:
        n, owner, queues, exclude, without, suspects: See ``LeasedJobQueue.claim``.
        token: Tells a claim on a server from others of the same worker; not 0, and of 16 bits.
        turn: Grows with each claim on a server, so that queues take turns.
        starts: All jobs start at once, so that they may be marked as started with the claim.
    """

    n: int
    owner: str
    queues: Sequence[str] | None = None
    exclude: Sequence[str] = ()
    without: Sequence[str] = ()
    suspects: int = 1
    token: int = 0
    turn: int = 0
    starts: bool = False


class LeasedJobQueue(BaseJobQueue):
    """A queue with leases, inspection and control. Built as ``cls(settings)``.

    ``owner`` is a worker's id, random for each start. An owner need not be announced before it
    claims, but only ``announce`` makes it visible in ``workers``.
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
        raised by one. Paused queues are skipped.

        Args:
            n: 1 or more.
            queues: Served queues, in order of preference; None means all but ``exclude``.
            without: Task names to leave out.
            suspects: Maximum number of jobs that a worker has died on before; 0 or 1.
        Returns: suspects first; within each queue by priority number, then oldest first.
        """

    def mark_started(self, job: JobRecord) -> None:
        """Record that user code of a claimed job starts now; survives this process's death.

        Deliveries without a mark are not charged when a worker dies. A backend without marks
        charges every claimed job.
        """

    @abstractmethod
    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Close attempts: status, result, error, next run and children, each attempt atomically.

        Durable when it returns. Returns, in order, False where the lease was lost: nothing of
        that settlement was stored. Calling twice is safe: a settlement already applied returns
        True again until the job is claimed or retried again.
        """

    def settle_and_claim(
        self, settlements: Sequence[Settlement], claim: ClaimArguments
    ) -> tuple[list[bool], list[JobRecord]]:
        """Settle, and claim the next jobs: in any order, or both at once.

        A worker calls it where the backend has ``Capability.OVERLAP``: under load, and with no
        settlements to claim jobs that start at once. If it raises, the settlements may be stored,
        and claimed jobs are given back.
        """
        accepted = self.settle(settlements) if settlements else []
        n, owner, queues, exclude, without, suspects, *_ = claim
        jobs = self.claim(n, owner, queues, exclude=exclude, without=without, suspects=suspects)
        return accepted, jobs

    @abstractmethod
    def release(self, jobs: Sequence[JobRecord]) -> list[bool]:
        """Return claimed jobs to the queue, due at once; attempt and delivery are not charged.

        ``lease_epoch`` is unchanged. If user code had started, the history keeps an attempt
        ``released``; otherwise it keeps nothing.

        Returns, in order, False where the lease was lost.
        """

    @abstractmethod
    def extend(self, owner: str) -> dict[str, int]:
        """Renew the lease on all jobs of ``owner``. This is also the owner's heartbeat.

        Returns: id and ``lease_epoch`` of each job that the owner still holds.
        """

    @abstractmethod
    def reap(self) -> list[JobRecord]:
        """Take back jobs whose owner died or whose lease ended; wake jobs that became due.

        Any process may call it at any time. Returns the recovered records, now PENDING or,
        at ``max_deliveries``, DEAD; also jobs PARKED for longer than ``parked_ttl_secs``.
        """

    @abstractmethod
    def next_due_secs(self) -> float | None:
        """Return seconds until the next scheduled job is due, or None if there is none.

        A job that is already due counts as ready, not scheduled, even if no process has noticed.
        """

    @abstractmethod
    def report_progress(
        self, job: JobRecord, done: float, total: float | None, message: str
    ) -> bool:
        """Store a running job's progress until the attempt ends; False if the lease is lost."""

    # ---- workers ------------------------------------------------------------------------

    @abstractmethod
    def announce(self, worker: WorkerInfo) -> None:
        """Make a worker visible, or update its public details."""

    @abstractmethod
    def retire(self, owner: str) -> None:
        """Forget a worker that stopped cleanly. Its jobs must be settled or released."""

    @abstractmethod
    def workers(self) -> list[WorkerInfo]:
        """Return the announced workers that are not known to be dead, oldest first.

        Leaves out a worker whose process is known to be dead, however recent its last heartbeat.
        ``nuvom.core.views.seen_worker`` decides by the age of the heartbeat how the others
        appear: silent after one lease, gone after ``GONE_LEASES``.
        """

    @abstractmethod
    def command(self, owner: str, word: str) -> bool:
        """Send the command ``quiet``, ``resume``, ``stop`` or ``stacks`` to a worker.

        Returns: False if ``workers`` does not list the worker.
        Raises: ValueError: any other command.
        """

    @abstractmethod
    def commands(self, owner: str) -> list[str]:
        """Take the commands sent to ``owner``, oldest first."""

    @abstractmethod
    def control_version(self) -> int:
        """Return a number that changes whenever a cancel, pause or command is written.

        Cheap enough for a worker to call several times a second.
        """

    @abstractmethod
    def unpark(self, tasks: Iterable[str]) -> int:
        """Make PARKED jobs of ``tasks`` PENDING and due at once; return how many."""

    # ---- control ------------------------------------------------------------------------

    @abstractmethod
    def cancel(self, job_id: str) -> JobStatus | None:
        """Cancel a job that is not final: CANCELLED at once, with a raised epoch.

        Returns: the status *before* (a final one means that nothing changed), None if unknown.
        """

    @abstractmethod
    def retry(self, job_id: str) -> JobStatus | None:
        """Make a FAILED, DEAD or CANCELLED job PENDING: counters at 0, epoch raised.

        A job is left unchanged if another live job now holds its ``unique_key``: two would run.

        Returns: the status *before*; any other means that nothing changed; None if unknown.
        """

    @abstractmethod
    def pause(self, queue: str, by: str) -> None:
        """Stop claims from ``queue`` until ``resume``."""

    @abstractmethod
    def resume(self, queue: str) -> bool:
        """Undo ``pause``; False when it was not paused."""

    @abstractmethod
    def purge(self, queue: str) -> int:
        """Remove the waiting jobs of ``queue`` (PENDING and PARKED); return how many."""

    @abstractmethod
    def prune(self, *, success_before: float, failed_before: float, limit: int = 1000) -> int:
        """Remove at most ``limit`` final jobs that finished before the given times.

        Args:
            success_before: For SUCCESS without a ``result_ttl_secs`` of its own.
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
        """Return jobs, newest first; ``before`` is the id of the previous page's last job.

        A page's snapshots may lack ``result`` and the error's traceback.
        """

    def scan(
        self,
        *,
        statuses: Iterable[JobStatus] = (),
        queue: str | None = None,
        task: str | None = None,
        before: str | None = None,
        limit: int = 100,
        within: int = 10_000,
    ) -> JobScan:
        """Do as ``page``, but look at about ``within`` stored jobs at most.

        A backend that finds some of these jobs without looking at others need not count them.
        """
        found: list[JobSnapshot] = []
        wanted, looked_at = frozenset(statuses), 0
        while looked_at < within:
            size = min(_SCANNED, within - looked_at)
            page = self.page(before=before, limit=size)
            for at, one in enumerate(page, 1):
                record = one.record
                before = record.id
                if (
                    (not wanted or record.status in wanted)
                    and queue in (None, record.queue)
                    and task in (None, record.func_name)
                ):
                    found.append(one)
                if len(found) == limit:
                    return JobScan(found, before, looked_at + at)
            looked_at += len(page)
            if len(page) < size:
                return JobScan(found, None, looked_at)
        return JobScan(found, before, looked_at)

    @abstractmethod
    def attempts(self, job_id: str) -> list[Attempt]:
        """Return the stored closed attempts, oldest first."""

    @abstractmethod
    def stats(self, most: int | None = None) -> list[QueueStats]:
        """Return counts for each queue that is paused or has ever had jobs, by name.

        Args:
            most: Look at no more jobs than this for a count. The names of those that stopped are
                in ``at_least``. None counts all jobs, which may take long.
        """

    def backlog(self, most: int | None = None) -> list[QueueStats]:
        """Do as ``stats``, but leave out how many jobs succeeded: they may be nearly all."""
        return self.stats() if most is None else self.stats(most)

    def revision(self) -> Hashable:
        """Return a value that changes when something stored has changed; cheap.

        It may also change without that. Values of two processes cannot be compared.
        """
        workers = (replace(one, beat_age_secs=0.0) for one in self.workers())
        return tuple(self.stats(most=_COUNTED)), tuple(workers)

    @abstractmethod
    def error_groups(self, limit: int = 50) -> list[ErrorGroup]:
        """Return failures grouped by ``nuvom.core.views.failure_group``, latest first."""

    def failed_ids(self, fingerprint: str) -> list[str]:
        """Return ids of the FAILED and DEAD jobs in a group, newest first."""
        raise self._lacks(Capability.INSPECTION, f"cannot list failures of {fingerprint}")

    @property
    def parked_tasks(self) -> Mapping[str, int]:
        """Return the names of tasks with PARKED jobs, and the number of those jobs."""
        raise self._lacks(Capability.INSPECTION, "cannot list parked tasks")

    # ---- totals -------------------------------------------------------------------------

    def keep_totals(self) -> None:
        """Make the store count events from now on, in all processes that use it.

        Each count is part of the step it counts, so a killed process neither loses nor doubles
        any. Calling it again changes nothing.
        """
        raise self._lacks(Capability.TOTALS, "cannot keep totals")

    def totals(self) -> list[Total]:
        """Return the counts since the first call of ``keep_totals``; empty without one."""
        return []

    # ---- history ------------------------------------------------------------------------

    def rollups(self, since: float, until: float, step: int) -> list[Rollup]:
        """Return what was counted from ``since`` until before ``until``, in order of time.

        Each count is part of the step that closes the attempt or ends the job, so a repeated or
        fenced settlement counts nothing. A minute is exact for two days. Then it is combined with
        its hour, which a shorter ``step`` shows in the hour's first step, and which is kept for 90
        days; see ``condense_history``.

        Args:
            since: Seconds since the epoch, rounded down to a multiple of ``step``.
            step: 60 or a multiple of it: minutes are added up to steps of so many seconds.
        Returns: empty where the store does not count.
        """
        del since, until, step
        return []

    def condense_history(self) -> None:
        """Combine the minutes of old hours, and forget what is too old; workers call it hourly."""

    def record_audit(self, entry: AuditEntry) -> None:
        """Store an audit entry, or replace the one of its id.

        The newest ``AUDIT_KEPT`` are kept. A store without ``Capability.HISTORY`` keeps none.
        """
        del entry

    def audit(self, limit: int = 100, before: str | None = None) -> list[AuditEntry]:
        """Return audit entries, newest first.

        Args:
            before: The id of the previous page's last entry.
        """
        del limit, before
        return []

    def store_size(self) -> StoreSize | None:
        """Return the size of the store, or None if it is unknown."""
        return None

    def check_store(self) -> None:
        """Read the whole store to look for damage; a backend that cannot tell does nothing.

        Raises: BackendUnavailable: it is damaged.
        """

    def promises(self) -> list[StorePromise]:
        """Return what the settings of the store mean for jobs; empty if it has none of its own.

        Raises: BackendUnavailable.
        """
        return []

    # ---- the specification's two methods ------------------------------------------------

    def dequeue(self, timeout: float | None = None) -> JobRecord | None:
        """Claim one job under this instance's own owner id; wait at most ``timeout`` seconds."""
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
        """Claim one job as soon as there is one; wait at most ``timeout`` seconds."""
        claimed: list[JobRecord] = []

        def try_again() -> bool:
            claimed.extend(self.pop_batch(1))
            return bool(claimed)

        deadline = SYSTEM_CLOCK.monotonic() + timeout
        while not claimed and (left := deadline - SYSTEM_CLOCK.monotonic()) > 0:
            due = self.next_due_secs()
            self.wait_for_work(left if due is None else min(left, due), try_again)
        return claimed
