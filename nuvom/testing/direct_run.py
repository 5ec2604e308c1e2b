"""Runs jobs of an isolated store in the calling thread: for one job, or for each as it is stored.

Arguments, results, hooks, retries and settlements go the way that they go in a worker. There are no
lanes: a time limit is not enforced, and ``isolation="process"`` runs in this process.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, ParamSpec, TypeVar, cast

import msgspec
import pytest

from nuvom.config.project import root_or_here
from nuvom.config.sources import load
from nuvom.control import Control
from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.core.job_context import current
from nuvom.core.record import JobRecord, JobStatus
from nuvom.dispatcher import Dispatcher
from nuvom.execution.attempts import BoundTask, CurrentJob, OpenAttempt
from nuvom.execution.job_runner import JobRunner
from nuvom.execution.settlement import SettlementEvents
from nuvom.job import Job
from nuvom.runtime import Runtime, build_runtime, current_runtime
from nuvom.testing.builders import make_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nuvom.core.options import CallOptions
    from nuvom.queue_backends.leased import LeasedJobQueue
    from nuvom.registry.registry import TaskDefinition
    from nuvom.task import Task

P = ParamSpec("P")
R = TypeVar("R")

MOST_RUNS = 10_000
"""Attempts that follow from one another at once; a test that reaches this many would never end."""

_WORKER = "this-test"


def isolated_runtime(
    backend: str = "memory",
    *,
    folder: Path | None = None,
    clock: Clock = SYSTEM_CLOCK,
    dispatcher: type[Dispatcher] = Dispatcher,
) -> Runtime:
    """Return a runtime with the project's settings, but for a store that nobody else can see.

    Args:
        backend: ``memory`` or ``sqlite``.
        folder: Where a SQLite file goes.
    Raises: ConfigError: the project's settings cannot be used.
    """
    places = {} if folder is None else {"sqlite_path": str(folder / "nuvom.db")}
    given = {
        "environment": "test",
        "queue_backend": backend,
        "result_backend": backend,
        "sqlite_queue_path": None,
        "sqlite_result_path": None,
        "durability": "normal",  # no test survives a power cut
        **places,
    }
    built = build_runtime(load(root_or_here(), overrides=given))
    queue = cast("Any", type(built.queue))(built.settings, clock=clock)
    results = cast("Any", type(built.results))(built.settings, clock=clock)
    return replace(
        built,
        queue=queue,
        results=results,
        clock=clock,
        control=Control(queue, results, built.bus, is_shared=results.joins(queue)),
        dispatcher=dispatcher(
            queue,
            results,
            codec=built.codec,
            settings=built.settings,
            bus=built.bus,
            clock=clock,
            public_name=lambda definition: definition.name,  # no other process looks for it
        ),
    )


class _ThreadState(threading.local):
    is_running = False
    escaped: BaseException | None = None


class DirectRunner:
    """Runs the jobs of a runtime in the calling thread.

    Args:
        store_child: Stores a job of ``current_job().enqueue()``; None: the settlement does.
    """

    def __init__(
        self, runtime: Runtime, *, store_child: Callable[[JobRecord], object] | None = None
    ) -> None:
        self._queue = cast("LeasedJobQueue", runtime.queue)
        self._clock = runtime.clock
        self._store_child = store_child
        self.make_record = runtime.dispatcher.make_child
        self._runner = JobRunner(
            runtime.registry,
            runtime.codec,
            runtime.settings,
            bus=runtime.bus,
            clock=runtime.clock,
            mark_started=self._queue.mark_started,
        )
        self._events = SettlementEvents(
            runtime.bus,
            self._runner,
            _WORKER,
            run_hook=lambda _, call: call(),
            hook_ended=lambda: None,
        )
        self._thread = _ThreadState()
        self.is_stopping = False

    def run_ready(self) -> None:
        """Run jobs until none is ready; inside a job of this thread, leave that to its end.

        Raises: the failure of the test, if it would never end.
        """
        if self._thread.is_running:
            return
        for _ in range(MOST_RUNS):
            claimed = self._queue.claim(1, _WORKER)
            if not claimed:
                return
            self._run(claimed[0])
        fail_as_endless(claimed[0].func_name)

    def run_next(self) -> None:
        """Run one job that is ready."""
        (record,) = self._queue.claim(1, _WORKER)
        self._run(record)

    def report_progress(
        self, attempt: OpenAttempt, done: float, total: float | None, message: str
    ) -> bool:
        """Store a job's progress."""
        return self._queue.report_progress(attempt.record, done, total, message)

    def _run(self, record: JobRecord) -> None:
        attempt = OpenAttempt(record, _WORKER, self, self._clock.monotonic())
        task = self._runner.resolve(attempt)
        self._thread.is_running = True
        try:
            if task is None:
                attempt.settlement = self._runner.unknown(attempt)
            elif (end := self._runner.expired(attempt)) is not None:
                attempt.settlement = end
            else:
                attempt.task, attempt.lane = self._prepared(task), task.lane
                attempt.settlement = self._runner.run(attempt)
        finally:
            self._thread.is_running = False
        self._settle(attempt)
        escaped, self._thread.escaped = self._thread.escaped, None
        if escaped is not None:
            raise escaped

    def _settle(self, attempt: OpenAttempt) -> None:
        settlement, children = attempt.settlement, attempt.settlement.children
        if self._store_child is not None:
            settlement = msgspec.structs.replace(settlement, children=())
        accepted = self._queue.settle([settlement])
        self._events.follow([attempt], accepted)
        if self._store_child is not None:
            for child in children:
                self._store_child(child)

    def _prepared(self, task: BoundTask) -> BoundTask:
        """Return the task with a function that can be called in this thread."""
        if task.func is task.definition.func:
            func = self._awaited(task.func) if task.definition.is_async else task.func
            task.func = self._noted(func)
        return task

    def _noted(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, with a note of what must end the test and not only the job."""

        @wraps(func)
        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # a user's function
            try:
                return func(*args, **kwargs)
            except (KeyboardInterrupt, pytest.fail.Exception) as error:
                self._thread.escaped = error
                raise

        return call

    def _awaited(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return a plain function in place of a coroutine function.

        It runs in another thread: the test's own may be running an event loop.
        """

        @wraps(func)
        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # a user's function
            def run() -> Any:  # noqa: ANN401
                self._thread.is_running = True
                return asyncio.run(func(*args, **kwargs))

            with ThreadPoolExecutor(1) as pool:
                return pool.submit(copy_context().run, run).result()

        return call


def fail_as_endless(task: str) -> NoReturn:
    """Fail the test that runs now, whose jobs cause one another without end."""
    pytest.fail(
        f"{MOST_RUNS:,} attempts ran, the last of {task}, and another is ready: a task retries, "
        "snoozes or enqueues itself without end. Limit how often it does.",
        pytrace=False,
    )


# ---- for tests ----------------------------------------------------------------------------


def perform(task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
    """Run one job of a task here and now, without retries, and return its handle.

    The call is bound, encoded and decoded as any other. The job is not among those of the test,
    but jobs that it enqueues are.
    Raises: InvalidArguments, NotStorable, PayloadTooLarge: as ``.delay()``. What the task raises is
        in ``job.error``, and ``job.get()`` raises JobFailed.
    """
    runtime = isolated_runtime()
    runner = DirectRunner(runtime, store_child=_store_child)
    record = runtime.dispatcher.make_record(task.definition, args, kwargs, task.call_options)
    record = record.replace(max_retries=0, run_at=0.0)
    runtime.dispatcher.enqueue(record)
    runner.run_next()
    return Job(record.id, runtime, record)


def _store_child(record: JobRecord) -> None:
    current_runtime().dispatcher.enqueue(record)


class _ContextServices(NamedTuple):
    """What code inside ``job_context`` may ask of its worker."""

    is_stopping: bool

    def report_progress(
        self, attempt: OpenAttempt, _done: float, _total: float | None, _message: str
    ) -> bool:
        return not attempt.is_cancelled

    def make_record(
        self,
        definition: TaskDefinition,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: CallOptions,
        *,
        parent: str,
        number: int,
    ) -> JobRecord:
        make = current_runtime().dispatcher.make_child
        return make(definition, args, kwargs, options, parent=parent, number=number)


@contextmanager
def job_context(
    name: str = "tests.job", *, cancelled: bool = False, stopping: bool = False, **fields: Any
) -> Iterator[CurrentJob]:
    """Let ``current_job()`` return a job while the ``with`` block runs.

    Jobs of ``current_job().enqueue()`` are stored when the block ends without an exception.

    Args:
        name: Name of its task.
        cancelled: Whether the job finds itself cancelled.
        stopping: Whether it finds its worker stopping.
        fields: Of ``JobRecord``, such as ``attempt``, ``max_retries``, ``queue`` and ``metadata``.
    """
    given = {"status": JobStatus.RUNNING, "attempt": 1, "deliveries": 1, "lease_epoch": 1, **fields}
    record = make_job(name, **given)
    attempt = OpenAttempt(record, _WORKER, _ContextServices(stopping), SYSTEM_CLOCK.monotonic())
    attempt.is_cancelled = cancelled
    token = current.set(attempt)
    try:
        yield CurrentJob(attempt)
    finally:
        current.reset(token)
    for child in attempt.followers:
        _store_child(child)
