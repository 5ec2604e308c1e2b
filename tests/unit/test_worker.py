"""A worker's life: start, run, stop; what it shows, and what running code may ask of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nuvom import local_worker
from nuvom.core.record import JobStatus
from nuvom.errors import BackendUnavailable, InvalidSetting
from nuvom.events import (
    BackendFailed,
    JobsClaimed,
    JobSucceeded,
    ScheduleFired,
    WorkerStarted,
    WorkerStopped,
)
from nuvom.job import Job
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.result_backends.memory import MemoryResultBackend
from nuvom.runtime import is_local_only
from nuvom.sdk import list_jobs
from nuvom.testing import make_job
from nuvom.worker import Worker, start_worker_pool
from tests.engine import LIMIT_SECS, Engine, ToyQueue, make_runtime, with_backends
from tests.troubled import TroubledQueue

SCHEDULER = "nuvom-scheduler"  # the name of its thread


def add(x: int, y: int) -> int:
    return x + y


# ---- life -----------------------------------------------------------------------------------


def test_worker_runs_what_is_there_and_tells_why_it_ended(any_engine: Engine) -> None:
    jobs = any_engine.task(add).map([(number, 1) for number in range(100)])
    worker = Worker(any_engine.runtime, burst=True)
    assert "burst" == worker.run()
    assert [number + 1 for number in range(100)] == jobs.get(LIMIT_SECS)
    assert (100, 0, 0) == (worker.finished_jobs, worker.open_attempts, worker.stuck)


def test_store_that_cannot_be_opened_is_said_at_the_start(project: Path) -> None:
    queue = TroubledQueue()
    queue.trouble.always("start")
    with Engine(with_backends(make_runtime(project), queue)) as engine:
        worker = Worker(engine.runtime)
        with pytest.raises(BackendUnavailable):
            worker.run()
        assert worker._thread is None


@pytest.mark.parametrize("name", ["threads", "async_slots"])
@pytest.mark.parametrize("count", [0, -1])
def test_worker_needs_slots(engine: Engine, name: str, count: int) -> None:
    options: dict[str, Any] = {name: count}
    with pytest.raises(InvalidSetting, match=f"{name} cannot be {count}"):
        Worker(engine.runtime, **options)


# ---- schedules ------------------------------------------------------------------------------


def test_worker_fires_schedules_if_asked_and_says_so(any_engine: Engine) -> None:
    job = any_engine.task(add)
    job.schedule(1, 2, at=datetime.now(UTC), name="once")
    with any_engine.worker() as worker:
        assert not worker.info().scheduler
        with any_engine.worker(scheduler=True) as other:
            any_engine.wait_for(ScheduleFired)
            assert other.info().scheduler
            any_engine.wait_for(JobSucceeded)
    (fired,) = list_jobs()
    assert (3, "once") == (fired.get(LIMIT_SECS), fired.schedule)


def test_local_worker_fires_schedules_only_if_asked(engine: Engine) -> None:
    with local_worker() as worker:
        assert not worker.fires_schedules
    with local_worker(scheduler=True) as worker:
        assert worker.fires_schedules


def test_end_of_a_worker_wakes_its_scheduler(engine: Engine) -> None:
    with engine.worker(scheduler=True) as worker:
        engine.wait_for(WorkerStarted)
        worker.end()
        assert SCHEDULER not in {one.name for one in threading.enumerate()}


def test_worker_fires_none_where_the_store_keeps_none(project: Path) -> None:
    with Engine(with_backends(make_runtime(project), ToyQueue())) as engine:
        worker = Worker(engine.runtime, burst=True, scheduler=True)
        assert ("burst", False) == (worker.run(), worker.fires_schedules)


@pytest.mark.parametrize("is_started", [False, True])
def test_interrupt_at_the_start_of_its_scheduler_leaves_no_thread(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, *, is_started: bool
) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if thread.name != SCHEDULER:
            start(thread)
            return
        if is_started:
            start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Worker(engine.runtime, scheduler=True).start()
    assert [] == engine.events(BackendFailed)
    assert SCHEDULER not in {one.name for one in threading.enumerate()}


# ---- faults ---------------------------------------------------------------------------------


def crash_of(worker: Worker) -> BaseException:
    """Run a worker in another thread; return what it raises."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            worker.run()
        except BaseException as error:  # noqa: BLE001  # whatever it is, it is what is asked for
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LIMIT_SECS)
    assert not thread.is_alive(), "the worker does not end"
    (error,) = raised
    return error


@pytest.mark.parametrize("error", [ZeroDivisionError("a fault"), SystemExit(0)])
@pytest.mark.parametrize("part", ["lane", "maintenance", "queue"])
def test_worker_ends_and_tells_it_though_a_part_of_it_cannot_be_closed(
    project: Path, monkeypatch: pytest.MonkeyPatch, part: str, error: BaseException
) -> None:
    queue = TroubledQueue()
    with Engine(with_backends(make_runtime(project), queue)) as engine:
        job = engine.task(add).delay(1, 2)
        worker = Worker(engine.runtime, burst=True)
        parts = {"lane": worker._loop.lanes["thread"], "maintenance": worker._maintenance}
        stopped: Any = parts.get(part)

        def stop_and_fail(stop: Callable[[], None]) -> None:
            stop()
            raise error

        if part == "queue":
            queue.trouble.always("retire", error)
        else:
            monkeypatch.setattr(stopped, "stop", partial(stop_and_fail, stopped.stop))
        crash = crash_of(worker)
        assert error in (crash, crash.__cause__)
        assert 3 == job.get(LIMIT_SECS)
        assert 1 == queue.trouble.calls["retire"]
        assert ["close"] == [event.op for event in engine.events(BackendFailed)]
        assert ["crashed"] == [event.reason for event in engine.events(WorkerStopped)]
        assert worker.join(0)


