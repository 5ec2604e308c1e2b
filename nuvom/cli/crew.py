"""The worker processes of a supervisor: all that it has started and that have not ended yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.cli.worker_process import HAND_BACK_SECS, LOOK_SECS
from nuvom.host import processes as platforms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nuvom.cli.worker_process import WorkerProcess
    from nuvom.core.clock import Clock


class Crew:
    """Starts workers, lets go of those that have ended, and ends all of them together.

    Signal handlers only set its two flags: they take no lock, since the main thread, which they
    interrupt, may hold it. So nobody can wait for the flags; they are looked at.

    Args:
        spawn: Starts a worker. Raises: OSError.
        grace_secs: How long workers are waited for that were asked to stop.

    Attributes:
        is_stopping: All are to end, in good order.
        is_aborted: All are to end at once.
    """

    def __init__(
        self, spawn: Callable[[], WorkerProcess], *, clock: Clock, grace_secs: float
    ) -> None:
        self._spawn = spawn
        self._clock = clock
        self._grace_secs = grace_secs
        self._members: list[WorkerProcess] = []
        self.is_stopping = self.is_aborted = False

    def start_one(self) -> WorkerProcess:
        """Start a worker. Raises: OSError: it cannot be started."""
        process = self._spawn()
        self._members.append(process)
        return process

    def let_go(self, process: WorkerProcess) -> None:
        """Forget a worker that has ended; one that hangs is killed."""
        if process.code() is None:
            process.kill()
            self._wait_for([process], HAND_BACK_SECS)
        process.close()
        self._members.remove(process)

    def let_go_of_ended(self) -> list[tuple[WorkerProcess, int]]:
        """Forget all that have ended; return them with their exit codes."""
        known = [(process, process.code()) for process in self._members]
        ended = [(process, code) for process, code in known if code is not None]
        for process, _ in ended:
            self.let_go(process)
        return ended

    def reap_orphans(self) -> None:
        """Take note of the ends of processes that the system has handed to this one."""
        platforms.reap_adopted({process.pid for process in self._members})

    def end(self) -> None:
        """Stop all in good order, and return when they have ended.

        Those that have not ended within the grace, or when it is aborted, hand back what they
        run at once; those that hang are killed.
        """
        members = self._members
        for process in members:
            process.ask_to_stop()
        if not self._wait_for(members, self._grace_secs, heeds_abort=True):
            for process in members:
                process.stop_at_once()
            if not self._wait_for(members, HAND_BACK_SECS):
                for process in members:
                    process.kill()
                self._wait_for(members, HAND_BACK_SECS)
        for process in members:
            process.close()
        members.clear()

    def _wait_for(
        self, processes: Iterable[WorkerProcess], secs: float, *, heeds_abort: bool = False
    ) -> bool:
        """Wait until all have ended; False when the time is over, or it is aborted."""
        deadline = self._clock.monotonic() + secs
        while any([process.code() is None for process in processes]):  # noqa: C419  # look at all
            self.reap_orphans()
            if (heeds_abort and self.is_aborted) or self._clock.monotonic() > deadline:
                return False
            self._clock.sleep(LOOK_SECS)
        return True
