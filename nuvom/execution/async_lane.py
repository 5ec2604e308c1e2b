"""The async lane: one event loop in a thread of its own, for tasks that are coroutines.

The loop starts with the first such job. A task is cancelled at its deadline; one that swallows
the cancellation is left behind, as a stuck thread would be. A task that blocks the loop is
found by the watchdog and named with its stack; heartbeats run elsewhere and go on. When its
attempt is closed its code is told, as in a thread; if that does not help, another loop takes over.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NamedTuple

from nuvom.core.job_context import current
from nuvom.execution.failures import stack_of, stack_of_coroutine
from nuvom.execution.job_runner import LATE_SECS
from nuvom.execution.loop_thread import LoopThread
from nuvom.execution.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.execution.lanes import Shop
    from nuvom.execution.running import RunningJob

_LOOK_SECS = 0.25  # between looks of the watchdog
_STANDS_SECS = 0.5  # without a turn of the loop: closed attempts keep others from running
_BLOCKED_SECS = 1.0  # without a turn of the loop, after which it counts as blocked
_LOG = logging.getLogger("nuvom.worker")


class _Place(NamedTuple):
    """A coroutine, what it is an attempt of, and the loop that it is on."""

    running: RunningJob
    task: asyncio.Task[None]
    thread: LoopThread
    steps: Steps


class AsyncLane:
    """Runs at most ``slots`` coroutines at once."""

    name = "async"

    def __init__(self, slots: int, shop: Shop) -> None:
        self._size = slots
        self._shop = shop
        self._waiting: deque[RunningJob] = deque()
        self._places: dict[RunningJob, _Place] = {}
        self._unbegun: set[asyncio.Task[None]] = set()  # who removes one begins it, or moves it
        self._left_behind: set[asyncio.Task[None]] = set()
        self._thread: LoopThread | None = None
        self._old_threads: list[LoopThread] = []
        self._stopping = threading.Event()
        self._is_blocked = False
        self._noticed: tuple[float, asyncio.Task[Any] | None] | None = None

    # ---- the lane's contract ------------------------------------------------------------

    def start(self) -> None:
        """Do nothing yet: most workers never run a coroutine."""

    def stop(self) -> None:
        """Cancel what still runs, and stop the loop; who swallows the cancellation is left."""
        self._stopping.set()
        for thread in self._old_threads:
            thread.end()
        if self._thread is not None:
            self._thread.end()
            self._thread.join()

    def free(self) -> int:
        """Return how many further coroutines could start; none while the loop is blocked."""
        if self._is_blocked:
            return 0
        return max(0, self._size - len(self._places) - len(self._waiting))

    def room(self) -> int:
        """Return as many: coroutines are so many that none need to wait ready."""
        return self.free()

    def backlog(self) -> int:
        """Return how many attempts wait for a place."""
        return len(self._waiting)

    def submit(self, work: list[RunningJob]) -> None:
        """Start these attempts, in order, as there is room."""
        self._waiting.extend(work)
        if self._thread is None:
            self._thread = LoopThread(self._shop.clock, self._shop.crashed)
            threading.Thread(target=self._watch, name="nuvom-loop-watch", daemon=True).start()
        self._thread.call(self._start_waiting)

    def run_hook(self, hook: Callable[[], Any]) -> None:
        """Run a hook in a thread of its own, since it may block."""
        threading.Thread(target=hook, name="nuvom-hook", daemon=True).start()

    def take_back(self) -> list[RunningJob]:
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
        running.is_cancelled = running.is_closed = True
        place = self._places.get(running)
        if place is not None:
            place.thread.call(self._cancel, running)

    def stacks(self) -> dict[str, str]:
        """Return where each coroutine is, by job id."""
        places = list(self._places.items())
        return {running.record.id: _stack_of(place) for running, place in places}

    def stuck(self) -> int:
        """Return how many coroutines run on after their attempt was closed."""
        return len(self._left_behind)

    # ---- on the loop --------------------------------------------------------------------

    def _start_waiting(self) -> None:
        thread = self._thread
        if thread is None or thread.loop is not asyncio.get_running_loop():
            if thread is not None:  # this loop was left behind meanwhile
                thread.call(self._start_waiting)
            return
        while self._waiting and len(self._places) < self._size:
            try:
                running = self._waiting.popleft()
            except IndexError:  # taken back meanwhile
                break
            context = copy_context()
            context.run(current.set, running)
            steps = Steps(running, thread.guard, self._shop.runner)
            task = thread.loop.create_task(self._run(running, steps), context=context)
            task.add_done_callback(self._check)
            self._unbegun.add(task)
            self._places[running] = _Place(running, task, thread, steps)
        if not self._waiting:
            self._shop.idle()

    async def _run(self, running: RunningJob, steps: Steps) -> None:
        if not self._begins(asyncio.current_task()):
            return
        if self._shop.starts(running):
            await self._attempt(running, steps)
        else:
            self._ends(running, None)
        self._start_waiting()

    def _begins(self, task: Any) -> bool:
        """Take the right to begin the attempt of a task; False when somebody else has it."""
        try:
            self._unbegun.remove(task)
        except KeyError:
            return False
        return True

    async def _attempt(self, running: RunningJob, steps: Steps) -> None:
        runner, prepared = self._shop.runner, running.prepared
        runner.begin(running)
        deadline = self._deadline_of(running)
        try:
            args, kwargs = prepared.decode(running.record.args, running.record.kwargs)
            if prepared.has_hooks:
                await _in_thread(lambda: runner.before(running))
            if runner.has_companions:
                with runner.accompanied(running.record):
                    value = await steps.of(prepared.func(*args, **kwargs))
            else:
                value = await steps.of(prepared.func(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001  # user code: any failure is an outcome
            if self._ends(running, deadline):
                self._shop.finish(running, runner.failed(running, error))
        else:
            if self._ends(running, deadline):
                self._shop.finish(running, runner.succeeded(running, value))

    def _check(self, task: asyncio.Task[None]) -> None:
        self._left_behind.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:  # not the task's own code, whose failures are outcomes
            self._shop.crashed(error)

    def _ends(self, running: RunningJob, deadline: asyncio.TimerHandle | None) -> bool:
        """Give the place back; False when somebody else has closed the attempt."""
        if deadline is not None:
            deadline.cancel()
        self._places.pop(running, None)  # unless it was given away when the attempt was closed
        return self._shop.in_hand.take(running)

    def _deadline_of(self, running: RunningJob) -> asyncio.TimerHandle | None:
        secs = running.record.timeout_secs
        if secs is None:
            return None
        return asyncio.get_running_loop().call_later(secs, self._close_overdue, running)

    def _close_overdue(self, running: RunningJob) -> None:
        """Close an attempt past its deadline; on the loop, or beside it when it is blocked."""
        place = self._places.get(running)
        stack = None if place is None else _stack_of(place)
        if not self._shop.in_hand.take(running):
            return
        running.is_closed = True  # first: what its code ends with from now on is no outcome
        settlement = self._shop.runner.timed_out(running, stack)
        self._shop.finish(running, settlement)
        self.close_attempt(running)

    def _cancel(self, running: RunningJob) -> None:
        """Cancel a coroutine and give its place away; it may swallow the cancellation."""
        place = self._places.pop(running, None)
        if place is None:
            return
        self._unbegun.discard(place.task)
        self._left_behind.add(place.task)
        _cancel(place)
        self._start_waiting()

    # ---- the watchdog -------------------------------------------------------------------

    def _watch(self) -> None:
        try:
            while not self._shop.clock.wait(self._stopping, _LOOK_SECS):
                self._look()
        except Exception as error:  # noqa: BLE001  # outermost: a fault of the engine must not pass in silence
            self._shop.crashed(error)

    def _look(self) -> None:
        """Keep the deadlines that a blocked loop cannot keep itself, and have it go on."""
        thread = self._thread
        if thread is None:
            return
        late = self._shop.clock.monotonic() - LATE_SECS
        places = list(self._places.values())
        for place in places:
            if place.running.deadline <= late:
                self._close_overdue(place.running)
        self._see_whether_blocked(thread, places)
        closed = [one for one in places if one.running not in self._shop.in_hand]
        for place in closed:
            if place.thread is not thread:
                self._leave_behind(place)
        held_up = [place for place in closed if place.thread is thread]
        if held_up and thread.blocked_secs() > _STANDS_SECS:
            self._make_room(thread, held_up)
        self._end_old_loops()

    def _see_whether_blocked(self, thread: LoopThread, places: list[_Place]) -> None:
        was_blocked, blocked_secs = self._is_blocked, thread.blocked_secs()
        has_work = any(place.thread is thread for place in places)
        self._is_blocked = has_work and blocked_secs > _BLOCKED_SECS
        if self._is_blocked and not was_blocked:
            _name_blocker(thread, blocked_secs)
        if was_blocked and not self._is_blocked:
            self._shop.idle()

    def _make_room(self, thread: LoopThread, closed: list[_Place]) -> None:
        """Tell the code of a closed attempt that holds the loop up; next time leave the loop.

        Not at once: after a freeze of the process the loop just has not had its turn yet.
        """
        blocker = thread.current_task()
        noticed = (thread.turned_at, blocker)
        if noticed == self._noticed:
            self._leave_loop(thread)
            return
        self._noticed = noticed
        for place in closed:
            if place.task is blocker:
                thread.guard.close(place.running)

    def _leave_loop(self, thread: LoopThread) -> None:
        """Have another loop run what is to come; what has begun goes on here, some time."""
        self._old_threads.append(thread)
        self._thread = LoopThread(self._shop.clock, self._shop.crashed)
        self._noticed = None
        self._is_blocked = False
        for running, place in reversed(list(self._places.items())):
            if place.thread is not thread:
                continue
            if self._begins(place.task):
                self._places.pop(running, None)
                self._waiting.appendleft(place.running)
            elif running not in self._shop.in_hand:
                self._leave_behind(place)
        self._thread.call(self._start_waiting)
        _LOG.warning(
            "the event loop was left behind and replaced: code of a closed attempt blocks it",
            extra={"event": "loop.left_behind"},
        )

    def _leave_behind(self, place: _Place) -> None:
        """Give away the place of a closed attempt whose loop cannot do so itself."""
        self._places.pop(place.running, None)
        self._left_behind.add(place.task)
        place.thread.call(_cancel, place)

    def _end_old_loops(self) -> None:
        """End loops that were left behind, once nothing runs on them any more."""
        tasks = [place.task for place in list(self._places.values())] + list(self._left_behind)
        used = {task.get_loop() for task in tasks}
        for thread in [one for one in self._old_threads if one.loop not in used]:
            self._old_threads.remove(thread)
            thread.end()


def _cancel(place: _Place) -> None:
    place.running.is_told = True  # by what ``cancel`` raises
    place.task.cancel()


def _stack_of(place: _Place) -> str:
    if place.thread.current_task() is place.task:
        frame = place.thread.frame()
        if frame is not None:
            return stack_of(frame)
    return stack_of_coroutine(place.steps.coroutine or place.task.get_coro())


def _name_blocker(thread: LoopThread, blocked_secs: float) -> None:
    frame = thread.frame()
    _LOG.warning(
        "a coroutine blocks the event loop for %.1f s; use `await` or a plain def task:\n%s",
        blocked_secs,
        "" if frame is None else stack_of(frame),
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
