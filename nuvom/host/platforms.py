"""The platform-specific parts of starting, ending, measuring and replacing processes.

The rest of the code for child processes is portable: for the process lane in ``nuvom/execution``,
for a supervisor in ``nuvom/cli``. What each system does, and what was never run on it, is in
``docs/platforms.md``.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress
from mmap import PAGESIZE
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Container, Mapping, Sequence
    from types import FrameType

_PR_SET_PDEATHSIG = 1
_NTSTATUS_ERROR = 0xC0000000  # the lowest exit code of a crashed Windows process


# ---- in the parent --------------------------------------------------------------------


def spawn_options() -> dict[str, Any]:
    """Return arguments for ``Popen`` that shield the child from a terminal's Ctrl-C.

    On POSIX the child leads its own process group, which ``ask_to_end`` and ``kill`` signal.
    """
    if sys.platform == "win32":  # pragma: no cover
        from subprocess import CREATE_NEW_PROCESS_GROUP  # noqa: PLC0415  # as in ControlPipe.start

        return {"creationflags": CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def ask_to_end(child: subprocess.Popen[bytes]) -> None:
    """Ask a child, and the processes it started, to end. On Windows this is ``kill``.

    The child must not have been waited for: until then its pid cannot be reused.
    """
    _signal(child, signal.SIGTERM)


def kill(child: subprocess.Popen[bytes]) -> None:
    """Kill a child, and on POSIX what it started. It must not have been waited for."""
    _signal(child, getattr(signal, "SIGKILL", signal.SIGTERM))


def _signal(child: subprocess.Popen[bytes], signum: int) -> None:
    if sys.platform == "win32":  # pragma: no cover
        child.kill()
        return
    # All of its group may have ended; macOS raises PermissionError then.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signum)


def exit_text(code: int) -> str:
    """Return how a process with this ``returncode`` ended: ``exit code 3``, ``signal SIGSEGV``."""
    if code >= 0:
        return f"exit code 0x{code:08X}" if code >= _NTSTATUS_ERROR else f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal has no name
        return f"signal {-code}"


def resident_bytes(pid: int) -> int | None:
    """Return a process's resident memory in bytes, None if it cannot be read."""
    if not CAN_MEASURE:
        return None
    try:
        with open(f"/proc/{pid}/statm", "rb") as stream:
            return int(stream.read().split()[1]) * PAGESIZE
    except (OSError, IndexError):  # it has ended
        return None


CAN_MEASURE = sys.platform == "linux" and os.path.exists("/proc/self/statm")


