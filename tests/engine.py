"""A whole engine for one test: a runtime, tasks of its own, workers, and all events in order.

Nothing in it is faked: what a test leaves out are other processes and the command line.
"""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

import pytest

from nuvom.config.sources import load
from nuvom.control import Control
from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.core.options import known_options, task_options
from nuvom.dispatcher import Dispatcher
from nuvom.events import Event, EventBus
from nuvom.queue_backends.base import BaseJobQueue
from nuvom.registry.registry import Registry, TaskDefinition
from nuvom.runtime import Runtime, build_runtime, count_local_worker, use_runtime
from nuvom.task import AsyncTask, Task
from nuvom.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nuvom.core.record import JobRecord
    from nuvom.result_backends.base import BaseResultBackend

E = TypeVar("E", bound=Event)

untraced = pytest.mark.skipif(
    sys.gettrace() is not None and sys.version_info < (3, 12),
    reason="CPython 3.11 under a tracer: no thread goes on while a blocked one is to raise",
)

LIMIT_SECS = 30.0
"""How long a test waits for what has to happen; reached only where something is broken."""


def make_runtime(root: Path, *, clock: Clock = SYSTEM_CLOCK, **settings: Any) -> Runtime:
    """Return a runtime on memory backends, unless ``settings`` say otherwise."""
    given = {"queue_backend": "memory", "result_backend": "memory", **settings}
    return build_runtime(
        load(root, overrides=given), registry=Registry(), bus=EventBus(), clock=clock
    )


def with_backends(
    runtime: Runtime,
    queue: BaseJobQueue | None = None,
    results: BaseResultBackend | None = None,
) -> Runtime:
    """Return the runtime with other backends: instances that a test has made itself."""
    queue, results = queue or runtime.queue, results or runtime.results
    dispatcher = Dispatcher(
        queue,
        results,
        codec=runtime.codec,
        settings=runtime.settings,
        bus=runtime.bus,
        clock=runtime.clock,
        public_name=lambda definition: definition.name,
    )
    return replace(
        runtime,
        queue=queue,
        results=results,
        dispatcher=dispatcher,
        control=Control(queue, results, runtime.bus, is_shared=results.joins(queue)),
    )


@contextmanager
def in_use(runtime: Runtime) -> Iterator[Runtime]:
    """Have ``.delay()`` go to ``runtime``, as in a program that runs no worker; stop it then."""
    before = use_runtime(runtime)
    try:
        yield runtime
    finally:
        use_runtime(before)
        runtime.stop()


class Engine:
    """The runtime in use while the ``with`` block runs.

    Args:
        listens: Whether events are kept.

    Attributes:
        seen: All events so far, in the order in which they were emitted.
    """

    def __init__(self, runtime: Runtime, *, listens: bool = True) -> None:
        self.runtime = runtime
        self.seen: list[Event] = []
        self._news = threading.Condition()
        if listens:
            runtime.bus.subscribe(Event, self._note)

    def __enter__(self) -> Self:
        self._before = use_runtime(self.runtime)
        count_local_worker(1)  # so that tasks may be defined inside tests
        return self

    def __exit__(self, *error: object) -> None:
        count_local_worker(-1)
        use_runtime(self._before)
        self.runtime.stop()

    @overload
    def task(self, func: Callable[..., Any], /, **options: Any) -> Any: ...
    @overload
    def task(self, /, **options: Any) -> Callable[[Callable[..., Any]], Any]: ...
    def task(
        self, func: Callable[..., Any] | None = None, /, *, name: str | None = None, **options: Any
    ) -> Any:
        """Do as ``nuvom.task`` does, with this engine's registry."""

        def decorate(function: Callable[..., Any]) -> Task[..., Any]:
            definition = TaskDefinition(
                name or f"tests.{function.__name__}",
                function,
                task_options(options),
                given=known_options(options),
            )
            self.runtime.registry.register(definition, force=True)
            return AsyncTask(definition) if definition.is_async else Task(definition)

        return decorate if func is None else decorate(func)

    @contextmanager
    def worker(self, **options: Any) -> Iterator[Worker]:
        """Run a worker in the background for the time of the block."""
        worker = Worker(self.runtime, **options)
        worker.start()
        try:
            yield worker
        finally:
            worker.abort()
            assert worker.join(LIMIT_SECS), "the worker does not stop"

    def work(self, **options: Any) -> str:
        """Run a worker until nothing is ready; return why it stopped."""
        return Worker(self.runtime, **{"burst": True, **options}).run()

    def events(self, kind: type[E]) -> list[E]:
        """Return the events of one type so far."""
        return [event for event in list(self.seen) if isinstance(event, kind)]

    def wait_for(self, kind: type[E], *, count: int = 1) -> E:
        """Return the ``count``-th event of one type, as soon as there are as many."""
        self.wait_until(lambda: len(self.events(kind)) >= count)
        return self.events(kind)[count - 1]

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Wait until something is so; looks after each event, and now and then."""
        wait_until(is_so, self._news)

    def _note(self, event: Event) -> None:
        with self._news:
            self.seen.append(event)
            self._news.notify_all()


def wait_until(is_so: Callable[[], bool], news: threading.Condition | None = None) -> None:
    """Wait until something is so, at most ``LIMIT_SECS``."""
    news = news or threading.Condition()
    deadline = SYSTEM_CLOCK.monotonic() + LIMIT_SECS
    with news:
        while not is_so():
            assert SYSTEM_CLOCK.monotonic() < deadline, "it never came true"
            news.wait(0.01)


class ToyQueue(BaseJobQueue):
    """A queue of five methods: a list, and a setting that makes it fail."""

    name = "toy"

    def __init__(self) -> None:
        self.jobs: list[JobRecord] = []
        self.error: Exception | None = None

    def enqueue(self, job: JobRecord) -> str | None:
        if self.error is not None:
            raise self.error
        self.jobs.append(job)
        return None

    def dequeue(self, timeout: float | None = None) -> JobRecord | None:
        return self.jobs.pop(0) if self.jobs else None

    def pop_batch(self, batch_size: int) -> list[JobRecord]:
        taken, self.jobs[:batch_size] = self.jobs[:batch_size], []
        return taken

    def qsize(self) -> int:
        return len(self.jobs)

    def clear(self) -> None:
        self.jobs.clear()


def claim_ahead(worker: Worker) -> None:
    """Have a worker claim jobs ahead of free slots, as after many quick ones."""
    batch = worker._loop._batch
    took = SimpleNamespace(started_at=1.0, finished_at=1.0)
    quick: Any = SimpleNamespace(lane="thread", settlement=took)
    while batch.size < 64:
        batch.finished([quick] * 1000, 0.1)
    worker._loop.wake()
