"""Moves committed pages from the write-ahead log into the database, one process at a time.

SQLite 3.7.0 to 3.51.2 can corrupt a database when a second checkpoint begins while a commit
resets the log that the first one has just finished (fixed in 3.51.3; described in SQLite's
documentation on WAL mode). So a second connection holds the write lock during each checkpoint: no
process can reset the log meanwhile, or checkpoint as well.

A reader that keeps a snapshot open, such as a forgotten shell or a backup, prevents SQLite from
restarting the log, which grows until the reader is done. We cannot stop the reader, so we slow down
intake and claims (backpressure) and say why in the program's log. Settlements, heartbeats and
releases are never delayed.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from nuvom.errors import NuvomError
from nuvom.host.crashpoint import crashpoint
from nuvom.log import get_logger, log_event
from nuvom.queue_backends.sqlite.errors import file_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nuvom.core.clock import Clock

TRIGGER_BYTES = 8 << 20
"""Log size that triggers a checkpoint, and to which a longer log is truncated."""

SLOW_BYTES = 48 << 20
"""Log size at which a log that cannot be restarted slows down intake and claims."""

FULL_BYTES = 64 << 20
"""Log size at which they are slowed down most."""

# Commits between two checks of the log's size. A commit that extends the file takes up to twice as
# long as one that overwrites what the last checkpoint has moved.
_LOOK_EVERY = 16
_LEAST_SECS, _MOST_SECS = 0.05, 1.0
_WARN_EVERY_SECS = 60.0
_LOG = get_logger("sqlite")


class Checkpointer:
    """Checkpoints one database when its log has grown, unless another process already does.

    Args:
        path: The database.
        failed: Called with every error, including a busy database.

    Attributes:
        connections: The checkpointing connection and the guard; empty until needed.
        log_bytes: Size of the write-ahead log at the last check.
        is_held_up: A reader's snapshot held on to a part of the log at the last checkpoint.
    """

    def __init__(
        self,
        path: Path,
        connect: Callable[[], sqlite3.Connection],
        clock: Clock,
        failed: Callable[[sqlite3.Error], None] = lambda _error: None,
    ) -> None:
        self._path = path
        self._log = f"{path}-wal"
        self._connect = connect
        self._clock = clock
        self._failed = failed
        self._busy = threading.Lock()
        self.connections: tuple[sqlite3.Connection, ...] = ()
        self.log_bytes = 0
        self.is_held_up = False
        self._commits = 0
        self._warned_at = -_WARN_EVERY_SECS

    def after_commit(self, *, looks: bool = False) -> None:
        """Check the log from time to time, and checkpoint it if it is long. Never raises.

        A commit stays committed, whatever is wrong with the log or its lock.

        Args:
            looks: Check now in any case.
        """
        self._commits += 1
        if looks or self._commits >= _LOOK_EVERY:
            with suppress(sqlite3.Error, NuvomError):
                self.look()

    def look(self, *, trigger_bytes: int = TRIGGER_BYTES) -> bool:
        """Checkpoint if the log is longer than ``trigger_bytes``; return whether it was done."""
        self._commits = 0
        self.log_bytes = file_bytes(self._log)
        if self.log_bytes <= trigger_bytes:
            return False
        taken: list[bool] = []
        try:
            taken.extend(map(self._busy.acquire, (False,)))  # recorded even if interrupted here
            return taken[0] and self._checkpoint()
        finally:
            if True in taken:
                self._busy.release()

    def close(self) -> None:
        """Close the connections. Safe to call twice."""
        with self._busy:
            self._close_connections()

    def hold(self) -> None:
        """Close the connections and open none until ``go_on``."""
        self._busy.acquire()
        self._close_connections()

    def go_on(self) -> None:
        """Undo ``hold``."""
        with suppress(RuntimeError):  # not held: an exception interrupted ``hold``
            self._busy.release()

    def _close_connections(self) -> None:
        connections, self.connections = self.connections, ()
        for connection in connections:
            connection.close()

    def _checkpoint(self) -> bool:
        if not self.connections:
            self.connections = (self._connect(), self._connect())
        checkpointer, guard = self.connections
        try:
            with guard:  # which ends its transaction
                guard.execute("BEGIN IMMEDIATE")
                crashpoint("sqlite.checkpoint.before")
                # Only PASSIVE: the other modes fall back to it, unguarded, if they miss a lock.
                _, pages, moved = checkpointer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                self.is_held_up = moved < pages
                crashpoint("sqlite.checkpoint.after")
        except sqlite3.OperationalError as error:
            self._failed(error)
            # Another connection is writing or reading, so the log stays a little longer. The next
            # commit reports anything else that is wrong with the file.
            return False
        return True

    # ---- backpressure -------------------------------------------------------------------

    def slows_down(self) -> bool:
        """Wait if the log is too long, longer for a longer log; return whether it is."""
        if self.is_held_up and self.log_bytes >= SLOW_BYTES:
            self.after_commit(looks=True)
        if not self.is_held_up or self.log_bytes < SLOW_BYTES:
            return False
        self._warn()
        share = (self.log_bytes - SLOW_BYTES) / (FULL_BYTES - SLOW_BYTES)
        self._clock.sleep(_LEAST_SECS + _MOST_SECS * min(1.0, share) ** 2)
        return True

    def _warn(self) -> None:
        now = self._clock.monotonic()
        if now - self._warned_at < _WARN_EVERY_SECS:
            return
        self._warned_at = now
        text = (
            f"The write-ahead log of {self._path} has grown to {self.log_bytes >> 20} MiB, because "
            "some program keeps an old snapshot of it open; until that ends jobs are taken in and "
            "claimed slowly."
        )
        fields = {"path": str(self._path), "bytes": self.log_bytes}
        log_event(_LOG, logging.WARNING, "storage.log_long", text, fields=fields)
