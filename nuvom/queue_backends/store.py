"""The rules of a job's life cycle, written once for the rows of any store.

A new backend with leases derives from ``StoreQueue`` and implements its abstract methods: the rows.
``nuvom.core.transitions`` decides what happens to a job. A backend only writes the resulting
``Change`` and has no such rules of its own.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from nuvom.core import transitions
from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.core.ids import valid_name
from nuvom.core.record import JobStatus
from nuvom.core.views import seen_worker
from nuvom.queue_backends.leased import LeasedJobQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from nuvom.core.outcome import Settlement
    from nuvom.core.record import Attempt, JobRecord, JobSnapshot
    from nuvom.core.transitions import Change, Recovery
    from nuvom.core.views import WorkerInfo

_SUCCESS = JobStatus.SUCCESS
COMMANDS = frozenset({"quiet", "resume", "stop", "stacks"})


class StoreQueue(LeasedJobQueue):
    """A queue on the rows of a store.

    Implement the abstract methods here, and those of ``LeasedJobQueue`` that this class leaves
    abstract because they work on rows directly. Each is atomic: other calls see all of it or
    nothing. A caller that was interrupted, or lost its connection, may repeat it. When a method
    returns, its writes are as durable as the settings say.

    A write that makes a job ready wakes a sleeping worker; one that ends a job wakes everyone who
    waits for results; a cancel, a pause and a command change ``control_version``. A backend
    prepares the wake-up before it writes, so that a call that fails has written nothing.

    The ``id``, ``ref`` and ``lease_epoch`` of its record identify a delivery. ``ref`` is the
    store's own row number and is never reused: a job that is removed and enqueued again is a
    different one. A claim sets it, raises the counters as ``transitions.claimed`` does, and clears
    ``started_at``, ``finished_at`` and the progress.

    Attributes:
        clock: The clock of this process; of a store on a server, the server's.
        lease_secs, max_deliveries, parked_ttl_secs: As in the settings.
    """

    clock: Clock = SYSTEM_CLOCK
    lease_secs: float
    max_deliveries: int
    parked_ttl_secs: float

    def now(self) -> float:
        """Return seconds since the epoch by the clock that decides when jobs become due."""
        return self.clock.now()

    # ---- rows -----------------------------------------------------------------------------

    @abstractmethod
    def apply(self, changes: Sequence[Change]) -> list[bool]:
        """Write changes in order, each only if its job is unchanged; see ``Change``.

        Returns: for each, whether it was applied by this call or, if it ``settles``, by an
        earlier one.
        """

    @abstractmethod
    def recover(self, recovery: Recovery) -> list[JobRecord]:
        """Take back lost jobs, give up on others, and promote due ones.

        Calls ``recovery.take_back`` once for each worker that is dead or whose leases have ended,
        with all that it has lost, and ``recovery.give_up`` for jobs PARKED for too long. Applies
        the answers in the same step, then forgets dead workers. If the store was locked for so
        long that no worker could renew a lease, all may do so first.

        Returns: the changed records in their new state.
        """

    @abstractmethod
    def has_started(self, job: JobRecord) -> bool:
        """Return whether ``mark_started`` was called for this delivery, in this process."""

    @abstractmethod
    def closed_attempts(self, job_id: str) -> list[Attempt]:
        """Return the attempts closed by changes, oldest first; excludes the success."""

    @abstractmethod
    def parked(self, tasks: Collection[str], limit: int) -> list[JobSnapshot]:
        """Return PARKED jobs of ``tasks``, at most ``limit``, in any order."""

    @abstractmethod
    def remove_waiting(self, queue: str | None) -> int:
        """Remove the PENDING and PARKED jobs of a queue (None: of all); return how many."""

    @abstractmethod
    def set_paused(self, queue: str, by: str | None) -> bool:
        """Pause a queue, or resume it with None; return False if it was not paused."""

    @abstractmethod
    def announced(self) -> list[WorkerInfo]:
        """Return the announced workers that are not known to be dead, in any order.

        ``beat_age_secs`` and ``running`` are raw values; this class decides how they appear.
        """

    @abstractmethod
    def push_command(self, owner: str, word: str) -> bool:
        """Send a command to a worker; False if it is not announced."""

    # ---- deliveries -----------------------------------------------------------------------

    def finish(self, successes: Sequence[Settlement]) -> list[bool]:
        """Close attempts that plainly succeeded: no error stored, no children.

        Override it to do the same without building a ``Change`` for each.
        """
        now = self.now()
        return self.apply([transitions.settled(one, now) for one in successes])

    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Close attempts; see the contract. Plain successes take a shortcut."""
        others = [
            one
            for one in settlements
            if one.status is not _SUCCESS or one.error is not None or one.children
        ]
        if not others:
            return self.finish(settlements)
        apart = {id(one) for one in others}
        plain = [one for one in settlements if id(one) not in apart]
        finished = iter(self.finish(plain) if plain else ())
        now = self.now()
        applied = iter(self.apply([transitions.settled(one, now) for one in others]))
        return [next(applied if id(one) in apart else finished) for one in settlements]

    def release(self, jobs: Sequence[JobRecord]) -> list[bool]:
        """Return claimed jobs to the queue, uncharged; see the contract."""
        if not jobs:
            return []
        now = self.now()
        return self.apply(
            [transitions.released(job, now, started=self.has_started(job)) for job in jobs]
        )

    def reap(self) -> list[JobRecord]:
        """Take back jobs of dead and silent workers, promote due ones; see the contract."""
        now = self.now()
        return self.recover(
            transitions.Recovery(now, self.max_deliveries, now - self.parked_ttl_secs)
        )

    # ---- control --------------------------------------------------------------------------

    def cancel(self, job_id: str) -> JobStatus | None:
        """Cancel a job that is not final; see the contract."""
        return self._changed(job_id, lambda seen: transitions.cancelled(seen, self.now()))

    def retry(self, job_id: str) -> JobStatus | None:
        """Make a failed or cancelled job PENDING again; see the contract."""
        return self._changed(job_id, lambda seen: transitions.retried(seen, self.now()))

    def _changed(
        self, job_id: str, decide: Callable[[JobSnapshot], Change | None]
    ) -> JobStatus | None:
        """Change a job, retrying if it changed meanwhile; return its previous status."""
        refused: JobRecord | None = None
        while (seen := self.get(job_id)) is not None:
            change = None if seen.record == refused else decide(seen)
            if change is None or self.apply([change])[0]:
                return seen.status
            refused = seen.record
        return None

    def unpark(self, tasks: Iterable[str]) -> int:
        """Make PARKED jobs of ``tasks`` PENDING; see the contract."""
        parked = self.parked_tasks
        wanted = parked.keys() & set(tasks) if parked else ()
        count = 0
        while wanted and (seen := self.parked(wanted, limit=1000)):
            count += sum(self.apply([transitions.unparked(one) for one in seen]))
        return count

    def pause(self, queue: str, by: str) -> None:
        """Stop claims from ``queue``; see the contract."""
        self.set_paused(valid_name("queue", queue), by)

    def resume(self, queue: str) -> bool:
        """Undo ``pause``; see the contract."""
        return self.set_paused(queue, None)

    def purge(self, queue: str) -> int:
        """Remove the waiting jobs of ``queue``; see the contract."""
        return self.remove_waiting(queue)

    def clear(self) -> None:
        """Remove all waiting jobs; see the contract."""
        self.remove_waiting(None)

    # ---- workers and history --------------------------------------------------------------

    def workers(self) -> list[WorkerInfo]:
        """Return the announced workers that are alive; see the contract."""
        shown = [seen_worker(worker, self.lease_secs) for worker in self.announced()]
        known = [worker for worker in shown if worker is not None]
        return sorted(known, key=lambda worker: worker.started_at)

    def command(self, owner: str, word: str) -> bool:
        """Send a command to a worker; see the contract. Raises: ValueError: unknown command."""
        if word not in COMMANDS:
            raise ValueError(f"{word!r} is no command; known are {', '.join(sorted(COMMANDS))}")
        is_shown = any(worker.id == owner for worker in self.workers())
        return is_shown and self.push_command(owner, word)

    def attempts(self, job_id: str) -> list[Attempt]:
        """Return the stored closed attempts and the success, oldest first."""
        seen = self.get(job_id)
        if seen is None:
            return []
        return [*self.closed_attempts(job_id), *transitions.success_of(seen)]
