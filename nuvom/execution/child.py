"""What runs in a child of the process lane: one job after the other, as the worker says.

The main thread runs the tasks, so that they meet the process as any program does; one thread
listens to the worker, and one calls hooks. The child leaves when the worker is gone. Who
composes it is ``nuvom/execution/child_main.py``.
"""

from __future__ import annotations

import os
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from nuvom.core.guard import AttemptClosed, Guard
from nuvom.core.record import JobRecord, JobStatus
from nuvom.discovery.importer import Importer, is_interrupt
from nuvom.errors import NuvomError, QueueError, TaskImportFailed
from nuvom.events import HookFailed
from nuvom.execution.failures import current_frames, stack_of, stack_of_coroutine
from nuvom.execution.framing import (
    HOOKS_KEPT,
    AskStack,
    CallHooks,
    Ended,
    HookRaised,
    HooksCalled,
    Progress,
    ProgressKept,
    Ready,
    Run,
    Stack,
    Started,
    Unloadable,
)
from nuvom.execution.running import Prepared, RunningJob
from nuvom.host import processes as platforms
from nuvom.host.fork import drop_at_fork

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.core.clock import Clock
    from nuvom.core.options import CallOptions
    from nuvom.events import EventBus
    from nuvom.execution.framing import Link
    from nuvom.execution.job_runner import JobRunner
    from nuvom.registry.registry import Registry, TaskDefinition

    MakeRecord = Callable[[TaskDefinition, tuple[Any, ...], dict[str, Any], CallOptions], JobRecord]

_NOBODY = JobRecord("", "")  # stands for the record in what goes to the worker, which has it
_TELL_SECS = 0.05  # until the task's code is told again to end
_TELL_TIMES = 20
_LEAVE_SECS = 1.0  # for what a program does at its end, once there is no more work


