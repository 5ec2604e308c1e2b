"""Processes that a fault test can kill, freeze and stop; every fault is recorded.

A ``Victim`` is a child of this process; no other process is ever signalled. ``can_freeze`` and
``can_term`` are false where the system lacks the signal (Windows has neither).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.testing import history

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from nuvom.testing.history import HistoryLog

can_freeze = sys.platform != "win32"
can_term = sys.platform != "win32"


class Victim:
    """A Python process that runs a module with orders, given as JSON.

    Args:
        module: Run with ``python -m``, with the orders as its only argument.
        folder: Its working directory; its standard error goes to ``children.log`` there.
        log: Where to record each fault; None to record none.
        env: Added to the environment.
        talks: ``said`` reads its standard output line by line.
        prefix: What its command begins with, such as one that runs it in a network namespace.

    Attributes:
        process: The child.
        is_doomed: It was killed or asked to stop.
        is_frozen: It was frozen and not thawed since.
    """

    def __init__(
        self,
        module: str,
        orders: Mapping[str, Any],
        *,
        folder: Path,
        log: HistoryLog | None = None,
        env: Mapping[str, str] | None = None,
        talks: bool = False,
        prefix: Sequence[str] = (),
    ) -> None:
        self._log = log
        self.is_frozen = False
        self.is_doomed = False
        self._frozen_at = 0.0
        path = os.pathsep.join(place for place in sys.path if place)
        with open(folder / "children.log", "ab") as errors:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", module, json.dumps(orders)],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": path, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else subprocess.DEVNULL,
                stderr=errors,
            )

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process is still running."""
        return self.process.poll() is None

    def kill(self) -> None:
        """Kill it with a signal that it cannot catch; it is gone when this returns."""
        self.is_doomed = True
        sent_at = SYSTEM_CLOCK.monotonic()
        self.process.kill()
        self.process.wait()
        gone_at = SYSTEM_CLOCK.monotonic()
        self._note_freeze(until=gone_at)
        self._note(history.KILL, at=sent_at, over=gone_at)
        self.close()

    def freeze(self) -> None:
        """Suspend it where it is; it does not notice."""
        if not self.is_frozen:
            self._frozen_at = SYSTEM_CLOCK.monotonic()
            self.is_frozen = True
            self._send("SIGSTOP")

    def thaw(self) -> None:
        """Let it continue."""
        if self.is_frozen:
            thawed_at = SYSTEM_CLOCK.monotonic()
            self._note_freeze(until=thawed_at)
            self._send("SIGCONT")
            self._note(history.THAW, at=thawed_at)

    def term(self) -> None:
        """Ask it to stop cleanly; thaw it first if it is frozen."""
        self.is_doomed = True
        self._note(history.TERM)
        self.process.terminate()
        self.thaw()

    def said(self) -> Iterator[str]:
        """Yield the lines that it prints, without line ends, until it ends."""
        if self.process.stdout is not None:
            for line in self.process.stdout:
                yield line.decode().removesuffix("\n")

    def wait(self, secs: float) -> bool:
        """Wait at most ``secs`` seconds for it to end; return whether it has ended."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=secs)
        return not self.is_running

    def close(self) -> None:
        """Make sure that it is gone, and release its resources. Safe to call twice."""
        if self.is_running:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _note_freeze(self, *, until: float) -> None:
        """Record a freeze that is over.

        What began after the signal was sent and before it took effect was frozen too.
        """
        if self.is_frozen:
            self.is_frozen = False
            self._note(history.FREEZE, at=self._frozen_at, over=until)

    def _send(self, name: str) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(getattr(signal, name))

    def _note(self, event: str, **details: float) -> None:
        if self._log is not None:
            self._log.write(event, pid=self.pid, **details)
