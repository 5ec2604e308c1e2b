"""What is particular to the memory queue; its promises are held by tests/conformance/."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from nuvom.core.record import JobStatus
from nuvom.errors import InvalidId
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.testing import FakeClock, make_job, make_settlement

if TYPE_CHECKING:
    from nuvom.core.record import JobRecord


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def queue(clock: FakeClock) -> MemoryJobQueue:
    return MemoryJobQueue(clock=clock)


def put(queue: MemoryJobQueue, /, **fields: Any) -> JobRecord:
    job = make_job(**fields)
    assert queue.enqueue(job) is None
    return job


def run_all(queue: MemoryJobQueue, status: JobStatus = JobStatus.SUCCESS) -> int:
    jobs = queue.claim(10_000, "w")
    queue.settle([make_settlement(job, status) for job in jobs])
    return len(jobs)


# ---- memory -----------------------------------------------------------------------------------


def test_pruned_jobs_free_their_memory(queue: MemoryJobQueue, clock: FakeClock) -> None:
    def round_trip() -> None:
        queue.enqueue_many([make_job("tests.probe", b"x" * 100) for _ in range(500)])
        assert run_all(queue) == 500
        now = clock.now() + 1e9
        assert queue.prune(success_before=now, failed_before=now) == 500

    round_trip()
    tracemalloc.start()
    round_trip()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(5):
        round_trip()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 100_000  # of some 5 MB that went through
    assert queue.table.rows == {}


def test_the_history_of_a_job_is_bounded(queue: MemoryJobQueue) -> None:
    job = put(queue)
    for _ in range(150):
        run_all(queue, JobStatus.PENDING)
    kept = queue.attempts(job.id)
    assert len(kept) == 100
    assert kept[-1].number == 150


# ---- reading ------------------------------------------------------------------------------------


def test_a_page_after_a_job_that_was_pruned_goes_on_by_id(queue: MemoryJobQueue) -> None:
    jobs = [put(queue, id=f"job-{number}") for number in range(5)]
    queue.cancel(jobs[2].id)
    queue.prune(success_before=0.0, failed_before=1e12)
    assert ["job-1", "job-0"] == [one.record.id for one in queue.page(before="job-2")]


def test_started_and_released_attempts_are_in_the_history(queue: MemoryJobQueue) -> None:
    put(queue)
    (job,) = queue.claim(1, "w")
    queue.mark_started(job)
    queue.release([job])
    assert [attempt.outcome for attempt in queue.attempts(job.id)] == ["released"]


# ---- settlements that cannot be stored ----------------------------------------------------------


@pytest.mark.parametrize("child", [{"queue": "no good"}, {"id": "a/b"}])
def test_a_settlement_whose_child_cannot_be_stored_changes_nothing(
    queue: MemoryJobQueue, child: dict[str, Any]
) -> None:
    put(queue)
    (job,) = queue.claim(1, "w")
    before = queue.get(job.id), queue.stats()
    children = (make_job(queue="new", unique_key="k"), make_job(**child))
    with pytest.raises(InvalidId):
        queue.settle([make_settlement(job, children=children)])
    assert before == (queue.get(job.id), [one for one in queue.stats() if one.queue != "new"])
    assert [job.id] == [one.record.id for one in queue.page()]
    assert queue.attempts(job.id) == []
    assert {job.id: 1} == queue.extend("w")
    put(queue, unique_key="k")  # no child has it
    assert queue.settle([make_settlement(job)]) == [True]


# ---- rollback ---------------------------------------------------------------------------------


def test_a_rollback_makes_jobs_what_they_were(queue: MemoryJobQueue) -> None:
    ended = put(queue)
    run_all(queue)
    waiting = put(queue, unique_key="one")
    queue.set_paused("slow", by="ann")
    before = queue.savepoint()
    for _ in range(2):  # a savepoint is good for more than one rollback
        assert run_all(queue, JobStatus.FAILED) == 1
        later = put(queue, unique_key="one")
        queue.set_paused("slow", by=None)
        queue.rollback(before)
        assert queue.get(later.id) is None
        statuses = {one.record.id: one.status for one in queue.page()}
        assert statuses == {ended.id: JobStatus.SUCCESS, waiting.id: JobStatus.PENDING}
        assert queue.enqueue(make_job(unique_key="one")) == waiting.id
        assert [one.paused_by for one in queue.stats() if one.queue == "slow"] == ["ann"]


def test_what_is_claimed_before_a_rollback_can_be_settled_only_if_it_is_claimed_still(
    queue: MemoryJobQueue,
) -> None:
    waiting = queue.savepoint()
    put(queue)
    (claimed,) = queue.claim(1, "w")
    running = queue.savepoint()
    queue.rollback(waiting)
    assert queue.settle([make_settlement(claimed)]) == [False]
    queue.rollback(running)
    assert queue.settle([make_settlement(claimed)]) == [True]
    assert queue.claim(1, "w") == []
