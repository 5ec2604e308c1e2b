"""The only source of time: wall clock, monotonic clock, sleeping and waiting.

Nothing else in the package asks the system for the time. Leases and deadlines use the
monotonic clock, which is the same in all processes of one boot. Only times shown to people
and ``run_at`` use the wall clock. Tests pass their own ``Clock``.
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol
from weakref import WeakMethod

if TYPE_CHECKING:
    from collections.abc import Callable


class Waitable(Protocol):
    """What ``Clock.wait`` can wait for: an event, or anything with the same ``wait``."""

    def wait(self, timeout: float | None = None) -> bool:
        """Return True if it is set within ``timeout`` seconds."""
        ...


class LoopWakeup:
    """Set by any thread, waited for by one: a bare lock, which is the fastest primitive.

    Attributes:
        is_set: It was set, and nobody has waited for it since.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.is_set = False

    def set(self) -> None:
        """End the wait, or the next one."""
        if self.is_set:  # the waiting thread clears it before it looks for work
            return
        self.is_set = True
        with suppress(RuntimeError):  # another thread is setting it right now
            self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most ``timeout`` seconds until it is set; return whether it was."""
        was_set = self._lock.acquire(timeout=-1 if timeout is None else timeout)
        if was_set:
            self.is_set = False
        return was_set


class Clock:
    """The system's clocks. Replaceable: everything that needs time takes one as an argument."""

    def now(self) -> float:
        """Return seconds since the epoch (UTC), which may jump when the clock is set."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that never jump, comparable between processes of one boot."""
        return time.monotonic()

    def sleep(self, secs: float) -> None:
        """Block this thread for ``secs`` seconds."""
        time.sleep(secs)

    def wait(self, event: Waitable, secs: float | None = None) -> bool:
        """Block at most ``secs`` seconds until ``event`` is set; return whether it is set."""
        return event.wait(secs)


class _SystemClock(Clock):
    """The real clock: read for each job, so its methods are C functions without a Python frame."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


SYSTEM_CLOCK: Clock = _SystemClock()


class StoreClock(Clock):
    """The wall clock of a store on a server, and this machine's clocks for all else.

    Between two looks at the server's clock, this machine's monotonic clock counts on.

    Args:
        look: A method that asks the server for its time and calls ``set``. Its object is not kept
            alive by the clock.
        ahead_secs: What to add to the monotonic clock, where it is known.
    """

    def __init__(
        self, look: Callable[[], object] | None = None, *, ahead_secs: float | None = None
    ) -> None:
        self._look = None if look is None else WeakMethod(look)
        self.ahead_secs = ahead_secs

    def set(self, now: float) -> None:
        """Note the server's time."""
        self.ahead_secs = now - time.monotonic()

    def now(self) -> float:
        """Return the server's time. Raises what ``look`` raises, if it was never known."""
        if self.ahead_secs is None and self._look is not None:
            look = self._look()
            if look is not None:
                look()
        return time.monotonic() + (self.ahead_secs or 0.0)


def epoch_millis() -> int:
    """Return whole milliseconds since the epoch, for ids; no timing depends on it."""
    return time.time_ns() // 1_000_000


def boot_id() -> str:
    """Return a text that is the same for all processes until the machine reboots.

    Linux: ``/proc/sys/kernel/random/boot_id``. macOS: ``kern.bootsessionuuid``. Elsewhere:
    the boot time rounded to ten seconds, computed once per process.
    """
    global _boot_id  # noqa: PLW0603  # a constant of the machine, computed at first use
    if _boot_id is None:
        _boot_id = _read_boot_id()
    return _boot_id


_boot_id: str | None = None


def _read_boot_id() -> str:
    if sys.platform == "linux":
        try:
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
                return stream.read().strip()
        except OSError:  # a container may hide it; the boot time below still works
            pass
    if sys.platform == "darwin":
        import subprocess  # noqa: PLC0415  # macOS only, once per process

        answer = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"],
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode == 0 and answer.stdout.strip():
            return answer.stdout.strip()
    return f"boot-{round((time.time() - time.monotonic()) / 10)}"