class Child:
    """Serves a worker over ``link``. Made and used in the main thread.

    Args:
        runner: Whose ``mark_started`` does nothing: the worker has marked the start.
        bus: The runner's.
        make_record: Makes the record of a job to be enqueued with another one's success.
    """

    def __init__(
        self,
        link: Link,
        runner: JobRunner,
        registry: Registry,
        *,
        worker: str,
        bus: EventBus,
        clock: Clock,
        make_record: MakeRecord,
    ) -> None:
        self._link = link
        self._runner = runner
        self._registry = registry
        self._worker = worker
        self._clock = clock
        self.make_record = make_record
        self._orders: SimpleQueue[Run | None] = SimpleQueue()
        self._main = threading.get_ident()
        self._token = 0  # of the attempt that came last and has not ended, else 0
        self._running: RunningJob | None = None
        self._coroutine: Any = None  # the running task, where it is one
        self._is_closing = False
        self._was_told = False
        self._has_heard = threading.Event()
        self._asking = threading.Lock()
        self._guard = Guard()
        self._asked = 0
        self._answers: SimpleQueue[ProgressKept] = SimpleQueue()
        self._known: set[str] = set()
        self._importer = Importer()
        self._kept: dict[int, RunningJob] = {}
        self._due: SimpleQueue[CallHooks | None] = SimpleQueue()
        self._hook_thread: threading.Thread | None = None
        bus.subscribe(HookFailed, self._report_hook)

    # ---- the main thread ----------------------------------------------------------------

    def serve(self) -> None:
        """Run jobs until the worker has no more for this child, or is gone."""
        self._guard.run(self._serve)

    def _serve(self) -> None:
        platforms.on_end_request(self._obey_end_request)
        drop_at_fork(self)
        threading.Thread(target=self._listen, name="nuvom-worker-link", daemon=True).start()
        try:
            self._link.send(Ready())
            while not self._is_closing and (order := self._orders.get()) is not None:
                self._run(order)
            self._finish_hooks()
        except (AttemptClosed, BrokenPipeError):
            return  # closed, or the worker is gone: nobody waits for anything any more

    def _run(self, order: Run) -> None:
        platforms.on_end_request(self._obey_end_request)  # anew: the last task may have changed it
        self._link.send(Started(order.token))
        services = _Services(self, order.token)
        running = self._running = RunningJob(order.record, self._worker, services, 0.0)
        running.lane = "process"
        try:
            running.prepared = self._load(order, running)
        except NuvomError as error:
            self._finish(Unloadable(order.token, error.what))
            return
        settlement = self._runner.run(running, self._guard)
        has_hooks = running.prepared.has_hooks
        if has_hooks:
            self._keep(order.token, running)
        self._finish(Ended(order.token, replace(settlement, record=_NOBODY), has_hooks))

    def _finish(self, end: Ended | Unloadable) -> None:
        self._running = None
        self._token = 0
        self._link.send(end)

    def _obey_end_request(self) -> None:
        """Leave the task's code, once, if it was the worker that asked.

        A service manager that stops a service tells all its processes to end. This one then
        goes on: its worker tells it when the time for running jobs is over.
        """
        if self._is_closing and not self._was_told:
            self._was_told = True
            self._has_heard.set()
            code = self._guard.code
            if code is not None and self._guard.is_inside:
                code.is_closed = True  # what it called raises, at its end
            else:
                if code is not None:
                    code.is_told = True
                raise AttemptClosed

    # ---- the task -----------------------------------------------------------------------

    def _load(self, order: Run, running: RunningJob) -> Prepared:
        """Return the task of an attempt, imported as the worker did. Raises: NuvomError."""
        name = order.record.func_name
        is_new = name not in self._known
        if is_new and self._registry.get(name) is None:
            self._import(order)
        prepared = self._runner.resolve(running)
        if prepared is None:
            raise TaskImportFailed(name, order.module, self._runner.refused.pop(name))
        if is_new:
            self._known.add(name)
            if prepared.definition.is_async:
                prepared.func = self._in_a_loop(prepared.func)
            self._link.send(Started(order.token))  # the deadline is the task's, not its import's
        return prepared

    def _in_a_loop(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return a plain function that runs a coroutine function in an event loop of its own."""

        def run(*args: Any, **kwargs: Any) -> Any:
            from asyncio import run  # noqa: PLC0415  # most children never run a coroutine

            self._coroutine = func(*args, **kwargs)
            try:
                return run(self._coroutine)
            finally:
                self._coroutine = None

        return run

    def _import(self, order: Run) -> None:
        name = order.record.func_name
        if "<locals>" in order.qualname or order.module == "__main__":
            reason = "it is defined inside a function, or was typed in: only its own process has it"
            raise TaskImportFailed(name, order.module, reason)
        try:
            found: Any = self._importer.load(order.module)
        except BaseException as error:  # user code: whatever it raises, others can run
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

    def report_progress(self, token: int, done: float, total: float | None, text: str) -> bool:
        """Have the worker keep an attempt's progress; False when it is no longer the worker's.

        Raises: QueueError: the store cannot be used. BrokenPipeError: the worker is gone.
        """
        with self._asking:
            self._asked += 1
            whole = None if total is None else float(total)
            self._link.send(Progress(token, self._asked, float(done), whole, str(text)))
            # An answer that nobody waited for any more may still be there.
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
        except OSError:  # nobody reads the answer, or the task's code has closed the pipe
            pass
        self._leave_alone()

    def _obey(self, frame: Any) -> None:
        if isinstance(frame, Run):
            self._token = frame.token
            self._orders.put(frame)
        elif isinstance(frame, ProgressKept):
            self._answers.put(frame)
        elif isinstance(frame, CallHooks):
            self._call_hooks_soon(frame)
        elif isinstance(frame, AskStack):
            self._link.send(Stack(frame.token, self._stack()))
        else:  # Close, the one word that is left
            self._is_closing = True
            if self._running is not None:
                self._running.is_cancelled = True
            self._interrupt()

    def _interrupt(self) -> None:
        """Have the main thread leave what it does.

        A signal that comes when a wait is about to begin does not end that wait; the next does.
        """
        for _ in range(_TELL_TIMES):
            platforms.interrupt_main_thread(self._main)
            if self._clock.wait(self._has_heard, _TELL_SECS):
                return

    def _leave_alone(self) -> None:
        """Leave: at once while there is an attempt, as that is another worker's by now."""
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

    # ---- hooks --------------------------------------------------------------------------

    def _keep(self, token: int, running: RunningJob) -> None:
        self._kept[token] = running
        if len(self._kept) > HOOKS_KEPT:
            self._kept.pop(next(iter(self._kept)), None)

    def _call_hooks_soon(self, due: CallHooks) -> None:
        if self._hook_thread is None:
            self._hook_thread = threading.Thread(target=self._call_hooks, name="nuvom-hooks")
            self._hook_thread.daemon = True
            self._hook_thread.start()
        self._due.put(due)

    def _call_hooks(self) -> None:
        while (due := self._due.get()) is not None:
            running = self._kept.pop(due.token, None)
            if running is not None:
                self._runner.after_settled(running, JobStatus(due.status))
            try:
                self._link.send(HooksCalled(due.token))
            except BrokenPipeError:
                return

    def _finish_hooks(self) -> None:
        if self._hook_thread is not None:
            self._due.put(None)
            self._hook_thread.join(_LEAVE_SECS)

    def _report_hook(self, event: HookFailed) -> None:
        self._link.send(HookRaised(event.job.id, event.hook, event.error))

    # ---- forks --------------------------------------------------------------------------

    def drop_in_child(self) -> None:
        """Be an ordinary process in whatever a task forks."""
        platforms.usual_signals()


class _Services:
    """What the code of one attempt may ask for; see ``CurrentJob``."""

    def __init__(self, child: Child, token: int) -> None:
        self._child = child
        self._token = token
        self.make_record = child.make_record

    def report_progress(
        self, _running: RunningJob, done: float, total: float | None, text: str
    ) -> bool:
        return self._child.report_progress(self._token, done, total, text)
