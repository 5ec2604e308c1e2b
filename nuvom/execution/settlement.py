"""How a worker claims jobs from its queue and settles their attempts, and what follows.

There are three ways, chosen once by what the backends can do. ``SharedStore``: queue and results
are one store, and one step finishes a job. ``SplitStores``: the result is stored first, and a
claim checks for a stored outcome. ``FiveMethodQueue``: each job is handed out only once. Once a
settlement is committed, hooks are called and events emitted.
"""

from __future__ import annotations

import heapq
import threading
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from nuvom.core.outcome import Settlement
from nuvom.core.record import JobRecord, JobStatus, StoredError
from nuvom.errors import NuvomError
from nuvom.events import (
    Event,
    JobCancelled,
    JobFailed,
    JobFenced,
    JobParked,
    JobRetrying,
    JobSucceeded,
    JobTimedOut,
)
from nuvom.host.crashpoint import crashpoint
from nuvom.queue_backends.base import Capability
from nuvom.queue_backends.leased import ClaimArguments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nuvom.core.clock import Clock
    from nuvom.events import EventBus
    from nuvom.execution.attempts import OpenAttempt
    from nuvom.execution.job_runner import JobRunner
    from nuvom.queue_backends.base import BaseJobQueue
    from nuvom.queue_backends.leased import LeasedJobQueue
    from nuvom.result_backends.base import BaseResultBackend
    from nuvom.serialization.base import Codec

_PARKED_SECS = 60.0  # until a five-method queue hands out a job of an unknown task again
_MOST_ASKED = 100  # lost jobs at once whose state is asked for: a heartbeat must not wait for more
_NO_ERROR = StoredError("Unknown", "no report is kept")
_SUCCESS = JobStatus.SUCCESS  # looking up an enum member is slow in Python 3.11
_TOLD = frozenset((JobSucceeded, JobRetrying, JobParked, JobFailed, JobTimedOut, JobCancelled))


class Served(NamedTuple):
    """Served queues: those named, in order of preference; or, if None, all but the excluded."""

    queues: tuple[str, ...] | None
    exclude: tuple[str, ...] = ()


class ClaimRequest(NamedTuple):
    """One claim to make.

    Attributes:
        most: Maximum number of jobs, 1 or more.
        without: Tasks for which there is no room.
        served: The queues; None for all that the worker serves.
        starts: A slot is free for each job.
        suspects: Maximum number of jobs that a worker has died on before; 0 or 1.
    """

    most: int
    without: list[str]
    served: Served | None = None
    starts: bool = False
    suspects: int = 1


class SharedStore:
    """Queue and results are one store: ``settle`` does everything.

    Attributes:
        served: The queues to claim from.
        promise: What is promised about deliveries, as text.
        settle, release, unpark, next_due_secs: The queue's own.
        finished_before: Returns settlements, by id, for jobs whose outcome is already stored;
            None where a claim never finds such a job.
        overlaps: Whether ``settle_and_claim`` is quicker than one after the other.
    """

    promise = "at least once, finished exactly once"
    finished_before: Callable[[Sequence[JobRecord]], dict[str, Settlement]] | None = None

    def __init__(self, queue: LeasedJobQueue, served: Served) -> None:
        self.queue = queue
        self.served = served
        self.settle = queue.settle
        self.release = queue.release
        self.unpark = queue.unpark
        self.next_due_secs = queue.next_due_secs
        self.overlaps = Capability.OVERLAP in queue.capabilities

    def claim(self, request: ClaimRequest, owner: str) -> list[JobRecord]:
        """Lease jobs to ``owner`` from some or all of the served queues."""
        claim = self._claim(request, owner)
        if self.overlaps:
            return self.queue.settle_and_claim((), claim)[1]
        n, _, queues, exclude, without, suspects, *_ = claim
        return self.queue.claim(
            n, owner, queues, exclude=exclude, without=without, suspects=suspects
        )

    def settle_and_claim(
        self, settlements: Sequence[Settlement], request: ClaimRequest, owner: str
    ) -> tuple[list[bool], list[JobRecord]]:
        """Settle and claim at once; only where it ``overlaps``."""
        return self.queue.settle_and_claim(settlements, self._claim(request, owner))

    def _claim(self, request: ClaimRequest, owner: str) -> ClaimArguments:
        served = request.served or self.served
        return ClaimArguments(
            request.most,
            owner,
            served.queues,
            served.exclude,
            request.without,
            request.suspects,
            starts=request.starts,
        )

    def report_progress(
        self, job: JobRecord, done: float, total: float | None, message: str
    ) -> bool:
        """Store a running job's progress; False when the lease is lost."""
        return self.queue.report_progress(job, done, total, message)

    def was_cancelled(self, job: JobRecord) -> bool:
        """Return whether the last delivery of a job ended by a cancel, as far as can be told."""
        try:
            seen = self.queue.get(job.id)
        except NuvomError:
            return False
        is_next = seen is not None and seen.record.lease_epoch == job.lease_epoch + 1
        return is_next and seen.status is JobStatus.CANCELLED  # type: ignore[union-attr]  # is_next