@pytest.mark.parametrize("error", [SystemExit(0), KeyboardInterrupt(), GeneratorExit()])
def test_exit_out_of_the_loop_is_a_crash_and_no_exit(project: Path, error: BaseException) -> None:
    queue = TroubledQueue()
    queue.trouble.always("claim", error)
    with Engine(with_backends(make_runtime(project), queue)) as engine:
        crash = crash_of(Worker(engine.runtime, burst=True))
        assert isinstance(crash, RuntimeError)  # else a program would end as if all was well
        assert error is crash.__cause__
        assert ["loop"] == [event.op for event in engine.events(BackendFailed)]
        assert ["crashed"] == [event.reason for event in engine.events(WorkerStopped)]


@pytest.mark.parametrize("error", [SystemExit(0), KeyboardInterrupt(), GeneratorExit()])
def test_subscriber_that_exits_ends_no_worker(any_engine: Engine, error: BaseException) -> None:
    def leave(_: JobsClaimed) -> None:
        raise error

    any_engine.runtime.bus.subscribe(JobsClaimed, leave)
    job = any_engine.task(add).delay(1, 2)
    worker = Worker(any_engine.runtime, burst=True)
    worker.start()
    assert worker.join(LIMIT_SECS)
    assert ["burst"] == [event.reason for event in any_engine.events(WorkerStopped)]
    assert 3 == job.get(LIMIT_SECS)
    assert {leave.__qualname__: 1} == any_engine.runtime.bus.failures


# ---- what it serves -------------------------------------------------------------------------


def test_only_the_given_queues_are_served(any_engine: Engine) -> None:
    jobs = {name: any_engine.task(add, queue=name).delay(1, 2) for name in ("a", "b", "c")}
    any_engine.work(queues=["a"])
    assert ["SUCCESS", "PENDING", "PENDING"] == [str(job.status) for job in jobs.values()]
    any_engine.work(exclude_queues=["c"])
    assert ["SUCCESS", "SUCCESS", "PENDING"] == [str(job.status) for job in jobs.values()]


def test_job_of_an_unknown_task_waits_for_a_worker_that_knows_it(any_engine: Engine) -> None:
    record = make_job("tests.later")
    any_engine.runtime.queue.enqueue(record)
    any_engine.work()
    job: Job[Any] = Job.load(record.id)
    assert ("PARKED", 0, 0) == (job.status, job.attempt, job.record.deliveries)

    any_engine.task(lambda: "known by now", name="tests.later")
    with any_engine.worker():
        assert "known by now" == job.get(LIMIT_SECS)
    assert 1 == job.attempt


# ---- local workers --------------------------------------------------------------------------


def test_local_worker_runs_jobs_for_the_time_of_the_block(engine: Engine) -> None:
    with local_worker(threads=2) as worker:
        assert is_local_only()
        assert 3 == engine.task(add).delay(1, 2).get(LIMIT_SECS)
        assert 2 == worker.threads
    assert worker.join(0)
    assert JobStatus.PENDING is engine.task(add).delay(1, 2).status


def test_second_interrupt_ends_a_local_worker_at_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, go = threading.Event(), threading.Event()

    def task() -> None:
        there.set()
        while not go.wait(0.001):
            pass

    job = engine.task(task).delay()
    joins = iter([True])
    join = Worker.join

    def interrupted(self: Worker, timeout: float | None = None) -> bool:
        if next(joins, False):
            raise KeyboardInterrupt
        return join(self, LIMIT_SECS)

    monkeypatch.setattr(Worker, "join", interrupted)
    with pytest.raises(KeyboardInterrupt), local_worker() as worker:
        assert there.wait(LIMIT_SECS)
    assert join(worker, 0)
    assert (JobStatus.PENDING, 0) == (job.status, job.attempt)
    go.set()


def test_worker_pool_is_the_blocking_form(engine: Engine) -> None:
    job = engine.task(add).delay(1, 2)
    assert "burst" == start_worker_pool(2, burst=True)
    assert 3 == job.get(LIMIT_SECS)
    assert "max-secs" == start_worker_pool(max_secs=0.01)
    engine.task(add, queue="mail").delay(1, 2)
    assert "max-jobs" == start_worker_pool(queues=["mail"], max_jobs=1)


# ---- promises -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("queue", "results", "promise"),
    [
        (MemoryJobQueue, None, "at least once, finished exactly once"),
        (
            ToyQueue,
            MemoryResultBackend,
            "at most once: jobs that are running when a worker dies are lost",
        ),
    ],
)
def test_worker_says_what_it_can_promise(
    project: Path, queue: Any, results: Any, promise: str
) -> None:
    runtime = with_backends(make_runtime(project), queue(), results and results())
    assert promise == Worker(runtime).promise


@pytest.fixture
def threads_before() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_worker_leaves_no_thread_behind(engine: Engine, threads_before: set[str]) -> None:
    async def coroutine() -> None: ...

    engine.task(add).delay(1, 2)
    engine.task(coroutine).delay()
    engine.work()
    engine.wait_until(
        lambda: {one.name for one in threading.enumerate() if "nuvom" in one.name} <= threads_before
    )
