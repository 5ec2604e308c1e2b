"""The workers of this process that use a store, and the slots of their claimed jobs."""

from __future__ import annotations

from collections import defaultdict
from threading import Lock
from typing import TYPE_CHECKING

from nuvom.host.start_marks import SLOT_BYTES, STARTED, STATE_AT
from nuvom.host.worker_lock import WorkerLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path


class OwnWorkers:
    """The locks of the workers in this process, and the slots of their claimed jobs.

    A job and its ``lease_epoch`` stand for one delivery. Usable from any thread. The slots need no
    lock: where one step depends on another, no call stands in between, so that neither another
    thread nor an exception comes in between.

    Args:
        directory: The store's.
        prepare: Makes the store's folder; called before a worker's lock is taken. It must not
            reference this object's owner, or sockets stay open until garbage is collected.

    Attributes:
        marks: Where each claimed job can be marked as started, by its id: the lock with the slot
            file, the index of the slot, and the ``lease_epoch``.
    """

    def __init__(self, directory: Path, prepare: Callable[[], object] = lambda: None) -> None:
        self._directory = directory
        self._prepare = prepare
        self._mutex = Lock()
        self._locks: dict[str, WorkerLock] = {}
        self.marks: dict[str, tuple[WorkerLock, int, int]] = {}

    # ---- workers ----------------------------------------------------------------------------

    def lock_of(self, owner: str) -> WorkerLock:
        """Return the lock of a worker, taken at its first claim.

        Raises: BackendUnavailable, StorageFull.
        """
        found = self._locks.get(owner)
        if found is None or found.has_ended:
            self._prepare()
            with self._mutex:
                found = self._locks.get(owner)
                if found is None or found.has_ended:
                    found = self._locks[owner] = WorkerLock.acquire(self._directory, owner)
        return found

    def living(self) -> set[str]:
        """Return the workers that live in this process."""
        return {owner for owner, lock in tuple(self._locks.items()) if lock.held}

    def leave(self, owner: str) -> None:
        """Release a worker's lock cleanly; does nothing if it has none here."""
        with self._mutex:
            lock = self._locks.get(owner)
            if lock is not None:
                lock.release()
                del self._locks[owner]

    def close(self) -> None:
        """Release all locks. Workers that still hold jobs count as dead. Idempotent."""
        with self._mutex:
            holding = {lock.owner for lock, _, _ in self.marks.values()}
            for owner, lock in tuple(self._locks.items()):
                if owner in holding:
                    lock.abandon()
                else:
                    lock.release()
                del self._locks[owner]
            self.marks = {}

    # ---- deliveries -------------------------------------------------------------------------

    def book(self, lock: WorkerLock, claimed: Sequence[tuple[str, int]]) -> None:
        """Give claimed jobs, as (id, epoch), slots in which their start can be marked."""
        indexes = lock.book(claimed)
        marks = self.marks
        try:
            for (job_id, epoch), index in zip(claimed, indexes, strict=True):
                marks[job_id] = (lock, index, epoch)
        except BaseException:
            for job_id, _ in claimed:
                marks.pop(job_id, None)
            lock.free(indexes)
            raise

    def booked(self, owner: str) -> list[tuple[str, int]]:
        """Return the claimed jobs of a worker, as (id, epoch)."""
        marks = self.marks.copy()  # atomic: other threads claim and settle meanwhile
        return [(one, epoch) for one, (lock, _, epoch) in marks.items() if lock.owner == owner]

    def mark_started(self, job_id: str, epoch: int) -> None:
        """Mark that a delivery starts: one byte in mapped memory; a no-op if it has no slot."""
        try:
            lock, index, booked = self.marks[job_id]
        except KeyError:
            return
        if booked == epoch:
            lock.map[index * SLOT_BYTES + STATE_AT] = STARTED

    def has_started(self, job_id: str, epoch: int) -> bool:
        """Return whether a delivery to this process has started."""
        mark = self.marks.get(job_id)
        if mark is None or mark[2] != epoch:
            return False
        return mark[0].map[mark[1] * SLOT_BYTES + STATE_AT] == STARTED

    def free(self, ended: Iterable[tuple[str, int]]) -> None:
        """Free the slots of deliveries. Call it only after their end is committed.

        An exception in between may leak slots, but never makes two jobs share one.
        """
        marks = self.marks
        freed: defaultdict[WorkerLock, list[int]] = defaultdict(list)
        for job_id, epoch in ended:
            try:
                lock, index, booked = marks[job_id]
            except KeyError:
                continue
            if booked == epoch:
                del marks[job_id]
                freed[lock].append(index)
        for lock, indexes in freed.items():
            lock.free(indexes)
