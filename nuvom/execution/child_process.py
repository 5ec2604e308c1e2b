"""The child processes of a process lane, as the worker sees them.

``ChildProcess`` is the worker's end of one child: its process, and the frames to and from it. It
knows no queue and makes no decisions: the lane tells it what to send and when to end.
``ChildSupervisor`` starts children while there is work for them and sees that they end. It does
not know what children run; it only calls the lane's chores (deadlines, memory).
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from math import inf
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING, Literal, cast

from nuvom.execution.frames import AskStack, Close, FromChild, Link
from nuvom.execution.lanes import CHILD_PROGRAM
from nuvom.host import platforms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nuvom.core.clock import Clock
    from nuvom.execution.attempts import OpenAttempt
    from nuvom.execution.frames import Hello, ToChild

    Order = ToChild | Callable[[], ToChild | None]
    Chore = Callable[[float], float]
    State = Literal["starting", "idle", "busy", "leaving"]

GRACE_SECS = 1.0  # between telling a child to end and killing it
_LEAVE_SECS = 2.0  # for a child without work to exit by itself
_START_SECS = 60.0  # for a child to start
_START_WAITS_SECS = (0.1, 0.5, 2.0)  # after each failed start, until its jobs are given up
_EXIT_LOOK_SECS = 0.002  # between checks whether a process that closed its pipe has ended
_LOG = logging.getLogger("nuvom.worker")


class ChildProcess:
    """A child, from its start to its end. Its fields belong to the supervisor's lock.

    It has two threads here, so that a stuck child cannot block anything else.

    Args:
        hear: Called with each frame from the child, in this child's own thread.
        gone: Called there once the process has ended and all its frames were handled.
        crashed: Called when one of the threads fails.

    Attributes:
        process: The operating system's process.
        state: A leaving child no longer counts as one of the lane's slots.
        attempt: The attempt that it runs, or None.
        taken_at: Monotonic seconds when it was given its latest attempt.
        token: Of its latest attempt, counted from 1.
        has_started: Whether it has confirmed that attempt.
        jobs: How many attempts it has finished.
        stack: Its answer to the latest request for its stack, or None.
        asked_at: When its attempt was found overdue and it was asked for its stack, or None.
        kill_at: When it is killed at the latest; None for never.
        was_killed: Whether it has been killed; it may still take a while to end.
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
        """Start the process. Raises: OSError: it cannot be started."""
        self._clock = clock
        self._hear, self._gone, self._crashed = hear, gone, crashed
        self._signalling = threading.Lock()  # never signal a process that was waited for
        self._outbox: SimpleQueue[Order | None] = SimpleQueue()
        self.process = subprocess.Popen(
            _command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            **platforms.spawn_options(),
        )
        pipes = cast("tuple[IO[bytes], IO[bytes]]", (self.process.stdout, self.process.stdin))
        self._link = Link(*pipes, FromChild)
        self._is_leaving = False
        self.state: State = "starting"
        self.attempt: OpenAttempt | None = None
        self.taken_at = 0.0
        self.token = 0
        self.has_started = False
        self.jobs = 0
        self.stack: str | None = None
        self.asked_at: float | None = None
        self.kill_at: float | None = None
        self.was_killed = False
        self.post(hello)

    def talk(self) -> None:
        """Start the threads that read and write."""
        for target, name in ((self._read, "read"), (self._write, "write")):
            thread = threading.Thread(target=target, name=f"nuvom-child-{name}", daemon=True)
            thread.start()

    def take(self, attempt: OpenAttempt) -> None:
        """Record the attempt that it runs next."""
        self.state, self.attempt = "busy", attempt
        self.taken_at = self._clock.monotonic()
        self.token += 1
        self.has_started = False
        self.stack = self.asked_at = None

    # ---- telling it ---------------------------------------------------------------------

    def post(self, order: Order) -> None:
        """Send a frame, or what ``order()`` returns just before it is sent. Never blocks."""
        self._outbox.put(order)

    def ask_stack(self, asked_at: float | None) -> None:
        """Ask for its stack; the answer is put into ``stack``."""
        self.stack, self.asked_at = None, asked_at
        self.post(AskStack(self.token))

    def leave(self) -> None:
        """Let it exit by itself once it has read what was posted."""
        self._is_leaving = True
        self._outbox.put(None)

    def close(self) -> None:
        """Make it stop its code and exit, gracefully if the system allows that."""
        self.post(Close())
        self._signal(platforms.ask_to_end)

    def kill(self) -> None:
        """Kill it at once. Idempotent."""
        self.was_killed = True
        self._signal(platforms.kill)

    def _signal(self, send: Callable[[subprocess.Popen[bytes]], None]) -> None:
        with self._signalling:
            if self.process.returncode is None:
                send(self.process)

    # ---- its threads --------------------------------------------------------------------

    def _read(self) -> None:
        try:
            try:
                while (frame := self._link.receive()) is not None:
                    self._hear(self, frame)
            finally:
                code = self._wait()
                self._outbox.put(None)
                self._link.close_source()
            self._gone(self, platforms.exit_text(code))
        except Exception as error:  # noqa: BLE001  # outermost: an engine bug must not pass silently
            self._crashed(error)

    def _write(self) -> None:
        try:
            self._send_all()
        except Exception as error:  # noqa: BLE001  # outermost: an engine bug must not pass silently
            self._crashed(error)
        finally:
            self._link.close_sink()

    def _send_all(self) -> None:
        while (order := self._outbox.get()) is not None:
            frame = order() if callable(order) else order
            try:
                if frame is not None:
                    self._link.send(frame)
            except OSError:  # it is gone; the reader notices that too
                return

    def _wait(self) -> int:
        """Wait for the end of a process that sends nothing more, and return its exit code.

        Unless it exits cleanly, the processes that it started end with it. If it only closed its
        pipe, it is killed too, since it is of no more use.
        """
        if not self._is_leaving:
            self.kill()
        while True:
            with self._signalling:
                code = self.process.poll()
            if code is not None:
                return code
            self._clock.sleep(_EXIT_LOOK_SECS)


