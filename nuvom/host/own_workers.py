"""The workers of this process that use a store, and the slots of their claimed jobs."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from nuvom.host.start_marks import SLOT_BYTES, STARTED, STATE_AT
from nuvom.host.worker_lock import WorkerLock, is_alive

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class OwnWorkers:
    """The locks of the workers in this process, and the slots of their claimed jobs.

    Usable from any thread.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._mutex = Lock()
        self._locks: dict[str, WorkerLock] = {}
        self._marks: dict[str, tuple[int, WorkerLock, int]] = {}  # by job: epoch, lock, slot

    def lock_of(self, owner: str) -> WorkerLock | None:
        """Return a worker's lock, taken at its first claim; None if another process holds it."""
        found = self._locks.get(owner)
        if found is None or not found.held:
            with self._mutex:
                found = self._taken(owner)
        return found

    def _taken(self, owner: str) -> WorkerLock | None:
        found = self._locks.get(owner)
        if found is not None and found.held:
            return found
        if found is not None:
            found.release()  # complete an interrupted release
        if is_alive(self._directory, owner):
            return None
        taken = self._locks[owner] = WorkerLock.acquire(self._directory, owner)
        return taken

    def leave(self, owner: str) -> None:
        """Release a worker's lock cleanly; does nothing if it has none here."""
        with self._mutex:
            lock = self._locks.get(owner)
            if lock is not None:
                lock.release()
                del self._locks[owner]

    def book(self, owner: str, claimed: list[tuple[str, int]]) -> None:
        """Give claimed jobs, as (id, epoch), slots in which their start can be marked."""
        lock = self.lock_of(owner)
        if lock is None:
            return
        indexes = lock.book(claimed)
        try:
            booked = zip(claimed, indexes, strict=True)
            marks = {job_id: (epoch, lock, index) for (job_id, epoch), index in booked}
            with self._mutex:
                self._marks.update(marks)
        except BaseException:
            with self._mutex:
                for job_id, _ in claimed:
                    self._marks.pop(job_id, None)
            lock.free(indexes)
            raise

    def mark_started(self, job_id: str, epoch: int) -> None:
        """Mark that a delivery starts: one byte in mapped memory."""
        with self._mutex:  # else its slot may belong to another job by the time of the write
            mark = self._marks.get(job_id)
            if mark is not None and mark[0] == epoch:
                mark[1].mark(mark[2])

    def has_started(self, job_id: str, epoch: int) -> bool:
        """Return whether a delivery to this process has started."""
        mark = self._marks.get(job_id)
        if mark is None or mark[0] != epoch:
            return False
        return mark[1].map[mark[2] * SLOT_BYTES + STATE_AT] == STARTED

    def free(self, ended: Iterable[tuple[str, int]]) -> None:
        """Free the slots of jobs. Call it only after their end is committed.

        An exception in between may leak one slot, but never makes two jobs share one.
        """
        with self._mutex:  # two threads may settle the same jobs at the same time
            for job_id, epoch in ended:
                mark = self._marks.get(job_id)
                if mark is not None and mark[0] == epoch:
                    del self._marks[job_id]
                    mark[1].free((mark[2],))

    def close(self) -> None:
        """Release all locks. Workers that still hold jobs count as dead. Idempotent."""
        with self._mutex:
            holding = {lock.owner for _, lock, _ in self._marks.values()}
            for owner, lock in tuple(self._locks.items()):
                if owner in holding:
                    lock.abandon()
                else:
                    lock.release()
                del self._locks[owner]
            self._marks = {}
