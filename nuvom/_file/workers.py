"""The workers of this process that use a file store, and the slots of what they have claimed."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from nuvom.host.start_marks import SLOT_BYTES, STARTED, STATE_AT
from nuvom.host.worker_lock import WorkerLock, is_alive

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Workers:
    """Usable from any thread.

    Attributes:
        marks: For each job claimed here, its epoch, its owner's presence, and its slot.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._mutex = Lock()
        self._presences: dict[str, WorkerLock] = {}
        self.marks: dict[str, tuple[int, WorkerLock, int]] = {}

    def presence(self, owner: str) -> WorkerLock | None:
        """Return the presence of a worker, made at its first claim; None if it is elsewhere."""
        found = self._presences.get(owner)
        if found is None or not found.held:
            with self._mutex:
                found = self._entered(owner)
        return found

    def _entered(self, owner: str) -> WorkerLock | None:
        found = self._presences.get(owner)
        if found is not None and found.held:
            return found
        if found is not None:
            found.release()  # what was interrupted
        if is_alive(self._directory, owner):
            return None
        presence = self._presences[owner] = WorkerLock.acquire(self._directory, owner)
        return presence

    def leave(self, owner: str) -> None:
        """End a worker's presence in good order; harmless when it has none here."""
        with self._mutex:
            presence = self._presences.get(owner)
            if presence is not None:
                presence.release()
                del self._presences[owner]

    def book(self, owner: str, claimed: list[tuple[str, int]]) -> None:
        """Give claimed jobs, as ids and epochs, slots in which their start can be marked."""
        presence = self.presence(owner)
        if presence is not None:
            indexes = presence.book(claimed)
            try:
                booked = zip(claimed, indexes, strict=True)
                marks = {job_id: (epoch, presence, index) for (job_id, epoch), index in booked}
                with self._mutex:
                    self.marks.update(marks)
            except BaseException:
                self._unmark(claimed)
                presence.free(indexes)
                raise

    def _unmark(self, claimed: list[tuple[str, int]]) -> None:
        with self._mutex:
            for job_id, _ in claimed:
                self.marks.pop(job_id, None)

    def mark_started(self, job_id: str, epoch: int) -> None:
        """Note that a delivery starts; one byte in mapped memory."""
        with self._mutex:  # else its slot may be another job's by the time of the note
            mark = self.marks.get(job_id)
            if mark is not None and mark[0] == epoch:
                mark[1].mark(mark[2])

    def has_started(self, job_id: str, epoch: int) -> bool:
        """Return whether a delivery to this process has started."""
        mark = self.marks.get(job_id)
        if mark is None or mark[0] != epoch:
            return False
        return mark[1].map[mark[2] * SLOT_BYTES + STATE_AT] == STARTED

    def unbook(self, ended: Iterable[tuple[str, int]]) -> None:
        """Let the slots of jobs be used again; only after their end is committed.

        An exception in between may cost one slot, but never has two jobs share one.
        """
        with self._mutex:  # the same jobs may be settled by two threads at the same time
            for job_id, epoch in ended:
                mark = self.marks.get(job_id)
                if mark is not None and mark[0] == epoch:
                    del self.marks[job_id]
                    mark[1].free((mark[2],))

    def close(self) -> None:
        """End all presences. Workers that still hold jobs count as dead. Twice is fine."""
        with self._mutex:
            holding = {presence.owner for _, presence, _ in self.marks.values()}
            for owner, presence in tuple(self._presences.items()):
                if owner in holding:
                    presence.abandon()
                else:
                    presence.release()
                del self._presences[owner]
            self.marks = {}
