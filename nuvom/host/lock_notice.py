"""Says that a store is waited for because another process has locked it: else the wait is silent.

Locks are held for moments. One that is held for seconds belongs to a stopped process, or to a
program that has no business there, and whoever waits should be told before patience ends.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from nuvom.log import get_logger, log_event

if TYPE_CHECKING:
    from pathlib import Path

    from nuvom.core.clock import Clock

NOTICE_SECS = 5.0
"""After so long a wait it is worth a line."""

_AGAIN_SECS = 60.0
_LOG = get_logger("store")


class LockWaitNotice:
    """Writes the line, for one store and process at most once a minute."""

    def __init__(self, where: Path, clock: Clock) -> None:
        self._where = where
        self._clock = clock
        self._told_at = -_AGAIN_SECS

    def tell(self, limit_secs: float) -> None:
        """Write the line, unless there was one just now.

        Args:
            limit_secs: How long the wait may last in all.
        """
        now = self._clock.monotonic()
        if now - self._told_at < _AGAIN_SECS:
            return
        self._told_at = now
        log_event(
            _LOG,
            logging.WARNING,
            "storage.locked",
            f"Another process has locked {self._where} for {NOTICE_SECS:g} s now; waiting for at "
            f"most {limit_secs:g} s. It may be stopped (state T in ps), or a program that has the "
            "file open.",
            fields={"path": str(self._where)},
        )
