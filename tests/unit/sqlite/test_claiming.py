"""The claim of a worker that was woken: one statement for what has rung, most likely."""

from __future__ import annotations

import pytest

from nuvom.core.record import JobRecord, JobStatus
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.testing import make_job, make_settlement
from tests.engine import LIMIT_SECS
from tests.unit.sqlite.conftest import reader_of

ME = "worker-1"


@pytest.fixture
def queue(queue: SQLiteJobQueue) -> SQLiteJobQueue:
    """Return a queue from which this worker has claimed once, and in which nothing runs."""
    queue.enqueue(make_job())
    queue.settle([make_settlement(job) for job in queue.claim(1, ME)])
    return queue


def come(queue: SQLiteJobQueue, *jobs: JobRecord) -> None:
    """Let jobs wake a worker that sleeps."""

    def recheck() -> bool:
        for job in jobs:
            queue.enqueue(job)
        return False

    assert queue.wait_for_work(LIMIT_SECS, recheck)


def ids(jobs: list[JobRecord]) -> list[str]:
    return [job.id for job in jobs]


def statements(queue: SQLiteJobQueue) -> list[str]:
    """Return a list to which all that the store executes is added from now on."""
    found: list[str] = []
    reader_of(queue.store.db).set_trace_callback(found.append)
    queue.store.db._writer_connection().set_trace_callback(found.append)
    return found


def test_woken_worker_claims_by_one_statement(queue: SQLiteJobQueue) -> None:
    job = make_job("tests.probe", 7)
    come(queue, job)
    seen = statements(queue)
    (claimed,) = queue.claim(4, ME)
    assert ["UPDATE"] == [text.split()[0] for text in seen if "PRAGMA" not in text]
    found = queue.get(job.id)
    assert found is not None
    assert (claimed, ME) == (found.record, found.worker)
    assert (JobStatus.RUNNING, 1, 1, 1) == (
        claimed.status,
        claimed.attempt,
        claimed.deliveries,
        claimed.lease_epoch,
    )
    assert [True] == queue.settle([make_settlement(claimed)])


def test_queue_that_is_not_to_be_served_is_not_claimed_from(queue: SQLiteJobQueue) -> None:
    come(queue, usual := make_job("tests.slow"), urgent := make_job(queue="urgent"))
    assert [urgent.id] == ids(queue.claim(1, ME, ["urgent", "default"]))
    for job in (make_job("tests.slow"), make_job("tests.quick")):
        come(queue, job)
        assert [] == queue.claim(4, ME, exclude=["default"])
    assert [job.id] == ids(queue.claim(4, ME, without=["tests.slow"]))
    come(queue, make_job())
    queue.pause("default", "me")
    assert [] == queue.claim(4, ME)
    queue.resume("default")
    assert usual.id == queue.claim(4, ME)[0].id
