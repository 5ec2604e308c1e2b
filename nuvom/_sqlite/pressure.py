"""Keeps the write-ahead log from growing without bound behind somebody's open snapshot.

A reader that keeps a snapshot open, such as a forgotten shell or a backup, keeps SQLite from
beginning the log anew. Nothing can be done about the reader; so intake and claims slow down, and
the log of this program says why. Settlements, beats and releases are never held up.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from nuvom.log import get_logger, log_event

if TYPE_CHECKING:
    from nuvom._sqlite.database import Database
    from nuvom.core.clock import Clock

SLOW_BYTES = 48 << 20
FULL_BYTES = 64 << 20
CLAIM = 50  # jobs at most, while the log is long
_LEAST_SECS, _MOST_SECS = 0.05, 1.0
_WARN_EVERY_SECS = 60.0
_LOG = get_logger("sqlite")


class Pressure:
    """Slows down who makes the log longer."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._warned_at = -_WARN_EVERY_SECS

    @property
    def is_high(self) -> bool:
        """Whether the log was too long, and held by a reader, at the last look."""
        checkpointer = self._db.checkpointer
        return checkpointer.is_held_up and checkpointer.log_bytes >= SLOW_BYTES

    def slows_down(self) -> bool:
        """Where the log is too long wait, the more the longer it is; return whether it is."""
        if not self._db.checkpointer.is_held_up or not self.is_high:
            return False
        self._db.checkpointer.after_commit(looks=True)
        if self.is_high:
            self._wait()
        return self.is_high

    def _wait(self) -> None:
        self._warn()
        share = (self._db.checkpointer.log_bytes - SLOW_BYTES) / (FULL_BYTES - SLOW_BYTES)
        self._clock.sleep(_LEAST_SECS + _MOST_SECS * min(1.0, share) ** 2)

    def _warn(self) -> None:
        now = self._clock.monotonic()
        if now - self._warned_at < _WARN_EVERY_SECS:
            return
        self._warned_at = now
        size = self._db.checkpointer.log_bytes
        log_event(
            _LOG,
            logging.WARNING,
            "storage.log_long",
            f"The write-ahead log of {self._db.path} has grown to {size >> 20} MiB, because some "
            "program keeps an old snapshot of it open; until that ends jobs are taken in and "
            "claimed slowly.",
            fields={"path": str(self._db.path), "bytes": size},
        )
