"""The handle on a job, and the list of handles that ``.map()`` gives."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from nuvom.core.record import JobStatus
from nuvom.errors import (
    InvalidArguments,
    JobFailed,
    JobNotFound,
    JobTimeout,
    NoTransaction,
    WaitInsideTask,
)
from nuvom.hooks import default_hooks
from nuvom.job import Job, JobList
from tests.engine import LIMIT_SECS, Engine


def add(x: int, y: int = 0) -> int:
    return x + y


# ---- what was asked for ---------------------------------------------------------------------


def test_handle_says_what_was_asked_for(engine: Engine) -> None:
    before = datetime.now(UTC)
    job = engine.task(add, queue="mail", priority=2).delay(1, y=2)

    assert ("tests.add", (1,), {"y": 2}) == (job.func_name, job.args, job.kwargs)
    assert ("mail", 2) == (job.queue, job.priority)
    assert before <= job.created_at <= datetime.now(UTC)
    assert job.created
    assert f"<Job {job.id} tests.add>" == repr(job)
    loaded: Job[Any] = Job.load(job.id)
    assert (job.args, job.kwargs, True) == (loaded.args, loaded.kwargs, loaded.created)


# ---- waiting --------------------------------------------------------------------------------


def test_get_waits_for_the_result(engine: Engine) -> None:
    with engine.worker():
        assert 3 == engine.task(add).delay(1, 2).get(LIMIT_SECS)
        assert 3 == engine.task(add).delay(1, 2).get()


def test_get_of_a_failed_job_raises_what_is_kept(engine: Engine) -> None:
    @engine.task
    def broken() -> None:
        raise ValueError("no good")

    job = broken.delay()
    engine.work()
    with pytest.raises(JobFailed, match="ValueError: no good") as failure:
        job.get(LIMIT_SECS)
    assert ("ValueError", "no good") == (failure.value.type, failure.value.text)
    assert "in broken" in failure.value.traceback
    error = job.error
    assert error is not None
    assert ("ValueError", "no good") == (error.type, error.message)
    assert failure.value.traceback == error.traceback


def test_timeout_counts_the_workers_of_the_queue(engine: Engine) -> None:
    job = engine.task(add, queue="mail").options(delay=3600).delay(1)
    with pytest.raises(
        JobTimeout,
        match=r"PENDING after waiting 0 s: it is due in (1:00:00|0:59:5\d); 0 workers",
    ) as timeout:
        job.get(0)
    assert "nuvom runworker" in timeout.value.fix
    with (
        engine.worker(queues=["mail"]),
        engine.worker(),
        engine.worker(queues=["other"]),
        pytest.raises(JobTimeout, match='2 workers alive on queue "mail"'),
    ):
        job.get(0)


def test_get_inside_a_task_needs_a_limit(engine: Engine) -> None:
    @engine.task
    def outer(job_id: str) -> str:
        job: Job[int] = Job.load(job_id)
        with pytest.raises(WaitInsideTask):
            job.get()
        with pytest.raises(JobTimeout):
            job.get(0)
        return "both"

    other = engine.task(add).options(delay=3600).delay(1)
    job = outer.delay(other.id)
    engine.work()
    assert "both" == job.get(LIMIT_SECS)


def test_awaiting_leaves_the_loop_free(engine: Engine) -> None:
    gate = threading.Event()

    @engine.task
    def gated() -> str:
        gate.wait(LIMIT_SECS)
        return "done"

    async def main() -> str:
        job = gated.delay()
        asyncio.get_running_loop().call_soon(gate.set)  # runs only while the await does not block
        result: str = await job
        return result

    with engine.worker():
        assert "done" == asyncio.run(main())


# ---- acting ---------------------------------------------------------------------------------


def test_a_job_is_cancelled_and_retried_once(engine: Engine) -> None:
    job = engine.task(add).delay(1)
    assert [True, False] == [job.cancel(), job.cancel()]
    assert JobStatus.CANCELLED is job.status
    assert [True, False] == [job.retry(), job.retry()]
    engine.work()
    assert (1, False) == (job.get(LIMIT_SECS), job.retry())


def test_a_job_that_is_gone_says_so(engine: Engine) -> None:
    job = engine.task(add).delay(1)
    engine.runtime.queue.clear()
    for ask in (job.get, job.cancel, job.retry, lambda: Job.load(job.id)):
        with pytest.raises(JobNotFound):
            ask()


# ---- as a value -----------------------------------------------------------------------------


def test_a_job_is_stored_when_the_frameworks_transaction_commits(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    plus = engine.task(add)
    with pytest.raises(NoTransaction, match="INSTALLED_APPS"):
        plus.delay_on_commit(1)
    at_commit: list[Callable[[], None]] = []
    monkeypatch.setattr(default_hooks, "on_commit", at_commit.append)
    with pytest.raises(InvalidArguments):
        plus.delay_on_commit(1, 2, 3)
    assert at_commit == []
    job = plus.options(queue="mail").delay_on_commit(1)
    with pytest.raises(JobNotFound):
        job.status  # noqa: B018  # a property that raises
    at_commit.pop()()
    assert (job.status, job.queue, job.args) == ("PENDING", "mail", (1,))


def test_handles_on_one_job_are_equal(engine: Engine) -> None:
    job, other = engine.task(add).delay(1), engine.task(add).delay(1)
    again: Job[Any] = Job.load(job.id)

    assert job == again
    assert job != other
    assert job != job.id
    assert {job, other} == {again, other}


# ---- lists ----------------------------------------------------------------------------------


@pytest.fixture
def jobs(engine: Engine) -> JobList[int]:
    listed: JobList[int] = engine.task(add).map([(1,), (2,), {"x": 3}, [4]])
    return listed


def test_list_is_a_sequence_in_the_order_of_the_items(engine: Engine, jobs: JobList[int]) -> None:
    with pytest.raises(JobTimeout):
        jobs.get(0)
    engine.work()
    assert [1, 2, 3, 4] == jobs.get(LIMIT_SECS)
    assert 4 == len(jobs)
    assert jobs[0].id == jobs.ids[0]
    assert jobs[-1] == jobs[3]
    assert jobs[1] in jobs
    assert 2 == jobs.index(jobs[2])
    assert list(reversed(jobs)) == list(jobs)[::-1]
    with pytest.raises(IndexError):
        jobs[4]


def test_slice_of_a_list_is_a_list(jobs: JobList[int]) -> None:
    assert jobs.ids[1:3] == jobs[1:3].ids
    assert jobs.ids[::-2] == jobs[::-2].ids
    assert [] == jobs[4:]
    assert jobs == jobs[:] == list(jobs)
    assert jobs != list(jobs)[:3]
    assert jobs != jobs[:3]
    assert jobs != tuple(jobs)
    assert "<JobList of 2 jobs>" == repr(jobs[:2])


def test_list_names_the_jobs_that_were_there_before(engine: Engine) -> None:
    once = engine.task(add).options(unique_key="k")
    first = once.delay(1)
    jobs = once.map([(2,), (3,)])

    assert [first, first] == list(jobs)
    assert [False, False] == [job.created for job in jobs]
    assert [first] == list(jobs[1:])
