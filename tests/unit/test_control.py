"""What people can change of stored jobs and queues, whatever the backends are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from nuvom.core.ids import new_id
from nuvom.core.record import JobStatus
from nuvom.errors import CapabilityMissing, QueueError
from nuvom.host.crashpoint import arm
from nuvom.inspection.inspector import Inspector
from nuvom.job import Job
from nuvom.result_backends.memory import MemoryResultBackend
from nuvom.sdk import list_jobs
from tests.engine import LIMIT_SECS, Engine, ToyQueue, make_runtime, with_backends
from tests.troubled import TroubledQueue, TroubledResults


@pytest.fixture(params=["memory", "sqlite", "split"])
def engine(request: pytest.FixtureRequest, project: Path) -> Iterator[Engine]:
    if request.param == "split":
        runtime = with_backends(make_runtime(project), TroubledQueue(), TroubledResults())
    else:
        name = request.param
        runtime = make_runtime(project, queue_backend=name, result_backend=name)
    with Engine(runtime) as engine:
        yield engine


def add(x: int) -> int:
    return x + 1


def broken() -> None:
    raise ValueError("no good")


def failed(engine: Engine, **options: Any) -> Any:
    job = engine.task(broken).options(**options).delay()
    engine.work()
    assert JobStatus.FAILED is job.status
    return job


# ---- retry ----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["memory", "file", "sqlite"])
def test_retry_wakes_a_worker_that_sleeps(project: Path, backend: str) -> None:
    backends: Any = {"queue_backend": backend, "result_backend": backend}
    with Engine(make_runtime(project, **backends)) as engine:
        job = failed(engine)
        other = engine.runtime if backend == "memory" else make_runtime(project, **backends)
        sleeping: Any = other.queue
        asleep, woken = threading.Event(), threading.Event()

        def look() -> bool:
            asleep.set()
            return False

        def sleep() -> None:
            if sleeping.wait_for_work(LIMIT_SECS, look):
                woken.set()

        sleeper = threading.Thread(target=sleep)
        sleeper.start()
        assert asleep.wait(LIMIT_SECS)
        engine.runtime.control.retry(job.id)
        assert woken.wait(LIMIT_SECS / 2)
        sleeper.join(LIMIT_SECS)
        if other is not engine.runtime:
            other.stop()


def test_job_whose_key_another_one_has_by_now_stays_as_it_is(engine: Engine) -> None:
    job = failed(engine, unique_key="k")
    other = engine.task(broken).options(unique_key="k").delay()
    assert other.created
    with pytest.raises(QueueError, match="another job has its unique_key"):
        job.retry()
    assert "FAILED" == job.status
    other.cancel()
    assert job.retry()
    assert "PENDING" == job.status


def test_kept_outcome_is_not_taken_for_that_of_the_new_attempt(engine: Engine) -> None:
    fails = [True]

    @engine.task
    def flaky() -> str:
        if fails.pop():
            raise ValueError("once")
        return "well"

    job = flaky.delay()
    engine.work()
    fails.append(False)
    engine.runtime.control.retry(job.id)
    engine.work()
    assert "well" == job.get(1)


def test_jobs_are_changed_only_as_they_were_seen(engine: Engine) -> None:
    control, inspector = engine.runtime.control, Inspector(engine.runtime)
    job = failed(engine)
    before = inspector.snapshot(job.id)
    job.retry()
    engine.work()
    now = inspector.snapshot(job.id)
    assert "FAILED" == before.status == now.status
    assert [False] == control.retry_seen([before])
    if control.is_shared:
        assert [False] == control.discard_seen([before])
    assert [True, False] == control.retry_seen([now, before])
    waiting = inspector.snapshot(job.id)
    engine.work()
    assert [False] == control.cancel_seen([waiting])
    assert "FAILED" == job.status
    if control.is_shared:
        assert [True] == control.discard_seen([inspector.snapshot(job.id)])


# ---- retry as another task ------------------------------------------------------------------


def parked(engine: Engine, **options: Any) -> Any:
    """Return a job of ``tests.add``, which nobody has any more: it is ``tests.plus`` now."""
    job = engine.task(add).options(**options).delay(1)
    engine.runtime.registry.unregister("tests.add")
    engine.work()
    assert JobStatus.PARKED is job.status
    engine.task(add, name="tests.plus")
    return job


def test_interrupted_change_of_task_is_completed_by_another_and_done_once(engine: Engine) -> None:
    job, control = parked(engine, unique_key="k"), engine.runtime.control

    def interrupt(point: str) -> None:
        if point == "control.parked_job_cancelled":
            raise KeyboardInterrupt

    arm(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            control.retry_as(job.id, "tests.plus")
    finally:
        arm(None)
    assert [JobStatus.CANCELLED] == [one.status for one in list_jobs()]
    new_id, before = cast("Any", control.retry_as(job.id, "tests.plus"))
    assert JobStatus.CANCELLED is before
    engine.work()
    assert (new_id, JobStatus.CANCELLED) == control.retry_as(job.id, "tests.plus")
    engine.work()
    new = Job.load(new_id)
    assert (2, job.id, "k") == (new.get(1), new.record.retried_from, new.record.unique_key)
    assert {job, new} == set(list_jobs())


def test_job_that_was_taken_back_meanwhile_goes_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, queue = parked(engine), cast("Any", engine.runtime.queue)
    stale = [job.snapshot()]
    queue.unpark(["tests.add"])
    get = queue.get
    monkeypatch.setattr(queue, "get", lambda one: stale.pop() if stale else get(one))
    told = engine.runtime.control.retry_as(job.id, "tests.plus")
    assert (None, JobStatus.PENDING) == told
    assert JobStatus.PENDING is job.status


def test_key_that_a_job_of_the_other_task_has_is_kept_by_it(engine: Engine) -> None:
    job = parked(engine, unique_key="k")
    engine.task(add, name="tests.plus").options(unique_key="k").delay(1)
    with pytest.raises(QueueError, match="has its unique_key"):
        engine.runtime.control.retry_as(job.id, "tests.plus")
    assert 2 == len(list_jobs())


# ---- discard --------------------------------------------------------------------------------


def test_job_that_has_ended_can_be_removed(engine: Engine) -> None:
    control = engine.runtime.control
    job, waiting = failed(engine), engine.task(add).delay(1)
    if not engine.runtime.is_shared:
        with pytest.raises(CapabilityMissing, match="together with their results"):
            control.discard(job.id)
        return
    assert [True, False, False, False] == [
        control.discard(one) for one in (job.id, job.id, waiting.id, new_id())
    ]
    assert JobStatus.PENDING is waiting.status


# ---- a queue of five methods ----------------------------------------------------------------


def test_queue_of_five_methods_cannot_be_controlled(project: Path) -> None:
    runtime = with_backends(make_runtime(project), ToyQueue(), MemoryResultBackend())
    control = runtime.control
    calls: list[Callable[[], Any]] = [
        lambda: control.cancel("x"),
        lambda: control.retry("x"),
        lambda: control.retry_as("x", "y"),
        lambda: control.pause("x", "me"),
        lambda: control.purge("x"),
        lambda: control.command("x", "stop"),
    ]
    for call in calls:
        with pytest.raises(CapabilityMissing, match="toy has no capability control"):
            call()
    assert 0 == control.reap()
