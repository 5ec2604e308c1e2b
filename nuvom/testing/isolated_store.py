"""The store of one test: jobs that nobody else sees, and what can run them."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self, cast

import pytest

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.options import NO_CALL_OPTIONS
from nuvom.core.record import JobStatus
from nuvom.dispatcher import Dispatcher
from nuvom.inspection.inspector import Inspector
from nuvom.job import Job
from nuvom.runtime import use_runtime
from nuvom.scheduler.schedule import store_of
from nuvom.scheduler.service import Scheduler
from nuvom.task import AsyncTask, Task
from nuvom.testing.clock import FreezableClock
from nuvom.testing.direct_run import MOST_RUNS, DirectRunner, fail_as_endless, isolated_runtime
from nuvom.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from nuvom.core.options import CallOptions
    from nuvom.core.record import JobRecord
    from nuvom.queue_backends.leased import LeasedJobQueue
    from nuvom.registry.registry import TaskDefinition
    from nuvom.runtime import Runtime

BACKENDS = ("memory", "sqlite")
_THREADS = 4
_LOOK_SECS = 0.02  # between two looks at what the worker does; the end of a job ends the wait
_STOP_SECS = 5.0  # what runs longer is left to its thread, which ends with the process
_ROUNDING_SECS = (
    1e-6  # sums of seconds differ in their last digits; a datetime has no more than six
)


class _NotingDispatcher(Dispatcher):
    """Tells when jobs were stored; those in a transaction of the caller's are not, yet."""

    stored: Callable[[], None] | None = None

    def enqueue(self, record: JobRecord) -> str | None:
        """Store one job, as the base class does."""
        existing = super().enqueue(record)
        if self.stored is not None:
            self.stored()
        return existing

    def dispatch_many(
        self,
        definition: TaskDefinition,
        items: Iterable[tuple[Any, ...] | list[Any] | Mapping[str, Any]],
        options: CallOptions = NO_CALL_OPTIONS,
    ) -> tuple[bytearray, dict[str, str]]:
        """Store many jobs, as the base class does."""
        found = super().dispatch_many(definition, items, options)
        if self.stored is not None and "connection" not in options:
            self.stored()
        return found


