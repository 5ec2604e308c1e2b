"""What the pump sleeps on: a lock that anybody may release, which is the quickest there is."""

from __future__ import annotations

import threading
from contextlib import suppress


class Bell:
    """Rung by any thread, waited for by one. Rung again before it was heard, it rings once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Let the one who waits go on, or the next wait end at once."""
        with suppress(RuntimeError):  # it rings already
            self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it rings, at most ``timeout`` seconds; return whether it did."""
        return self._lock.acquire(timeout=-1 if timeout is None else timeout)
