"""The async lane: one event loop in a thread of its own, for tasks that are coroutines.

The loop starts with the first such job. A task is cancelled at its deadline; one that swallows
the cancellation is left behind, as a stuck thread would be. A task that blocks the loop is
found by the watchdog and named with its stack; heartbeats run elsewhere and go on.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from nuvom.execution.failures import current_frames, stack_of
from nuvom.execution.lanes import Assignment, Finished, Shop
from nuvom.job_context import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.execution.running import RunningJob
    from nuvom.outcome import Settlement

_BLOCKED_SECS = 1.0  # without a turn of the loop, after which it counts as blocked
_LOG = logging.getLogger("nuvom.worker")


class AsyncLane:
    """Runs at most ``slots`` coroutines at once."""

    name = "async"

    def __init__(self, slots: int, shop: Shop) -> None:
        self._size = slots
        self._shop = shop
        self._waiting: deque[Assignment] = deque()
        self._tasks: dict[RunningJob, asyncio.Task[None]] = {}
        self._left_behind: set[asyncio.Task[None]] = set()
        self._busy = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._turned_at = 0.0
        self._is_named = False

    # ---- the lane's contract ------------------------------------------------------------

    def start(self) -> None:
        """Do nothing yet: most workers never run a coroutine."""

    def stop(self) -> None:
        """Stop the loop; what still runs is left behind."""
        self._stopping.set()
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(loop.stop)

    def free(self) -> int:
        """Return how many further coroutines could start."""
        return max(0, self._size - self._busy - len(self._waiting))

    def backlog(self) -> int:
        """Return how many attempts wait for a place."""
        return len(self._waiting)

    def submit(self, work: list[Assignment]) -> None:
        """Start these attempts, in order, as there is room."""
        self._waiting.extend(work)
        self._ensure_loop().call_soon_threadsafe(self._start_waiting)

    def run_hook(self, hook: Callable[[], Any]) -> None:
        """Run a hook in a thread, since it may block."""
        self._ensure_loop().call_soon_threadsafe(self._run_hook, hook)

    def take_back(self) -> list[Assignment]:
        """Return, and forget, all attempts that have no place yet."""
        taken = []
        while self._waiting:
            try:
                taken.append(self._waiting.popleft())
            except IndexError:  # the loop was faster
                break
        return taken

    def close_attempt(self, running: RunningJob) -> None:
        """Cancel the coroutine of an attempt that somebody else closed."""
        running.is_cancelled = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._cancel, running)

    def stacks(self) -> dict[str, str]:
        """Return where each coroutine waits, by job id."""
        found = {}
        for running, task in list(self._tasks.items()):
            frames = task.get_stack(limit=1)
            found[running.record.id] = stack_of(frames[-1]) if frames else ""
        return found

    def stuck(self) -> int:
        """Return how many coroutines run on after their attempt was closed."""
        return len(self._left_behind)

    # ---- on the loop --------------------------------------------------------------------

    def _start_waiting(self) -> None:
        while self._waiting and self._busy < self._size:
            try:
                assignment = self._waiting.popleft()
            except IndexError:  # taken back meanwhile
                break
            self._busy += 1
            context = copy_context()
            context.run(current.set, assignment.running)
            task = asyncio.get_running_loop().create_task(self._run(assignment), context=context)
            self._tasks[assignment.running] = task
        if not self._waiting:
            self._shop.idle()

    async def _run(self, assignment: Assignment) -> None:
        prepared, running = assignment
        runner = self._shop.runner
        if not self._shop.starts(running):
            self._ends(running, None)
            return
        runner.begin(prepared, running)
        deadline = self._deadline_of(assignment)
        try:
            args, kwargs = prepared.decode(running.record.args, running.record.kwargs)
            if prepared.has_hooks:
                await asyncio.to_thread(runner.before, prepared, running)
            value = await prepared.func(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001  # user code: any failure is an outcome
            if self._ends(running, deadline):
                self._finish(assignment, runner.failed(prepared, running, error))
        else:
            if self._ends(running, deadline):
                self._finish(assignment, runner.succeeded(prepared, running, value))
        self._start_waiting()

    def _ends(self, running: RunningJob, deadline: asyncio.TimerHandle | None) -> bool:
        """Give the place back; False when somebody else has closed the attempt."""
        if deadline is not None:
            deadline.cancel()
        if self._tasks.pop(running, None) is not None:
            self._busy -= 1  # else its place was given away when the attempt was closed
        return self._shop.in_hand.take(running)

    def _finish(self, assignment: Assignment, settlement: Settlement) -> None:
        self._shop.finish(Finished(settlement, assignment))

    def _deadline_of(self, assignment: Assignment) -> asyncio.TimerHandle | None:
        secs = assignment.running.record.timeout_secs
        if secs is None:
            return None
        return asyncio.get_running_loop().call_later(secs, self._close_overdue, assignment)

    def _close_overdue(self, assignment: Assignment) -> None:
        prepared, running = assignment
        task = self._tasks.get(running)
        frames = task.get_stack(limit=1) if task is not None else []
        if not self._shop.in_hand.take(running):
            return
        stack = stack_of(frames[-1]) if frames else None
        running.is_cancelled = True
        self._finish(assignment, self._shop.runner.timed_out(prepared, running, stack))
        self._cancel(running)

    def _cancel(self, running: RunningJob) -> None:
        """Cancel a coroutine and give its place away; it may swallow the cancellation."""
        task = self._tasks.pop(running, None)
        if task is None:
            return
        self._busy -= 1
        self._left_behind.add(task)
        task.add_done_callback(self._left_behind.discard)
        task.cancel()
        self._start_waiting()

    def _run_hook(self, hook: Callable[[], Any]) -> None:
        _ = asyncio.get_running_loop().run_in_executor(None, hook)

    # ---- the loop's thread --------------------------------------------------------------

    def _ensure_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._turned_at = self._shop.clock.monotonic()
            self._thread = threading.Thread(target=self._main, name="nuvom-loop", daemon=True)
            self._thread.start()
            threading.Thread(target=self._watch, name="nuvom-loop-watch", daemon=True).start()
        return self._loop

    def _main(self) -> None:
        loop = self._ensure_loop()
        asyncio.set_event_loop(loop)
        loop.call_soon(self._turn)
        try:
            while not self._stopping.is_set():
                try:
                    loop.run_forever()
                except (KeyboardInterrupt, SystemExit):
                    # asyncio stops the loop for these two when a task raises them; the task's
                    # own attempt has been closed as failed.
                    continue
        except Exception as error:  # noqa: BLE001  # outermost: a fault of the engine must not pass in silence
            self._shop.crashed(error)
        finally:
            loop.close()

    def _turn(self) -> None:
        self._turned_at = self._shop.clock.monotonic()
        self._is_named = False
        if self._loop is not None and not self._stopping.is_set():
            self._loop.call_later(_BLOCKED_SECS / 4, self._turn)

    def _watch(self) -> None:
        while not self._shop.clock.wait(self._stopping, _BLOCKED_SECS / 2):
            blocked = self._shop.clock.monotonic() - self._turned_at
            if blocked > _BLOCKED_SECS and not self._is_named and self._tasks:
                self._is_named = True
                self._name_blocker(blocked)

    def _name_blocker(self, blocked_secs: float) -> None:
        ident = self._thread.ident if self._thread is not None else None
        frame = current_frames().get(ident or 0)
        stack = "" if frame is None else stack_of(frame)
        _LOG.warning(
            "a coroutine blocks the event loop for %.1f s; use `await` or a plain def task:\n%s",
            blocked_secs,
            stack,
            extra={"event": "loop.blocked"},
        )
