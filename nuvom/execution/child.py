"""The program that a child of the process lane runs: it runs one job after another.

Started by ``nuvom/execution/child_process.py`` with two pipes as standard input and output. The
main thread runs the tasks, so that they see the process as any program does; another thread
listens to the worker. The child exits when the worker is gone.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from msgspec.structs import replace

from nuvom.config.settings import Settings
from nuvom.config.sources import Loaded
from nuvom.core.clock import SYSTEM_CLOCK, Clock, StoreClock
from nuvom.core.guard import AttemptClosed, Guard
from nuvom.core.ids import CHILDREN
from nuvom.core.record import JobRecord, JobStatus, StoredError
from nuvom.core.signals import JobStopping, SoftTimeout
from nuvom.discovery.importer import Importer, is_interrupt
from nuvom.errors import BackendUnavailable, NuvomError, QueueError, TaskImportFailed
from nuvom.events import EventBus, default_bus
from nuvom.execution.attempts import BoundTask, OpenAttempt
from nuvom.execution.failures import current_frames, stack_of, stack_of_coroutine, stored_error
from nuvom.execution.frames import (
    AskStack,
    Ended,
    Hello,
    Interrupt,
    Link,
    Progress,
    ProgressKept,
    Ready,
    Run,
    Stack,
    Started,
    Stopping,
    ToChild,
)
from nuvom.execution.job_runner import JobRunner
from nuvom.hooks import load_hooks
from nuvom.host import platforms
from nuvom.host.fork import drop_at_fork
from nuvom.log import configure_logging
from nuvom.plugins.loader import import_object
from nuvom.plugins.registry import BackendKind, default_plugin_registry
from nuvom.queue_backends.base import BaseJobQueue
from nuvom.result_backends.base import BaseResultBackend
from nuvom.runtime import Runtime, build_runtime, use_runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nuvom.core.middleware import Middleware
    from nuvom.core.outcome import Settlement
    from nuvom.execution.async_lane import SteppedCoroutine

_NOBODY = JobRecord("", "")  # stands for the record in frames to the worker, which has it
_TELL_SECS = 0.05  # until the task's code is interrupted again
_TELL_TIMES = 20
_LEAVE_SECS = 1.0  # for the program's exit handlers, once there is no more work
_ELSEWHERE = "in-the-worker"
_STDERR = 2
_INTERRUPTIONS = {one.__name__: one for one in (SoftTimeout, JobStopping)}


def main() -> None:
    """Serve as a child of the process whose id is the first argument, until it needs none."""
    platforms.end_with_parent(int(sys.argv[1]))
    link = take_pipes()
    hello = link.receive()
    if not isinstance(hello, Hello):
        return  # the worker no longer needs this child, or is gone
    if sys.stderr is not None:
        faulthandler.enable()  # shows where C code crashed; the worker only sees that it did
    settings = Settings.from_dict(hello.settings)
    if hello.log_level is not None:
        configure_logging(hello.log_level, settings.log_format, worker=hello.worker)
    # The worker knows the store's time; it is not worth a connection of this process.
    is_own = hello.ahead_secs is None
    clock = SYSTEM_CLOCK if is_own else StoreClock(ahead_secs=hello.ahead_secs)
    runtime = make_runtime(settings, clock)
    use_runtime(runtime)
    load_hooks(settings.hooks)
    Child(link, runtime, hello.worker, load_middleware(hello.middleware)).serve()


def take_pipes() -> Link:
    """Return the link to the worker, and leave standard streams that user code may use freely.

    After this call standard input is empty, and printed output goes to the worker's standard
    error.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere == _STDERR:  # the worker has none, and the pipes must not become it
        os.set_inheritable(_STDERR, True)
        nowhere = os.dup(nowhere)
    source, sink = os.dup(0), os.dup(1)
    os.dup2(nowhere, 0)
    os.dup2(_STDERR, 1)
    os.close(nowhere)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a TextIOWrapper at the start
    return Link(os.fdopen(source, "rb", 0), os.fdopen(sink, "wb", 0), ToChild)


