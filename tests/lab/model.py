"""What a queue has to do, as plainly as it can be said: a dict of jobs and one clock.

Shares no code with any backend. ``machine.py`` does the same to it and to a backend and
compares; where the contract leaves a choice, the model answers ``ANY``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from nuvom.core.record import JobStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

PENDING, RUNNING, PARKED = JobStatus.PENDING, JobStatus.RUNNING, JobStatus.PARKED
SUCCESS, FAILED = JobStatus.SUCCESS, JobStatus.FAILED
DEAD, CANCELLED = JobStatus.DEAD, JobStatus.CANCELLED
OVER = (SUCCESS, FAILED, DEAD, CANCELLED)
ANY: Any = object()


class Rules(NamedTuple):
    """The settings under which a history runs."""

    lease_secs: float
    max_deliveries: int
    parked_ttl_secs: float
    max_queue_size: int
    has_start_marks: bool


@dataclass
class Job:
    """One job. ``ticket`` is the epoch of the claim that holds it, or held it last."""

    id: str
    task: str
    queue: str
    priority: int
    run_at: float
    key: str | None
    status: JobStatus = PENDING
    attempt: int = 0
    deliveries: int = 0
    suspect: bool = False
    owner: str = ""
    ticket: int = -1
    settled: int = -1
    touched: bool = False  # by somebody else since it was settled
    started: bool = False
    lease_until: float = 0.0
    parked_until: float = 0.0


class Full(Exception):  # noqa: N818  # what the model says, not an error of ours
    """The queue has no room."""


class Model:
    """The jobs, oldest first, and the queues that are paused."""

    def __init__(self, rules: Rules, now: float) -> None:
        self.rules = rules
        self.now = now
        self.jobs: dict[str, Job] = {}
        self.paused: set[str] = set()

    # ---- in -------------------------------------------------------------------------------

    def enqueue(self, job: Job, *, limited: bool = True) -> str | None:
        """Return the id of the job that has the key, or None."""
        if job.id in self.jobs:
            return None
        holder = self._holder(job)
        if holder is not None:
            return holder.id
        waiting = [one for one in self._pending() if one.queue == job.queue]
        if limited and len(waiting) >= self.rules.max_queue_size:
            raise Full
        self.jobs[job.id] = replace(job)
        return None

    def enqueue_many(self, jobs: Sequence[Job]) -> dict[str, str]:
        """Return, for each refused job, who has its key; all or nothing."""
        before = dict(self.jobs)
        refused: dict[str, str] = {}
        try:
            for job in jobs:
                existing = self.enqueue(job)
                if existing is not None:
                    refused[job.id] = existing
        except Full:
            self.jobs = before
            raise
        return refused

    def _holder(self, job: Job) -> Job | None:
        same = [
            one
            for one in self.jobs.values()
            if job.key is not None
            and (one.task, one.key) == (job.task, job.key)
            and one.status not in OVER
        ]
        return same[0] if same else None

    def _pending(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.status is PENDING]

    def size(self) -> int:
        """Return how many jobs wait."""
        return len(self._pending())

    # ---- delivery -------------------------------------------------------------------------

    def claimable(
        self, n: int, queues: Iterable[str], without: Collection[str], suspects: int
    ) -> list[Job]:
        """Return what a claim has to give: one suspect at most, then the others."""
        ready = [
            job
            for queue in queues
            if queue not in self.paused
            for job in self._in_order(queue)
            if job.run_at <= self.now and job.task not in without
        ]
        first = [job for job in ready if job.suspect][: min(n, suspects)]
        return (first + [job for job in ready if not job.suspect])[:n]

    def _in_order(self, queue: str) -> list[Job]:
        waiting = [job for job in self._pending() if job.queue == queue]
        return sorted(waiting, key=lambda job: job.priority)  # stable: then as enqueued

    def claimed(self, job: Job, owner: str, ticket: int) -> None:
        """Note that a claim was given."""
        job.status, job.owner, job.ticket, job.started = RUNNING, owner, ticket, False
        job.attempt += 1
        job.deliveries += 1
        job.lease_until = self.now + self.rules.lease_secs

    def held(self, job_id: str, ticket: int) -> Job | None:
        """Return the job while this claim holds."""
        job = self.jobs.get(job_id)
        is_held = job is not None and job.status is RUNNING and job.ticket == ticket
        return job if is_held else None

    def start(self, job_id: str, ticket: int) -> None:
        """Note that user code starts."""
        job = self.held(job_id, ticket)
        if job is not None:
            job.started = True

    def settle(self, job_id: str, ticket: int, status: JobStatus, **rest: Any) -> Any:
        """Return whether the settlement is accepted. ``rest``: run_at, keeps_attempt, child."""
        job = self.held(job_id, ticket)
        if job is None:
            return self._settled_before(job_id, ticket)
        job.status = status
        job.settled, job.touched, job.suspect = ticket, False, False
        job.deliveries -= 1
        if not rest["keeps_attempt"]:
            job.attempt -= 1
        if status is PENDING:
            job.run_at = rest["run_at"]
        job.parked_until = self.now + self.rules.parked_ttl_secs
        if rest["child"] is not None:
            self.enqueue(rest["child"], limited=False)
        return True

    def _settled_before(self, job_id: str, ticket: int) -> Any:
        job = self.jobs.get(job_id)
        if job is None or job.ticket != ticket or job.settled != ticket:
            return False
        return ANY if job.touched else True

    def release(self, job_id: str, ticket: int) -> bool:
        """Return whether the job could be given back."""
        job = self.held(job_id, ticket)
        if job is None:
            return False
        job.status = PENDING
        job.attempt -= 1
        job.deliveries -= 1
        return True

    def extend(self, owner: str) -> dict[str, int]:
        """Return id and epoch of what ``owner`` holds."""
        held = [j for j in self.jobs.values() if j.status is RUNNING and j.owner == owner]
        for job in held:
            job.lease_until = self.now + self.rules.lease_secs
        return {job.id: job.ticket for job in held}

    # ---- recovery -------------------------------------------------------------------------

    def reap(self) -> dict[str, JobStatus]:
        """Return what was taken back, with its new status."""
        lost: dict[str, list[Job]] = {}
        for job in self.jobs.values():
            if job.status is RUNNING and job.lease_until <= self.now:
                lost.setdefault(job.owner, []).append(job)
        reaped = [job for jobs in lost.values() for job in self._recover(jobs)]
        for job in self.jobs.values():
            if job.status is PARKED and job.parked_until <= self.now:
                job.status, job.touched = DEAD, True
                reaped.append(job)
        return {job.id: job.status for job in reaped}

    def _recover(self, jobs: list[Job]) -> list[Job]:
        for job in jobs:
            job.started = job.started or not self.rules.has_start_marks
        guilty = [job for job in jobs if job.started and job.suspect]
        guilty = guilty or [job for job in jobs if job.started]
        for job in jobs:
            job.status = PENDING
            job.attempt -= 1
            if not any(job is one for one in guilty):
                job.deliveries -= 1
            elif job.deliveries >= self.rules.max_deliveries:
                job.status = DEAD
            elif job.deliveries > 1:
                job.run_at = self.now + job.deliveries
            job.suspect = job.suspect or job.started
        return jobs

    # ---- control --------------------------------------------------------------------------

    def cancel(self, job_id: str) -> JobStatus:
        """Return the status before."""
        job = self.jobs[job_id]
        before = job.status
        if before not in OVER:
            job.status, job.touched = CANCELLED, True
        return before

    def retry(self, job_id: str) -> JobStatus:
        """Return the status before."""
        job = self.jobs[job_id]
        before = job.status
        if before in (FAILED, DEAD, CANCELLED) and self._holder(job) is None:
            job.status, job.run_at = PENDING, 0.0
            job.attempt = job.deliveries = 0
            job.suspect, job.settled = False, -1
        return before

    def resume(self, queue: str) -> bool:
        """Return whether it was paused."""
        was_paused = queue in self.paused
        self.paused.discard(queue)
        return was_paused

    def unpark(self, task: str) -> int:
        """Return how many jobs are taken up again."""
        parked = [j for j in self.jobs.values() if j.status is PARKED and j.task == task]
        for job in parked:
            job.status = PENDING
        return len(parked)

    def purge(self, queue: str) -> int:
        """Return how many jobs are removed."""
        waiting = (PENDING, PARKED)
        return self._remove(
            [j for j in self.jobs.values() if j.queue == queue and j.status in waiting]
        )

    def prune(self) -> int:
        """Return how many jobs are removed: all that are over."""
        return self._remove([job for job in self.jobs.values() if job.status in OVER])

    def _remove(self, jobs: list[Job]) -> int:
        for job in jobs:
            del self.jobs[job.id]
        return len(jobs)