class ControlPipe:
    """A parent's end of a channel to a child; the other end is the child's standard input.

    On Windows it is a pipe, over which the child cannot answer.
    """

    def __init__(self) -> None:
        self._pipe: Any = None
        self._socket: socket.socket | None = None

    def start(self, command: Sequence[str], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start the child at the other end. Raises: OSError: it cannot be started."""
        import subprocess  # noqa: PLC0415  # not needed by workers without children

        if sys.platform == "win32":  # pragma: no cover
            child = subprocess.Popen(command, stdin=subprocess.PIPE, env=environ, **spawn_options())
            self._pipe = child.stdin
            return child
        self._socket, childs_end = socket.socketpair()
        self._socket.setblocking(False)
        with childs_end:
            return subprocess.Popen(
                command, stdin=childs_end.fileno(), env=environ, **spawn_options()
            )

    def send(self, word: bytes) -> None:
        """Send a word; ignored if the child has ended."""
        with suppress(OSError, ValueError):
            if self._socket is not None:
                self._socket.send(word)
            else:  # pragma: no cover  # needs Windows
                self._pipe.write(word)
                self._pipe.flush()

    def has_answer(self) -> bool:
        """Whether the child has sent anything; always true on Windows."""
        if self._socket is None:  # pragma: no cover  # needs Windows
            return True
        try:
            return bool(self._socket.recv(64))
        except OSError:  # nothing yet, or the child is gone
            return False

    def close(self) -> None:
        """Close the channel; the child sees end of file."""
        if self._socket is not None:
            self._socket.close()
        elif self._pipe is not None:  # pragma: no cover  # needs Windows
            with suppress(OSError):
                self._pipe.close()


def is_first_process() -> bool:
    """Whether this is process 1 of a container, which adopts all orphans."""
    return sys.platform == "linux" and os.getpid() == 1


def reap_adopted(own: Container[int]) -> None:
    """Reap ended processes that this one adopted but did not start.

    Args:
        own: The ids of the children that it started itself, which are waited for elsewhere. Only
            for processes that know all of them: a worker does not, since tasks start some.
    """
    if sys.platform != "linux":  # pragma: no cover  # elsewhere the system adopts orphans
        return
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # no children at all
            return
        if ended is None or ended.si_pid in own:
            return
        os.waitpid(ended.si_pid, 0)


# ---- in the child ---------------------------------------------------------------------


def take_standard_input() -> int:
    """Return a descriptor for the original standard input, and make standard input empty."""
    kept = os.dup(0)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    return kept


def tell_parent(line: int, word: bytes) -> None:
    """Send a word over the descriptor from ``take_standard_input``; not on Windows."""
    if sys.platform != "win32":  # pragma: no branch
        with suppress(OSError):  # the parent is gone, which the reader of the line notices
            os.write(line, word)


def end_with_parent(parent: int) -> None:
    """Have this process killed when the thread that started it ends, on Linux.

    End of file on a pipe shows the same on every system, but not while C code holds the GIL.

    Args:
        parent: Id of the process that started this one; if it is already gone, this one ends.
    """
    if sys.platform == "win32":  # pragma: no cover
        return  # a virtual environment's python.exe stands between parent and child there
    if sys.platform == "linux":  # pragma: no branch
        import ctypes  # noqa: PLC0415  # only children need it

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def leave_with_group(code: int) -> None:
    """End this process at once, and on POSIX what it started. For group leaders only."""
    if sys.platform != "win32" and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(code)


def interrupt_main_thread(main: int) -> None:
    """Interrupt a wait of the main thread, by the signal that ``on_end_request`` handles.

    Args:
        main: The main thread's ``ident``.
    """
    if sys.platform != "win32":  # pragma: no branch
        signal.pthread_kill(main, signal.SIGTERM)


def on_end_request(act: Callable[[], None]) -> None:
    """Call ``act()`` in the main thread on SIGTERM, and ignore SIGINT.

    It uses Python handlers instead of ``SIG_IGN``, since programs that the child starts would
    inherit the latter.
    """

    def handle(_signum: int, _frame: FrameType | None) -> None:
        act()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, lambda _signum, _frame: None)
    if sys.platform != "win32":  # pragma: no branch
        # The thread that started this process may have blocked the signal.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def usual_signals() -> None:
    """Undo ``on_end_request``; for forked children of a child."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


# ---- in any process -------------------------------------------------------------------


def stop_signals() -> list[int]:
    """Return the signals that ask a program to stop."""
    names = ("SIGINT", "SIGTERM", "SIGBREAK")
    return [int(getattr(signal, name)) for name in names if hasattr(signal, name)]


def hang_up_signal() -> int | None:
    """Return the number of SIGHUP; None if it does not exist or was ignored from the start."""
    number = getattr(signal, "SIGHUP", None)
    if number is None or signal.getsignal(number) is signal.SIG_IGN:
        return None
    return int(number)


def has_terminal() -> bool:
    """Whether this process has a controlling terminal that still exists."""
    if sys.platform == "win32":  # pragma: no cover
        return False  # there the end of a terminal sends no signal
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:  # there is no terminal, or it was closed
        return False
    return True


def replace_process(command: list[str]) -> NoReturn:
    """Replace this process with another program, same pid; on Windows run it and wait instead.

    Stop signals that arrive meanwhile are held until the new program calls ``let_signals_in``.
    """
    if sys.platform == "win32":  # pragma: no cover
        from subprocess import call  # noqa: PLC0415  # as in ControlPipe.start

        sys.exit(call(command))
    else:
        signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
        try:
            os.execv(command[0], command)  # noqa: S606  # our own command line
        finally:  # reached only if exec failed
            let_signals_in()


def let_signals_in() -> None:
    """Unblock the signals that ``replace_process`` blocked; call it once handlers are set."""
    if sys.platform != "win32":  # pragma: no branch
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK)


# ---- inside ---------------------------------------------------------------------------


if sys.platform != "win32":  # pragma: no branch
    _HELD_BACK = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