def load_middleware(targets: Sequence[str]) -> list[Middleware]:
    """Return the middleware to use here; report and skip any that cannot be loaded."""
    found = []
    for target in targets:
        try:
            found.append(import_object(target)())
        except Exception as error:  # noqa: BLE001  # a plugin's code: it is skipped
            default_bus.report(target, error)
    return found


class Child:
    """Serves a worker over ``link``. Created and used in the main thread.

    Args:
        runtime: The runtime whose parts run the tasks.
        worker: The worker's id.
        middleware: Applied to the jobs that run here and to those that they enqueue.
    """

    def __init__(
        self, link: Link, runtime: Runtime, worker: str, middleware: Sequence[Middleware] = ()
    ) -> None:
        # A separate bus: subscribers in the worker get an attempt's events from the worker.
        bus = EventBus()
        for one in middleware:
            bus.accompany(one)
            runtime.bus.accompany(one)
        self._runner = JobRunner(
            runtime.registry,
            runtime.codec,
            runtime.settings,
            bus=bus,
            clock=runtime.clock,
            mark_started=lambda _: None,  # the worker has already marked it
        )
        self._link, self._worker = link, worker
        self._registry, self._clock = runtime.registry, runtime.clock
        self.make_record = partial(runtime.dispatcher.make_child, kind=CHILDREN[1])
        self._orders: SimpleQueue[Run | None] = SimpleQueue()
        self._main = threading.get_ident()
        self._token = 0  # of the latest attempt while it has not ended, else 0
        self._attempt: OpenAttempt | None = None
        self.is_stopping = False
        self._coroutine: Any = None  # the running task, if it is one
        self._stepped: SteppedCoroutine | None = None
        self._interrupting = threading.Lock()
        self._interruption: type[Exception] | None = None
        self._is_closing = False
        self._was_told = False
        self._has_heard = threading.Event()
        self._asking = threading.Lock()
        self._guard = Guard()
        self._asked = 0
        self._answers: SimpleQueue[ProgressKept] = SimpleQueue()
        self._tasks: dict[str, BoundTask] = {}
        self._importer = Importer()

    # ---- the main thread ----------------------------------------------------------------

    def serve(self) -> None:
        """Run jobs until the worker has no more for this child or is gone."""
        self._guard.run(self._serve)

    def _serve(self) -> None:
        platforms.on_end_request(self._obey_end_request)
        drop_at_fork(self)
        threading.Thread(target=self._listen, name="nuvom-worker-link", daemon=True).start()
        try:
            self._link.send(Ready())
            while not self._is_closing and (order := self._orders.get()) is not None:
                self._run(order)
        except (AttemptClosed, BrokenPipeError):
            return  # closed, or the worker is gone: nobody waits for a result

    def _run(self, order: Run) -> None:
        platforms.on_end_request(self._obey_end_request)  # again: the last task may have reset it
        self._link.send(Started(order.token))
        attempt = self._attempt = OpenAttempt(order.record, self._worker, self, 0.0)
        attempt.lane = "process"
        try:
            attempt.task = self._load(order, attempt)
        except NuvomError as error:
            self._finish(Ended(order.token, None, refusal=error.what))
            return
        settlement = self._runner.run(attempt, self._guard)
        value, fault = _value_for_hook(attempt, settlement)
        settlement = replace(settlement, record=_NOBODY)
        self._finish(Ended(order.token, settlement, value, fault))

    def _finish(self, end: Ended) -> None:
        self._attempt = self._interruption = None
        self._token = 0
        self._link.send(end)

    def _obey_end_request(self) -> None:
        """Interrupt the task's code, once, if the request came from the worker.

        A service manager that stops a service signals all its processes. This process then keeps
        going: its worker tells it when the time for running jobs is over.
        """
        if self._interruption is not None and self._runs_task:
            error, self._interruption = self._interruption, None
            raise error
        if self._is_closing and not self._was_told:
            self._was_told = True
            self._has_heard.set()
            code = self._guard.code
            if code is not None and self._guard.is_inside:
                code.is_closed = True  # the engine function it called raises when it ends
            else:
                if code is not None:
                    code.is_told = True
                raise AttemptClosed

    @property
    def _runs_task(self) -> bool:
        """Whether the main thread is in the code of the attempt, not in the engine below it."""
        return self._guard.code is self._attempt is not None and not self._guard.is_inside

    # ---- the task -----------------------------------------------------------------------

    def _load(self, order: Run, attempt: OpenAttempt) -> BoundTask:
        """Return an attempt's task, imported the way the worker does it. Raises: NuvomError."""
        name = order.record.func_name
        task = self._tasks.get(name)
        if task is None:
            if self._registry.get(name) is None:
                self._import(order)
            task = self._runner.resolve(attempt)
            if task is None:
                raise TaskImportFailed(name, order.module, self._runner.refused.pop(name))
            task.before_job = None  # the worker runs the hooks
            if task.definition.is_async:
                task.func = self._in_a_loop(task.func)
            self._tasks[name] = task
            self._link.send(Started(order.token))  # the deadline is for the task, not its import
        return task

    def _in_a_loop(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return a plain function that runs a coroutine function in its own event loop."""

        def run(*args: Any, **kwargs: Any) -> Any:
            from asyncio import run  # noqa: PLC0415  # most children never run a coroutine

            self._coroutine = func(*args, **kwargs)
            try:
                return run(self._stepping(self._coroutine))
            finally:
                self._coroutine = self._stepped = None

        return run

    async def _stepping(self, coroutine: Any) -> Any:
        from nuvom.execution.async_lane import SteppedCoroutine  # noqa: PLC0415  # as above

        self._stepped = SteppedCoroutine()
        return await self._stepped.of(coroutine)

    def _import(self, order: Run) -> None:
        name = order.record.func_name
        if "<locals>" in order.qualname or order.module == "__main__":
            reason = "it is defined inside a function, or was typed in: only its own process has it"
            raise TaskImportFailed(name, order.module, reason)
        try:
            found: Any = self._importer.load(order.module)
        except BaseException as error:  # user code: whatever it raises, other jobs can run
            if is_interrupt(error):
                raise
            reason = f"{type(error).__name__}: {error}"
            raise TaskImportFailed(name, order.module, reason) from error
        if self._registry.get(name) is not None:
            return
        for part in order.qualname.split("."):
            found = getattr(found, "__dict__", {}).get(part)
        if not hasattr(found, "definition"):
            raise TaskImportFailed(name, order.module, f"it has no task {order.qualname} there")
        self._registry.register(found, name=name)

    # ---- for the running code -----------------------------------------------------------

    def report_progress(
        self, attempt: OpenAttempt, done: float, total: float | None, message: str
    ) -> bool:
        """Have the worker store an attempt's progress; False when it no longer owns the job.

        Raises: QueueError: the store cannot be used. BrokenPipeError: the worker is gone.
        """
        token = self._token
        if attempt is not self._attempt:
            return False  # the attempt has ended; a thread that it left behind made this call
        with self._asking:
            self._asked += 1
            whole = None if total is None else float(total)
            self._link.send(Progress(token, self._asked, float(done), whole, str(message)))
            # The answer to an earlier, abandoned request may still be there.
            while (answer := self._answers.get()).seq != self._asked:
                pass
        if answer.fault:
            raise QueueError(answer.fault)
        return answer.is_ours

    # ---- the listening thread -----------------------------------------------------------

    def _listen(self) -> None:
        try:
            while (frame := self._link.receive()) is not None:
                self._obey(frame)
        except OSError:  # the worker is gone, or the task's code has closed the pipe
            pass
        self._leave_alone()

    def _obey(self, frame: Any) -> None:
        if isinstance(frame, Run):
            self._token = frame.token
            self._orders.put(frame)
        elif isinstance(frame, ProgressKept):
            self._answers.put(frame)
        elif isinstance(frame, AskStack):
            self._link.send(Stack(frame.token, self._stack()))
        elif isinstance(frame, Stopping):
            self.is_stopping = True
        elif isinstance(frame, Interrupt):
            threading.Thread(target=self._raise_in_task, args=(frame,), daemon=True).start()
        else:  # Close, the only kind left
            self._is_closing = True
            if self._attempt is not None:
                self._attempt.is_cancelled = True
            self._interrupt()

    def _interrupt(self) -> None:
        """Make the main thread stop what it is doing.

        A signal that arrives just before a wait begins does not end that wait; the next one does.
        """
        for _ in range(_TELL_TIMES):
            platforms.interrupt_main_thread(self._main)
            if self._clock.wait(self._has_heard, _TELL_SECS):
                return

    def _raise_in_task(self, frame: Interrupt) -> None:
        """Raise an exception in the code of the attempt, if it still runs, once it can be."""
        error = _INTERRUPTIONS[frame.error]
        with self._interrupting:  # one after the other
            self._interruption = error
            while self._interruption is not None and self._token == frame.token:
                if self._stepped is not None:
                    break
                platforms.interrupt_main_thread(self._main)
                self._clock.sleep(_TELL_SECS)
            is_due, self._interruption = self._interruption is not None, None
        stepped = self._stepped  # a coroutine, which its loop interrupts
        if is_due and stepped is not None and self._token == frame.token:
            with suppress(RuntimeError):  # the loop has just been closed
                stepped.task.get_loop().call_soon_threadsafe(stepped.interrupt, error)

    def _leave_alone(self) -> None:
        """Exit; at once if there is an attempt, since another worker has it by now."""
        if self._token:
            platforms.leave_with_group(1)
        self._orders.put(None)
        self._clock.sleep(_LEAVE_SECS)
        os._exit(0)

    def _stack(self) -> str:
        coroutine = self._coroutine
        if coroutine is not None and not coroutine.cr_running:
            return stack_of_coroutine(coroutine)
        return stack_of(current_frames()[self._main])

    # ---- forks --------------------------------------------------------------------------

    def drop_in_child(self) -> None:
        """Turn a process that a task forks into an ordinary one."""
        platforms.usual_signals()


def _value_for_hook(
    attempt: OpenAttempt, settlement: Settlement
) -> tuple[bytes | None, StoredError | None]:
    """Return what ``after_job`` in the worker needs besides the settlement.

    Returns: the encoded result if the settlement keeps none, or why it cannot be encoded.
    """
    task, value = attempt.task, attempt.kept
    is_kept = settlement.result is not None or settlement.status is not JobStatus.SUCCESS
    if is_kept or task.options.after_job is None or isinstance(value, BaseException):
        return None, None
    try:
        return task.encode(value), None
    except Exception as error:  # noqa: BLE001  # the value's own code may run; the outcome is unaffected
        return None, stored_error(attempt.record.func_name, error)


# ---- what a task may use --------------------------------------------------------------


def make_runtime(settings: Settings, clock: Clock = SYSTEM_CLOCK) -> Runtime:
    """Return a runtime like the worker's, for tasks that call ``.delay()`` and similar.

    A store in the worker's memory, or one that only the worker knows, is not available here:
    whatever needs it raises BackendUnavailable, and tasks that do not need it run.
    """
    here = {
        kind.setting: _ELSEWHERE
        for kind in (BackendKind.QUEUE, BackendKind.RESULT)
        if getattr(settings, kind.setting) == "memory"
    }
    registry = default_plugin_registry()
    registry.register(BackendKind.QUEUE, _ELSEWHERE, QueueElsewhere)
    registry.register(BackendKind.RESULT, _ELSEWHERE, ResultsElsewhere)
    try:
        return build_runtime(Loaded(replace(settings, **here), {}, []), clock=clock)
    except NuvomError:  # for example, a backend that the worker's own program registered
        both = {"queue_backend": _ELSEWHERE, "result_backend": _ELSEWHERE}
        return build_runtime(Loaded(replace(settings, **both), {}, []), clock=clock)


def _refuse(*_args: object, **_kwargs: object) -> NoReturn:
    raise BackendUnavailable(
        "of this worker",
        "only the worker's own process has it, and this is a child of the process lane",
        "Use current_job().enqueue(), isolation='thread', or a store in a file or on a server.",
    )


class QueueElsewhere(BaseJobQueue):
    """Stands in for a queue that this process cannot reach; refuses everything."""

    name: ClassVar[str] = _ELSEWHERE
    enqueue = dequeue = pop_batch = qsize = clear = _refuse


class ResultsElsewhere(BaseResultBackend):
    """Stands in for a result store that this process cannot reach; refuses everything."""

    name: ClassVar[str] = _ELSEWHERE
    set_result = get_result = set_error = get_error = get_full = list_jobs = _refuse
