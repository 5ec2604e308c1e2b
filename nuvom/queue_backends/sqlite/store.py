"""One SQLite store as a process uses it: the file, its bells, and the workers of this process.

The parts of the SQLite queue are built on this object; the SQLite results share it when they
live in the same file.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from nuvom.core.clock import boot_id
from nuvom.core.views import StoreSize
from nuvom.host.fork import drop_at_fork
from nuvom.host.wakeup import Wakeup
from nuvom.host.worker_lock import WorkerLock, count_workers
from nuvom.log import get_logger, log_event
from nuvom.queue_backends.sqlite.connection import Database
from nuvom.queue_backends.sqlite.errors import file_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from nuvom.config.settings import Settings
    from nuvom.core.clock import Clock

CHECKED_BYTES = 256 << 20
"""A file of this size is looked at in about a quarter of a second; a larger one at no start."""

_BOOT = "boot"
_LOGS = ("-wal", "-journal")
_LOG = get_logger("sqlite")


class Store:
    """A database with everything around it that belongs to this process.

    Attributes:
        marks: Slot of each claimed job, by its id: the presence, the index, and the
            ``lease_epoch`` that it belongs to.
        has_progress: Some job of this process has shown progress, to be cleared at its end.
        has_unflushed_claim: Some claim may be lost at a power cut; the next beat flushes.
        claims_flush: The machine was started anew since the last settled job: a claim must
            survive a power cut until one has settled, or a job that takes the machine down
            would never be counted.
    """

    def __init__(self, path: Path, settings: Settings, clock: Clock, *, setting: str) -> None:
        self.settings = settings
        self.clock = clock
        self.db = Database(path, settings, clock, setting=setting)
        self.drop_in_child()
        drop_at_fork(self)

    def drop_in_child(self) -> None:
        """Start afresh in a forked child: the parent's workers and bells are not ours."""
        self._lock = threading.Lock()
        self._bell: Wakeup | None = None
        self.presences: dict[str, WorkerLock] = {}
        self.marks: dict[str, tuple[WorkerLock, int, int]] = {}
        self.has_unflushed_claim = False
        self.has_progress = False
        self._boot_seen: bool | None = None

    def open_for_work(self) -> None:
        """Open the file for a worker, after a look at it where its last user has died.

        Raises: BackendUnavailable: it is damaged, or cannot be opened.
        """
        has_log = any(file_bytes(f"{self.db.path}{end}") for end in _LOGS)
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

    @property
    def bell(self) -> Wakeup:
        """The bells of this store."""
        bell = self._bell
        if bell is None:
            self.db.open()
            with self._lock:
                if self._bell is None:
                    self._bell = Wakeup(self.db.directory)
                bell = self._bell
        return bell

    def presence(self, owner: str) -> WorkerLock:
        """Return the presence of a worker of this process, made at its first claim."""
        found = self.presences.get(owner)
        if found is None:
            self.db.open()
            with self._lock:
                if owner not in self.presences:
                    self.presences[owner] = WorkerLock.acquire(self.db.directory, owner)
                found = self.presences[owner]
        return found

    def owners_here(self) -> set[str]:
        """Return the workers that live in this process."""
        return {owner for owner, one in tuple(self.presences.items()) if one.held}

    def leave(self, owner: str) -> None:
        """End a worker's presence; harmless when it has none here."""
        with self._lock:
            presence = self.presences.pop(owner, None)
        if presence is not None:
            presence.release()

    @property
    def claims_flush(self) -> bool:
        """See the class."""
        if self._boot_seen is None:
            row = self.db.read_one("SELECT value FROM meta WHERE name = ?", (_BOOT,))
            self._boot_seen = row is not None and row[0] == boot_id()
        return not self._boot_seen

    def note_settled(self) -> None:
        """A settlement of this boot is on disk; later claims need no flush of their own."""
        if self._boot_seen:
            return
        self.db.write(
            lambda connection: connection.execute(
                "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (_BOOT, boot_id())
            )
        )
        self._boot_seen = True

    def size(self) -> StoreSize:
        """Return the bytes of the file with its log, and those of the disk below them."""
        import shutil  # noqa: PLC0415  # for who looks at a store

        used = sum(file_bytes(f"{self.db.path}{end}") for end in ("", "-wal"))
        disk = shutil.disk_usage(self.db.path.parent)
        return StoreSize(used, disk.free, disk.total)

    def close(self) -> None:
        """Give back everything but the jobs; twice is fine."""
        with self._lock:
            presences, self.presences = self.presences, {}
            bell, self._bell = self._bell, None
        for presence in presences.values():
            presence.release()
        if bell is not None:
            bell.close()
        self.db.close()
