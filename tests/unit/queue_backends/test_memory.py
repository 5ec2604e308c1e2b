"""What is particular to the memory queue; its promises are held by tests/conformance/."""

from __future__ import annotations

import threading
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from nuvom.config.settings import Settings
from nuvom.core.record import JobStatus, StoredError
from nuvom.core.views import WorkerInfo
from nuvom.errors import InvalidId, QueueFull
from nuvom.queue_backends.base import Capability
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.testing import FakeClock, make_job, make_settlement

if TYPE_CHECKING:
    from collections.abc import Callable

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


# ---- construction ---------------------------------------------------------------------------


def test_without_settings_the_defaults_of_the_settings_hold() -> None:
    bare, given = MemoryJobQueue(), MemoryJobQueue(Settings())
    for name in ("lease_secs", "max_deliveries", "parked_ttl_secs"):
        assert getattr(given, name) == getattr(bare, name)
    assert frozenset(Capability) == bare.capabilities


def test_two_queues_share_nothing() -> None:
    settings = Settings()
    put(MemoryJobQueue(settings))
    assert MemoryJobQueue(settings).qsize() == 0


# ---- order ----------------------------------------------------------------------------------


def test_all_queues_together_are_served_as_one_by_priority_and_age(queue: MemoryJobQueue) -> None:
    jobs = [
        put(queue, func_name=f"task.{number % 3}", queue=f"q{number % 2}", priority=number % 4)
        for number in range(40)
    ]
    expected = [job.id for job in sorted(jobs, key=lambda job: job.priority)]
    claimed = [job.id for _ in range(8) for job in queue.claim(5, "w")]
    assert expected == claimed


def test_exclude_holds_for_named_queues_too(queue: MemoryJobQueue) -> None:
    put(queue, queue="a")
    assert queue.claim(1, "w", ["a"], exclude=["a"]) == []


def test_a_claim_of_nothing_gives_nothing(queue: MemoryJobQueue) -> None:
    put(queue)
    assert queue.claim(0, "w") == []


def test_the_first_of_two_suspects_is_the_older_one_of_the_better_priority(
    queue: MemoryJobQueue, clock: FakeClock
) -> None:
    for priority in (5, 1):
        put(queue, func_name=f"task.{priority}", priority=priority)
    for number in (1, 2):
        (job,) = queue.claim(1, f"w{number}")
        queue.mark_started(job)
    clock.advance(31.0)
    queue.reap()
    assert [job.priority for job in queue.claim(5, "w3")] == [1]


# ---- what is taken out of the middle ----------------------------------------------------------


def test_jobs_that_are_cancelled_and_retried_come_once(queue: MemoryJobQueue) -> None:
    jobs = [put(queue) for _ in range(3)]
    for _ in range(3):
        queue.cancel(jobs[1].id)
        queue.retry(jobs[1].id)
    assert [job.id for job in jobs] == [job.id for job in queue.claim(10, "w")]
    assert queue.claim(10, "w") == []


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


def test_retried_jobs_take_their_old_place_again(queue: MemoryJobQueue) -> None:
    jobs = [put(queue) for _ in range(100)]
    for job in jobs[:90]:
        queue.cancel(job.id)
    for job in reversed(jobs[:90]):
        queue.retry(job.id)
    assert [job.id for job in jobs] == [job.id for job in queue.claim(100, "w")]


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


def test_workers_that_went_away_without_a_word_are_forgotten_in_the_end(
    queue: MemoryJobQueue, clock: FakeClock
) -> None:
    queue.announce(WorkerInfo(id="w", started_at=clock.now()))
    clock.advance(31.0)
    queue.reap()
    assert [worker.state for worker in queue.workers()] == ["silent"]
    clock.advance(600.0)
    queue.reap()
    assert queue.workers() == []


def test_claimers_that_hold_nothing_are_forgotten(queue: MemoryJobQueue) -> None:
    for number in range(50):
        queue.claim(1, f"w{number}")
    queue.reap()
    assert queue.table.holders == {}


def test_a_worker_that_retires_with_jobs_loses_them_by_lease(
    queue: MemoryJobQueue, clock: FakeClock
) -> None:
    job = put(queue)
    queue.announce(WorkerInfo(id="w", started_at=clock.now()))
    queue.claim(1, "w")
    queue.retire("w")
    queue.retire("unknown")
    assert queue.workers() == []
    clock.advance(31.0)
    assert [job.id] == [one.id for one in queue.reap()]


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


# ---- refusals -----------------------------------------------------------------------------------


def test_a_refused_bulk_leaves_no_queue_behind(clock: FakeClock) -> None:
    queue = MemoryJobQueue(Settings(max_queue_size=1), clock=clock)
    put(queue)
    with pytest.raises(QueueFull):
        queue.enqueue_many([make_job(queue="new"), make_job()])
    assert [stats.queue for stats in queue.stats()] == ["default"]
    assert queue.qsize() == 1


@pytest.mark.parametrize("call", ["claim", "announce", "pause"])
def test_names_are_checked_wherever_they_come_in(queue: MemoryJobQueue, call: str) -> None:
    calls: dict[str, Callable[[], object]] = {
        "claim": lambda: queue.claim(1, "no good"),
        "announce": lambda: queue.announce(WorkerInfo(id="../w")),
        "pause": lambda: queue.pause("a/b", by="me"),
    }
    with pytest.raises(InvalidId):
        calls[call]()


def test_only_known_words_are_commands(queue: MemoryJobQueue) -> None:
    with pytest.raises(ValueError, match="known are quiet, resume, stacks, stop"):
        queue.command("w", "explode")


# ---- reading ------------------------------------------------------------------------------------


def test_a_page_after_a_job_that_was_pruned_goes_on_by_id(queue: MemoryJobQueue) -> None:
    jobs = [put(queue, id=f"job-{number}") for number in range(5)]
    queue.cancel(jobs[2].id)
    queue.prune(success_before=0.0, failed_before=1e12)
    assert ["job-1", "job-0"] == [one.record.id for one in queue.page(before="job-2")]


def test_failures_without_a_fingerprint_are_grouped_by_type_and_task(
    queue: MemoryJobQueue,
) -> None:
    put(queue)
    (job,) = queue.claim(1, "w")
    queue.settle([make_settlement(job, JobStatus.FAILED, error=StoredError("E", "no"))])
    put(queue)
    (job,) = queue.claim(1, "w")
    queue.settle([make_settlement(job, JobStatus.FAILED, error=None)])
    groups = {group.fingerprint: group.type for group in queue.error_groups()}
    assert {"E:tests.probe": "E", "FAILED:tests.probe": "FAILED"} == groups


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