def _command() -> list[str]:
    # The flags that the standard library passes to its own children; there is no public API.
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001  # see above
    # -P: modules in the working directory must not shadow the standard library.
    path = json.dumps([os.fspath(entry) for entry in sys.path])
    return [sys.executable or "", *flags, "-P", "-c", CHILD_PROGRAM, str(os.getpid()), path]


class ChildSupervisor:
    """Keeps at most ``size`` children, as many as there is work for, and sees that others end.

    On Linux a child ends with the thread that started it. So one thread starts all children and
    outlives them.

    Args:
        make: Starts a process. Raises OSError when that fails.
        waiting: Returns how many attempts wait for a child.
        give_up: Called with a reason when no child starts.
        chores: Called with the monotonic time whenever the thread wakes up; each returns when
            it wants to be called next, ``inf`` for not before the next ``wake``.
        crashed: Called when the thread fails.

    Attributes:
        lock: Taken by every method; hold it around several calls to make them one step.
    """

    def __init__(
        self,
        size: int,
        clock: Clock,
        *,
        make: Callable[[], ChildProcess],
        waiting: Callable[[], int],
        give_up: Callable[[str], None],
        chores: Sequence[Chore],
        crashed: Callable[[BaseException], None],
    ) -> None:
        self._size, self._clock = size, clock
        self._make, self._waiting = make, waiting
        self._give_up, self._crashed = give_up, crashed
        self._chores = (self._start_missing, *chores, self._kill_overdue)
        self.lock = threading.RLock()
        self._children: set[ChildProcess] = set()
        self._is_closed = False
        self._wakeup = threading.Event()
        self._thread: threading.Thread | None = None
        self._failed_starts = 0
        self._start_at = 0.0

    def start(self) -> None:
        """Start the thread, unless it runs. Call it from one thread only."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._main, name="nuvom-children", daemon=True)
            self._thread.start()

    def wake(self) -> None:
        """Wake up the thread to check again now."""
        self._wakeup.set()

    def close(self) -> None:
        """Start no more children, end the busy ones, and let the others end by themselves."""
        with self.lock:
            self._is_closed = True
            for child in self._children:
                if child.attempt is not None:
                    self.end(child.attempt)
                elif child.state != "leaving":
                    self._dismiss(child)
        self.wake()

    def join(self) -> None:
        """Wait for the last child to end, but no longer than a killed one needs."""
        if self._thread is not None:
            self._thread.join(max(GRACE_SECS, _LEAVE_SECS) + GRACE_SECS)

    # ---- the children -------------------------------------------------------------------

    def in_state(self, *states: State) -> list[ChildProcess]:
        """Return the children in these states."""
        with self.lock:
            return [child for child in self._children if child.state in states]

    def missing(self) -> int:
        """Return how many children to start for the attempts that wait."""
        with self.lock:
            if self._is_closed:
                return 0
            spare = len(self.in_state("starting", "idle"))
            there = spare + len(self.in_state("busy"))
            return min(self._waiting() - spare, self._size - there)

    def came_up(self, child: ChildProcess) -> None:
        """Note that a child has started."""
        with self.lock:
            self._failed_starts = 0
            if child.state == "starting":  # else it is to leave
                child.state, child.kill_at = "idle", None

    def runs(self, child: ChildProcess, token: int) -> OpenAttempt | None:
        """Return the attempt that a child runs, if it has this ``token`` and is not closed."""
        with self.lock:
            return child.attempt if child.token == token else None

    def ended(self, child: ChildProcess, token: int, *, is_worn: bool) -> OpenAttempt | None:
        """Take an attempt from its child, which becomes idle, or leaves if it is worn.

        Returns: the attempt; None when someone closed it earlier.
        """
        with self.lock:
            attempt = self.runs(child, token)
            if attempt is not None:
                child.state, child.attempt = "idle", None
                if is_worn:
                    self._dismiss(child)
            return attempt

    def end(self, attempt: OpenAttempt) -> None:
        """Tell the child that runs an attempt, if any, to stop it, and make sure that it ends."""
        with self.lock:
            for child in self._children:
                if child.attempt is attempt:
                    child.state, child.attempt = "leaving", None
                    child.kill_at = self._clock.monotonic() + GRACE_SECS
                    child.close()
        self.wake()

    def forget(self, child: ChildProcess) -> tuple[bool, OpenAttempt | None]:
        """Drop a child that has ended; return whether it was starting, and what it ran."""
        with self.lock:
            self._children.discard(child)
            attempt, child.attempt = child.attempt, None
            return child.state == "starting", attempt

    def failed_to_start(self, how: str) -> None:
        """Schedule another try after a pause; give up after several failures."""
        _LOG.warning(
            "a child of the process lane did not start: %s", how, extra={"event": "child.failed"}
        )
        tries = self._failed_starts
        self._failed_starts += 1
        if tries < len(_START_WAITS_SECS):
            self._start_at = self._clock.monotonic() + _START_WAITS_SECS[tries]
        else:
            self._failed_starts = 0
            self._give_up(f"no child process could be started for it: {how}")
        self.wake()

    def _dismiss(self, child: ChildProcess) -> None:
        """Let a child end by itself."""
        child.state = "leaving"
        child.kill_at = self._clock.monotonic() + _LEAVE_SECS
        child.leave()
        self.wake()

    # ---- the thread ---------------------------------------------------------------------

    def _main(self) -> None:
        try:
            while self._children or not self._is_closed:
                self._wakeup.clear()
                now = self._clock.monotonic()
                next_at = min(chore(now) for chore in self._chores)
                secs = None if next_at == inf else max(0.0, next_at - self._clock.monotonic())
                self._clock.wait(self._wakeup, secs)
        except Exception as error:  # noqa: BLE001  # outermost: an engine bug must not pass silently
            self._crashed(error)

    def _start_missing(self, now: float) -> float:
        while self.missing() > 0:
            if now < self._start_at:
                return self._start_at
            try:
                child = self._make()
            except OSError as error:
                self.failed_to_start(str(error))
                continue
            with self.lock:
                child.kill_at = now + _START_SECS
                if self._is_closed:  # the lane was stopped in the meantime
                    child.state, child.kill_at = "leaving", now
                self._children.add(child)
            child.talk()
        return inf

    def _kill_overdue(self, now: float) -> float:
        """Kill the children whose time is over."""
        next_at = inf
        for child in self.in_state("starting", "leaving"):
            if child.kill_at is not None and now >= child.kill_at:
                child.kill()
                child.kill_at = now + GRACE_SECS  # kill again then: nothing else is left to do
            next_at = min(next_at, child.kill_at or inf)
        return next_at