class SplitStores(SharedStore):
    """Results are in a separate store: they are written first, then the attempt is closed.

    A worker that dies in between leaves a job that runs nowhere but has an outcome. The next
    claim finds that outcome and only closes the attempt.
    """

    promise = "at least once, finished exactly once (result first, then the queue)"

    def __init__(
        self,
        queue: LeasedJobQueue,
        served: Served,
        results: BaseResultBackend,
        codec: Codec,
    ) -> None:
        super().__init__(queue, served)
        self.settle, self.finished_before = self._settle, self._finished_before
        self.overlaps = False  # the result has to be stored first
        self._results = results
        self._codec = codec
        self._kept: set[tuple[str, int]] = set()  # deliveries whose outcome is already stored

    def _finished_before(self, jobs: Sequence[JobRecord]) -> dict[str, Settlement]:
        """Return settlements, by id, for jobs whose outcome is already stored."""
        found = {}
        for job in jobs:
            # A first delivery was never settled before; one with a higher epoch may have been.
            kept = self._results.get_full(job.id) if job.lease_epoch > 1 else None
            status = None if kept is None else JobStatus(kept["status"])
            if kept is not None and status in (JobStatus.SUCCESS, JobStatus.FAILED):
                error = kept.get("error")
                found[job.id] = Settlement(
                    job,
                    status,
                    finished_at=kept.get("finished_at") or 0.0,
                    error=error and StoredError(**error),
                )
                self._kept.add((job.id, job.lease_epoch))
        return found

    def _settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Store outcomes, then close attempts; False for each whose lease was lost."""
        for one in settlements:
            # The outcome stored earlier is complete; this settlement does not have the result.
            if (one.record.id, one.record.lease_epoch) not in self._kept:
                _store_outcome(self._results, self._codec, one)
        crashpoint("split.results_stored")
        accepted = self.queue.settle(settlements)
        self._kept.difference_update((one.record.id, one.record.lease_epoch) for one in settlements)
        return accepted


class FiveMethodQueue:
    """A five-method queue: each job is handed out once, and nothing survives this process.

    Jobs that wait between attempts are held here, in memory.

    Attributes:
        overlaps: False.
        served: None, since such a backend cannot choose between queues.
        finished_before: None, since no job is handed out twice.
    """

    overlaps = False
    served = finished_before = None
    promise = "at most once: jobs that are running when a worker dies are lost"

    def __init__(
        self, queue: BaseJobQueue, results: BaseResultBackend, codec: Codec, clock: Clock
    ) -> None:
        self.queue = queue
        self._results = results
        self._codec = codec
        self._clock = clock
        self._later: list[tuple[float, int, JobRecord]] = []
        self._order = count()
        self._lock = threading.Lock()

    def claim(self, request: ClaimRequest, owner: str) -> list[JobRecord]:
        """Take jobs: those whose wait is over, then the queue's."""
        del owner
        jobs = self._due(request.most)
        try:
            if len(jobs) < request.most:
                jobs += self.queue.pop_batch(request.most - len(jobs))
            taken = [
                job.replace(
                    status=JobStatus.RUNNING,
                    attempt=job.attempt + 1,
                    deliveries=job.deliveries + 1,
                    lease_epoch=job.lease_epoch + 1,
                )
                for job in jobs
            ]
            for job in taken:
                self._results.set_record(job)
        except BaseException:  # they are not handed out again: keep them for the next claim
            self._keep((0.0, job) for job in jobs)
            raise
        return taken

    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Store outcomes, and hold back the jobs to be retried.

        If a store fails midway, outcomes may be stored again, but no job is held back twice.
        """
        held_back = []
        for one in settlements:
            if one.status in (JobStatus.PENDING, JobStatus.PARKED):
                held_back.append(self._held_back(one))
            else:
                _store_outcome(self._results, self._codec, one)
            for child in one.children:
                self._results.set_record(child)
                self.queue.enqueue(child)
        self._keep(held_back)
        return [True] * len(settlements)

    def release(self, jobs: Sequence[JobRecord]) -> None:
        """Put jobs back into the queue as they were before the claim."""
        for job in jobs:
            back = job.replace(
                status=JobStatus.PENDING, attempt=job.attempt - 1, deliveries=job.deliveries - 1
            )
            self._results.set_record(back)
            self.queue.enqueue(back)

    def give_back_waiting(self) -> int:
        """Put all held-back jobs into the queue, early rather than never; return how many."""
        with self._lock:
            waiting, self._later = self._later, []
        for _, _, job in waiting:
            self.queue.enqueue(job.replace(run_at=0.0))
        return len(waiting)

    def next_due_secs(self) -> float | None:
        """Return seconds until the next held-back job may run, None if there is none."""
        with self._lock:
            return max(0.0, self._later[0][0] - self._clock.now()) if self._later else None

    def was_cancelled(self, job: JobRecord) -> bool:
        """Return False: such a queue cannot cancel."""
        del job
        return False

    def unpark(self, tasks: Iterable[str]) -> int:
        """Return 0: a job of an unknown task comes again by itself."""
        del tasks
        return 0

    def report_progress(
        self, job: JobRecord, done: float, total: float | None, message: str
    ) -> bool:
        """Accept progress and drop it, since nobody could read it."""
        del job, done, total, message
        return True

    def _held_back(self, one: Settlement) -> tuple[float, JobRecord]:
        """Return when to retry a job, and its record; readers can see it waiting."""
        job = one.record.replace(
            status=one.status,
            run_at=one.run_at,
            attempt=one.record.attempt - (0 if one.keeps_attempt else 1),
        )
        self._results.set_record(job)
        if one.status is JobStatus.PENDING:
            return one.run_at, job
        # No other worker can be notified, so retry later, when one with the task may have started.
        return self._clock.now() + _PARKED_SECS, job.replace(status=JobStatus.PENDING)

    def _keep(self, jobs: Iterable[tuple[float, JobRecord]]) -> None:
        with self._lock:
            for run_at, job in jobs:
                heapq.heappush(self._later, (run_at, next(self._order), job))

    def _due(self, n: int) -> list[JobRecord]:
        now = self._clock.now()
        due: list[JobRecord] = []
        with self._lock:
            while self._later and self._later[0][0] <= now and len(due) < n:
                due.append(heapq.heappop(self._later)[2])
        return due


def _store_outcome(results: BaseResultBackend, codec: Codec, one: Settlement) -> None:
    """Store a job's outcome; an attempt that is followed by another one has none yet."""
    record = one.record
    if one.status is JobStatus.SUCCESS:
        value = None if one.result is None else codec.decode_value(one.result, shaped=True)
        results.set_result(record.id, value, record=record)
    elif one.status.is_final:
        error = one.error or StoredError(str(one.status), "")
        results.set_error(record.id, error, record=record, status=one.status)


