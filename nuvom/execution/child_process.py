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
from typing import IO, TYPE_CHECKING, cast

from nuvom.execution.frames import AskStack, Close, FromChild, Link
from nuvom.execution.lanes import CHILD_PROGRAM
from nuvom.host import processes as platforms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nuvom.core.clock import Clock
    from nuvom.execution.attempts import OpenAttempt
    from nuvom.execution.frames import Hello, ToChild

    Order = bytes | ToChild | Callable[[], ToChild | None]
    Chore = Callable[[float], float]

GRACE_SECS = 1.0  # between telling a child to end and killing it
_LEAVE_SECS = 2.0  # for a child without work to exit by itself
_START_SECS = 60.0  # for a child to start
_START_WAITS_SECS = (0.1, 0.5, 2.0)  # after each failed start, until its jobs are given up
_EXIT_LOOK_SECS = 0.002  # between checks whether a process that closed its pipe has ended
_LOG = logging.getLogger("nuvom.worker")


class ChildProcess:
    """A child, from its start to its end. The lane owns its fields, under the lane's lock.

    It has two threads here, so that a stuck child cannot block anything else.

    Args:
        hear: Called with each frame from the child, in this child's own thread.
        gone: Called there once the process has ended and all its frames were handled.
        crashed: Called when one of the threads fails.

    Attributes:
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
        self.attempt: OpenAttempt | None = None
        self.taken_at = 0.0
        self.token = 0
        self.has_started = False
        self.jobs = 0
        self.stack: str | None = None
        self.asked_at: float | None = None
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

    def tie_to(self, job_object: platforms.JobObject) -> None:
        """Make it end when this process ends."""
        job_object.add(self._process)

    def take(self, attempt: OpenAttempt) -> None:
        """Record the attempt that it runs next."""
        self.attempt, self.taken_at = attempt, self._clock.monotonic()
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
            if self._process.returncode is None:
                send(self._process)

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
                if isinstance(frame, bytes):
                    self._link.send_bytes(frame)
                elif frame is not None:
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
                code = self._process.poll()
            if code is not None:
                return code
            self._clock.sleep(_EXIT_LOOK_SECS)


def _path() -> bytes:
    return f"{json.dumps([os.fspath(entry) for entry in sys.path])}\n".encode()


def _command() -> list[str]:
    # The flags that the standard library passes to its own children; there is no public API.
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001  # see above
    # -P: modules in the working directory must not shadow the standard library.
    return [sys.executable or "", *flags, "-P", "-c", CHILD_PROGRAM, str(os.getpid())]


class ChildPool:
    """At most ``size`` children that start, idle or work, and any number that are leaving.

    Pure bookkeeping under one lock: it starts no process, runs nothing and waits for nothing. A
    leaving child no longer counts; the supervisor makes sure that it ends.

    Attributes:
        lock: Taken by every method; hold it around several calls to make them one step.
        starting, idle, leaving: The children in each state.
        busy: The child that runs each attempt.
        is_closed: Whether no more children are wanted.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.lock = threading.RLock()
        self.starting: set[ChildProcess] = set()
        self.idle: list[ChildProcess] = []
        self.busy: dict[OpenAttempt, ChildProcess] = {}
        self.leaving: set[ChildProcess] = set()
        self.is_closed = False

    def missing(self, waiting: int) -> int:
        """Return how many children to start while ``waiting`` attempts wait."""
        with self.lock:
            if self.is_closed:
                return 0
            there = len(self.starting) + len(self.idle) + len(self.busy)
            return min(waiting - len(self.starting) - len(self.idle), self.size - there)

    def add(self, child: ChildProcess) -> bool:
        """Add a starting child; False when none is wanted any longer and it leaves."""
        with self.lock:
            (self.leaving if self.is_closed else self.starting).add(child)
            return not self.is_closed

    def ready(self, child: ChildProcess) -> None:
        """Note that a child has started, unless it is to leave."""
        with self.lock:
            if child in self.starting:
                self.starting.discard(child)
                self.idle.append(child)
                child.kill_at = None

    def assign(self, attempt: OpenAttempt) -> ChildProcess:
        """Give an attempt to the most recently idle child and return it. There must be one."""
        with self.lock:
            child = self.idle.pop()
            child.take(attempt)
            self.busy[attempt] = child
            return child

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
                self._free(child, attempt)
                if is_worn:
                    self.leaving.add(child)
                else:
                    self.idle.append(child)
            return attempt

    def let_go(self, attempt: OpenAttempt) -> ChildProcess | None:
        """Take an attempt from its child, which leaves; None if none runs it."""
        with self.lock:
            child = self.busy.get(attempt)
            if child is not None and child.attempt is not None:
                self._free(child, child.attempt)
                self.leaving.add(child)
            return child

    def forget(self, child: ChildProcess) -> tuple[bool, OpenAttempt | None]:
        """Drop a child that has ended; return whether it was starting, and what it ran."""
        with self.lock:
            was_starting, attempt = child in self.starting, child.attempt
            if attempt is not None:
                self._free(child, attempt)
            self.starting.discard(child)
            self.leaving.discard(child)
            if child in self.idle:
                self.idle.remove(child)
            return was_starting, attempt

    def close(self) -> list[ChildProcess]:
        """Stop wanting children; return those that start or idle, which leave now."""
        with self.lock:
            self.is_closed = True
            unused = [*self.starting, *self.idle]
            self.leaving.update(unused)
            self.starting.clear()
            self.idle.clear()
            return unused

    def unused(self) -> list[ChildProcess]:
        """Return the children that start or leave."""
        with self.lock:
            return [*self.starting, *self.leaving]

    @property
    def is_empty(self) -> bool:
        """Whether there is no child left in any state."""
        with self.lock:
            return not (self.starting or self.idle or self.busy or self.leaving)

    def _free(self, child: ChildProcess, attempt: OpenAttempt) -> None:
        child.attempt = None
        self.busy.pop(attempt, None)


