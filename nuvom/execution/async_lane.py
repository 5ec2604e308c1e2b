"""The async lane: one event loop in its own thread, for coroutine tasks.

A task is cancelled at its deadline; a task that swallows the cancellation is left behind, like a
stuck thread. The watchdog detects a task that blocks the loop and logs its stack; heartbeats run
elsewhere and continue. When the attempt of a blocking task is closed, its code is interrupted, as
in the thread lane. If that does not help, another loop takes over.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from nuvom.core.guard import AttemptClosed, Guard
from nuvom.core.job_context import current
from nuvom.core.signals import SoftTimeout
from nuvom.execution.failures import current_frames, stack_of, stack_of_coroutine
from nuvom.execution.job_runner import LATE_SECS
from nuvom.execution.lanes import Lane, run_in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator
    from types import FrameType

    from nuvom.core.clock import Clock
    from nuvom.execution.attempts import OpenAttempt
    from nuvom.execution.lanes import LaneHost, WorkerContext

_LOOK_SECS = 0.25  # between checks by the watchdog
_TURN_SECS = 0.25  # between ticks that show the loop is running
_STANDS_SECS = 0.5  # without a tick of the loop: closed attempts are keeping others from running
_BLOCKED_SECS = 1.0  # without a tick of the loop, after which it counts as blocked
_LEAVE_SECS = 1.0  # for coroutines to clean up at the end
_LOG = logging.getLogger("nuvom.worker")


class AsyncLane(Lane):
    """Runs at most ``slots`` coroutines at once."""

    def __init__(self, slots: int, context: WorkerContext, host: LaneHost) -> None:
        super().__init__(slots, context, host)
        self._runs: dict[OpenAttempt, _Run] = {}
        self._left_behind: set[asyncio.Task[Any]] = set()
        self._vars = copy_context()  # a job does not see what an earlier one has set
        self._thread = LoopThread(self._clock, host.crashed)
        self._old_threads: list[LoopThread] = []
        self._stopping = threading.Event()
        self._is_blocked = False
        self._noticed: tuple[float, asyncio.Task[Any] | None] | None = None

    # ---- the lane's contract ------------------------------------------------------------

    def start(self) -> None:
        """Start the watchdog."""
        threading.Thread(target=self._watch, name="nuvom-loop-watch", daemon=True).start()

    def stop(self) -> None:
        """Cancel what still runs and stop the loop; tasks that swallow it are left behind."""
        self._stopping.set()
        for thread in (*self._old_threads, self._thread):
            thread.end()
        self._thread.join()

    def free(self) -> int:
        """Return how many more coroutines could start; 0 while the loop is blocked."""
        if self._is_blocked:
            return 0
        return max(0, self.size - len(self._runs) - len(self.ready))

    def submit(self, work: list[OpenAttempt]) -> None:
        """Start these attempts, in order, as slots become free."""
        self.ready.extend(work)
        self._thread.call(self._start_waiting)

    def close_attempt(self, attempt: OpenAttempt) -> None:
        """Cancel the coroutine of an attempt that someone else closed."""
        attempt.is_cancelled = attempt.is_closed = True
        run = self._runs.get(attempt)
        if run is not None:
            run.thread.call(self._cancel, attempt)

    def interrupt(self, attempt: OpenAttempt, error: type[Exception]) -> None:
        """Raise an exception in a coroutine, at the ``await`` where it waits or the next one."""
        run = self._runs.get(attempt)
        if run is not None:
            run.thread.call(run.interrupt, error)

    def running(self) -> list[OpenAttempt]:
        """Return the attempts whose coroutines have started."""
        return list(self._runs)

    def stacks(self) -> dict[str, str]:
        """Return where each coroutine is, by job id."""
        runs = list(self._runs.items())
        return {attempt.record.id: _stack_of(run) for attempt, run in runs}

    def stuck(self) -> int:
        """Return how many coroutines run on after their attempt was closed."""
        return len(self._left_behind)

    # ---- on the loop --------------------------------------------------------------------

    def _start_waiting(self) -> None:
        thread = self._thread
        if thread.loop is not asyncio.get_running_loop():  # this loop has since been left behind
            thread.call(self._start_waiting)
            return
        if not self.ready:
            self._host.idle()
        room = self.size - len(self._runs)
        while thread.starting < room and thread.starting < len(self.ready):
            thread.starting += 1
            task = thread.loop.create_task(self._run_next(thread), context=self._vars.copy())
            task.add_done_callback(self._check)

    async def _run_next(self, thread: LoopThread) -> None:
        thread.starting -= 1
        run = self._begin_next(thread)
        if run is not None:
            await self._attempt(run.attempt, run)
        self._start_waiting()

    def _begin_next(self, thread: LoopThread) -> _Run | None:
        """Begin the attempt that has waited longest; None if none may start on this loop.

        Until now it was in ``ready``: a loop that blocks keeps no attempt from starting on another.
        """
        while thread is self._thread:
            try:
                attempt = self.ready.popleft()
            except IndexError:  # taken back in the meantime
                break
            current.set(attempt)
            run = _Run(attempt, thread)
            self._runs[attempt] = run
            if self._host.may_start(attempt):
                return run
            self._runs.pop(attempt, None)
        return None

    async def _attempt(self, attempt: OpenAttempt, run: _Run) -> None:
        runner, bound = self._runner, attempt.task
        runner.begin(attempt)
        timers = self._timers_of(attempt)
        try:
            call = bound.decode(attempt.record.args, attempt.record.kwargs)
            enter = self._call_between_hooks if runner.hooks.are_around_jobs else self._call
            value = await enter(attempt, run, call)
        except BaseException as error:  # noqa: BLE001  # user code: any failure is an outcome
            if self._ends(attempt, timers):
                self._host.finish(attempt, runner.failed(attempt, error))
        else:
            if self._ends(attempt, timers):
                self._host.finish(attempt, runner.succeeded(attempt, value))

    async def _call(
        self, attempt: OpenAttempt, run: _Run, call: tuple[tuple[Any, ...], dict[str, Any]]
    ) -> Any:
        bound, (args, kwargs) = attempt.task, call
        if bound.before_job is not None:
            await _in_thread(partial(self._runner.before, attempt))
        with self._runner.accompanied(attempt.record):
            return await run.of(bound.func(*args, **kwargs))

    async def _call_between_hooks(
        self, attempt: OpenAttempt, run: _Run, call: tuple[tuple[Any, ...], dict[str, Any]]
    ) -> Any:
        """Call the project's hooks too: in other threads, but in the context of the coroutine.

        The coroutine runs in a task of its own. The task here has another context, since asyncio
        cannot wake a task in whose context a thread is, for example to cancel it.
        """
        runner, context, here = self._runner, copy_context(), run.task
        calling = _ended(partial(self._call, attempt, run, call))
        try:
            await _to_the_end(partial(context.run, runner.before_each, attempt))
            run.task = here.get_loop().create_task(calling, context=context)
            run.task.add_done_callback(self._left_behind.discard)
            try:
                value, raised = await run.task
            finally:
                run.task = here
            if raised is not None:
                raise raised  # noqa: TRY301  # in place of the coroutine, which may not end the loop
        except BaseException as error:
            calling.close()  # it may not have begun
            await _to_the_end(partial(context.run, runner.each_error, attempt, error))
            raise
        await _to_the_end(partial(context.run, runner.after_each, attempt, value))
        return value

    def _check(self, task: asyncio.Task[None]) -> None:
        self._left_behind.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:  # not the task's own code, whose failures are outcomes
            self._host.crashed(error)

    def _ends(self, attempt: OpenAttempt, timers: list[asyncio.TimerHandle]) -> bool:
        """Free the slot; False when someone else has closed the attempt."""
        for timer in timers:
            timer.cancel()
        self._runs.pop(attempt, None)  # absent if closing already freed the slot
        return self._attempts.close(attempt)

    def _timers_of(self, attempt: OpenAttempt) -> list[asyncio.TimerHandle]:
        record, timers = attempt.record, []
        if record.has_time_limit:
            call_later = asyncio.get_running_loop().call_later
            if record.timeout_secs is not None:
                timers.append(call_later(record.timeout_secs, self._close_overdue, attempt))
            if record.soft_timeout_secs is not None:
                secs = record.soft_timeout_secs
                timers.append(call_later(secs, self.interrupt, attempt, SoftTimeout))
        return timers

    def _close_overdue(self, attempt: OpenAttempt) -> None:
        """Close an attempt past its deadline; called on the loop, or off it when it is blocked."""
        run = self._runs.get(attempt)
        stack = None if run is None else _stack_of(run)
        self._cut_off(attempt, partial(self._runner.timed_out, attempt, stack))

    def _cancel(self, attempt: OpenAttempt) -> None:
        """Cancel a coroutine and free its slot; it may swallow the cancellation."""
        run = self._runs.pop(attempt, None)
        if run is None:
            return
        self._left_behind.add(run.task)
        _cancel(run)
        self._start_waiting()

    # ---- the watchdog -------------------------------------------------------------------

    def _watch(self) -> None:
        try:
            while not self._clock.wait(self._stopping, _LOOK_SECS):
                self._look()
        except Exception as error:  # noqa: BLE001  # outermost: an engine bug must not pass silently
            self._host.crashed(error)

    def _look(self) -> None:
        """Enforce the deadlines that a blocked loop cannot enforce, and get it running again."""
        thread = self._thread
        late = self._clock.monotonic() - LATE_SECS
        runs = list(self._runs.values())
        for run in runs:
            if run.attempt.deadline <= late:
                self._close_overdue(run.attempt)
        self._see_whether_blocked(thread, runs)
        closed = [one for one in runs if one.attempt not in self._attempts.unclosed]
        for run in closed:
            if run.thread is not thread:
                self._leave_behind(run)
        held_up = [run for run in closed if run.thread is thread]
        if held_up and thread.blocked_secs() > _STANDS_SECS:
            self._make_room(thread, held_up)
        self._end_old_loops()

    def _see_whether_blocked(self, thread: LoopThread, runs: list[_Run]) -> None:
        was_blocked, blocked_secs = self._is_blocked, thread.blocked_secs()
        has_work = any(run.thread is thread for run in runs)
        self._is_blocked = has_work and blocked_secs > _BLOCKED_SECS
        if self._is_blocked and not was_blocked:
            _name_blocker(thread, blocked_secs)
        if was_blocked and not self._is_blocked:
            self._host.idle()

    def _make_room(self, thread: LoopThread, closed: list[_Run]) -> None:
        """Interrupt a closed attempt's code that blocks the loop; leave the loop if it still does.

        The loop is not left at once: after the process was frozen, it may just not have run yet.
        """
        blocker = thread.current_task()
        noticed = (thread.turned_at, blocker)
        if noticed == self._noticed:
            self._leave_loop(thread, closed)
            return
        self._noticed = noticed
        for run in closed:
            if run.task is blocker:
                thread.guard.close(run.attempt)

    def _leave_loop(self, thread: LoopThread, closed: list[_Run]) -> None:
        """Run new attempts on another loop; those that have begun stay on this one."""
        self._old_threads.append(thread)
        self._thread = LoopThread(self._clock, self._host.crashed)
        self._noticed = None
        self._is_blocked = False
        for run in closed:
            self._leave_behind(run)
        self._thread.call(self._start_waiting)
        _LOG.warning(
            "the event loop was left behind and replaced: code of a closed attempt blocks it",
            extra={"event": "loop.left_behind"},
        )

    def _leave_behind(self, run: _Run) -> None:
        """Free the slot of a closed attempt, since its own loop cannot."""
        self._runs.pop(run.attempt, None)
        self._left_behind.add(run.task)
        run.thread.call(_cancel, run)

    def _end_old_loops(self) -> None:
        """End loops that were left behind once nothing runs on them."""
        tasks = [run.task for run in list(self._runs.values())] + list(self._left_behind)
        used = {task.get_loop() for task in tasks}
        for thread in [one for one in self._old_threads if one.loop not in used]:
            self._old_threads.remove(thread)
            thread.end()


def _cancel(run: _Run) -> None:
    run.attempt.is_told = True  # by the CancelledError that ``cancel`` raises
    run.task.cancel()


def _stack_of(run: _Run) -> str:
    if run.thread.current_task() is run.task:
        frame = run.thread.frame()
        if frame is not None:
            return stack_of(frame)
    return stack_of_coroutine(run.coroutine or run.task.get_coro())


def _name_blocker(thread: LoopThread, blocked_secs: float) -> None:
    frame = thread.frame()
    _LOG.warning(
        "a coroutine blocks the event loop for %.1f s; use `await` or a plain def task:\n%s",
        blocked_secs,
        "" if frame is None else stack_of(frame),
        extra={"event": "loop.blocked"},
    )


async def _in_thread(call: Callable[[], None]) -> None:
    """Call in a thread that, unlike those of ``to_thread``, does not keep the process alive."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def end() -> None:
        if not done.done():
            done.set_result(None)

    def run() -> None:
        try:
            call()
        finally:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(end)

    run_in_thread(run)
    await done


