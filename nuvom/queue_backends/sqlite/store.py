"""One SQLite store as a process uses it: the file, its wake-ups, and the workers of this process.

The SQLite queue is built on this object. The SQLite results share it if they are in the same file.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from nuvom.core.clock import boot_id
from nuvom.core.views import StoreSize
from nuvom.errors import NuvomError
from nuvom.host.fork import drop_at_fork
from nuvom.host.own_workers import OwnWorkers
from nuvom.host.wakeup import Wakeup
from nuvom.host.worker_lock import count_workers
from nuvom.log import get_logger, log_event
from nuvom.queue_backends.sqlite.connection import Database
from nuvom.queue_backends.sqlite.errors import file_bytes
from nuvom.queue_backends.sqlite.rollups import RowRollups

if TYPE_CHECKING:
    from pathlib import Path

    from nuvom.config.settings import Settings
    from nuvom.core.clock import Clock

CHECKED_BYTES = 256 << 20
"""Checking a file of this size takes about 0.25 s; a larger one is not checked at start."""

_BOOT = "boot"
_LOG = get_logger("sqlite")


class SQLiteStore:
    """A database with everything around it that belongs to this process.

    Attributes:
        workers: The workers of this process, and their claimed jobs.
        rollups: What is counted per minute.
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
        self.workers = OwnWorkers(self.db.directory, self.db.open)
        self.rollups = RowRollups(self.db, self.clock)
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
        text = (
            f"The last user of {self.db.path} has died. With {size >> 20} MiB it is too large to "
            "be looked at now; to do so: nuvom doctor"
        )
        fields = {"path": str(self.db.path), "bytes": size}
        log_event(_LOG, logging.WARNING, "storage.unchecked", text, fields=fields)

    def close(self) -> None:
        """Release everything except the jobs. Safe to call twice."""
        with suppress(NuvomError):  # charts lack a second's jobs, and nothing else may fail for it
            self.rollups.write()
        self.workers.close()
        with self._lock:
            wakeup, self._wakeup = self._wakeup, None
        if wakeup is not None:
            wakeup.close()
        self.db.close()

    def size(self) -> StoreSize:
        """Return the size of the file with its log and of the disk it is on, in bytes."""
        import shutil  # noqa: PLC0415  # only for inspection

        used = sum(file_bytes(f"{self.db.path}{end}") for end in ("", "-wal"))
        there = next(one for one in self.db.path.parents if one.exists())  # before the first job
        disk = shutil.disk_usage(there)
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

    def interrupt(self) -> None:
        """End every wait for work in this process."""
        if self._wakeup is not None:
            self._wakeup.interrupt()

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
        self.db.execute(note, (_BOOT, boot_id()))
        self.is_boot_noted = True
