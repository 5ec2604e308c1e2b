"""A worker in a process of its own: both ends of the line between it and its supervisor.

The supervisor says ``stop`` and ``now`` over the worker's standard input, as signals are not to
be had everywhere; the worker says once that it is up. When the line ends without a word the
supervisor is gone, and the worker goes as well: none outlives its supervisor.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from nuvom.cli.processes import own_command
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.host import processes as platforms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from nuvom.cli.invocation import Invocation

HAND_BACK_SECS = 10.0
LOOK_SECS = 0.05
_STOP, _NOW, _UP = b"stop\n", b"now\n", b"up\n"
_LEAVE_SECS = 0.5  # to hand back what runs when the supervisor is gone
_NOT_PASSED_ON = frozenset({"processes", "parent"})


# ---- the supervisor's end -------------------------------------------------------------


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


def worker_command(
    invocation: Invocation, root: os.PathLike[str] | str, options: Iterable[str]
) -> list[str]:
    """Return the command of a worker that ends with this process."""
    out = invocation.out
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


# ---- the worker's end -----------------------------------------------------------------


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
