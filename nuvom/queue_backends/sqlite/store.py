"""One SQLite store as a process uses it: the file, its wake-ups, and the workers of this process.

The SQLite queue is built on this object; the SQLite results share it when they live in the same
file.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from typing import TYPE_CHECKING

from nuvom.core.clock import boot_id
from nuvom.core.views import StoreSize
from nuvom.host.fork import drop_at_fork
from nuvom.host.start_marks import SLOT_BYTES, STARTED, STATE_AT
from nuvom.host.wakeup import Wakeup
from nuvom.host.worker_lock import WorkerLock, count_workers
from nuvom.log import get_logger, log_event
from nuvom.queue_backends.sqlite.connection import Database
from nuvom.queue_backends.sqlite.errors import file_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from nuvom.config.settings import Settings
    from nuvom.core.clock import Clock
    from nuvom.core.record import JobRecord

CHECKED_BYTES = 256 << 20
"""A file of this size is looked at in about a quarter of a second; a larger one at no start."""

_BOOT = "boot"
_LOG = get_logger("sqlite")


class SQLiteStore:
    """A database with everything around it that belongs to this process.

    Attributes:
        marks: Start mark of each claimed job, by its id: the worker's lock with its slot file,
            the index of the slot, and the ``lease_epoch`` that it belongs to.
        is_boot_noted: A settlement of this boot is known to be on disk; None where nobody has
            looked yet.
        has_progress: Some job of this process has shown progress, to be cleared at its end.
        has_unflushed_claim: Some claim may be lost at a power cut; the next beat flushes.
    """

    def __init__(self, path: Path, settings: Settings, clock: Clock, *, setting: str) -> None:
        self.settings = settings
        self.clock = clock
        self.db = Database(path, settings, clock, setting=setting)
        self.drop_in_child()
        drop_at_fork(self)

    def drop_in_child(self) -> None:
        """Start afresh in a forked child: the parent's workers and wake-ups are not ours."""
        self._lock = threading.Lock()
        self._wakeup: Wakeup | None = None
        self.worker_locks: dict[str, WorkerLock] = {}
        self.marks: dict[str, tuple[WorkerLock, int, int]] = {}
        self.has_unflushed_claim = False
        self.has_progress = False
        self.is_boot_noted: bool | None = None

    def open_for_work(self) -> None:
        """Open the file for a worker, after a look at it where its last user has died.

        Raises: BackendUnavailable: it is damaged, or cannot be opened.
        """
        has_log = any(file_bytes(f"{self.db.path}{end}") for end in ("-wal", "-journal"))
        self.db.open()
        if not has_log:  # whoever had it open last has closed it
            return
        alive, dead = count_workers(self.db.directory)
        if alive or not (dead or self.claims_flush):
            return
        size = file_bytes(self.db.path)
        if size <= CHECKED_BYTES:
            self.db.check()
            return
        text = f"The last user of {self.db.path} has died. With {size >> 20} MiB it is too large "
        log_event(
            _LOG,
            logging.WARNING,
            "storage.unchecked",
            f"{text}to be looked at now; to do so: nuvom doctor",
            fields={"path": str(self.db.path), "bytes": size},
        )

    def close(self) -> None:
        """Give back everything but the jobs; twice is fine."""
        with self._lock:
            locks, self.worker_locks = self.worker_locks, {}
            wakeup, self._wakeup = self._wakeup, None
        for lock in locks.values():
            lock.release()
        if wakeup is not None:
            wakeup.close()
        self.db.close()

    def size(self) -> StoreSize:
        """Return the bytes of the file with its log, and those of the disk below them."""
        import shutil  # noqa: PLC0415  # for who looks at a store

        used = sum(file_bytes(f"{self.db.path}{end}") for end in ("", "-wal"))
        disk = shutil.disk_usage(self.db.path.parent)
        return StoreSize(used, disk.free, disk.total)

    @property
    def wakeup(self) -> Wakeup:
        """What wakes the workers and waiters of this store, in all processes."""
        wakeup = self._wakeup
        if wakeup is None:
            self.db.open()
            with self._lock:
                if self._wakeup is None:
                    self._wakeup = Wakeup(self.db.directory)
                wakeup = self._wakeup
        return wakeup

    # ---- workers of this process --------------------------------------------------------

    def worker_lock(self, owner: str) -> WorkerLock:
        """Return the lock of a worker of this process, made at its first claim."""
        found = self.worker_locks.get(owner)
        if found is None:
            self.db.open()
            with self._lock:
                if owner not in self.worker_locks:
                    self.worker_locks[owner] = WorkerLock.acquire(self.db.directory, owner)
                found = self.worker_locks[owner]
        return found

    def own_workers(self) -> set[str]:
        """Return the workers that live in this process."""
        return {owner for owner, one in tuple(self.worker_locks.items()) if one.held}

    def leave(self, owner: str) -> None:
        """Release a worker's lock; harmless when it has none here."""
        with self._lock:
            lock = self.worker_locks.pop(owner, None)
        if lock is not None:
            lock.release()

    def book(self, lock: WorkerLock, jobs: list[JobRecord]) -> None:
        """Note claimed jobs in the worker's slot file as not started."""
        indexes = lock.book([(job.id, job.lease_epoch) for job in jobs])
        marks = self.marks
        for job, index in zip(jobs, indexes, strict=True):
            marks[job.id] = (lock, index, job.lease_epoch)

    def has_started(self, job: JobRecord) -> bool:
        """Return whether user code of a delivery to this process has started."""
        booked = self.marks.get(job.id)
        if booked is None or booked[2] != job.lease_epoch:
            return False
        lock, index, _ = booked
        return lock.map[index * SLOT_BYTES + STATE_AT] == STARTED

    def free(self, deliveries: Iterable[tuple[str, int]]) -> None:
        """Let the slots of these be used again. A later delivery of the same job keeps its own."""
        marks = self.marks
        freed: defaultdict[WorkerLock, list[int]] = defaultdict(list)
        for job_id, epoch in deliveries:
            booked = marks.get(job_id)
            if booked is None or booked[2] != epoch:
                continue
            if marks.pop(job_id, None) is not None:  # nobody else has freed it meanwhile
                lock, index, _ = booked
                freed[lock].append(index)
        for lock, indexes in freed.items():
            lock.free(indexes)

    # ---- after a reboot -----------------------------------------------------------------

    @property
    def claims_flush(self) -> bool:
        """Whether the machine was started anew since the last settled job.

        Then a claim must survive a power cut until one has settled, or a job that takes the
        machine down would never be counted.
        """
        if self.is_boot_noted is None:
            row = self.db.read_one("SELECT value FROM meta WHERE name = ?", (_BOOT,))
            self.is_boot_noted = row is not None and row[0] == boot_id()
        return not self.is_boot_noted

    def note_settled(self) -> None:
        """A settlement of this boot is on disk; later claims need no flush of their own."""
        note = "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)"
        self.db.write(lambda connection: connection.execute(note, (_BOOT, boot_id())))
        self.is_boot_noted = True
