"""Processes of the command line: signals, restarts, and workers as child processes.

A supervisor and a worker communicate over the worker's standard input, since not every platform
has signals. The supervisor sends ``stop`` and ``now``; the worker reports once that it is up. If
the line closes without a command, the supervisor is gone and the worker exits too: no worker
outlives its supervisor.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, NoReturn

import nuvom._version
from nuvom.cli.exit_codes import INTERRUPTED, TERMINATED
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.host import platforms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import FrameType

    from nuvom.cli.output import Output

HAND_BACK_SECS = 10.0
LOOK_SECS = 0.05
_BOOTSTRAP = "import sys; sys.path.append(sys.argv.pop(1)); from nuvom.cli.cli import main; main()"
_SIGNALS_HEEDED = 3  # this one ends all waiting
_STOP, _NOW, _UP = b"stop\n", b"now\n", b"up\n"
_LEAVE_SECS = 0.5  # to hand back running jobs when the supervisor is gone
_NOT_PASSED_ON = frozenset({"processes", "parent"})


launcher: list[str] | None = None
"""The command that this program was started with, up to Nuvom's own arguments, if it is another."""


def own_command(*args: str) -> list[str]:
    """Return the command that runs ``nuvom ARGS`` with this interpreter and this package.

    The package's folder goes to the end of the path, where it hides nothing. So the child finds
    the same Nuvom, however this process found it. ``-P`` keeps the working directory off the path.
    """
    if launcher is not None:
        return [*launcher, *args]
    home = os.path.dirname(os.path.dirname(os.path.abspath(nuvom._version.__file__)))  # noqa: SLF001  # our own module
    return [sys.executable, "-P", "-c", _BOOTSTRAP, home, *args]


def replace_self() -> NoReturn:
    """Replace this process with a new run of the same command; does not return."""
    sys.stdout.flush()
    platforms.replace_process([sys.executable, *sys.orig_argv[1:]])


# ---- signals ----------------------------------------------------------------------------


class StopSignals:
    """Counts stop signals: the first stops gracefully, the second at once.

    Install it before anything slow happens, so that no signal is lost. A signal that arrives while
    the worker is still being built stops it before its first claim. SIGHUP has two meanings: the
    terminal was closed, which also stops the process, or somebody requests a restart.

    Attributes:
        received: Numbers of the signals received so far.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self._first: Callable[[], None] | None = None
        self._second: Callable[[], None] | None = None
        self._restart: Callable[[], None] | None = None
        self._had_terminal = platforms.has_terminal()

    def install(self) -> StopSignals:
        """Install the signal handlers; return self."""
        for number in platforms.stop_signals():
            signal.signal(number, self._handle)
        hang_up = platforms.hang_up_signal()
        if hang_up is not None:
            signal.signal(hang_up, self._hang_up)
        platforms.let_signals_in()
        return self

    def connect(
        self, first: Callable[[], None], second: Callable[[], None], restart: Callable[[], None]
    ) -> None:
        """Call ``first`` at the first signal, ``second`` at the next and ``restart`` at SIGHUP.

        They run in the signal handler, so they must return at once and take no lock.
        Stop signals that have already arrived are passed on now. An earlier SIGHUP is not: there is
        nothing to restart yet.
        """
        self._first, self._second, self._restart = first, second, restart
        for count in range(1, len(self.received) + 1):
            self._pass_on(count)

    @property
    def exit_code(self) -> int | None:
        """130 after Ctrl-C, 143 after another stop signal, None after none."""
        if not self.received:
            return None
        return INTERRUPTED if self.received[0] == signal.SIGINT else TERMINATED

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.received.append(number)
        count = len(self.received)
        is_starting = self._first is None
        if count >= _SIGNALS_HEEDED or (is_starting and count > 1):
            os._exit(self.exit_code or TERMINATED)
        self._pass_on(count)

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        if self._had_terminal and not platforms.has_terminal():
            self._handle(number, frame)
        elif self._restart is not None:
            self._restart()

    def _pass_on(self, count: int) -> None:
        call = self._first if count == 1 else self._second
        if call is not None:
            call()


def write_now(text: str) -> None:
    """Write to standard error from a signal handler, which must not use buffered streams."""
    try:
        os.write(2, text.encode("ascii", "backslashreplace"))
    except OSError:  # nobody is reading any more
        return


# ---- a worker in its own process: the supervisor's end ----------------------------------


class WorkerProcess:
    """A worker process, from its start to its end.

    Raises: OSError: it cannot be started.
    """

    def __init__(self, command: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        self._line = platforms.ControlPipe()
        self._process = self._line.start(command, {**os.environ, **(environ or {})})
        self._is_up = False
        self.started_at = SYSTEM_CLOCK.monotonic()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_up(self) -> bool:
        """Whether it has started to claim jobs, as far as the platform lets it report that."""
        self._is_up = self._is_up or self._line.has_answer()
        return self._is_up

    def code(self) -> int | None:
        """Return its exit code, or None while it runs."""
        return self._process.poll()

    def ask_to_stop(self) -> None:
        """Ask it to stop gracefully."""
        self._line.send(_STOP)

    def stop_at_once(self) -> None:
        """Make it hand back its jobs and stop."""
        self._line.send(_NOW)

    def kill(self) -> None:
        """Kill it immediately."""
        self._process.kill()

    def close(self) -> None:
        """Release its resources, once it has ended."""
        self._line.close()


def worker_command(out: Output, root: os.PathLike[str] | str, options: Iterable[str]) -> list[str]:
    """Return the command of a worker that uses the output options of ``out`` and ends with us."""
    flags = ["--quiet"] if out.quiet else ["-" + "v" * out.verbosity] if out.verbosity else []
    parent = ("--parent", str(os.getpid()))
    return own_command(
        "--project", str(root), "--color", out.color, "runworker", *parent, *flags, *options
    )


def worker_options(options: Mapping[str, Any]) -> list[str]:
    """Return the ``runworker`` options that pass ``options`` on to one worker."""
    words = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if name in _NOT_PASSED_ON or value in (None, False, {}):
            continue
        if value is True:
            words.append(option)
        elif isinstance(value, dict):
            words += [word for key, one in value.items() for word in (option, f"{key}={one}")]
        else:
            words += [option, str(value)]
    return words


# ---- the worker's end -------------------------------------------------------------------


class SupervisorLine:
    """A worker's line to its supervisor. Create it before doing anything else.

    Attributes:
        was_told: Whether the supervisor has asked this worker to stop.
    """

    def __init__(self, supervisor: int) -> None:
        """Tie this process to the supervisor with this process id."""
        platforms.end_with_parent(supervisor)
        self._line = platforms.take_standard_input()
        self.was_told = False

    def connect(self, stop: Callable[[], None], abort: Callable[[], None]) -> None:
        """Call ``stop`` or ``abort`` when the supervisor requests it."""
        threading.Thread(
            target=self._listen, args=(stop, abort), name="nuvom-parent", daemon=True
        ).start()

    def tell_up(self) -> None:
        """Report that this worker has started to claim jobs."""
        platforms.tell_parent(self._line, _UP)

    def give_back(self) -> None:
        """Restore standard input, for the program that replaces this one."""
        os.dup2(self._line, 0)

    def _listen(self, stop: Callable[[], None], abort: Callable[[], None]) -> None:
        for word in os.fdopen(os.dup(self._line), "rb"):
            self.was_told = True
            (stop if word == _STOP else abort)()
        abort()  # the supervisor is gone
        SYSTEM_CLOCK.sleep(_LEAVE_SECS)
        os._exit(1)