Stores = SharedStore | FiveMethodQueue


# ---- after the commit -----------------------------------------------------------------


class SettlementEvents:
    """What follows once settlements are committed: hooks in their lanes, and events.

    Args:
        run_hook: Runs an attempt's hook in the attempt's lane.
        hook_ended: Called after each hook.
        was_cancelled: Whether a delivery that is lost was cancelled.

    Attributes:
        open_hooks: Hooks that have not ended; a stopping worker waits for them.
    """

    def __init__(
        self,
        bus: EventBus,
        runner: JobRunner,
        worker: str,
        *,
        run_hook: Callable[[OpenAttempt, Callable[[], None]], None],
        hook_ended: Callable[[], None],
        was_cancelled: Callable[[JobRecord], bool] = lambda _: False,
    ) -> None:
        self._bus, self._runner, self._worker = bus, runner, worker
        self._run_hook, self._hook_ended = run_hook, hook_ended
        self._was_cancelled = was_cancelled
        self.open_hooks: set[Callable[[], None]] = set()

    @property
    def tells_successes(self) -> bool:
        """Whether an accepted success triggers anything."""
        return self._runner.has_hooks or JobSucceeded in self._bus.active

    def follow(self, attempts: Sequence[OpenAttempt], accepted: Sequence[bool]) -> None:
        """Call the hooks of attempts, and emit whether their settlements were accepted."""
        active = self._bus.active
        is_silent, is_wanted = not self.tells_successes, not _TOLD.isdisjoint(active)
        dropped: list[OpenAttempt] = []
        for attempt, was_accepted in zip(attempts, accepted, strict=True):
            if is_silent and was_accepted and attempt.settlement.status is _SUCCESS:
                continue  # usually true for all of them
            if not was_accepted:
                dropped.append(attempt)
                continue
            if attempt.task is not None and attempt.task.has_hooks:
                self._run_hook(attempt, self._hook_of(attempt))
            if is_wanted:
                self._emit(attempt.settlement)
        if dropped:
            self.fenced(dropped)

    def fenced(self, attempts: Sequence[OpenAttempt]) -> None:
        """Emit that outcomes were dropped, and whether that was since their jobs were cancelled."""
        if JobFenced not in self._bus.active:
            return
        are_few = len(attempts) <= _MOST_ASKED
        for attempt in attempts:
            was_cancelled = are_few and self._was_cancelled(attempt.record)
            self._bus.emit(JobFenced(attempt.record, self._worker, was_cancelled))

    def _hook_of(self, attempt: OpenAttempt) -> Callable[[], None]:
        def call() -> None:
            try:
                self._runner.after_settled(attempt, attempt.settlement.status)
            finally:
                self.open_hooks.discard(call)
                self._hook_ended()

        self.open_hooks.add(call)
        return call

    def _emit(self, settlement: Settlement) -> None:
        active = self._bus.active
        if settlement.outcome == "timeout" and JobTimedOut in active:
            error = settlement.error or _NO_ERROR
            self._bus.emit(JobTimedOut(settlement.record, error, self._worker))
        event = self._event_of(settlement)
        if type(event) in active:
            self._bus.emit(event)

    def _event_of(self, settlement: Settlement) -> Event:
        record, status = settlement.record, settlement.status
        secs = max(0.0, settlement.finished_at - settlement.started_at)
        if status is _SUCCESS:
            return JobSucceeded(record, secs, self._worker)
        if status is JobStatus.PENDING:
            return JobRetrying(record, settlement.error, settlement.run_at, secs, self._worker)
        if status is JobStatus.CANCELLED:
            return JobCancelled(record.id)
        if status is JobStatus.PARKED:
            return JobParked(record, self._runner.refused.get(record.func_name, ""))
        return JobFailed(record, settlement.error or _NO_ERROR, secs, self._worker)