class ChildSupervisor:
    """Keeps as many children as there is work for, in its own thread.

    On Linux a child ends with the thread that started it. So one thread starts all children and
    outlives them.

    Args:
        make: Starts a process. Raises OSError when that fails.
        waiting: Returns how many attempts wait for a child.
        give_up: Called with a reason when no child starts.
        chores: Called with the monotonic time whenever the thread wakes up; each returns when
            it wants to be called next, ``inf`` for not before the next ``wake``.
        crashed: Called when the thread fails.
    """

    def __init__(
        self,
        pool: ChildPool,
        clock: Clock,
        *,
        make: Callable[[], ChildProcess],
        waiting: Callable[[], int],
        give_up: Callable[[str], None],
        chores: Sequence[Chore],
        crashed: Callable[[BaseException], None],
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._make, self._waiting = make, waiting
        self._give_up, self._crashed = give_up, crashed
        self._chores = (self._start_missing, *chores, self._kill_overdue)
        self._job_object = platforms.JobObject()
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
        """Start no more children, and let the idle ones end."""
        for child in self._pool.close():
            self.dismiss(child)
        self.wake()

    def join(self) -> None:
        """Wait for the last child to end, but no longer than a killed one needs."""
        if self._thread is not None:
            self._thread.join(max(GRACE_SECS, _LEAVE_SECS) + GRACE_SECS)

    # ---- one child ----------------------------------------------------------------------

    def end(self, child: ChildProcess, *, at_once: bool = False) -> None:
        """Tell a leaving child to stop what it does, and make sure that it ends."""
        now = self._clock.monotonic()
        child.kill_at = now if at_once else now + GRACE_SECS
        child.close()
        self.wake()

    def dismiss(self, child: ChildProcess) -> None:
        """Let a leaving child end by itself."""
        child.kill_at = self._clock.monotonic() + _LEAVE_SECS
        child.leave()
        self.wake()

    def came_up(self, child: ChildProcess) -> None:
        """Note that a child has started."""
        self._failed_starts = 0
        self._pool.ready(child)

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

    # ---- the thread ---------------------------------------------------------------------

    def _main(self) -> None:
        try:
            while not (self._pool.is_closed and self._pool.is_empty):
                self._wakeup.clear()
                now = self._clock.monotonic()
                next_at = min(chore(now) for chore in self._chores)
                secs = None if next_at == inf else max(0.0, next_at - self._clock.monotonic())
                self._clock.wait(self._wakeup, secs)
        except Exception as error:  # noqa: BLE001  # outermost: an engine bug must not pass silently
            self._crashed(error)

    def _start_missing(self, now: float) -> float:
        while self._pool.missing(self._waiting()) > 0:
            if now < self._start_at:
                return self._start_at
            try:
                child = self._make()
            except OSError as error:
                self.failed_to_start(str(error))
                continue
            child.tie_to(self._job_object)
            child.kill_at = now + _START_SECS
            if not self._pool.add(child):  # the lane was stopped in the meantime
                child.kill_at = now
            child.talk()
        return inf

    def _kill_overdue(self, now: float) -> float:
        """Kill the children whose time is over."""
        next_at = inf
        for child in self._pool.unused():
            if child.kill_at is not None and now >= child.kill_at:
                child.kill()
                child.kill_at = now + GRACE_SECS  # kill again then: nothing else is left to do
            next_at = min(next_at, child.kill_at or inf)
        return next_at
