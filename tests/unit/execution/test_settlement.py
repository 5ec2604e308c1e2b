"""How jobs come from the queue and attempts are settled: in one store, in two, or in none."""

from __future__ import annotations

from typing import Any

import pytest

from nuvom import Snooze
from nuvom.core.record import JobRecord, JobStatus
from nuvom.errors import BackendUnavailable
from nuvom.events import (
    Event,
    JobFailed,
    JobFenced,
    JobRetrying,
    JobSucceeded,
    JobTimedOut,
)
from nuvom.execution.attempts import OpenAttempt
from nuvom.execution.settlement import (
    ClaimRequest,
    FiveMethodQueue,
    Served,
    SettlementEvents,
    SplitStores,
)
from nuvom.serialization.msgpack_codec import MsgpackCodec
from nuvom.testing import FakeClock, make_job, make_settlement
from tests.engine import ToyQueue
from tests.troubled import TroubledQueue, TroubledResults
from tests.unit.execution.bench import Bench

ME = "worker-1"
CODEC = MsgpackCodec()


def claim_one(stores: Any) -> JobRecord:
    (record,) = stores.claim(ClaimRequest(1, []), ME)
    assert isinstance(record, JobRecord)
    return record


# ---- two stores -----------------------------------------------------------------------------


Split = tuple[SplitStores, TroubledQueue, TroubledResults]


@pytest.fixture
def split() -> Split:
    queue, results = TroubledQueue(), TroubledResults()
    return SplitStores(queue, Served(None), results, CODEC), queue, results


def test_result_is_stored_before_the_attempt_is_closed(split: Split) -> None:
    stores, queue, results = split
    queue.enqueue(make_job())
    job = claim_one(stores)
    queue.trouble.once("settle")
    with pytest.raises(BackendUnavailable):
        stores.settle([make_settlement(job, value=8)])
    assert 8 == results.get_result(job.id)
    assert [True] == stores.settle([make_settlement(job, value=8)])


@pytest.mark.parametrize(
    ("status", "kept"), [("FAILED", "ValueError"), ("CANCELLED", "CANCELLED"), ("PENDING", None)]
)
def test_only_what_is_final_is_stored(split: Split, status: str, kept: str | None) -> None:
    stores, queue, results = split
    queue.enqueue(make_job())
    job = claim_one(stores)
    assert [True] == stores.settle([make_settlement(job, JobStatus(status))])
    error = results.get_error(job.id)
    assert kept == (error and error.type)


@pytest.mark.parametrize("status", ["SUCCESS", "FAILED"])
def test_job_whose_outcome_is_stored_is_only_closed(split: Split, status: str) -> None:
    stores, queue, _ = split
    queue.enqueue(make_job())
    first = claim_one(stores)
    queue.trouble.once("settle")
    with pytest.raises(BackendUnavailable):
        stores.settle([make_settlement(first, JobStatus(status), value=8)])
    queue.release([first])  # as the reaper does after the worker's death

    again = claim_one(stores)
    found = stores._finished_before([again])
    assert [again.id] == list(found)
    assert status == found[again.id].status
    assert [True] == stores.settle(list(found.values()))
    snapshot = queue.get(again.id)
    assert snapshot is not None
    assert status == snapshot.status


def test_job_that_was_never_settled_is_not_looked_up(split: Split) -> None:
    stores, queue, results = split
    queue.enqueue(make_job())
    assert {} == stores._finished_before([claim_one(stores)])
    assert 0 == results.trouble.calls["get_full"]


# ---- a queue of five methods ----------------------------------------------------------------


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class Plain:
    """A toy queue, results, and the stores between them."""

    def __init__(self, clock: FakeClock) -> None:
        self.queue = ToyQueue()
        self.results = TroubledResults(clock=clock)
        self.stores = FiveMethodQueue(self.queue, self.results, CODEC, clock)

    def status(self, job: JobRecord) -> str | None:
        full = self.results.get_full(job.id)
        return None if full is None else str(full["status"])

    def claim(self, **fields: Any) -> JobRecord:
        self.queue.enqueue(make_job(**fields))
        return claim_one(self.stores)


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
    assert plain.stores.report_progress(job, 1, 2, "half")


def test_due_jobs_come_before_those_of_the_queue_and_within_the_limit(
    plain: Plain, clock: FakeClock
) -> None:
    waiting = [plain.claim(), plain.claim()]
    late = make_job()
    plain.queue.enqueue(late)
    for number, job in enumerate(reversed(waiting)):
        run_at = clock.now() + number
        plain.stores.settle([make_settlement(job, JobStatus.PENDING, run_at=run_at)])
    clock.advance(9)
    assert [waiting[1].id] == [job.id for job in plain.stores.claim(ClaimRequest(1, []), ME)]
    assert [waiting[0].id, late.id] == [
        job.id for job in plain.stores.claim(ClaimRequest(9, []), ME)
    ]


