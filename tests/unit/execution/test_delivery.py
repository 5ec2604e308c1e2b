"""How jobs come from the queue and how attempts are closed: in one store, in two, or in none."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nuvom.core.record import JobRecord, JobStatus
from nuvom.errors import BackendUnavailable
from nuvom.execution.delivery import (
    PlainDelivery,
    SharedDelivery,
    SplitDelivery,
    choose_delivery,
)
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.result_backends.memory import MemoryResultBackend
from nuvom.serialization.msgpack_codec import MsgpackCodec
from nuvom.testing import FakeClock, make_job, make_settlement
from tests.engine import ToyQueue
from tests.troubled import TroubledQueue, TroubledResults

ME = "worker-1"
CODEC = MsgpackCodec()


class Served:
    """Which queues a worker serves."""

    def __init__(
        self, queues: tuple[str, ...] | None = None, exclude: tuple[str, ...] = ()
    ) -> None:
        self.queues = queues
        self.exclude = exclude


def claim_one(delivery: Any) -> JobRecord:
    (record,) = delivery.claim(1, ME)
    assert isinstance(record, JobRecord)
    return record


# ---- the choice -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("queue", "is_shared", "kind", "promise"),
    [
        (MemoryJobQueue(), True, SharedDelivery, "at least once, finished exactly once"),
        (MemoryJobQueue(), False, SplitDelivery, "result first, then the queue"),
        (ToyQueue(), False, PlainDelivery, "at most once"),
    ],
)
def test_delivery_follows_from_what_the_backends_can(
    queue: Any, is_shared: Any, kind: type, promise: str
) -> None:
    delivery, text = choose_delivery(
        queue,
        MemoryResultBackend(),
        served=Served(),
        is_shared=is_shared,
        codec=CODEC,
        clock=FakeClock(),
    )
    assert kind is type(delivery)
    assert promise in text


# ---- one store ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("served", "found"),
    [
        (Served(), ["a", "b", "c"]),
        (Served(("b", "a")), ["a", "b"]),
        (Served(exclude=("b",)), ["a", "c"]),
    ],
)
def test_only_served_queues_are_claimed_from(served: Served, found: list[str]) -> None:
    queue = MemoryJobQueue()
    for name in ("a", "b", "c"):
        queue.enqueue(make_job(queue=name))
    delivery = SharedDelivery(queue, served)
    assert found == sorted(job.queue for job in delivery.claim(9, ME))


def test_unwanted_tasks_and_suspects_are_passed_on() -> None:
    queue = MemoryJobQueue()
    queue.enqueue(make_job("tests.a"))
    queue.enqueue(make_job("tests.b"))
    delivery = SharedDelivery(queue, Served())
    assert ["tests.b"] == [job.func_name for job in delivery.claim(9, ME, without=["tests.a"])]


def test_one_store_does_it_all() -> None:
    queue = MemoryJobQueue()
    delivery = SharedDelivery(queue, Served())
    first, second = make_job(), make_job()
    queue.enqueue_many([first, second, make_job(run_at=1e12)])
    claimed, given_back = delivery.claim(2, ME)

    assert {} == delivery.finished_before([claimed])
    assert delivery.report_progress(claimed, 1, 2, "half")
    assert [True] == delivery.settle([make_settlement(claimed, value=8)])
    delivery.release([given_back])
    assert ["SUCCESS", "PENDING"] == [queue.get(job.id).status for job in (first, second)]  # type: ignore[union-attr]  # both are there
    assert delivery.next_due_secs() is not None


# ---- two stores -----------------------------------------------------------------------------


@pytest.fixture
def split() -> tuple[SplitDelivery, TroubledQueue, TroubledResults]:
    queue, results = TroubledQueue(), TroubledResults()
    return SplitDelivery(queue, Served(), results, CODEC), queue, results


def test_result_is_stored_before_the_attempt_is_closed(
    split: tuple[SplitDelivery, TroubledQueue, TroubledResults],
) -> None:
    delivery, queue, results = split
    queue.enqueue(make_job())
    job = claim_one(delivery)
    queue.trouble.once("settle")
    with pytest.raises(BackendUnavailable):
        delivery.settle([make_settlement(job, value=8)])
    assert 8 == results.get_result(job.id)
    assert [True] == delivery.settle([make_settlement(job, value=8)])


def test_attempt_is_not_closed_when_the_result_cannot_be_stored(
    split: tuple[SplitDelivery, TroubledQueue, TroubledResults],
) -> None:
    delivery, queue, results = split
    queue.enqueue(make_job())
    job = claim_one(delivery)
    results.trouble.once("set_result")
    with pytest.raises(BackendUnavailable):
        delivery.settle([make_settlement(job, value=8)])
    assert 0 == queue.trouble.calls["settle"]


@pytest.mark.parametrize(
    ("status", "kept"), [("FAILED", "ValueError"), ("CANCELLED", "CANCELLED"), ("PENDING", None)]
)
def test_only_what_is_final_is_stored(
    split: tuple[SplitDelivery, TroubledQueue, TroubledResults], status: str, kept: str | None
) -> None:
    delivery, queue, results = split
    queue.enqueue(make_job())
    job = claim_one(delivery)
    assert [True] == delivery.settle([make_settlement(job, JobStatus(status))])
    error = results.get_error(job.id)
    assert kept == (error and error.type)


def test_result_that_is_not_kept_is_a_success_all_the_same(
    split: tuple[SplitDelivery, TroubledQueue, TroubledResults],
) -> None:
    delivery, queue, results = split
    queue.enqueue(make_job())
    job = claim_one(delivery)
    delivery.settle([make_settlement(job, result=None)])
    full = results.get_full(job.id)
    assert full is not None
    assert ("SUCCESS", None) == (full["status"], full["result"])


@pytest.mark.parametrize("status", ["SUCCESS", "FAILED"])
def test_job_whose_outcome_is_stored_is_only_closed(
    split: tuple[SplitDelivery, TroubledQueue, TroubledResults], status: str
) -> None:
    delivery, queue, _ = split
    queue.enqueue(make_job())
    first = claim_one(delivery)
    queue.trouble.once("settle")
    with pytest.raises(BackendUnavailable):
        delivery.settle([make_settlement(first, JobStatus(status), value=8)])
    queue.release([first])  # as the reaper does after the worker's death

    again = claim_one(delivery)
    found = delivery.finished_before([again])
    assert [again.id] == list(found)
    assert status == found[again.id].status
    assert [True] == delivery.settle(list(found.values()))
    snapshot = queue.get(again.id)
    assert snapshot is not None
    assert status == snapshot.status


def test_job_that_was_never_settled_is_not_looked_up(
    split: tuple[SplitDelivery, TroubledQueue, TroubledResults],
) -> None:
    delivery, queue, results = split
    queue.enqueue(make_job())
    assert {} == delivery.finished_before([claim_one(delivery)])
    assert 0 == results.trouble.calls["get_full"]


def test_job_without_a_stored_outcome_is_run(
    split: tuple[SplitDelivery, TroubledQueue, TroubledResults],
) -> None:
    delivery, queue, results = split
    queue.enqueue(make_job())
    first = claim_one(delivery)
    results.set_record(first)
    queue.release([first])
    assert {} == delivery.finished_before([claim_one(delivery)])


# ---- a queue of five methods ----------------------------------------------------------------


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class Plain:
    """A toy queue, results, and the delivery between them."""

    def __init__(self, clock: FakeClock) -> None:
        self.queue = ToyQueue()
        self.results = TroubledResults(clock=clock)
        self.delivery = PlainDelivery(self.queue, self.results, CODEC, clock)

    def status(self, job: JobRecord) -> str | None:
        full = self.results.get_full(job.id)
        return None if full is None else str(full["status"])

    def claim(self, **fields: Any) -> JobRecord:
        self.queue.enqueue(make_job(**fields))
        return claim_one(self.delivery)


@pytest.fixture
def plain(clock: FakeClock) -> Plain:
    return Plain(clock)


def test_claimed_job_is_counted_and_shown_as_running(plain: Plain) -> None:
    job = plain.claim()
    assert (JobStatus.RUNNING, 1, 1, 1) == (
        job.status,
        job.attempt,
        job.deliveries,
        job.lease_epoch,
    )
    assert "RUNNING" == plain.status(job)
    assert {} == plain.delivery.finished_before([job])
    assert plain.delivery.report_progress(job, 1, 2, "half")


def test_outcomes_are_stored(plain: Plain) -> None:
    success, failure = plain.claim(), plain.claim()
    settled = [make_settlement(success, value=8), make_settlement(failure, JobStatus.FAILED)]
    assert [True, True] == plain.delivery.settle(settled)
    assert 8 == plain.results.get_result(success.id)
    assert ["SUCCESS", "FAILED"] == [plain.status(success), plain.status(failure)]


def test_job_waits_here_for_its_next_attempt(plain: Plain, clock: FakeClock) -> None:
    job = plain.claim()
    assert plain.delivery.next_due_secs() is None
    plain.delivery.settle([make_settlement(job, JobStatus.PENDING, run_at=clock.now() + 5)])
    assert ("PENDING", 5) == (plain.status(job), plain.delivery.next_due_secs())
    assert [] == plain.delivery.claim(9, ME)

    clock.advance(5)
    again = claim_one(plain.delivery)
    assert (job.id, 2) == (again.id, again.attempt)


def test_due_jobs_come_before_those_of_the_queue_and_within_the_limit(
    plain: Plain, clock: FakeClock
) -> None:
    waiting = [plain.claim(), plain.claim()]
    late = make_job()
    plain.queue.enqueue(late)
    for number, job in enumerate(reversed(waiting)):
        run_at = clock.now() + number
        plain.delivery.settle([make_settlement(job, JobStatus.PENDING, run_at=run_at)])
    clock.advance(9)
    assert [waiting[1].id] == [job.id for job in plain.delivery.claim(1, ME)]
    assert [waiting[0].id, late.id] == [job.id for job in plain.delivery.claim(9, ME)]


def test_snoozed_job_gets_its_attempt_back(plain: Plain, clock: FakeClock) -> None:
    job = plain.claim()
    snoozed = make_settlement(job, JobStatus.PENDING, run_at=clock.now(), keeps_attempt=False)
    plain.delivery.settle([snoozed])
    assert 1 == claim_one(plain.delivery).attempt


def test_job_of_an_unknown_task_is_tried_again_after_a_minute(
    plain: Plain, clock: FakeClock
) -> None:
    job = plain.claim()
    plain.delivery.settle([make_settlement(job, JobStatus.PARKED)])
    assert ("PARKED", 60) == (plain.status(job), plain.delivery.next_due_secs())
    clock.advance(60)
    assert 1 == claim_one(plain.delivery).attempt


def test_released_job_is_back_in_the_queue_as_it_was(plain: Plain) -> None:
    job = plain.claim()
    plain.delivery.release([job])
    (back,) = plain.queue.jobs
    assert (job.id, JobStatus.PENDING, 0, 0) == (
        back.id,
        back.status,
        back.attempt,
        back.deliveries,
    )
    assert "PENDING" == plain.status(job)


def test_waiting_jobs_go_back_to_the_queue_at_the_end(plain: Plain, clock: FakeClock) -> None:
    job = plain.claim()
    plain.delivery.settle([make_settlement(job, JobStatus.PENDING, run_at=clock.now() + 5)])
    assert [1, 0] == [plain.delivery.give_back_waiting(), plain.delivery.give_back_waiting()]
    assert [(job.id, 0.0, 1)] == [(one.id, one.run_at, one.attempt) for one in plain.queue.jobs]


def test_children_are_enqueued_and_shown(plain: Plain) -> None:
    job, child = plain.claim(), make_job()
    plain.delivery.settle([make_settlement(job, value=8, children=(child,))])
    assert [child.id] == [one.id for one in plain.queue.jobs]
    assert "PENDING" == plain.status(child)


def test_no_job_is_lost_when_it_cannot_be_shown(plain: Plain) -> None:
    first, second = make_job(), make_job()
    plain.queue.enqueue(first)
    plain.queue.enqueue(second)
    plain.results.trouble.once("set_record", after=1)
    with pytest.raises(BackendUnavailable):
        plain.delivery.claim(9, ME)
    again = plain.delivery.claim(9, ME)
    assert [(first.id, 1), (second.id, 1)] == [(job.id, job.attempt) for job in again]


def test_no_job_is_held_back_twice_when_its_neighbour_cannot_be_stored(
    plain: Plain, clock: FakeClock
) -> None:
    retried, success = plain.claim(), plain.claim()
    settled = [
        make_settlement(retried, JobStatus.PENDING, run_at=clock.now()),
        make_settlement(success, value=8),
    ]
    plain.results.trouble.once("set_result")
    with pytest.raises(BackendUnavailable):
        plain.delivery.settle(settled)
    plain.delivery.settle(settled)
    assert [retried.id] == [job.id for job in plain.delivery.claim(9, ME)]
    assert 8 == plain.results.get_result(success.id)


class Point(msgspec.Struct):
    x: int


def test_objects_are_stored_as_their_data(plain: Plain) -> None:
    def task() -> Point:
        raise NotImplementedError

    job = plain.claim()
    plain.delivery.settle([make_settlement(job, result=CODEC.result_encoder(task)(Point(1)))])
    assert {"x": 1} == plain.results.get_result(job.id).data
