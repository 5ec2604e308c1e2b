"""Starts a peer's worker as a process of its own and tells what it has used when it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from peers.base import Adapter

STOP_SECS = 15.0
TOLD_LINES = 15


class Worker:
    """A worker process for the block of a ``with``.

    Args:
        command: What to start instead of the peer's usual worker.

    Attributes:
        began: When it was started, in nanoseconds.
        cpu_secs: User and system time of it and its children, once it has ended; None where
            the system does not tell.
        peak_bytes: The most memory that it held, likewise.
    """

    def __init__(self, adapter: Adapter, *, command: list[str] | None = None) -> None:
        self._adapter = adapter
        self._command = command or adapter.worker()
        self._log = os.path.join(os.environ["BENCH_FOLDER"], "worker.log")
        self.cpu_secs: float | None = None
        self.peak_bytes: int | None = None
        self._is_over = False

    def __enter__(self) -> Self:
        with open(self._log, "wb") as log:
            self.began = time.perf_counter_ns()
            self._process = subprocess.Popen(
                self._command,
                cwd=self._adapter.worker_folder(),
                env=self._adapter.worker_variables(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ended_early = self._process.poll() is not None and not self._is_over
        before = _usage_of_children()
        if not ended_early:
            self._process.send_signal(self._adapter.stop_signal)
            try:
                self._process.wait(STOP_SECS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        after = _usage_of_children()
        if before is not None and after is not None:
            self.cpu_secs, self.peak_bytes = after[0] - before[0], after[1]
        if error is not None or ended_early:
            raise RuntimeError(f"{error or 'the worker ended'}\n{self._tail()}") from error

    def wait(self, limit_secs: float) -> None:
        """Wait for a worker that ends by itself.

        Raises: RuntimeError: it failed; subprocess.TimeoutExpired.
        """
        self._process.wait(limit_secs)
        if self._process.returncode != 0:
            raise RuntimeError(f"the worker ended with {self._process.returncode}")
        self._is_over = True

    def _tail(self) -> str:
        with open(self._log, encoding="utf-8", errors="replace") as log:
            lines = log.read().splitlines()[-TOLD_LINES:]
        return "\n".join(f"  worker: {line}" for line in lines)


if sys.platform == "win32":

    def peak_bytes() -> int:
        """Tell that it is not told here."""
        raise RuntimeError("this system does not tell a process's peak")

    def _usage_of_children() -> tuple[float, int] | None:
        return None

else:
    import resource

    _UNIT = 1 if sys.platform == "darwin" else 1024

    def peak_bytes() -> int:
        """Return the most memory that this process has held."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT

    def _usage_of_children() -> tuple[float, int] | None:
        """Return (CPU seconds, largest peak in bytes) of all children that have ended."""
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * _UNIT