class IsolatedStore:
    """A store for one test, which ``.delay()`` and everything else uses from ``start`` to ``stop``.

    Args:
        backend: ``memory`` or ``sqlite``.
        folder: Where a SQLite file goes.

    Attributes:
        active: The one of the test that runs now, or None.
        asserted: Ids of jobs that ``assert_enqueued`` has found.
        direct_calls: How often tasks were called without ``.delay()``, by name.
    """

    active: ClassVar[IsolatedStore | None] = None

    def __init__(self, backend: str, folder: Path | None = None) -> None:
        self.clock = FreezableClock()
        self.runtime = isolated_runtime(
            backend, folder=folder, clock=self.clock, dispatcher=_NotingDispatcher
        )
        self.queue = cast("LeasedJobQueue", self.runtime.queue)
        self.asserted: set[str] = set()
        self.direct_calls: Counter[str] = Counter()
        self._run_ready: Callable[[], None] | None = None
        self._patch = pytest.MonkeyPatch()

    def start(self) -> Self:
        """Take the place of the project's store."""
        self._before = use_runtime(self.runtime)
        self._before_active, IsolatedStore.active = IsolatedStore.active, self
        self._count_calls(Task)
        self._count_calls(AsyncTask)
        return self

    def stop(self) -> None:
        """Forget all jobs; ``.delay()`` goes where it went before."""
        self._patch.undo()
        IsolatedStore.active = self._before_active
        use_runtime(self._before)
        self.runtime.stop()

    @property
    def jobs(self) -> list[Job[Any]]:
        """All jobs enqueued in this test, whether or not they have run, oldest first."""
        return jobs_of(self.runtime)

    @property
    def left_behind(self) -> list[Job[Any]]:
        """Jobs that have not ended, and that the test has not asserted."""
        return [job for job in self.jobs if job.id not in self.asserted and not job.status.is_final]

    def run_inline(self) -> None:
        """From now on, run each job as soon as it is stored."""
        self.run_with(DirectRunner(self.runtime).run_ready)
        cast("_NotingDispatcher", self.runtime.dispatcher).stored = self.run_ready

    def run_with(self, run_ready: Callable[[], None]) -> None:
        """Set what runs jobs that have become due. Raises: ValueError: it is set already."""
        if self._run_ready is not None:
            raise ValueError("nuvom_inline and nuvom_worker cannot both run the jobs of a test")
        self._run_ready = run_ready

    def run_ready(self) -> None:
        """Run what is ready, if this store has something that runs jobs."""
        if self._run_ready is not None:
            self._run_ready()

    def _count_calls(self, kind: type[Task[..., Any]]) -> None:
        call = kind.__call__

        def counted(task: Task[..., Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            self.direct_calls[task.name] += 1
            return call(task, *args, **kwargs)

        self._patch.setattr(kind, "__call__", counted)


def jobs_of(runtime: Runtime) -> list[Job[Any]]:
    """Return all jobs of a store, oldest first."""
    found = [*Inspector(runtime).pages()]
    return [Job(one.record.id, runtime, one.record) for one in reversed(found)]


class StoreWorker:
    """A worker in threads of this process for an isolated store."""

    def __init__(self, store: IsolatedStore) -> None:
        self._store = store
        store.run_with(self.drain)

    def start(self) -> Self:
        """Run jobs in the background from now on."""
        self._worker = Worker(self._store.runtime, threads=_THREADS)
        self._worker.start()
        return self

    def stop(self) -> None:
        """Stop at once; a job that does not end is left to its thread."""
        self._worker.abort()
        self._worker.join(_STOP_SECS)

    def drain(self, timeout: float = 5) -> None:
        """Wait until no job is ready or running, and all hooks have ended.

        Jobs that are due later, such as retries, are not waited for.

        Args:
            timeout: Maximum seconds to wait.
        Raises: the failure of the test, if jobs are left when the time is over.
        """
        deadline = SYSTEM_CLOCK.monotonic() + timeout
        with self._store.runtime.results.waiter() as waiter:
            while self._is_busy():
                left = deadline - SYSTEM_CLOCK.monotonic()
                if left <= 0 or waiter is None:
                    self._fail(timeout)
                waiter.wait(min(left, _LOOK_SECS))
        self._worker.end()  # hooks run after a job has ended, and only the worker waits for them
        self.start()

    def _is_busy(self) -> bool:
        return any(one.ready or one.running for one in self._store.queue.stats())

    def _fail(self, timeout: float) -> NoReturn:
        waiting = {JobStatus.PENDING, JobStatus.RUNNING}
        left = [job for job in self._store.jobs if job.status in waiting]
        listed = "\n".join(f"  {described(job)}" for job in left)
        pytest.fail(
            f"After {timeout:g} s jobs are still ready or running:\n{listed}", pytrace=False
        )


class StoreTime:
    """The time of an isolated store: it stands still, and a test moves it.

    Only the times at which jobs and schedules are due depend on it. Time limits and leases do not.
    """

    def __init__(self, store: IsolatedStore) -> None:
        self._store = store
        self._scheduler = Scheduler(store.runtime)
        self._schedules = store_of(store.runtime)
        store.clock.freeze()

    def now(self) -> datetime:
        """Return the store's time, in UTC."""
        return datetime.fromtimestamp(self._store.clock.now(), UTC)

    def advance(self, by: float | timedelta) -> None:
        """Let time pass, in seconds or as a timedelta, and run jobs when they become due.

        Schedules fire at their fire times. Jobs, those of the fires included, run at their own
        times, one after the other, if the test also has ``nuvom_inline`` or ``nuvom_worker``.
        Raises: ValueError: it is negative. The failure of the test, if jobs would never end.
        """
        store, clock = self._store, self._store.clock
        left = by.total_seconds() if isinstance(by, timedelta) else float(by)
        if left < 0:
            raise ValueError(f"time cannot pass backwards ({by})")
        end, runs = round(clock.now() + left, 6), 0
        while runs < MOST_RUNS:
            now = clock.now()
            job_secs, fire_at = store.queue.next_due_secs(), self._schedules.next_due_at()
            job_at = inf if job_secs is None else now + job_secs
            due_at = min(job_at, inf if fire_at is None else fire_at)
            if due_at > end + _ROUNDING_SECS:
                clock.move_to(max(end, now))
                self._run_due()
                return
            clock.move_to(max(due_at, now))
            self._run_due()
            runs += job_at <= due_at  # the fires of a schedule come to an end with the time
        fail_as_endless(store.jobs[-1].func_name)

    def _run_due(self) -> None:
        self._scheduler.step()
        self._store.queue.notify()  # the worker waits by the clock on the wall
        self._store.run_ready()


def described(job: Job[Any]) -> str:
    """Return a job as its call, with its status and the queue it is in."""
    snapshot = job.snapshot()
    shown = [repr(one) for one in job.args]
    shown += [f"{name}={value!r}" for name, value in job.kwargs.items()]
    text = f'{job.func_name}({", ".join(shown)}) on queue "{job.queue}", {snapshot.status}'
    attempt = snapshot.record.attempt
    return f"{text} after attempt {attempt}" if attempt else text
