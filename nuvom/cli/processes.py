"""Processes of the command line: its signals, starting it again, and workers as children.

A supervisor and a worker talk over the worker's standard input, as signals are not to be had
everywhere: the supervisor says ``stop`` and ``now``; the worker says once that it is up. When the
line ends without a word the supervisor is gone, and the worker goes as well: none outlives its
supervisor.
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
from nuvom.host import processes as platforms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import FrameType

    from nuvom.cli.output import Output

HAND_BACK_SECS = 10.0
LOOK_SECS = 0.05
_BOOTSTRAP = "import sys; sys.path.append(sys.argv.pop(1)); from nuvom.cli.cli import main; main()"
_SIGNALS_HEEDED = 3  # at this one nothing is waited for any more
_STOP, _NOW, _UP = b"stop\n", b"now\n", b"up\n"
_LEAVE_SECS = 0.5  # to hand back what runs when the supervisor is gone
_NOT_PASSED_ON = frozenset({"processes", "parent"})


def own_command(*args: str) -> list[str]:
    """Return the command that runs ``nuvom ARGS`` with this interpreter and this package.

    The package's folder goes to the end of the path, where it hides nothing: the child finds
    the same Nuvom however this one was found. ``-P`` keeps the working directory off the path.
    """
    home = os.path.dirname(os.path.dirname(os.path.abspath(nuvom._version.__file__)))  # noqa: SLF001  # our own module
    return [sys.executable, "-P", "-c", _BOOTSTRAP, home, *args]


def replace_self(*options: str) -> NoReturn:
    """Start this very command again in this process's place; does not return.

    Args:
        options: Added at its end, where they override those that it was given.
    """
    sys.stdout.flush()
    platforms.replace_process([sys.executable, *sys.orig_argv[1:], *options])


# ---- signals ----------------------------------------------------------------------------


class StopSignals:
    """Counts stop signals: the first stops in good order, the second at once.

    Installed before anything slow happens, so that a signal is never lost: one that arrives
    while the worker is still being built stops it before its first claim. SIGHUP has two
    meanings: the terminal was closed, which stops the process as well; or somebody asks for a
    restart.

    Attributes:
        received: Numbers of the signals so far.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self._first: Callable[[], None] | None = None
        self._second: Callable[[], None] | None = None
        self._restart: Callable[[], None] | None = None
        self._had_terminal = platforms.has_terminal()

    def install(self) -> StopSignals:
        """Take the signals over; returns itself."""
        for number in platforms.stop_signals():
            signal.signal(number, self._handle)
        hang_up = platforms.hang_up_signal()
        if hang_up is not None:
            signal.signal(hang_up, self._hang_up)
        platforms.let_signals_in()
        return self

    def connect(
        self,
        first: Callable[[], None],
        second: Callable[[], None],
        restart: Callable[[], None] | None = None,
    ) -> None:
        """Call ``first`` at the first signal, ``second`` at the next and ``restart`` at SIGHUP.

        They are called in the signal handler: they must return at once and lock nothing.
        Stop signals that came already are passed on now; whoever starts has nothing to restart.
        Without ``restart`` SIGHUP is a stop signal.
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
        has_lost_terminal = self._had_terminal and not platforms.has_terminal()
        if has_lost_terminal or (self._first is not None and self._restart is None):
            self._handle(number, frame)
        elif self._restart is not None:
            self._restart()

    def _pass_on(self, count: int) -> None:
        call = self._first if count == 1 else self._second
        if call is not None:
            call()


def write_now(text: str) -> None:
    """Write to standard error from a signal handler, where buffered streams may not be used."""
    try:
        os.write(2, text.encode("ascii", "backslashreplace"))
    except OSError:  # nobody is listening any more
        return


# ---- a worker in a process of its own: the supervisor's end -----------------------------


class WorkerProcess:
    """A worker process, from its start to its end.

    Raises: OSError: it cannot be started.
    """

    def __init__(self, command: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        self._line = platforms.Line()
        self._process = self._line.start(command, {**os.environ, **(environ or {})})
        self._is_up = False
        self.started_at = SYSTEM_CLOCK.monotonic()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_up(self) -> bool:
        """Whether it has begun to claim jobs, as far as the system lets it say so."""
        self._is_up = self._is_up or self._line.has_answer()
        return self._is_up

    def code(self) -> int | None:
        """Return its exit code, None while it runs."""
        return self._process.poll()

    def ask_to_stop(self) -> None:
        """Have it stop in good order."""
        self._line.send(_STOP)

    def stop_at_once(self) -> None:
        """Have it hand back what it has, and stop."""
        self._line.send(_NOW)

    def kill(self) -> None:
        """End it now."""
        self._process.kill()

    def close(self) -> None:
        """Let go of it, once it has ended."""
        self._line.close()


def worker_command(out: Output, root: os.PathLike[str] | str, options: Iterable[str]) -> list[str]:
    """Return the command of a worker that speaks as ``out`` does and ends with this process."""
    flags = ["--quiet"] if out.quiet else ["-" + "v" * out.verbosity] if out.verbosity else []
    parent = ("--parent", str(os.getpid()))
    return own_command(
        "--project", str(root), "--color", out.color, "runworker", *parent, *flags, *options
    )


def worker_options(options: Mapping[str, Any]) -> list[str]:
    """Return the options of ``runworker`` that say the same again to one worker."""
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
    """A worker's line to the process that supervises it. Made before anything else is done.

    Attributes:
        was_told: The supervisor has asked this worker to stop.
    """

    def __init__(self, supervisor: int) -> None:
        """Tie this process to its supervisor, whose process id is given."""
        platforms.end_with_parent(supervisor)
        self._line = platforms.take_standard_input()
        self.was_told = False

    def connect(self, stop: Callable[[], None], abort: Callable[[], None]) -> None:
        """Call ``stop`` and ``abort`` when the supervisor says so."""
        threading.Thread(
            target=self._listen, args=(stop, abort), name="nuvom-parent", daemon=True
        ).start()

    def tell_up(self) -> None:
        """Say that this worker has begun to claim jobs."""
        platforms.tell_parent(self._line, _UP)

    def give_back(self) -> None:
        """Be standard input again, for the program that takes this one's place."""
        os.dup2(self._line, 0)

    def _listen(self, stop: Callable[[], None], abort: Callable[[], None]) -> None:
        for word in os.fdopen(os.dup(self._line), "rb"):
            self.was_told = True
            (stop if word == _STOP else abort)()
        abort()  # the supervisor is gone
        SYSTEM_CLOCK.sleep(_LEAVE_SECS)
        os._exit(1)
