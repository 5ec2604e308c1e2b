"""Runs several workers, each in a process of its own, and sees to it that they stay as many.

A worker that dies is replaced, the later the oftener that happens in a row. A restart replaces
one after the other: the next goes once the one before is up and the one that it replaces has
left, so that code which does not start costs no worker. As process 1 of a container it reaps
the orphans that the system hands to it; that is why even a single worker has a supervisor there.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from nuvom.cli import exit_codes
from nuvom.cli.crew import Crew
from nuvom.cli.serving_text import supervisor_lines
from nuvom.cli.signals import write_now
from nuvom.cli.worker_process import (
    HAND_BACK_SECS,
    LOOK_SECS,
    WorkerProcess,
    worker_command,
    worker_options,
)
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.host import processes as platforms
from nuvom.log import configure_logging, flush_logs, get_logger, log_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from nuvom.cli.invocation import Invocation
    from nuvom.cli.signals import StopSignals
    from nuvom.config.sources import Loaded
    from nuvom.core.clock import Clock

SCHEMA = "nuvom.supervisor_run/1"
_WAITS_SECS = (0.2, 1.0, 2.0, 5.0, 10.0, 30.0)  # until a worker that died is replaced
_LONG_SECS = 30.0  # whoever lived so long has not died of its start
_UP_SECS = 60.0  # for a worker to come up
# With these a worker says that the command or the project is wrong: another would say the same.
_HOPELESS = frozenset({exit_codes.USAGE, exit_codes.NOT_FOUND, exit_codes.CONFIG})
_LOG = get_logger("nuvom.supervisor")


def supervise(
    invocation: Invocation, signals: StopSignals, loaded: Loaded, options: Mapping[str, Any]
) -> int:
    """Run ``settings.processes`` workers until a signal comes or all have ended by themselves.

    Returns: the exit code.
    """
    settings = loaded.settings
    out = invocation.out
    color = None if out.color == "auto" else out.err.has_color
    configure_logging(settings.log_level, settings.log_format, color=color)
    is_free_text = settings.log_format not in {"json", "logfmt"}
    command = worker_command(invocation, settings.root, worker_options(options))
    supervisor = Supervisor(
        settings.processes,
        spawn=lambda: WorkerProcess(command),
        clock=SYSTEM_CLOCK,
        grace_secs=settings.shutdown_timeout_secs,
        say=write_now if is_free_text and not out.quiet else lambda _: None,
    )
    for line in supervisor_lines(settings):
        if is_free_text:
            out.say(line)
        else:
            _LOG.info("%s", " ".join(line.split()))
    signals.connect(supervisor.stop, supervisor.abort, supervisor.restart)
    try:
        code = supervisor.run()
    finally:
        flush_logs()
    if out.as_json:
        out.json(SCHEMA, {"processes": settings.processes, "replaced": supervisor.replaced})
    return signals.exit_code or code


class Supervisor:
    """Keeps ``count`` workers at work.

    Args:
        spawn: Starts one. Raises: OSError.
        grace_secs: How long workers take at most to stop in good order.
        say: Writes a sentence; called in signal handlers.

    Attributes:
        replaced: How many workers have taken the place of another.
    """

    def __init__(
        self,
        count: int,
        *,
        spawn: Callable[[], WorkerProcess],
        clock: Clock,
        grace_secs: float,
        say: Callable[[str], None],
    ) -> None:
        self._clock = clock
        self._leave_secs = grace_secs + HAND_BACK_SECS
        self._crew = Crew(spawn, clock=clock, grace_secs=self._leave_secs)
        self._say = say
        self._places = [_Place() for _ in range(count)]
        self._roll: Iterator[None] | None = None
        self._wants_restart = self._was_up = False
        self._code = exit_codes.OK
        self.replaced = 0

    # ---- from signal handlers -----------------------------------------------------------

    def stop(self) -> None:
        """End in good order."""
        self._say("\nStopping. Once more to stop at once.\n")
        self._crew.is_stopping = True

    def abort(self) -> None:
        """End at once."""
        self._say("\nStopping at once; what has not ended goes back to the queue.\n")
        self._crew.is_aborted = True

    def restart(self) -> None:
        """Replace all workers, one after the other; once more while that goes on: again."""
        self._wants_restart = True

    # ---- the loop -----------------------------------------------------------------------

    def run(self) -> int:
        """Work until ``stop``, or until all workers have ended by themselves.

        Returns: the exit code, as far as no signal decides it.
        """
        try:
            while not self._crew.is_stopping and not all(place.is_over for place in self._places):
                self._look()
                self._clock.sleep(LOOK_SECS)
        finally:
            self._crew.end()
        return self._code

    def _look(self) -> None:
        for place in self._places:
            self._look_at(place)
        if self._roll is None and self._wants_restart:
            self._wants_restart = False
            self._roll = self._replace_all()
        if self._roll is not None and next(self._roll, self) is self:
            self._roll = None
        self._crew.reap_orphans()

    def _look_at(self, place: _Place) -> None:
        process = place.process
        if process is not None:
            self._was_up = self._was_up or process.is_up
            code = process.code()
            if code is not None:
                self._ended(place, process, code)
        elif not place.is_over and self._clock.monotonic() >= place.start_at:
            self._fill(place)

    def _fill(self, place: _Place) -> None:
        try:
            place.process = self._crew.start_one()
        except OSError as error:
            self._wait_longer(place, f"no worker process could be started: {error}")

    # ---- ends ---------------------------------------------------------------------------

    def _ended(self, place: _Place, process: WorkerProcess, code: int) -> None:
        self._crew.let_go(process)
        place.process = None
        if code == exit_codes.OK:  # a limit of its own, or somebody asked it to
            place.is_over = True
            return
        how = f"worker process {process.pid} ended: {platforms.exit_text(code)}"
        if code in _HOPELESS and not self._was_up:
            self._code, self._crew.is_stopping = code, True
            return
        if self._clock.monotonic() - process.started_at > _LONG_SECS:
            place.deaths = 0
        self.replaced += 1
        self._wait_longer(place, how)

    def _wait_longer(self, place: _Place, why: str) -> None:
        """Have a place filled again, after a while."""
        secs = _WAITS_SECS[min(place.deaths, len(_WAITS_SECS) - 1)]
        place.deaths += 1
        place.start_at = self._clock.monotonic() + secs
        log_event(_LOG, logging.WARNING, "process.died", f"{why}; the next starts in {secs:g} s")

    # ---- the rolling restart ------------------------------------------------------------

    def _replace_all(self) -> Iterator[None]:
        """Replace one worker after the other; yields whenever it has to wait.

        It ends at the first that does not come up: the others stay what they are.
        """
        for place in self._places:
            if place.is_over:
                continue
            try:
                new = self._crew.start_one()
            except OSError as error:
                self._give_up_restart(f"no worker process could be started: {error}")
                return
            ends_at = self._clock.monotonic() + _UP_SECS
            while new.code() is None and not new.is_up and self._clock.monotonic() < ends_at:
                yield
            if not new.is_up:
                self._give_up_restart(_why_not_up(new))
                self._crew.let_go(new)
                return
            old, place.process, place.deaths = place.process, new, 0
            self.replaced += 1
            log_event(_LOG, logging.INFO, "process.replaced", _replaces(new, old))
            if old is not None:
                yield from self._see_off(old)

    def _see_off(self, old: WorkerProcess) -> Iterator[None]:
        old.ask_to_stop()
        ends_at = self._clock.monotonic() + self._leave_secs
        while old.code() is None and self._clock.monotonic() < ends_at:
            yield
        self._crew.let_go(old)

    def _give_up_restart(self, why: str) -> None:
        text = f"the restart was given up, and the workers before go on: {why}"
        log_event(_LOG, logging.ERROR, "process.restart_failed", text)


class _Place:
    """Room for one worker.

    Attributes:
        process: The worker, None while there is none.
        deaths: How many died here in a row.
        start_at: When the next is started.
        is_over: The worker has ended by itself, and none is to follow.
    """

    def __init__(self) -> None:
        self.process: WorkerProcess | None = None
        self.deaths = 0
        self.start_at = 0.0
        self.is_over = False


def _replaces(new: WorkerProcess, old: WorkerProcess | None) -> str:
    is_up = f"worker process {new.pid} is up"
    return is_up if old is None else f"{is_up}; {old.pid} ends"


def _why_not_up(process: WorkerProcess) -> str:
    code = process.code()
    how = f"within {_UP_SECS:g} s" if code is None else f"but ended: {platforms.exit_text(code)}"
    return f"worker process {process.pid} did not come up {how}"
