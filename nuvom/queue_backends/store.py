"""The rules of a job's life, written once over the rows of any store.

A new backend with leases derives from ``StoreQueue`` and implements what is abstract: the rows.
What becomes of a job is decided by ``nuvom.core.transitions``; a backend writes the ``Change`` that
comes out, and has no such rule of its own.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from nuvom.core import transitions
from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.core.ids import valid_name
from nuvom.core.views import seen_worker
from nuvom.queue_backends.leased import LeasedJobQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from nuvom.core.outcome import Settlement
    from nuvom.core.record import Attempt, JobRecord, JobSnapshot, JobStatus
    from nuvom.core.transitions import Change, Recovery
    from nuvom.core.views import WorkerInfo

COMMANDS = frozenset({"quiet", "resume", "stop", "stacks"})
_UNPARKED_AT_ONCE = 1000


class StoreQueue(LeasedJobQueue):
    """A queue on the rows of a store.

    To implement are the abstract methods here, and of ``LeasedJobQueue`` those that this class
    leaves abstract: they read and write rows already. Each is one step: other calls see all of it
    or nothing, and a caller that is interrupted, or has lost its connection, may repeat it. What
    a method has written is as durable as the settings say when it returns.

    Whatever makes a job ready wakes a sleeping worker once it is written; whatever ends one wakes
    all who wait for results; a cancel, a pause and a command change ``control_version``. A backend
    gets ready for that before it writes, so that a call that fails has written nothing.

    A delivery is known by the ``id``, ``ref`` and ``lease_epoch`` of its record. ``ref`` is the
    store's own number of the row and is never used again: a job that was removed and enqueued
    once more is another one. A claim sets it, raises the counters as ``transitions.claimed``
    does, and clears ``started_at``, ``finished_at`` and the progress.

    Attributes:
        clock: Of this process. A store on a server overrides ``now``.
        lease_secs, max_deliveries, parked_ttl_secs: As in the settings.
    """

    clock: Clock = SYSTEM_CLOCK
    lease_secs: float
    max_deliveries: int
    parked_ttl_secs: float

    def now(self) -> float:
        """Return seconds since the epoch, by the clock that decides when a job is due."""
        return self.clock.now()

    # ---- rows -----------------------------------------------------------------------------

    @abstractmethod
    def finish(self, successes: Sequence[Settlement]) -> list[bool]:
        """Close attempts that plainly succeeded: those that ``transitions.not_plain`` leaves out.

        The same as to apply ``transitions.settled``, without the way through a ``Change``.
        """

    @abstractmethod
    def apply(self, changes: Sequence[Change]) -> list[bool]:
        """Write changes in order, each only if its job still is as it was; see ``Change``.

        Returns: for each whether it is applied, by this call or, where it ``settles``, by an
        earlier one.
        """

    @abstractmethod
    def recover(self, recovery: Recovery) -> list[JobRecord]:
        """Take back and give up jobs, and make ready what is due.

        ``recovery.take_back`` is asked once for each worker that is dead or whose leases have
        ended, with all that it has lost, and ``recovery.give_up`` for what was PARKED for too
        long; what they answer is applied in the same step. Then dead workers are forgotten.
        If the store was locked for so long that nobody could renew a lease, all may do so first.

        Returns: the records that were changed, as they are now.
        """

    @abstractmethod
    def has_started(self, job: JobRecord) -> bool:
        """Return whether ``mark_started`` was called for this delivery, in this process."""

    @abstractmethod
    def closed_attempts(self, job_id: str) -> list[Attempt]:
        """Return the attempts that changes have closed, oldest first; no success is among them."""

    @abstractmethod
    def parked(self, tasks: Collection[str], limit: int) -> list[JobSnapshot]:
        """Return PARKED jobs of ``tasks``, at most ``limit``, in any order."""

    @abstractmethod
    def remove_waiting(self, queue: str | None) -> int:
        """Remove the PENDING and PARKED jobs of a queue, None for all; return how many."""

    @abstractmethod
    def set_paused(self, queue: str, by: str | None) -> bool:
        """Pause a queue, or resume it with None; return whether it was paused before."""

    @abstractmethod
    def announced(self) -> list[WorkerInfo]:
        """Return the announced workers that are not known to be dead, in any order.

        With ``beat_age_secs`` and ``running`` as they are; how that is shown is decided here.
        """

    @abstractmethod
    def push_command(self, owner: str, word: str) -> bool:
        """Leave a word for a worker; False when it is not announced."""

    # ---- deliveries -----------------------------------------------------------------------

    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Close attempts; see the contract. Plain successes take the short way."""
        others = transitions.not_plain(settlements)
        if not others:
            return self.finish(settlements)
        apart = {id(one) for one in others}
        plain = [one for one in settlements if id(one) not in apart]
        finished = iter(self.finish(plain) if plain else ())
        now = self.now()
        applied = iter(self.apply([transitions.settled(one, now) for one in others]))
        return [next(applied if id(one) in apart else finished) for one in settlements]

    def release(self, jobs: Sequence[JobRecord]) -> list[bool]:
        """Give claimed jobs back, uncharged; see the contract."""
        if not jobs:
            return []
        now = self.now()
        return self.apply(
            [transitions.released(job, now, started=self.has_started(job)) for job in jobs]
        )

    def reap(self) -> list[JobRecord]:
        """Take back jobs of the dead and the silent, wake due ones; see the contract."""
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
        return self._changed(job_id, transitions.retried)

    def _changed(
        self, job_id: str, decide: Callable[[JobSnapshot], Change | None]
    ) -> JobStatus | None:
        """Change a job, after a new look where it changed meanwhile; return what it was."""
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
        while wanted and (seen := self.parked(wanted, _UNPARKED_AT_ONCE)):
            count += sum(self.apply([transitions.unparked(one) for one in seen]))
        return count

    def pause(self, queue: str, by: str) -> None:
        """Let no job of ``queue`` be claimed; see the contract."""
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
        """Return the announced workers that live; see the contract."""
        shown = [seen_worker(worker, self.lease_secs) for worker in self.announced()]
        known = [worker for worker in shown if worker is not None]
        return sorted(known, key=lambda worker: worker.started_at)

    def command(self, owner: str, word: str) -> bool:
        """Leave a word for a worker; see the contract. Raises: ValueError: no such word."""
        if word not in COMMANDS:
            raise ValueError(f"{word!r} is no command; known are {', '.join(sorted(COMMANDS))}")
        is_shown = any(worker.id == owner for worker in self.workers())
        return is_shown and self.push_command(owner, word)

    def attempts(self, job_id: str) -> list[Attempt]:
        """Return the closed attempts that are kept, and the success; oldest first."""
        seen = self.get(job_id)
        if seen is None:
            return []
        return [*self.closed_attempts(job_id), *transitions.success_of(seen)]