async def _ended(call: Callable[[], Awaitable[Any]]) -> tuple[Any, BaseException | None]:
    """Return what a call returns or raises: asyncio lets SystemExit escape from a task."""
    try:
        return await call(), None
    except BaseException as error:  # noqa: BLE001  # user code: any failure is an outcome
        return None, error


async def _to_the_end(call: Callable[[], None]) -> None:
    """Call in a thread; a cancellation is raised only once the call has ended."""
    calling = asyncio.ensure_future(_in_thread(call))
    try:
        await asyncio.shield(calling)
    except asyncio.CancelledError:
        await asyncio.wait([calling])
        raise


class SteppedCoroutine:
    """Awaits a coroutine step by step, so that an exception can be raised in it from outside.

    Made in the ``asyncio`` task that awaits it.
    """

    def __init__(self) -> None:
        self.task: asyncio.Task[Any] = asyncio.current_task()  # type: ignore[assignment]  # we are in it
        self.coroutine: Coroutine[Any, Any, Any] | None = None
        self._runs_now = self._has_ended = False
        self._interruption: type[Exception] | None = None

    def of(self, awaitable: Awaitable[Any]) -> Self:
        """Return what to await in place of what the task's function returned."""
        self.coroutine = awaitable if asyncio.iscoroutine(awaitable) else _awaiting(awaitable)
        return self

    def interrupt(self, error: type[Exception]) -> None:
        """Raise ``error()`` at the ``await`` where the coroutine waits. Called on its loop.

        What it waits for is cancelled, as ``asyncio.timeout`` does.
        """
        if self._runs_now:
            self._interruption = error
            self.task.cancel()
        elif not (self._has_ended or self.task.done()):  # it waits for a hook
            self.task.get_loop().call_later(_LOOK_SECS, self.interrupt, error)

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine: Any = self.coroutine
        try:
            self._runs_now = True
            return (yield from self._steps(coroutine))
        finally:
            self._runs_now, self._has_ended = False, True
            coroutine.close()  # it may have been closed before its first step

    def _steps(self, coroutine: Any) -> Generator[Any, Any, Any]:
        step, value = coroutine.send, None
        while True:
            try:
                awaited = self._step(step, value)
            except StopIteration as end:
                return end.value
            try:
                step, value = coroutine.send, (yield awaited)
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001  # from what was awaited: the coroutine handles it
                step, value = coroutine.throw, self._in_place_of(error)

    def _step(self, step: Callable[[Any], Any], value: Any) -> Any:
        return step(value)

    def _in_place_of(self, error: BaseException) -> BaseException:
        interruption, self._interruption = self._interruption, None
        if interruption is None or not isinstance(error, asyncio.CancelledError):
            return error
        # Somebody else may have cancelled it as well: that is not over.
        return error if self.task.uncancel() else interruption()


