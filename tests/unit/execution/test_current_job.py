"""What running code may know and do about its own job."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from nuvom import LeaseLost, NoCurrentJob, current_job
from nuvom.core.record import JobStatus
from nuvom.job import Job
from tests.engine import LIMIT_SECS, Engine


def add(x: int, y: int) -> int:
    return x + y


def test_outside_a_job_there_is_none() -> None:
    with pytest.raises(NoCurrentJob):
        current_job()


def facts() -> dict[str, Any]:
    job = current_job()
    return {
        "id": job.id,
        "task": job.task,
        "queue": job.queue,
        "attempt": job.attempt,
        "max_retries": job.max_retries,
        "fencing_token": job.fencing_token,
        "idempotency_key": job.idempotency_key,
        "metadata": job.metadata,
        "cancelled": job.cancelled,
        "repr": repr(job),
    }


async def async_facts() -> dict[str, Any]:
    return facts()


@pytest.mark.parametrize("func", [facts, async_facts])
def test_task_knows_its_job(engine: Engine, func: Any) -> None:
    task = engine.task(func, queue="mail", retries=3)
    job = task.options(metadata={"by": "me"}).delay()
    engine.work()
    assert {
        "id": job.id,
        "task": job.func_name,
        "queue": "mail",
        "attempt": 1,
        "max_retries": 3,
        "fencing_token": 1,
        "idempotency_key": job.id,
        "metadata": {"by": "me"},
        "cancelled": False,
        "repr": f"<CurrentJob {job.id} {job.func_name} attempt 1>",
    } == job.get(LIMIT_SECS)


# ---- progress -------------------------------------------------------------------------------


def test_progress_can_be_seen_while_the_job_runs_and_needs_no_total(any_engine: Engine) -> None:
    seen: list[Any] = []

    @any_engine.task
    def itself() -> None:
        for told in ((3, 10, "three of ten"), (4,)):
            current_job().progress(*told)
            seen.append(Job.load(current_job().id).snapshot().progress)

    itself.delay()
    any_engine.work()
    assert [(3, 10, "three of ten"), (4, None, "")] == seen


def test_progress_after_a_cancel_is_refused_and_the_code_told(any_engine: Engine) -> None:
    started, cancelled, seen = threading.Event(), threading.Event(), []

    @any_engine.task
    def slow() -> None:
        started.set()
        try:
            cancelled.wait(LIMIT_SECS)
            current_job().progress(1)
        except LeaseLost as error:
            seen.append((error.lease_epoch, current_job().cancelled))
            raise

    job = slow.delay()
    with any_engine.worker(threads=1) as worker:
        assert started.wait(LIMIT_SECS)
        assert "RUNNING" == worker.runtime.control.cancel(job.id)
        assert JobStatus.CANCELLED is job.status
        cancelled.set()
        any_engine.wait_until(lambda: bool(seen))
    assert [(1, True)] == seen


# ---- enqueue --------------------------------------------------------------------------------


def test_jobs_are_enqueued_with_the_success(any_engine: Engine) -> None:
    child = any_engine.task(add, queue="later")
    seen: list[int] = []

    @any_engine.task
    def parent() -> list[str]:
        ids = [
            current_job().enqueue(child, 1, 2),
            current_job().enqueue(child.options(priority=1), x=3, y=4),
        ]
        seen.append(any_engine.runtime.queue.qsize())
        return ids

    job = parent.delay()
    any_engine.work(queues=["default"])
    first, second = map(Job.load, job.get(LIMIT_SECS))
    assert [0] == seen
    assert ["PENDING", "PENDING"] == [first.status, second.status]
    any_engine.work()
    assert [3, 7] == [first.get(LIMIT_SECS), second.get(LIMIT_SECS)]
    assert [5, 1] == [first.priority, second.priority]
