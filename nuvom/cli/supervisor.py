"""Runs several workers, each in its own process, and keeps their number constant.

A worker that dies is replaced, after a pause that grows with each consecutive death. A restart
replaces one worker after the other: it goes on only when the new worker is up and the old one has
exited, so that code which fails to start costs no worker. As process 1 of a container, the
supervisor reaps the orphans that the system hands to it. That is why even a single worker has a
supervisor there.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nuvom.cli import exit_codes
from nuvom.cli.processes import (
    HAND_BACK_SECS,
    LOOK_SECS,
    WorkerProcess,
    worker_command,
    worker_options,
    write_now,
)
from nuvom.cli.worker import logs_for_programs, start_lines, tell_start
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.errors import plural
from nuvom.host import platforms
from nuvom.log import flush_logs, get_logger, log_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from nuvom.cli.output import Output
    from nuvom.cli.processes import StopSignals
    from nuvom.config.settings import Settings

_WAITS_SECS = (0.2, 1.0, 2.0, 5.0, 10.0, 30.0)  # before a dead worker is replaced
_LONG_SECS = 30.0  # a worker that lived this long did not fail to start
_UP_SECS = 60.0  # for a worker to come up
# These mean that the command or the project is wrong, so another worker would fail the same way.
_HOPELESS = frozenset({exit_codes.USAGE, exit_codes.NOT_FOUND, exit_codes.CONFIG})
_LOG = get_logger("nuvom.supervisor")


def supervise(
    out: Output, signals: StopSignals, settings: Settings, options: Mapping[str, Any]
) -> int:
    """Run ``settings.processes`` workers until a signal or until all have exited on their own.

    Returns: the exit code.
    """
    command = worker_command(out, settings.root, worker_options(options))
    pool = WorkerPool(
        lambda: WorkerProcess(command),
        grace_secs=settings.shutdown_timeout_secs + HAND_BACK_SECS,
        say=(lambda _: None) if logs_for_programs(settings) or out.quiet else write_now,
    )
    supervisor = Supervisor(pool, settings.processes)
    slots = f"{plural(settings.threads, 'thread')}, {settings.async_slots:,} async"
    lines = [
        *start_lines(settings, "supervisor"),
        f"  workers   {settings.processes}, each with {slots}",
        "Press Ctrl-C to stop them; SIGHUP replaces them one after the other.",
    ]
    tell_start(out, settings, lines)
    signals.connect(pool.stop, pool.abort, pool.restart)
    try:
        code = supervisor.run()
    finally:
        flush_logs()
    if out.as_json:
        data = {"processes": settings.processes, "replaced": supervisor.replaced}
        out.json("nuvom.supervisor_run/1", data)
    return signals.exit_code or code


class WorkerPool:
    """Starts workers, drops those that have exited, and stops all of them together.

    Signal handlers only set its flags. They take no lock, because the main thread, which they
    interrupt, may hold it. So the flags must be polled.

    Args:
        spawn: Starts a worker. Raises: OSError.
        grace_secs: How long to wait for workers that were asked to stop.
        say: Writes a sentence; called in signal handlers.

    Attributes:
        is_stopping: All workers should stop gracefully.
        is_aborted: All workers should stop at once.
        wants_restart: All workers should be replaced.
    """

    def __init__(
        self,
        spawn: Callable[[], WorkerProcess],
        *,
        grace_secs: float,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._spawn = spawn
        self._say = say
        self._members: list[WorkerProcess] = []
        self.grace_secs = grace_secs
        self.is_stopping = self.is_aborted = self.wants_restart = False

    def stop(self) -> None:
        """Request a graceful stop."""
        self._say("\nStopping. Repeat to stop at once.\n")
        self.is_stopping = True

    def abort(self) -> None:
        """Request an immediate stop."""
        self._say("\nStopping at once; unfinished jobs go back to the queue.\n")
        self.is_aborted = True

    def restart(self) -> None:
        """Request the replacement of all workers; during a restart, request another one."""
        self.wants_restart = True

    def start_one(self) -> WorkerProcess:
        """Start a worker. Raises: OSError: it cannot be started."""
        process = self._spawn()
        self._members.append(process)
        return process

    def let_go(self, process: WorkerProcess) -> None:
        """Drop a worker that has ended; kill one that hangs."""
        if process.code() is None:
            process.kill()
            self._wait_for([process], HAND_BACK_SECS)
        process.close()
        self._members.remove(process)

    def let_go_of_ended(self) -> list[tuple[WorkerProcess, int]]:
        """Drop all workers that have ended; return them with their exit codes."""
        known = [(process, process.code()) for process in self._members]
        ended = [(process, code) for process, code in known if code is not None]
        for process, _ in ended:
            self.let_go(process)
        return ended

    def reap_orphans(self) -> None:
        """Reap exited processes that the system has handed to this one."""
        platforms.reap_adopted({process.pid for process in self._members})

    def end(self) -> None:
        """Stop all workers gracefully, and return when they have ended.

        After the grace period, or on an abort, the remaining workers hand back at once what they
        run. Those that hang are killed.
        """
        members = self._members
        for process in members:
            process.ask_to_stop()
        if not self._wait_for(members, self.grace_secs, heeds_abort=True):
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
        """Wait until all have ended; return False on a timeout or an abort."""
        deadline = SYSTEM_CLOCK.monotonic() + secs
        while any([process.code() is None for process in processes]):  # noqa: C419  # look at all
            self.reap_orphans()
            if (heeds_abort and self.is_aborted) or SYSTEM_CLOCK.monotonic() > deadline:
                return False
            SYSTEM_CLOCK.sleep(LOOK_SECS)
        return True


class Supervisor:
    """Keeps ``count`` workers of a pool running.

    Attributes:
        replaced: How many workers have been replaced.
    """

    def __init__(self, pool: WorkerPool, count: int) -> None:
        self._pool = pool
        self._places = [_Place() for _ in range(count)]
        self._rolling: Iterator[None] | None = None
        self._was_up = False
        self._code = exit_codes.OK
        self.replaced = 0

    # ---- the loop -----------------------------------------------------------------------

    def run(self) -> int:
        """Run until ``stop``, or until all workers have exited on their own.

        Returns: the exit code, unless a signal determines it.
        """
        try:
            while not self._pool.is_stopping and not all(place.is_over for place in self._places):
                self.step()
                SYSTEM_CLOCK.sleep(LOOK_SECS)
        finally:
            self._pool.end()
        return self._code

    def step(self) -> None:
        """Check every worker once, and advance a restart."""
        for place in self._places:
            self._look_at(place)
        if self._rolling is None and self._pool.wants_restart:
            self._pool.wants_restart = False
            self._rolling = self._replace_all()
        if self._rolling is not None and next(self._rolling, self) is self:
            self._rolling = None
        self._pool.reap_orphans()

    def _look_at(self, place: _Place) -> None:
        process = place.process
        if process is not None:
            self._was_up = self._was_up or process.is_up
            code = process.code()
            if code is not None:
                self._ended(place, process, code)
        elif not place.is_over and SYSTEM_CLOCK.monotonic() >= place.start_at:
            try:
                place.process = self._pool.start_one()
            except OSError as error:
                self._wait_longer(place, f"no worker process could be started: {error}")

    def _ended(self, place: _Place, process: WorkerProcess, code: int) -> None:
        self._pool.let_go(process)
        place.process = None
        if code == exit_codes.OK:  # it reached a limit, or was asked to stop
            place.is_over = True
            return
        if code in _HOPELESS and not self._was_up:
            self._code, self._pool.is_stopping = code, True
            return
        if SYSTEM_CLOCK.monotonic() - process.started_at > _LONG_SECS:
            place.deaths = 0
        self.replaced += 1
        how = f"worker process {process.pid} ended: {platforms.exit_text(code)}"
        self._wait_longer(place, how)

    def _wait_longer(self, place: _Place, why: str) -> None:
        """Schedule the replacement of a worker, after a pause."""
        secs = _WAITS_SECS[min(place.deaths, len(_WAITS_SECS) - 1)]
        place.deaths += 1
        place.start_at = SYSTEM_CLOCK.monotonic() + secs
        log_event(_LOG, logging.WARNING, "process.died", f"{why}; the next starts in {secs:g} s")

    # ---- the rolling restart ------------------------------------------------------------

    def _replace_all(self) -> Iterator[None]:
        """Replace one worker after the other; yield whenever it has to wait.

        It stops at the first that does not come up, and leaves the other workers alone.
        """
        for place in self._places:
            if place.is_over:
                continue
            try:
                new = self._pool.start_one()
            except OSError as error:
                self._give_up_restart(f"no worker process could be started: {error}")
                return
            ends_at = SYSTEM_CLOCK.monotonic() + _UP_SECS
            while new.code() is None and not new.is_up and SYSTEM_CLOCK.monotonic() < ends_at:
                yield
            if not new.is_up:
                self._give_up_restart(_why_not_up(new))
                self._pool.let_go(new)
                return
            old, place.process, place.deaths = place.process, new, 0
            self.replaced += 1
            leaves = "" if old is None else f"; {old.pid} ends"
            text = f"worker process {new.pid} is up{leaves}"
            log_event(_LOG, logging.INFO, "process.replaced", text)
            if old is not None:
                yield from self._see_off(old)

    def _see_off(self, old: WorkerProcess) -> Iterator[None]:
        old.ask_to_stop()
        ends_at = SYSTEM_CLOCK.monotonic() + self._pool.grace_secs
        while old.code() is None and SYSTEM_CLOCK.monotonic() < ends_at:
            yield
        self._pool.let_go(old)

    def _give_up_restart(self, why: str) -> None:
        text = f"the restart was abandoned, and the previous workers keep running: {why}"
        log_event(_LOG, logging.ERROR, "process.restart_failed", text)


@dataclass
class _Place:
    """Room for one worker.

    Attributes:
        process: The worker, or None while there is none.
        deaths: How many workers died here in a row.
        start_at: When to start the next worker.
        is_over: The worker has exited on its own and will not be replaced.
    """

    process: WorkerProcess | None = None
    deaths: int = 0
    start_at: float = 0.0
    is_over: bool = False


def _why_not_up(process: WorkerProcess) -> str:
    code = process.code()
    how = f"within {_UP_SECS:g} s" if code is None else f"but ended: {platforms.exit_text(code)}"
    return f"worker process {process.pid} did not come up {how}"
