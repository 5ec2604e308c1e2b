"""What is particular to the memory results; their promises are held by tests/conformance/."""

from __future__ import annotations

from threading import Thread

import pytest

from nuvom.core.record import JobRecord, JobStatus
from nuvom.queue_backends.base import BaseJobQueue
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.result_backends.memory import MemoryResultBackend
from nuvom.testing import make_job, make_settlement
from tests.conformance.list_queue import ListQueue

LIMIT_SECS = 30.0


@pytest.fixture
def queue() -> MemoryJobQueue:
    return MemoryJobQueue()


@pytest.fixture
def results(queue: MemoryJobQueue) -> MemoryResultBackend:
    backend = MemoryResultBackend()
    assert backend.joins(queue)
    return backend


def claimed(queue: MemoryJobQueue) -> JobRecord:
    queue.enqueue(make_job("shop.send", 1))
    (job,) = queue.claim(1, "w")
    return job


def test_it_joins_no_other_queue() -> None:
    queue: BaseJobQueue = ListQueue()
    assert not MemoryResultBackend().joins(queue)


def test_what_the_queue_settled_is_read(
    queue: MemoryJobQueue, results: MemoryResultBackend
) -> None:
    job = claimed(queue)
    assert results.get_full(job.id) is not None
    queue.settle([make_settlement(job, value=[1, (2,)])])
    assert results.get_result(job.id) == [1, (2,)]
    full = results.get_full(job.id)
    assert full is not None
    assert ("SUCCESS", "w", [1]) == (full["status"], full["worker"], full["args"])


def test_an_outcome_is_refused_after_the_queue_settled_the_same_delivery(
    queue: MemoryJobQueue, results: MemoryResultBackend
) -> None:
    job = claimed(queue)
    queue.settle([make_settlement(job, value="first")])
    assert results.set_result(job.id, "second", record=job) is False
    assert results.get_result(job.id) == "first"


def test_an_outcome_that_came_before_the_settlement_stands(
    queue: MemoryJobQueue, results: MemoryResultBackend
) -> None:
    job = claimed(queue)
    assert results.set_result(job.id, "first", record=job)
    assert results.get_result(job.id) == "first"
    full = results.get_full(job.id)
    assert full is not None
    assert full["worker"] == "w"


def test_a_later_delivery_shows_in_place_of_an_earlier_outcome(
    queue: MemoryJobQueue, results: MemoryResultBackend
) -> None:
    job = claimed(queue)
    results.set_error(job.id, "no", record=job)
    queue.release([job])
    (again,) = queue.claim(1, "w")
    assert results.get_error(job.id) is None
    queue.settle([make_settlement(again, value="yes")])
    assert results.get_result(job.id) == "yes"


def test_pruning_the_queue_removes_what_was_kept_beside_it(
    queue: MemoryJobQueue, results: MemoryResultBackend
) -> None:
    job = claimed(queue)
    queue.settle([make_settlement(job)])
    results.set_result(job.id, "by hand")
    queue.prune(success_before=1e12, failed_before=1e12)
    assert results.get_full(job.id) is None
    assert results.list_jobs() == []


def test_forgetting_removes_a_job_that_is_over_and_leaves_one_that_is_not(
    queue: MemoryJobQueue, results: MemoryResultBackend
) -> None:
    job = claimed(queue)
    results.set_result(job.id, "early", record=job)
    assert results.forget(job.id)
    assert queue.get(job.id) is not None
    queue.settle([make_settlement(job)])
    assert results.forget(job.id)
    assert queue.get(job.id) is None


def test_a_record_of_a_job_that_the_queue_knows_tells_nothing_new(
    queue: MemoryJobQueue, results: MemoryResultBackend
) -> None:
    job = claimed(queue)
    results.set_record(job.replace(status=JobStatus.PENDING))
    full = results.get_full(job.id)
    assert full is not None
    assert full["status"] == "RUNNING"
    assert [job.id] == [one["id"] for one in results.list_jobs()]


def test_whoever_waits_for_results_is_woken_by_the_queue(
    queue: MemoryJobQueue, results: MemoryResultBackend
) -> None:
    job = claimed(queue)
    with results.waiter() as waiter:
        assert waiter is not None
        assert waiter.wait(0.0) is False
        thread = Thread(target=waiter.wait, args=(10 * LIMIT_SECS,), daemon=True)
        thread.start()
        queue.cancel(job.id)
        thread.join(LIMIT_SECS)
        assert not thread.is_alive()
