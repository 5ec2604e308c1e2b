"""What is particular to the memory queue; its promises are held by tests/conformance/."""

from __future__ import annotations

import threading
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


# ---- order ----------------------------------------------------------------------------------


def test_all_queues_together_are_served_as_one_by_priority_and_age(queue: MemoryJobQueue) -> None:
    jobs = [
        put(queue, func_name=f"task.{number % 3}", queue=f"q{number % 2}", priority=number % 4)
        for number in range(40)
    ]
    expected = [job.id for job in sorted(jobs, key=lambda job: job.priority)]
    claimed = [job.id for _ in range(8) for job in queue.claim(5, "w")]
    assert expected == claimed


# ---- what is taken out of the middle ----------------------------------------------------------


def test_cancelling_leaves_nothing_behind_that_grows(queue: MemoryJobQueue) -> None:
    put(queue)
    (heap,) = queue.table.queues["default"].ready.values()
    for number in range(2000):
        job = put(queue, run_at=0.0 if number % 2 else 1e12)
        queue.cancel(job.id)
    assert len(heap._line) + len(heap._late) < 200
    scheduled = queue.table.scheduled
    assert len(scheduled._line) + len(scheduled._late) < 200
    assert len(queue.claim(10, "w")) == 1


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


def test_claimers_that_hold_nothing_are_forgotten(queue: MemoryJobQueue) -> None:
    for number in range(50):
        queue.claim(1, f"w{number}")
    queue.reap()
    assert queue.table.holders == {}


# ---- keys -------------------------------------------------------------------------------------


def test_prune_keeps_a_job_whose_key_is_still_taken(
    queue: MemoryJobQueue, clock: FakeClock
) -> None:
    job = put(queue, unique_key="k", unique_for=100.0, created_at=clock.now())
    run_all(queue)
    later = clock.now() + 1e9
    assert queue.prune(success_before=later, failed_before=later) == 0
    assert queue.enqueue(make_job(unique_key="k")) == job.id
    clock.advance(101.0)
    assert queue.prune(success_before=later, failed_before=later) == 1
    assert queue.get(job.id) is None
    assert queue.enqueue(make_job(unique_key="k")) is None


def test_removing_an_old_holder_leaves_the_key_to_the_new_one(queue: MemoryJobQueue) -> None:
    put(queue, unique_key="k")
    run_all(queue)
    new = put(queue, unique_key="k")
    queue.prune(success_before=1e12, failed_before=1e12)
    assert queue.enqueue(make_job(unique_key="k")) == new.id


# ---- reading ------------------------------------------------------------------------------------


def test_a_page_after_a_job_that_was_pruned_goes_on_by_id(queue: MemoryJobQueue) -> None:
    jobs = [put(queue, id=f"job-{number}") for number in range(5)]
    queue.cancel(jobs[2].id)
    queue.prune(success_before=0.0, failed_before=1e12)
    assert ["job-1", "job-0"] == [one.record.id for one in queue.page(before="job-2")]


def test_an_imported_job_waits_whatever_status_it_had(queue: MemoryJobQueue) -> None:
    put(queue, status=JobStatus.FAILED, attempt=2)
    (job,) = queue.claim(1, "w")
    assert (JobStatus.RUNNING, 3) == (job.status, job.attempt)


def test_started_and_released_attempts_are_in_the_history(queue: MemoryJobQueue) -> None:
    put(queue)
    (job,) = queue.claim(1, "w")
    queue.mark_started(job)
    queue.release([job])
    assert [attempt.outcome for attempt in queue.attempts(job.id)] == ["released"]


def test_a_signal_handler_may_end_a_wait_whatever_it_has_interrupted(queue: MemoryJobQueue) -> None:
    def interrupt_inside() -> None:
        with queue.lock:  # where a signal may hit the thread that enqueues
            queue.interrupt()

    thread = threading.Thread(target=interrupt_inside, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert 1 == queue.arrivals


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


def test_what_was_settled_before_a_refused_settlement_stays(queue: MemoryJobQueue) -> None:
    for _ in range(2):
        put(queue)
    first, second = queue.claim(2, "w")
    refused = make_settlement(second, children=(make_job(queue="no good"),))
    endings = queue.endings
    with pytest.raises(InvalidId):
        queue.settle([make_settlement(first), refused])
    assert [JobStatus.RUNNING, JobStatus.SUCCESS] == [one.status for one in queue.page()]
    assert queue.endings > endings
    assert queue.settle([make_settlement(first), make_settlement(second)]) == [True, True]