def test_due_jobs_are_kept_when_the_queue_fails(
    plain: Plain, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_size: int) -> list[JobRecord]:
        raise BackendUnavailable("of this test", "it is away")

    job = plain.claim()
    plain.stores.settle([make_settlement(job, JobStatus.PENDING, run_at=clock.now())])
    with monkeypatch.context() as patch:
        patch.setattr(plain.queue, "pop_batch", fail)
        with pytest.raises(BackendUnavailable):
            plain.stores.claim(ClaimRequest(9, []), ME)
    assert job.id == claim_one(plain.stores).id


def test_snoozed_job_gets_its_attempt_back(plain: Plain, clock: FakeClock) -> None:
    job = plain.claim()
    snoozed = make_settlement(job, JobStatus.PENDING, run_at=clock.now(), keeps_attempt=False)
    plain.stores.settle([snoozed])
    assert 1 == claim_one(plain.stores).attempt


def test_children_are_enqueued_and_shown(plain: Plain) -> None:
    job, child = plain.claim(), make_job()
    plain.stores.settle([make_settlement(job, value=8, children=(child,))])
    assert [child.id] == [one.id for one in plain.queue.jobs]
    assert "PENDING" == plain.status(child)


def test_no_job_is_lost_when_it_cannot_be_shown(plain: Plain) -> None:
    first, second = make_job(), make_job()
    plain.queue.enqueue(first)
    plain.queue.enqueue(second)
    plain.results.trouble.once("set_record", after=1)
    with pytest.raises(BackendUnavailable):
        plain.stores.claim(ClaimRequest(9, []), ME)
    again = plain.stores.claim(ClaimRequest(9, []), ME)
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
        plain.stores.settle(settled)
    plain.stores.settle(settled)
    assert [retried.id] == [job.id for job in plain.stores.claim(ClaimRequest(9, []), ME)]
    assert 8 == plain.results.get_result(success.id)


# ---- what follows from a settlement ----------------------------------------------------------


@pytest.fixture
def bench() -> Bench:
    return Bench()


def tell(bench: Bench, finished: OpenAttempt, *, was_accepted: bool = True) -> list[Event]:
    """Follow a settlement; return the events that came of it."""
    bench.seen.clear()
    follows = SettlementEvents(
        bench.bus,
        bench.runner,
        "worker",
        run_hook=lambda _attempt, hook: hook(),
        hook_ended=lambda: None,
    )
    follows.follow([finished], [was_accepted])
    return bench.seen


def finish(bench: Bench, work: OpenAttempt) -> OpenAttempt:
    work.settlement = bench.runner.run(work)
    return work


def raising(error: BaseException) -> Any:
    def task() -> None:
        raise error

    return task


def test_success_is_told_with_its_duration(bench: Bench) -> None:
    work = bench.work(lambda: 8)
    finished = finish(bench, work)
    secs = finished.settlement.finished_at - finished.settlement.started_at
    assert [JobSucceeded(work.record, secs, "worker")] == tell(bench, finished)


@pytest.mark.parametrize(("error", "reason"), [(ValueError("x"), "x"), (Snooze(5), None)])
def test_another_attempt_is_told_with_its_time(
    bench: Bench, error: BaseException, reason: str | None
) -> None:
    finished = finish(bench, bench.work(raising(error), max_retries=1))
    (event,) = tell(bench, finished)
    assert isinstance(event, JobRetrying)
    assert finished.settlement.run_at == event.run_at
    assert reason == (event.error and event.error.message)


@pytest.mark.parametrize(
    ("policy", "follows"), [("fail", JobFailed), ("retry", JobRetrying), ("ignore", JobSucceeded)]
)
def test_timeout_is_told_before_what_follows(
    bench: Bench, policy: str, follows: type[Event]
) -> None:
    work = bench.work(lambda: 8, timeout_secs=0.5, timeout_policy=policy, max_retries=1)
    work.settlement = bench.runner.timed_out(work, None)
    events = tell(bench, work)
    assert [JobTimedOut, follows] == [type(event) for event in events]


def test_dropped_outcome_is_told_as_fenced_and_calls_no_hook(bench: Bench) -> None:
    called: list[Any] = []
    work = bench.work(lambda: 8, after_job=called.append)
    events = tell(bench, finish(bench, work), was_accepted=False)
    assert [JobFenced(work.record, "worker")] == events
    assert [] == called
