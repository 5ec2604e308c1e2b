"""The worker's end of one child of the process lane: its process, and the frames to and from it.

It knows no queue and makes no decision: the lane tells it what to say and when to end. Two
threads each, so that no child, however stuck, can block anybody else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING, cast

from nuvom.execution.childhood import PROGRAM
from nuvom.execution.framing import HOOKS_KEPT, AskStack, Close, FromChild, Link
from nuvom.host import processes as platforms

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.core.clock import Clock
    from nuvom.execution.framing import Hello, ToChild
    from nuvom.execution.running import RunningJob

    Order = bytes | ToChild | Callable[[], ToChild | None]

_REAP_SECS = 0.002  # between looks for the end of a process that has closed its pipe


class HooksDue:
    """The hooks of one attempt, which its child calls; it has what they are called with.

    Attributes:
        are_over: They have been called, or will not be: the child has ended.
    """

    def __init__(self, token: int, running: RunningJob) -> None:
        self.token = token
        self.running = running
        self.are_over = threading.Event()


class ChildProcess:
    """A child, from its start to its end. Its fields belong to the lane, under the lane's lock.

    Args:
        hear: Called with each frame from the child, in this child's own thread.
        gone: Called there once the process has ended and everything it said was heard.
        crashed: Called when one of the threads fails.

    Attributes:
        running: What it runs, or None.
        token: Of its latest attempt, counted from 1.
        has_started: It has confirmed that attempt.
        jobs: Attempts that it has ended.
        stack: What it answered when it was last asked for its stack, or None.
        asked_at: When its attempt was found overdue and it was asked, or None.
        hooks_due: The hooks that it has still to call, by token.
        leave_at, kill_at: When it is dismissed, and killed, at the latest; None for never.
        was_killed: It has been killed, and may take its time.
    """

    def __init__(
        self,
        hello: Hello,
        *,
        clock: Clock,
        hear: Callable[[ChildProcess, FromChild], None],
        gone: Callable[[ChildProcess, str], None],
        crashed: Callable[[BaseException], None],
    ) -> None:
        """Start the process. Raises: OSError: it cannot be."""
        self._clock = clock
        self._hear = hear
        self._gone = gone
        self._crashed = crashed
        self._life = threading.Lock()  # nobody signals a process that somebody else waits for
        self._outbox: SimpleQueue[Order | None] = SimpleQueue()
        self._process = subprocess.Popen(
            _command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            **platforms.spawn_options(),
        )
        pipes = cast("tuple[IO[bytes], IO[bytes]]", (self._process.stdout, self._process.stdin))
        self._link = Link(*pipes, FromChild)
        self._is_leaving = False
        self.running: RunningJob | None = None
        self.token = 0
        self.has_started = False
        self.jobs = 0
        self.stack: str | None = None
        self.asked_at: float | None = None
        self.hooks_due: dict[int, HooksDue] = {}
        self.leave_at: float | None = None
        self.kill_at: float | None = None
        self.was_killed = False
        self.post(_path())
        self.post(hello)

    def talk(self) -> None:
        """Start the threads that read and write."""
        for target, name in ((self._read, "read"), (self._write, "write")):
            thread = threading.Thread(target=target, name=f"nuvom-child-{name}", daemon=True)
            thread.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def tie_to(self, tether: platforms.Tether) -> None:
        """Have it end with this process."""
        tether.add(self._process)

    def take(self, work: RunningJob) -> None:
        """Note what it runs from now on."""
        self.running = work
        self.token += 1
        self.has_started = False
        self.stack = self.asked_at = None

    def owe_hooks(self, running: RunningJob) -> HooksDue:
        """Note that it has the hooks of its latest attempt to call, once that is settled."""
        due = self.hooks_due[self.token] = HooksDue(self.token, running)
        if len(self.hooks_due) > HOOKS_KEPT:
            self.hooks_called(next(iter(self.hooks_due)))
        return due

    def hooks_called(self, token: int) -> None:
        """Note that it has called hooks, or never will."""
        due = self.hooks_due.pop(token, None)
        if due is not None:
            due.are_over.set()

    # ---- telling it ---------------------------------------------------------------------

    def post(self, order: Order) -> None:
        """Send a frame, or what ``order()`` returns just before it is sent. Never blocks."""
        self._outbox.put(order)

    def ask_stack(self, asked_at: float | None) -> None:
        """Ask where its code is; the answer comes into ``stack``."""
        self.stack, self.asked_at = None, asked_at
        self.post(AskStack(self.token))

    def leave(self) -> None:
        """Let it end by itself, once it has read what was posted."""
        self._is_leaving = True
        self._outbox.put(None)

    def close(self) -> None:
        """Have it stop the code that it runs and end: asked nicely, where that is possible."""
        self.post(Close())
        self._signal(platforms.ask_to_end)

    def kill(self) -> None:
        """End it at once. Twice is fine."""
        self.was_killed = True
        self._signal(platforms.kill)

    def _signal(self, send: Callable[[subprocess.Popen[bytes]], None]) -> None:
        with self._life:
            if self._process.returncode is None:
                send(self._process)

    # ---- its threads --------------------------------------------------------------------

    def _read(self) -> None:
        try:
            try:
                while (frame := self._link.receive()) is not None:
                    self._hear(self, frame)
            finally:
                code = self._reap()
                self._outbox.put(None)
                self._link.close_source()
            self._gone(self, platforms.exit_text(code))
        except Exception as error:  # noqa: BLE001  # outermost: a fault of the engine must not pass in silence
            self._crashed(error)

    def _write(self) -> None:
        try:
            self._send_all()
        except Exception as error:  # noqa: BLE001  # outermost: a fault of the engine must not pass in silence
            self._crashed(error)
        finally:
            self._link.close_sink()

    def _send_all(self) -> None:
        while (order := self._outbox.get()) is not None:
            frame = order() if callable(order) else order
            try:
                if isinstance(frame, bytes):
                    self._link.send_bytes(frame)
                elif frame is not None:
                    self._link.send(frame)
            except OSError:  # it is gone, as the reader sees, too
                return

    def _reap(self) -> int:
        """Wait for the end of a process that no longer speaks, and return its exit code.

        Unless it leaves in good order, what it had started ends with it; and if it only closed
        its pipe, it has no use either.
        """
        if not self._is_leaving:
            self.kill()
        while True:
            with self._life:
                code = self._process.poll()
            if code is not None:
                return code
            self._clock.sleep(_REAP_SECS)


def _path() -> bytes:
    return f"{json.dumps([os.fspath(entry) for entry in sys.path])}\n".encode()


def _command() -> list[str]:
    # As the standard library's own children get them; there is no public way.
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001  # see above
    # -P: what lies in the working directory must not be taken for the standard library.
    return [sys.executable or "", *flags, "-P", "-c", PROGRAM, str(os.getpid())]
