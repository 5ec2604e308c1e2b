"""Waiting for another process's lock, in short naps at random.

SQLite's own busy handler sleeps far too long between looks.
"""

from __future__ import annotations

import random
import sqlite3
from typing import TYPE_CHECKING, TypeVar

from nuvom._sqlite.trouble import BUSY_SECS, is_busy
from nuvom.host.lock_notice import NOTICE_SECS, LockWaitNotice

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nuvom.core.clock import Clock

T = TypeVar("T")

_NAP_SECS = (0.0001, 0.0005)  # at random in between, so that two waiters do not keep in step


class LockWait:
    """Tries again while a file is locked."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._clock = clock
        self._locked_out = LockWaitNotice(path, clock)

    def run(self, action: Callable[[], T]) -> T:
        """Return what ``action`` returns, once no lock is in its way.

        Raises: sqlite3.Error: anything else is wrong, or the lock was held for too long.
        """
        try:
            return action()
        except sqlite3.OperationalError as error:
            return self.run_again(action, error)

    def run_again(self, action: Callable[[], T], error: sqlite3.Error) -> T:
        """Do as ``run`` after a first try that gave ``error``."""
        if not is_busy(error):
            raise error
        began = self._clock.monotonic()
        while True:
            self._clock.sleep(random.uniform(*_NAP_SECS))  # noqa: S311  # only spreads waiters
            try:
                return action()
            except sqlite3.OperationalError as again:
                waited_secs = self._clock.monotonic() - began
                if not is_busy(again) or waited_secs > BUSY_SECS:
                    raise
            if waited_secs > NOTICE_SECS:
                self._locked_out.tell(BUSY_SECS)
