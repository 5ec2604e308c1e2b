"""One SQLite store as a process uses it: the file, its wake-ups, and the workers of this process.

The SQLite queue is built on this object. The SQLite results share it if they are in the same file.
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
"""Checking a file of this size takes about 0.25 s; a larger one is not checked at start."""

_BOOT = "boot"
_LOG = get_logger("sqlite")


class SQLiteStore:
    """A database with everything around it that belongs to this process.

    Attributes:
        marks: Start mark of each claimed job, by its id: the worker's lock with its slot file,
            the index of the slot, and the ``lease_epoch`` that it belongs to.
        is_boot_noted: A settlement of this boot is known to be on disk; None if not checked yet.
        has_progress: Some job of this process has reported progress, to be cleared when it ends.
        has_unflushed_claim: A power cut may lose some claim; the next heartbeat flushes.
    """

    def __init__(self, path: Path, settings: Settings, clock: Clock, *, setting: str) -> None:
        self.settings = settings
        self.clock = clock
        self.db = Database(path, settings, clock, setting=setting)
        self.drop_in_child()
        drop_at_fork(self)

    def drop_in_child(self) -> None:
        """Reset all state in a forked child: the parent's workers and wake-ups are not ours."""
        self._lock = threading.Lock()
        self._wakeup: Wakeup | None = None
        self.worker_locks: dict[str, WorkerLock] = {}
        self.marks: dict[str, tuple[WorkerLock, int, int]] = {}
        self.has_unflushed_claim = False
        self.has_progress = False
        self.is_boot_noted: bool | None = None

    def open_for_work(self) -> None:
        """Open the file for a worker; check it first if its last user died.

        Raises: BackendUnavailable: the file is damaged, or cannot be opened.
        """
        has_log = any(file_bytes(f"{self.db.path}{end}") for end in ("-wal", "-journal"))
        self.db.open()
        if not has_log:  # its last user closed it properly
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
        """Release everything except the jobs. Safe to call twice."""
        with self._lock:
            locks, self.worker_locks = self.worker_locks, {}
            wakeup, self._wakeup = self._wakeup, None
        for lock in locks.values():
            lock.release()
        if wakeup is not None:
            wakeup.close()
        self.db.close()

    def size(self) -> StoreSize:
        """Return the size of the file with its log and of the disk it is on, in bytes."""
        import shutil  # noqa: PLC0415  # only for inspection

        used = sum(file_bytes(f"{self.db.path}{end}") for end in ("", "-wal"))
        disk = shutil.disk_usage(self.db.path.parent)
        return StoreSize(used, disk.free, disk.total)

    @property
    def wakeup(self) -> Wakeup:
        """The wake-up for this store's workers and waiters in all processes."""
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
        """Return the lock of a worker of this process, created at its first claim."""
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
        """Release a worker's lock; a no-op if it has none here."""
        with self._lock:
            lock = self.worker_locks.pop(owner, None)
        if lock is not None:
            lock.release()

    def book(self, lock: WorkerLock, jobs: list[JobRecord]) -> None:
        """Record claimed jobs in the worker's slot file as not started."""
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
        """Free the slots of these deliveries. A later delivery of the same job keeps its own."""
        marks = self.marks
        freed: defaultdict[WorkerLock, list[int]] = defaultdict(list)
        for job_id, epoch in deliveries:
            booked = marks.get(job_id)
            if booked is None or booked[2] != epoch:
                continue
            if marks.pop(job_id, None) is not None:  # no other thread has freed it meanwhile
                lock, index, _ = booked
                freed[lock].append(index)
        for lock, indexes in freed.items():
            lock.free(indexes)

    # ---- after a reboot -----------------------------------------------------------------

    @property
    def claims_flush(self) -> bool:
        """Whether the machine has rebooted since the last settled job.

        If so, claims must survive a power cut until a job has settled. Otherwise a job that
        crashes the machine would never be counted.
        """
        if self.is_boot_noted is None:
            row = self.db.read_one("SELECT value FROM meta WHERE name = ?", (_BOOT,))
            self.is_boot_noted = row is not None and row[0] == boot_id()
        return not self.is_boot_noted

    def note_settled(self) -> None:
        """Record that a settlement of this boot is on disk: later claims need no flush."""
        note = "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)"
        self.db.write(lambda connection: connection.execute(note, (_BOOT, boot_id())))
        self.is_boot_noted = True