class _Run(SteppedCoroutine):
    """An attempt on a loop. Each of its steps may be interrupted; asyncio's own code may not."""

    def __init__(self, attempt: OpenAttempt, thread: LoopThread) -> None:
        super().__init__()
        self.attempt = attempt
        self.thread = thread

    def _step(self, step: Callable[[Any], Any], value: Any) -> Any:
        return self.thread.guard.outside(self.attempt, self._run_step, (step, value))

    def _run_step(self, step: Callable[[Any], Any], value: Any) -> Any:
        awaited = step(value)
        if self.thread.guard.is_forked:  # the loop's other coroutines belong to the parent
            raise RuntimeError("a process that a coroutine has forked cannot await")
        return awaited


async def _awaiting(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


class LoopThread:
    """Runs an event loop until ``end``.

    Args:
        crashed: Called when the loop itself fails.

    Attributes:
        loop: Other threads may use it only through ``call``.
        guard: Interrupts only a step of a task's coroutine, and only while that step runs.
        turned_at: Monotonic seconds when the loop was last seen running.
        starting: How many tasks were created that have not run yet.
    """

    def __init__(self, clock: Clock, crashed: Callable[[BaseException], None]) -> None:
        self.loop = asyncio.new_event_loop()
        self.guard = Guard()
        self._clock = clock
        self._crashed = crashed
        self.turned_at = clock.monotonic()
        self.starting = 0
        self._is_ending = False
        self._thread = threading.Thread(target=self._main, name="nuvom-loop", daemon=True)
        self._thread.start()

    # ---- from other threads -------------------------------------------------------------

    def call(self, callback: Callable[..., object], *args: Any) -> None:  # as the callback takes
        """Schedule a call on the loop; it never happens when the loop is closed."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(callback, *args)

    def blocked_secs(self) -> float:
        """Return how long the loop has not run."""
        return self._clock.monotonic() - self.turned_at

    def current_task(self) -> asyncio.Task[Any] | None:
        """Return the task whose code runs now; None when nothing or something else runs."""
        return asyncio.current_task(self.loop)

    def frame(self) -> FrameType | None:
        """Return the current frame of its thread."""
        return current_frames().get(self._thread.ident or 0)

    def end(self) -> None:
        """Cancel what still runs and stop; tasks that swallow the cancellation are left behind."""
        self._is_ending = True
        self.call(self.loop.stop)

    def join(self) -> None:
        """Wait briefly for the end."""
        self._thread.join(2 * _LEAVE_SECS)

    # ---- in its thread ------------------------------------------------------------------

    def _main(self) -> None:
        loop = self.loop
        asyncio.set_event_loop(loop)
        loop.call_soon(self._turn)
        try:
            self.guard.run(self._turn_until_it_ends)
        except Exception as error:  # noqa: BLE001  # outermost: an engine bug must not pass silently
            self._crashed(error)
        finally:
            loop.close()

    def _turn_until_it_ends(self) -> None:
        while not self._is_ending:
            # asyncio lets them through when anything but a job raises them: a task that a job
            # created, or a callback. All jobs share the loop, so it keeps running.
            with suppress(KeyboardInterrupt, SystemExit, AttemptClosed):
                self.loop.run_forever()
        with suppress(RuntimeError):  # user code has stopped the loop again
            _leave(self.loop)

    def _turn(self) -> None:
        self.turned_at = self._clock.monotonic()
        if not self._is_ending:
            self.loop.call_later(_TURN_SECS, self._turn)


def _leave(loop: asyncio.AbstractEventLoop) -> None:
    """Give coroutines a moment to clean up."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=_LEAVE_SECS))
    loop.run_until_complete(loop.shutdown_asyncgens())
