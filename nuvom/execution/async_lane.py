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
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NamedTuple

from nuvom.execution.failures import current_frames, stack_of, stack_of_coroutine
from nuvom.execution.lanes import Assignment, Finished, Shop
from nuvom.job_context import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.execution.running import RunningJob
    from nuvom.outcome import Settlement

_BLOCKED_SECS = 1.0  # without a turn of the loop, after which it counts as blocked
_LEAVE_SECS = 1.0  # for coroutines to clean up when the worker has stopped
_LOG = logging.getLogger("nuvom.worker")


class _Place(NamedTuple):
    """A coroutine that runs, and what it is an attempt of."""

    assignment: Assignment
    task: asyncio.Task[None]


class AsyncLane:
    """Runs at most ``slots`` coroutines at once."""

    name = "async"

    def __init__(self, slots: int, shop: Shop) -> None:
        self._size = slots
        self._shop = shop
        self._waiting: deque[Assignment] = deque()
        self._places: dict[RunningJob, _Place] = {}
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
        """Cancel what still runs, and stop the loop; who swallows the cancellation is left."""
        self._stopping.set()
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        with suppress(RuntimeError):  # it is closed already
            loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join(2 * _LEAVE_SECS)

    def free(self) -> int:
        """Return how many further coroutines could start."""
        return max(0, self._size - self._busy - len(self._waiting))

    def room(self) -> int:
        """Return as many: coroutines are so many that none need to wait ready."""
        return self.free()

    def backlog(self) -> int:
        """Return how many attempts wait for a place."""
        return len(self._waiting)

    def submit(self, work: list[Assignment]) -> None:
        """Start these attempts, in order, as there is room."""
        self._waiting.extend(work)
        self._ensure_loop().call_soon_threadsafe(self._start_waiting)

    def run_hook(self, hook: Callable[[], Any]) -> None:
        """Run a hook in a thread of its own, since it may block."""
        threading.Thread(target=hook, name="nuvom-hook", daemon=True).start()

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
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop is closed: nothing runs any more
                loop.call_soon_threadsafe(self._cancel, running)

    def stacks(self) -> dict[str, str]:
        """Return where each coroutine is, by job id."""
        places = list(self._places.items())
        return {running.record.id: self._stack_of(place.task) for running, place in places}

    def _stack_of(self, task: asyncio.Task[None]) -> str:
        if self._loop is not None and asyncio.current_task(self._loop) is task:
            frame = current_frames().get(self._ident)
            if frame is not None:
                return stack_of(frame)
        return stack_of_coroutine(task.get_coro())

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
            task.add_done_callback(self._check)
            self._places[assignment.running] = _Place(assignment, task)
        if not self._waiting:
            self._shop.idle()

    async def _run(self, assignment: Assignment) -> None:
        if self._shop.starts(assignment.running):
            await self._attempt(assignment)
        else:
            self._ends(assignment.running, None)
        self._start_waiting()

    async def _attempt(self, assignment: Assignment) -> None:
        prepared, running = assignment.prepared, assignment.running
        runner = self._shop.runner
        runner.begin(prepared, running)
        deadline = self._deadline_of(assignment)
        try:
            args, kwargs = prepared.decode(running.record.args, running.record.kwargs)
            if prepared.has_hooks:
                await _in_thread(lambda: runner.before(prepared, running))
            if runner.has_companions:
                with runner.accompanied(running.record):
                    value = await prepared.func(*args, **kwargs)
            else:
                value = await prepared.func(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001  # user code: any failure is an outcome
            if self._ends(running, deadline):
                self._finish(assignment, runner.failed(prepared, running, error))
        else:
            if self._ends(running, deadline):
                self._finish(assignment, runner.succeeded(prepared, running, value))

    def _check(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:  # not the task's own code, whose failures are outcomes
            self._shop.crashed(error)

    def _ends(self, running: RunningJob, deadline: asyncio.TimerHandle | None) -> bool:
        """Give the place back; False when somebody else has closed the attempt."""
        if deadline is not None:
            deadline.cancel()
        if self._places.pop(running, None) is not None:
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
        """Close an attempt past its deadline; on the loop, or beside it when it is blocked."""
        prepared, running = assignment.prepared, assignment.running
        place = self._places.get(running)
        stack = None if place is None else self._stack_of(place.task)
        if not self._shop.in_hand.take(running):
            return
        self._finish(assignment, self._shop.runner.timed_out(prepared, running, stack))
        self.close_attempt(running)

    def _cancel(self, running: RunningJob) -> None:
        """Cancel a coroutine and give its place away; it may swallow the cancellation."""
        place = self._places.pop(running, None)
        if place is None:
            return
        self._busy -= 1
        self._left_behind.add(place.task)
        place.task.add_done_callback(self._left_behind.discard)
        place.task.cancel()
        self._start_waiting()

    # ---- the loop's thread --------------------------------------------------------------

    def _ensure_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._turned_at = self._shop.clock.monotonic()
            self._thread = threading.Thread(target=self._main, name="nuvom-loop", daemon=True)
            self._thread.start()
            threading.Thread(target=self._watch, name="nuvom-loop-watch", daemon=True).start()
        return self._loop

    @property
    def _ident(self) -> int:
        return (self._thread.ident if self._thread is not None else None) or 0

    def _main(self) -> None:
        loop = self._ensure_loop()
        asyncio.set_event_loop(loop)
        loop.call_soon(self._turn)
        try:
            while not self._stopping.is_set():
                # asyncio lets these two through when anything but a job raises them: a task that
                # a job has made, or a callback. The loop is everybody's and goes on.
                with suppress(KeyboardInterrupt, SystemExit):
                    loop.run_forever()
            with suppress(RuntimeError):  # somebody's code has stopped the loop once more
                _leave(loop)
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
        try:
            while not self._shop.clock.wait(self._stopping, _BLOCKED_SECS / 2):
                self._look()
        except Exception as error:  # noqa: BLE001  # outermost: a fault of the engine must not pass in silence
            self._shop.crashed(error)

    def _look(self) -> None:
        """Find a loop that is blocked, and keep the deadlines that it cannot keep itself."""
        now = self._shop.clock.monotonic()
        blocked_secs = now - self._turned_at
        places = list(self._places.values())
        if blocked_secs <= _BLOCKED_SECS or not places:
            return
        if not self._is_named:
            self._is_named = True
            self._name_blocker(blocked_secs)
        for place in places:
            if place.assignment.running.deadline <= now:
                self._close_overdue(place.assignment)

    def _name_blocker(self, blocked_secs: float) -> None:
        frame = current_frames().get(self._ident)
        stack = "" if frame is None else stack_of(frame)
        _LOG.warning(
            "a coroutine blocks the event loop for %.1f s; use `await` or a plain def task:\n%s",
            blocked_secs,
            stack,
            extra={"event": "loop.blocked"},
        )


async def _in_thread(call: Callable[[], None]) -> None:
    """Call in a thread that does not keep the process alive, as those of ``to_thread`` do."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    context = copy_context()

    def end() -> None:
        if not done.done():
            done.set_result(None)

    def run() -> None:
        context.run(call)
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(end)

    threading.Thread(target=run, name="nuvom-hook", daemon=True).start()
    await done


def _leave(loop: asyncio.AbstractEventLoop) -> None:
    """Let coroutines clean up, for a moment."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=_LEAVE_SECS))
    loop.run_until_complete(loop.shutdown_asyncgens())
