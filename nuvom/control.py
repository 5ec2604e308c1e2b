"""User-requested changes to stored jobs and queues: cancel, retry, pause, purge, prune.

The SDK, the command line and dashboards all use this module, whatever the backends are. Reading
is done by ``nuvom.inspection``.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.ids import REPEATS, following_id
from nuvom.core.record import JobStatus
from nuvom.core.transitions import RENAMABLE, RETRYABLE, cancelled, home_of, repeated, retried
from nuvom.errors import CapabilityMissing, QueueError
from nuvom.events import EventBus, JobCancelled, JobEnqueued
from nuvom.host.crashpoint import crashpoint
from nuvom.queue_backends.base import BaseJobQueue, Capability
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.queue_backends.store import StoreQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nuvom.core.record import JobRecord, JobSnapshot
    from nuvom.core.transitions import Change
    from nuvom.core.views import AuditEntry
    from nuvom.result_backends.base import BaseResultBackend

_CHUNK = 1000


class Control:
    """Acts on a queue and its results.

    Every method raises CapabilityMissing if the queue does not support it.
    """

    def __init__(
        self, queue: BaseJobQueue, results: BaseResultBackend, bus: EventBus, *, is_shared: bool
    ) -> None:
        self._queue = queue
        self._results = results
        self._bus = bus
        self.is_shared = is_shared

    def cancel(self, job_id: str) -> JobStatus | None:
        """Cancel a job; return its previous status, None if there is no such job."""
        before = self._leased.cancel(job_id)
        if before is not None and not before.is_final:
            self._queue.notify()
            if JobCancelled in self._bus.active:
                self._bus.emit(JobCancelled(job_id))
        return before

    def retry(self, job_id: str) -> JobStatus | None:
        """Run a FAILED, DEAD or CANCELLED job again; return its previous status, None if unknown.

        If results are in a separate store, the stored outcome is removed first. Otherwise a worker
        would take it for the outcome of the new attempt.
        Raises: QueueError: another job now has its ``unique_key``, or another store has the job;
            it is unchanged.
        """
        queue = self._leased
        snapshot = queue.get(job_id)
        if snapshot is None or snapshot.status not in RETRYABLE:
            return None if snapshot is None else snapshot.status
        if (home := home_of(snapshot)) is not None:
            raise QueueError(f"job {job_id} was moved to {home}, and can be run again there only")
        if not self.is_shared:
            self._results.forget(job_id)
        before = queue.retry(job_id)
        if before in RETRYABLE:
            after = queue.get(job_id)
            if after is not None and after.record.lease_epoch == snapshot.record.lease_epoch:
                raise QueueError(f"job {job_id} stays as it is: another job has its unique_key")
            self._queue.notify()
        return before

    # ---- only if nothing has happened since --------------------------------------------------

    def retry_seen(self, seen: Sequence[JobSnapshot]) -> list[bool]:
        """Run ended jobs again, each only if it is still as it was seen; return which do.

        A job whose ``unique_key`` another one has by now stays as it is.
        """
        if not self.is_shared:
            for one in seen:
                if one.status in RETRYABLE and self._is_unchanged(one):
                    self._results.forget(one.record.id)
        return self._change_seen(seen, retried)

    def cancel_seen(self, seen: Sequence[JobSnapshot]) -> list[bool]:
        """Cancel jobs, each only if it is still as it was seen; return which were."""
        done = self._change_seen(seen, cancelled)
        if JobCancelled in self._bus.active:
            for one, is_done in zip(seen, done, strict=True):
                if is_done:
                    self._bus.emit(JobCancelled(one.record.id))
        return done

    def discard_seen(self, seen: Sequence[JobSnapshot]) -> list[bool]:
        """Remove ended jobs, each only if it is still as it was seen; return which were.

        Raises: CapabilityMissing: as ``discard``.
        """
        self._require_shared()
        return [
            one.status.is_final and self._is_unchanged(one) and self._results.forget(one.record.id)
            for one in seen
        ]

    def _change_seen(
        self,
        seen: Sequence[JobSnapshot],
        decide: Callable[[JobSnapshot, float], Change | None],
    ) -> list[bool]:
        queue = self._leased
        if not isinstance(queue, StoreQueue):
            reason = "it cannot compare a job with what was seen of it"
            raise self._missing(Capability.CONTROL, reason)
        now = queue.now()
        changes = [decide(one, now) for one in seen]
        applied = iter(queue.apply([one for one in changes if one is not None]))
        done = [one is not None and next(applied) for one in changes]
        if any(done):
            self._queue.notify()
        return done

    def _is_unchanged(self, seen: JobSnapshot) -> bool:
        now = self._leased.get(seen.record.id)
        before = (seen.status, seen.record.lease_epoch)
        return now is not None and (now.status, now.record.lease_epoch) == before

    # ---- new jobs in place of others ---------------------------------------------------------

    def retry_as(self, job_id: str, task: str) -> tuple[str | None, JobStatus | None]:
        """Run a PARKED, FAILED, DEAD or CANCELLED job as ``task``, with the same arguments.

        A new job is stored, whose ``retried_from`` is this one. A PARKED job is cancelled first,
        so that never both can run. After an interruption the call can be repeated: the new job's id
        follows from this one and the task, and storing it again changes nothing.

        Returns: the new job's id, None if there is none; and this job's previous status, None if
            it is unknown.
        Raises: QueueError: another job of the task has its ``unique_key``, or another store has
            this job; whatever storing a job raises.
        """
        queue = self._leased
        if not isinstance(queue, StoreQueue):
            raise self._missing(Capability.CONTROL, "it cannot run a job as another task")
        while (seen := queue.get(job_id)) is not None and seen.status in RENAMABLE:
            if (home := home_of(seen)) is not None:
                raise QueueError(f"job {job_id} was moved to {home}, and can be run there only")
            if seen.status is not JobStatus.PARKED or self._cancel_parked(queue, seen):
                return self.repeat(seen.record, again=False, func_name=task), seen.status
        return None, None if seen is None else seen.status

    def _cancel_parked(self, queue: StoreQueue, seen: JobSnapshot) -> bool:
        """Cancel a job that is still PARKED; False if it no longer is."""
        if not queue.apply([cancelled(seen, queue.now())])[0]:  # type: ignore[list-item]  # it has not ended
            return False
        crashpoint("control.parked_job_cancelled")
        queue.notify()
        if JobCancelled in self._bus.active:
            self._bus.emit(JobCancelled(seen.record.id))
        return True

    def repeat(self, old: JobRecord, *, again: bool = True, **changes: Any) -> str:
        """Store a new job that repeats another one with changes, linked by ``retried_from``.

        Args:
            again: Whether to store one even if the same was stored before.
        Returns: the new job's id.
        Raises: QueueError: another job has its ``unique_key``; whatever storing a job raises.
        """
        queue = self._leased
        now = queue.now() if isinstance(queue, StoreQueue) else SYSTEM_CLOCK.now()
        for number in count():
            new_id = following_id(old.id, REPEATS, number)
            found = queue.get(new_id)
            if found is not None and again:
                continue
            record = repeated(old, new_id, now, **changes)
            if found is None:
                self._store_repeat(queue, record)
                found = queue.get(new_id)
            # Somebody else may have stored another one under this id, which then stays.
            if found is None or _is_same_call(found.record, record):
                return new_id
        raise AssertionError  # the numbers never end

    def _store_repeat(self, queue: LeasedJobQueue, record: JobRecord) -> None:
        existing = queue.enqueue(record)
        if existing is not None:
            reason = f"job {existing} of {record.func_name} has its unique_key"
            raise QueueError(f"job {record.retried_from} cannot be repeated: {reason}")
        if JobEnqueued in self._bus.active:
            self._bus.emit(JobEnqueued(record))

    # ---- jobs that have ended, queues, workers -----------------------------------------------

    def discard(self, job_id: str) -> bool:
        """Remove an ended job and its result; False if there is no such job.

        Raises: CapabilityMissing: queue and results are separate, so one of them would keep it.
        """
        self._require_shared()
        snapshot = self._leased.get(job_id)
        return snapshot is not None and snapshot.status.is_final and self._results.forget(job_id)

    def _require_shared(self) -> None:
        if not self.is_shared:
            reason = "it can only remove jobs together with their results in one store"
            raise self._missing("discard", reason)

    def pause(self, queue: str, by: str) -> None:
        """Keep jobs of ``queue`` from starting until it is resumed."""
        self._leased.pause(queue, by)

    def resume(self, queue: str) -> bool:
        """Undo ``pause``; False when it was not paused."""
        was_paused = self._leased.resume(queue)
        if was_paused:
            self._queue.notify()
        return was_paused

    def purge(self, queue: str) -> int:
        """Remove the waiting jobs of ``queue``; return how many."""
        return self._leased.purge(queue)

    def prune(
        self,
        *,
        success_before: float,
        failed_before: float,
        tell: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Remove all final jobs that ended before the given times; return how many.

        Args:
            tell: Called now and then with how many are removed.
        """
        removed = 0
        while True:
            chunk = self._leased.prune(
                success_before=success_before, failed_before=failed_before, limit=_CHUNK
            )
            removed += chunk
            tell(removed)
            if chunk < _CHUNK:
                return removed

    def command(self, worker: str, word: str) -> bool:
        """Send ``quiet``, ``resume``, ``stop`` or ``stacks`` to a worker."""
        return self._leased.command(worker, word)

    def record_audit(self, entry: AuditEntry) -> None:
        """Store what somebody does, or replace the entry of that id, if the backend keeps any."""
        if isinstance(self._queue, LeasedJobQueue):
            self._queue.record_audit(entry)

    def keep_totals(self) -> None:
        """Make the store start counting events; ``Inspector.totals`` returns the counts."""
        queue = self._leased
        if Capability.TOTALS not in queue.capabilities:
            raise self._missing(Capability.TOTALS, "it counts nothing")
        queue.keep_totals()

    def reap(self) -> int:
        """Take back the jobs of dead workers; return how many. Does nothing if unsupported."""
        if not isinstance(self._queue, LeasedJobQueue):
            return 0
        return len(self._queue.reap())

    @property
    def _leased(self) -> LeasedJobQueue:
        if not isinstance(self._queue, LeasedJobQueue):
            raise self._missing(Capability.CONTROL, "it has five methods only")
        return self._queue

    def _missing(self, capability: str, reason: str) -> CapabilityMissing:
        name = self._queue.name or type(self._queue).__name__
        return CapabilityMissing(name, str(capability), reason)


def _is_same_call(one: JobRecord, other: JobRecord) -> bool:
    calls = [(it.func_name, bytes(it.args), bytes(it.kwargs)) for it in (one, other)]
    return calls[0] == calls[1]
