"""What queues on a server have in common: the workers of this process, and what they claimed.

A dead worker of the same machine is known at once by its lock, others by their lease. A claim whose
answer was lost is given back. The server learns of starting jobs ahead of time.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from nuvom.config.project import ensure_state_dir
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.ids import valid_name
from nuvom.core.record import JobRecord, JobStatus, StoredError
from nuvom.core.transitions import Change
from nuvom.errors import BackendUnavailable, CorruptRecord
from nuvom.host.ahead_marks import AheadMarks
from nuvom.host.fork import drop_at_fork
from nuvom.host.own_workers import OwnWorkers
from nuvom.host.worker_lock import DeadWorker, find_dead
from nuvom.queue_backends.leased import ClaimArguments
from nuvom.queue_backends.store import StoreQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from nuvom.config.settings import Settings
    from nuvom.core.outcome import Settlement
    from nuvom.core.transitions import Recovery
    from nuvom.core.views import WorkerInfo
    from nuvom.errors import NuvomError
    from nuvom.host.ahead_marks import AheadSender

CONNECT_SECS = 5.0
"""How long a call tries to reach the server before it fails."""

_FIRST_WAIT_SECS, _MOST_WAIT_SECS = 0.05, 1.0
_TRIES_PER_LEASE = 6  # at least, as there are heartbeats: one wait must not cost a worker its lease
_MOST_TOKEN = 0xFFFF
Answer = TypeVar("Answer")


def reach(
    work: Callable[[], Answer],
    *,
    errors: tuple[type[Exception], ...],
    may_pass: Callable[[Any], bool],
    failure: Callable[[Any], Exception],
    lease_secs: float,
) -> Answer:
    """Call ``work`` again and again, for ``CONNECT_SECS``, while the server cannot be reached.

    Args:
        errors: What ``work`` may raise; others go to the caller as they are.
        may_pass: Tells an error after which another try makes sense.
        failure: Returns what to raise in the place of one after which there is no other try.
        lease_secs: Bounds the pauses: whoever waits may be about to renew a lease.
    """
    deadline = SYSTEM_CLOCK.monotonic() + CONNECT_SECS
    most_wait_secs = min(_MOST_WAIT_SECS, lease_secs / _TRIES_PER_LEASE)
    wait_secs = _FIRST_WAIT_SECS
    while True:
        try:
            return work()
        except errors as error:
            is_late = SYSTEM_CLOCK.monotonic() + wait_secs > deadline
            if is_late or not may_pass(error):
                raise failure(error) from error
        share = Random().uniform(0.5, 1.0)  # noqa: S311  # spreads retries
        SYSTEM_CLOCK.sleep(wait_secs * share)
        wait_secs = min(wait_secs * 2, most_wait_secs)


class ServerQueue(StoreQueue):
    """A queue whose store is on a server.

    Its ``capabilities`` include ``Capability.OVERLAP``.

    Args:
        settings: Lease length, limits, the project's root.
        folder_name: Names what this machine keeps about the store.
        connect_marks: Returns a connection for the start marks of a worker. It must not reference
            this object, or sockets stay open until garbage is collected.
        failure: Returns the error of ours for one of ``cut``.

    Attributes:
        cut: What the connections for marks raise where the server cannot be reached.
    """

    cut: ClassVar[tuple[type[Exception], ...]]

    def __init__(
        self,
        settings: Settings,
        folder_name: str,
        connect_marks: Callable[[str], AheadSender],
        failure: Callable[[Any], Exception],
    ) -> None:
        self.lease_secs = settings.lease_secs
        self.max_deliveries = settings.max_deliveries
        self.parked_ttl_secs = settings.parked_ttl_secs
        self.max_queue_size = settings.max_queue_size
        self.directory = settings.root / ".nuvom" / folder_name
        self._make_folder = partial(ensure_state_dir, settings.root)
        self._connect_marks = connect_marks
        self._failure = failure
        self._turn = 0
        self.drop_in_child()
        drop_at_fork(self)

    def drop_in_child(self) -> None:
        """Forget what belongs to the parent's workers."""
        self._abandoned: set[tuple[str, int]] = set()  # claims that no caller has received
        self._tokens = count(int.from_bytes(os.urandom(2), "big"))
        self._workers = OwnWorkers(self.directory, self._make_folder)
        self._marks = AheadMarks(self._connect_marks, self.cut, self._failure)

    # ---- abstract methods -----------------------------------------------------------------

    @abstractmethod
    def lend(self, claim: ClaimArguments) -> AbstractContextManager[Callable[[], list[JobRecord]]]:
        """Send a claim; the body calls what it is given to wait for the jobs.

        It is never sent again: nobody would know what the first one has taken.
        """

    @abstractmethod
    def give_back(self, owner: str, token: int) -> None:
        """Undo a claim that no caller has received, as ``transitions.released`` does."""

    @abstractmethod
    def beat(self, owner: str) -> dict[str, int]:
        """Record a heartbeat and return id and epoch of each job that the worker still holds."""

    @abstractmethod
    def take_lost(self, recovery: Recovery, dead: Mapping[str, DeadWorker]) -> list[JobRecord]:
        """Do as ``recover``, and forget these workers; each knows which of its jobs had started."""

    # ---- deliveries -----------------------------------------------------------------------

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
        """Lease at most ``n`` due jobs to ``owner``; see the contract."""
        if queues is not None and not queues:
            return []
        left_out = exclude, list(without)
        with self._asked(ClaimArguments(n, owner, queues, *left_out, suspects)) as jobs:
            return jobs()

    def settle_and_claim(
        self, settlements: Sequence[Settlement], claim: ClaimArguments
    ) -> tuple[list[bool], list[JobRecord]]:
        """Settle while the server already looks for the next jobs; see the contract."""
        with self._asked(claim) as jobs:
            accepted = self.settle(settlements) if settlements else []
            return accepted, jobs()

    @contextmanager
    def _asked(self, claim: ClaimArguments) -> Iterator[Callable[[], list[JobRecord]]]:
        owner = claim.owner
        lock = self._workers.lock_of(valid_name("a worker's id", owner))
        self._undo_abandoned()
        self._turn += 1
        token = next(self._tokens) % _MOST_TOKEN + 1
        try:
            with self.lend(claim._replace(token=token, turn=self._turn)) as receive:

                def jobs() -> list[JobRecord]:
                    claimed = receive()
                    self._workers.book(lock, [(job.id, job.lease_epoch) for job in claimed])
                    refs = [job.ref for job in claimed]
                    self._marks.expect(owner, refs, are_known=claim.starts)
                    return claimed

                yield jobs
        except BaseException:
            # No caller received these jobs, yet each heartbeat of their owner would renew them.
            self._abandoned.add((owner, token))
            raise

    def _undo_abandoned(self) -> None:
        for owner, token in tuple(self._abandoned):
            self.give_back(owner, token)
            self._abandoned.discard((owner, token))

    def set_aside(self, damaged: JobRecord, error: NuvomError) -> Change:
        """Return the change that ends a job whose record cannot be read; its bytes stay."""
        return Change(
            before=damaged,
            status=JobStatus.FAILED,
            lease_epoch=damaged.lease_epoch + 1,
            attempt=1,
            deliveries=0,
            suspect=False,
            run_at=0.0,
            finished_at=self.now(),
            error=StoredError(CorruptRecord.__name__, error.what),
        )

    def mark_started(self, job: JobRecord) -> None:
        """Have the server know that user code starts; see the contract."""
        self._marks.mark(job.ref)
        self._workers.mark_started(job.id, job.lease_epoch)

    def has_started(self, job: JobRecord) -> bool:
        """Return whether user code of a delivery to this process has started."""
        return self._workers.has_started(job.id, job.lease_epoch)

    def forget_deliveries(self, jobs: Sequence[JobRecord], secs: float = -1.0) -> None:
        """Drop what is known here of deliveries that have ended; they ran for ``secs`` seconds."""
        self._workers.free([(job.id, job.lease_epoch) for job in jobs])
        self._marks.ended([job.ref for job in jobs], secs)

    def extend(self, owner: str) -> dict[str, int]:
        """Renew the leases of ``owner`` and record its heartbeat; see the contract."""
        self._undo_abandoned()
        held = self.beat(owner)
        # A job no longer held is lost: this worker will not settle it.
        booked = self._workers.booked(owner)
        self._workers.free((one, epoch) for one, epoch in booked if held.get(one) != epoch)
        return held

    # ---- workers --------------------------------------------------------------------------

    def recover(self, recovery: Recovery) -> list[JobRecord]:
        """Take back lost jobs, give up on others, and promote due ones; see the contract."""
        dead = self._find_dead()
        try:
            changed = self.take_lost(recovery, dead)
            for one in dead.values():
                one.forget()
        finally:
            for one in dead.values():
                one.close()
        return changed

    def _find_dead(self) -> dict[str, DeadWorker]:
        """Return the workers of this machine whose process has ended; no lease has to end."""
        with suppress(BackendUnavailable):  # machines share this folder: then leases decide alone
            return {one.owner: one for one in find_dead(self.directory, self._workers.living())}
        return {}

    def known_dead(self) -> list[str]:
        """Return the ids of the workers of this machine whose process has ended."""
        dead = self._find_dead()
        for one in dead.values():
            one.close()
        return [*dead]

    def announce(self, worker: WorkerInfo) -> None:
        """Take the worker's lock; a backend then makes it visible."""
        self._workers.lock_of(worker.id)

    def retire(self, owner: str) -> None:
        """Release the worker's lock, once a backend has forgotten it."""
        self._undo_abandoned()
        self._workers.leave(owner)

    def stop(self) -> None:
        """Release the locks of this process's workers, and close the connections for marks."""
        self._workers.close()
        self._marks.close()
