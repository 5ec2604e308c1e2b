"""A queue of five methods, end to end: at most once, waits held by the worker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nuvom import JobFailed, JobTimeout, current_job
from nuvom.core.record import JobRecord, JobStatus, StoredError
from nuvom.errors import CapabilityMissing, JobNotFound
from nuvom.job import Job
from nuvom.result_backends.base import BaseResultBackend
from nuvom.result_backends.memory import MemoryResultBackend
from nuvom.testing import make_job
from tests.engine import LIMIT_SECS, Engine, ToyQueue, make_runtime, with_backends


@pytest.fixture
def queue() -> ToyQueue:
    return ToyQueue()


@pytest.fixture
def engine(project: Path, queue: ToyQueue) -> Iterator[Engine]:
    with Engine(with_backends(make_runtime(project), queue, MemoryResultBackend())) as engine:
        yield engine


def add(x: int, y: int) -> int:
    return x + y


def test_jobs_are_run_and_read(engine: Engine) -> None:
    task = engine.task(add)
    jobs = [task.delay(1, 2), *task.map([(3, 4), {"x": 5, "y": 6}])]
    assert ["PENDING"] * 3 == [job.status for job in jobs]
    assert "burst" == engine.work()
    assert [3, 7, 11] == [job.get(LIMIT_SECS) for job in jobs]
    assert [1, 1, 1] == [job.attempt for job in jobs]


def test_attempts_wait_in_the_worker(engine: Engine, queue: ToyQueue) -> None:
    @engine.task(retries=2, retry_delay_secs=0.01, jitter=False)
    def flaky() -> int:
        if current_job().attempt < 3:
            raise OSError("not yet")
        return current_job().attempt

    job = flaky.delay()
    with engine.worker():
        assert 3 == job.get(LIMIT_SECS)
    assert [] == queue.jobs


def test_jobs_that_wait_go_back_when_the_worker_ends(engine: Engine, queue: ToyQueue) -> None:
    @engine.task(retries=1, retry_delay_secs=3600, jitter=False)
    def broken() -> None:
        raise OSError("no")

    job = broken.delay()
    assert "burst" == engine.work()
    assert [(job.id, 1)] == [(one.id, one.attempt) for one in queue.jobs]
    engine.work()
    with pytest.raises(JobFailed, match="OSError: no"):
        job.get(0)
    assert 2 == job.attempt


def test_running_jobs_go_back_when_the_worker_is_aborted(engine: Engine, queue: ToyQueue) -> None:
    started, go = threading.Event(), threading.Event()

    def task() -> str:
        started.set()
        while not go.wait(0.001):
            pass
        return "done"

    job = engine.task(task).delay()
    with engine.worker() as worker:
        assert started.wait(LIMIT_SECS)
        worker.abort()
        assert worker.join(LIMIT_SECS)
    assert [(job.id, 0)] == [(one.id, one.attempt) for one in queue.jobs]
    go.set()
    engine.work()
    assert "done" == job.get(LIMIT_SECS)


def test_unknown_task_is_shown_as_parked(engine: Engine, queue: ToyQueue) -> None:
    record = make_job("tests.unknown")
    queue.enqueue(record)
    engine.work()
    job: Job[None] = Job.load(record.id)
    assert JobStatus.PARKED is job.status
    assert [record.id] == [one.id for one in queue.jobs]


def test_what_it_cannot_do_is_said(engine: Engine) -> None:
    job = engine.task(add).delay(1, 2)
    with pytest.raises(CapabilityMissing, match="toy has no capability control"):
        job.cancel()
    with pytest.raises(CapabilityMissing, match="control"):
        job.retry()
    with pytest.raises(JobTimeout, match="unknown workers alive"):
        job.get(0)


class SixMethods(BaseResultBackend):
    """A result backend that has what the contract asks for, and nothing else."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}

    def set_result(self, job_id: str, result: Any, *, record: JobRecord | None = None) -> bool:
        self.kept[job_id] = {"id": job_id, "status": "SUCCESS", "result": result, "error": None}
        return True

    def get_result(self, job_id: str) -> Any:
        return self.kept.get(job_id, {}).get("result")

    def set_error(
        self,
        job_id: str,
        error: StoredError | BaseException | str,
        *,
        record: JobRecord | None = None,
        status: JobStatus | None = None,
    ) -> bool:
        assert isinstance(error, StoredError)
        told = {"type": error.type, "message": error.message}
        self.kept[job_id] = {"id": job_id, "status": status or "FAILED", "error": told}
        return True

    def get_error(self, job_id: str) -> StoredError | None:
        told = self.kept.get(job_id, {}).get("error")
        return StoredError(**told) if told else None

    def get_full(self, job_id: str) -> dict[str, Any] | None:
        return self.kept.get(job_id)

    def list_jobs(self) -> list[dict[str, Any]]:
        return list(self.kept.values())


@pytest.fixture
def bare(project: Path, queue: ToyQueue) -> Iterator[Engine]:
    with Engine(with_backends(make_runtime(project), queue, SixMethods())) as engine:
        yield engine


def test_results_of_six_methods_are_waited_for(bare: Engine) -> None:
    task = bare.task(add)
    jobs = [task.delay(1, 2), *task.map([(3, 4)])]
    assert "PENDING" == jobs[0].status  # as it was made: nobody can see more
    with bare.worker():
        assert [3, 7] == [job.get(LIMIT_SECS) for job in jobs]
        with pytest.raises(JobFailed, match="TypeError"):
            task.delay(1, "x").get(LIMIT_SECS)
    assert ["SUCCESS"] * 2 == [job.status for job in jobs]


def test_waiting_too_long_beside_results_of_six_methods_is_a_timeout(bare: Engine) -> None:
    task = bare.task(add)
    with pytest.raises(JobTimeout, match=r'is PENDING .* on queue "default"'):
        task.delay(1, 2).get(0)
    with pytest.raises(JobTimeout, match="is without an outcome"):
        task.map([(1, 2)])[0].get(0)
    with pytest.raises(JobNotFound):
        Job.load("never-made")
