"""Jobs on their way between stores: all of a job arrives, and none is lost or can run twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nuvom.core import transitions
from nuvom.core.record import JobRecord, JobSnapshot, JobStatus, StoredError
from nuvom.errors import PayloadError
from nuvom.queue_backends import transfer
from nuvom.queue_backends.store import StoreQueue
from nuvom.queue_backends.transfer import (
    Place,
    StoredJob,
    Transfer,
    TransferReport,
    exported,
    load,
)
from nuvom.testing.builders import make_job, make_settlement
from tests.unit.queue_backends.any_store import Open, opening

ME, LATER = "me", 5_000_000_000.5
PAIRS = [("sqlite", "postgres"), ("postgres", "redis"), ("redis", "file"), ("file", "sqlite")]


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Open]:
    """Give a function that opens a new store of a kind."""
    with opening(tmp_path) as opened:
        yield opened


def move(source: StoreQueue, target: StoreQueue, *, results: bool = False) -> TransferReport:
    return between(source, target).run(results=results)


def between(source: StoreQueue, target: StoreQueue) -> Transfer:
    return Transfer(Place("the old store", source), Place("the new store", target))


def seen(queue: StoreQueue, job: JobRecord) -> JobSnapshot:
    found = queue.get(job.id)
    assert found is not None
    return found


def claim_one(queue: StoreQueue, job: JobRecord) -> JobRecord:
    (claimed,) = queue.claim(1, ME, [job.queue])
    assert job.id == claimed.id
    return claimed


def put(store: StoreQueue, status: JobStatus, **fields: Any) -> JobRecord:
    """Store a job that has been run twice, the second time with this outcome."""
    job = make_job("tests.probe", 7, max_retries=3, **fields)
    store.enqueue(job)
    error = StoredError("ValueError", "no paper", "Traceback ...", "ValueError:tests.probe")
    again = {"error": error, "outcome": "retry", "run_at": 1.0}
    store.settle([make_settlement(claim_one(store, job), JobStatus.PENDING, **again)])
    ends = {"error": error, "outcome": "failure"} if status is JobStatus.FAILED else {}
    ends |= {"result": b"\x07"} if status is JobStatus.SUCCESS else {}
    ends |= {"error": error, "outcome": "retry", "run_at": LATER} if not ends else {}
    store.settle([make_settlement(claim_one(store, job), status, **ends)])
    return job


def past(store: StoreQueue, job: JobRecord) -> list[Any]:
    """Return the history of a job, without the workers, which belong to its store."""
    return [msgspec.structs.replace(one, worker=None) for one in store.attempts(job.id)]


@pytest.mark.parametrize(("kind", "other"), PAIRS, ids=str)
def test_everything_of_a_job_arrives(open_store: Open, kind: str, other: str) -> None:
    source, target = open_store(kind), open_store(other)
    options: dict[str, Any] = {"unique_key": "one", "tags": ("a", "b"), "metadata": {"user": 5}}
    fresh = [make_job("tests.probe", number, queue="mail", **options) for number in range(2)]
    first = fresh[0]
    fresh[1] = second = make_job(queue="mail", priority=1, result_ttl_secs=50.0)
    source.enqueue_many(fresh)
    retried = put(source, JobStatus.PENDING, queue="again")
    done, failed = put(source, JobStatus.SUCCESS), put(source, JobStatus.FAILED)
    running = make_job(queue="busy")
    source.enqueue(running)
    claim_one(source, running)
    was = {one.id: source.get(one.id) for one in (first, second, retried, done, failed)}
    history = {one.id: past(source, one) for one in (retried, done, failed)}

    report = move(source, target, results=True)
    assert (3, 2, 0, 1, {}) == (
        report.moved,
        report.ended,
        report.waiting,
        report.running,
        report.refused,
    )
    for job in (first, second, retried, done, failed):
        before, after = was[job.id], seen(target, job)
        assert before is not None
        same = {"lease_epoch": after.record.lease_epoch, "ref": after.record.ref}
        assert before.record.replace(**same) == after.record
        assert (before.result, before.error) == (after.result, after.error)
        assert before.finished_at == after.finished_at
    assert history == {one.id: past(target, one) for one in (retried, done, failed)}
    assert target.get(running.id) is None
    for job in (first, second, retried):
        left = seen(source, job)
        assert (JobStatus.CANCELLED, "the new store") == (left.status, transitions.home_of(left))
        assert source.retry(job.id) is JobStatus.CANCELLED
        assert seen(source, job).status is JobStatus.CANCELLED, "it would run in both"

    assert not between(source, target).compare(results=True).differences
    assert 5 == between(source, target).compare(results=True).equal
    again = move(source, target, results=True)
    assert (0, 0, 2) == (again.moved, again.ended, again.known)

    claimed = target.claim(9, ME, ["mail"])
    assert [second.id, first.id] == [one.id for one in claimed]
    assert [0.0, 0.0] == [one.run_at for one in claimed]
    target.release(claimed)
    assert 2 == len(target.claim(9, ME, ["mail"])), "they were given back for the year 2242"


@pytest.mark.parametrize(("kind", "other"), PAIRS[:3], ids=str)  # files have checksums
def test_a_record_that_cannot_be_read_stays(
    open_store: Open, kind: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = open_store(kind), open_store(other)
    good, bad = make_job(), make_job("tests.probe", queue="mail")
    with monkeypatch.context() as patch:
        encode = JobRecord.encode
        patch.setattr(JobRecord, "encode", lambda one: b"\xc1" if one is bad else encode(one))
        source.enqueue(bad)
    source.enqueue(good)

    report = move(source, target)
    assert (1, {bad.id: "its record cannot be read"}) == (report.moved, report.refused)
    left = seen(source, bad)
    assert (JobStatus.PENDING, "tests.probe", "mail") == (
        left.status,
        left.record.func_name,
        left.record.queue,
    )
    assert target.get(bad.id) is None


@pytest.mark.parametrize("few", [0, 99])
def test_jobs_keep_their_order_over_many_pages(
    open_store: Open, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(transfer, "PAGE", 3)
    monkeypatch.setattr(transfer, "_FEW", few)
    source, target = open_store("memory"), open_store("memory")
    jobs = [make_job() for _ in range(10)]
    source.enqueue_many(jobs)
    (running,) = source.claim(1, ME)
    assert 9 == move(source, target).moved
    source.release([running])
    assert 1 == move(source, target).moved
    expected = [one.id for one in (*jobs[1:], jobs[0])]
    assert expected == [one.id for one in target.claim(99, ME)]


def test_jobs_near_those_that_a_worker_takes_come_last(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PAGE", 1)
    source, target = open_store("memory"), open_store("memory")
    jobs = [make_job() for _ in range(8)]
    source.enqueue_many(jobs)

    def act(number: int) -> None:
        if not number:
            source.claim(1, ME)

    with between_writes((source, target), act):
        report = move(source, target)
    assert (7, 1, 1) == (report.moved, report.taken, report.running)
    arrived = [one.id for one in target.claim(99, ME)]
    assert [jobs[number].id for number in (2, 3, 4, 5, 6, 7, 1)] == arrived


def test_only_the_named_queues_are_moved(open_store: Open) -> None:
    source, target = open_store("memory"), open_store("memory")
    source.enqueue_many([make_job(queue=name) for name in ("a", "b", "b", "c")])
    places = Place("the old store", source), Place("the new store", target)
    report = Transfer(*places, queues=["b", "c"]).run()
    assert (3, 0) == (report.moved, report.waiting)
    assert [("b", 2), ("c", 1)] == [(one.queue, one.ready) for one in target.stats()]


def test_a_dry_run_counts_and_writes_nothing(open_store: Open) -> None:
    source, target = open_store("memory"), open_store("memory")
    source.enqueue_many([make_job() for _ in range(3)])
    put(source, JobStatus.SUCCESS, queue="other")
    report = between(source, target).plan(results=True)
    assert (3, 1, 3) == (report.moved, report.ended, report.waiting)
    assert [] == target.page()
    assert 3 == source.qsize()


# ---- conflicts -------------------------------------------------------------------------------


def test_a_taken_key_and_a_full_queue_are_conflicts_and_nothing_is_lost(open_store: Open) -> None:
    source, target = open_store("memory"), open_store("memory", max_queue_size=3)
    mine, theirs = (make_job(unique_key="same") for _ in range(2))
    target.enqueue(theirs)
    jobs = [make_job() for _ in range(4)]
    source.enqueue_many([mine, *jobs])

    report = move(source, target)
    full = "its queue is full there (setting max_queue_size)"
    taken = f"job {theirs.id} has its unique_key there"
    assert {mine.id: taken, jobs[2].id: full, jobs[3].id: full} == report.refused
    assert (2, 3) == (report.moved, report.waiting)
    target.purge("default")
    assert 3 == move(source, target).moved


def test_a_comparison_names_what_is_missing_or_differs(open_store: Open) -> None:
    source, target = open_store("memory"), open_store("memory")
    purged, ended = make_job(), put(source, JobStatus.SUCCESS, queue="other")
    source.enqueue(purged)
    move(source, target)
    target.purge("default")
    missing = "the new store does not have it"
    assert {purged.id: missing} == between(source, target).compare().differences
    both = {purged.id: missing, ended.id: missing}
    assert both == between(source, target).compare(results=True).differences
    other = StoredJob(msgspec.structs.replace(seen(source, ended), result=b"\x08"))
    load(target, [other], TransferReport())
    differing = {purged.id: missing, ended.id: "the stores differ in its result"}
    assert differing == between(source, target).compare(results=True).differences


def test_a_job_that_waits_to_arrive_is_a_difference(open_store: Open) -> None:
    source, target = open_store("memory"), open_store("memory")
    job = make_job()
    source.enqueue(job)
    left = transitions.left_to("the new store", seen(source, job), 1.0)
    assert source.apply([left]) == [True]
    target.enqueue(transitions.held(job))
    missing = {job.id: "the new store does not have it"}
    assert missing == between(source, target).compare().differences
    assert 1 == move(source, target).moved
    assert {} == between(source, target).compare().differences


def test_a_job_that_the_target_runs_is_a_conflict(open_store: Open) -> None:
    source, target = open_store("memory"), open_store("memory")
    job = make_job()
    for store in (source, target):
        store.enqueue(job)
    report = move(source, target)
    assert {job.id: "the new store has this job, PENDING"} == report.refused
    assert {job.id: "both stores have it"} == between(source, target).compare().differences
    assert seen(source, job).status is JobStatus.PENDING


@pytest.mark.parametrize(("kind", "other"), PAIRS, ids=str)
def test_jobs_can_be_moved_back(open_store: Open, kind: str, other: str) -> None:
    source, target = open_store(kind), open_store(other)
    waiting = make_job(unique_key="one")
    source.enqueue(waiting)
    retried = put(source, JobStatus.PENDING, queue="again")
    history = past(source, retried)
    move(source, target)
    back = Transfer(Place("the new store", target), Place("the old store", source)).run()
    assert (2, {}) == (back.moved, back.refused)
    assert history == past(source, retried)
    assert LATER == seen(source, retried).record.run_at
    assert waiting.id == claim_one(source, waiting).id
    assert "the old store" == transitions.home_of(seen(target, waiting))


# ---- while both stores are in use, and after a death ---------------------------------------


class Death(BaseException):
    """In place of a kill."""


@contextmanager
def between_writes(stores: Sequence[StoreQueue], act: Callable[[int], None]) -> Iterator[None]:
    """Call ``act`` before and after each write of these stores, with a number that grows.

    The writes that ``act`` itself makes count for nothing.
    """
    numbers = count()
    is_acting = False

    def step() -> None:
        nonlocal is_acting
        if not is_acting:
            is_acting = True
            try:
                act(next(numbers))
            finally:
                is_acting = False

    def watched(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            step()
            answer = method(*args)
            step()
            return answer

        return call

    with pytest.MonkeyPatch.context() as patch:
        for store in stores:
            for name in ("enqueue_many", "enqueue", "apply"):
                patch.setattr(store, name, watched(getattr(store, name)))
        yield


def work(store: StoreQueue, most: int, ends: Counter[str]) -> None:
    """Be a worker that runs at most so many jobs."""
    claimed = store.claim(most, ME)
    done = [make_settlement(one, JobStatus.SUCCESS, result=b"\x07") for one in claimed]
    answers = store.settle(done) if done else []
    ends.update(one.id for one, is_done in zip(claimed, answers, strict=True) if is_done)


def scene(open_store: Open) -> tuple[StoreQueue, StoreQueue, set[str]]:
    """Return two stores, and the ids of jobs that wait in the first one; one has a past."""
    source, target = open_store("memory"), open_store("memory")
    jobs = [make_job() for _ in range(5)]
    source.enqueue_many(jobs)
    put(source, JobStatus.SUCCESS, queue="other")
    jobs.append(retried := put(source, JobStatus.FAILED, queue="other"))
    source.retry(retried.id)
    return source, target, {one.id for one in jobs}


def assert_each_ends_once(
    source: StoreQueue, target: StoreQueue, jobs: set[str], ends: Counter[str]
) -> None:
    """Let workers of both stores finish everything, and look at what became of it."""
    for store in (source, target):
        work(store, 99, ends)
    assert dict.fromkeys(jobs, 1) == ends
    assert not move(source, target, results=True).refused
    assert not between(source, target).compare(results=True).differences
    assert not any(map(transitions.is_held, target.page()))
    assert {one.record.id for one in source.page()} == {one.record.id for one in target.page()}
    assert {JobStatus.SUCCESS} == {one.status for one in target.page()}


@pytest.mark.parametrize("results", [False, True])
@pytest.mark.parametrize("busy", [False, True])
def test_a_death_at_any_moment_loses_nothing_and_repeats_nothing(
    open_store: Open, monkeypatch: pytest.MonkeyPatch, *, busy: bool, results: bool
) -> None:
    monkeypatch.setattr(transfer, "PAGE", 2)
    for fatal in count():
        source, target, jobs = scene(open_store)
        ends, has_died = Counter[str](), False

        def act(number: int, *, fatal: int = fatal) -> None:
            if number == fatal:
                raise Death

        try:
            with between_writes((source, target), act):
                move(source, target, results=results)
        except Death:
            has_died = True
        if busy:
            work(source, 2, ends)
            work(target, 2, ends)
        assert not move(source, target, results=results).refused
        assert not any(map(transitions.is_held, target.page()))
        assert_each_ends_once(source, target, jobs, ends)
        if not has_died:
            break
    assert fatal > 10


def test_a_worker_may_take_a_job_at_any_moment(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PAGE", 2)
    taken = 0
    for moment in range(30):
        source, target, jobs = scene(open_store)
        ends = Counter[str]()

        def act(
            number: int, *, moment: int = moment, stores: Any = (source, target), ends: Any = ends
        ) -> None:
            if number == moment:
                for store in stores:
                    work(store, 2, ends)

        with between_writes((source, target), act):
            report = move(source, target)
        taken += report.taken
        assert_each_ends_once(source, target, jobs, ends)
    assert taken, "it never came between"


def test_a_lost_answer_is_no_refusal(open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that was cut off has applied a change; the second try finds it done."""
    source, target, jobs = scene(open_store)
    for store in (source, target):
        apply = store.apply
        monkeypatch.setattr(store, "apply", lambda many, apply=apply: (apply(many), apply(many))[1])
    report = move(source, target)
    assert (len(jobs), 0) == (report.moved, report.taken)
    monkeypatch.undo()
    assert_each_ends_once(source, target, jobs, Counter())


def test_two_transfers_at_once_move_each_job_once(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one may also be about to withdraw what a worker had, and has given back."""
    monkeypatch.setattr(transfer, "PAGE", 2)
    for moment in range(30):
        source, target, jobs = scene(open_store)

        def act(number: int, *, moment: int = moment, stores: Any = (source, target)) -> None:
            if number == moment:
                claimed = stores[0].claim(2, ME)
                move(*stores)
                stores[0].release(claimed)
            if number == moment + 1:
                move(*stores)

        with between_writes((source, target), act):
            move(source, target)
        assert not move(source, target).refused
        assert_each_ends_once(source, target, jobs, Counter())


def test_what_another_transfer_withdraws_at_any_moment_is_held_again(open_store: Open) -> None:
    """It has seen the job with a worker, who has given it back since."""
    for moment in range(8):
        source, target, jobs = scene(open_store)

        def act(number: int, *, moment: int = moment, target: StoreQueue = target) -> None:
            if number == moment:
                held = filter(transitions.is_held, target.page())
                target.apply([transitions.left_to("the old store", one, 1.0) for one in held])

        with between_writes((source, target), act):
            assert not move(source, target).refused
        assert_each_ends_once(source, target, jobs, Counter())


def test_a_copy_that_the_source_knows_nothing_of_stays_held(open_store: Open) -> None:
    """The job may have ended and been pruned, or was moved there from elsewhere."""
    source, target = open_store("memory"), open_store("memory")
    lost, elsewhere = make_job(), make_job()
    target.enqueue_many(map(transitions.held, (lost, elsewhere)))
    source.enqueue(elsewhere)
    third = open_store("memory")
    Transfer(Place("the old store", source), Place("a third store", third)).run()

    report = move(source, target)
    text = "held there, and the old store has no such job"
    assert dict.fromkeys((lost.id, elsewhere.id), text) == report.refused
    assert all(transitions.is_held(one) for one in target.page())


def test_copies_that_are_held_in_the_source_are_not_moved_on(open_store: Open) -> None:
    """Another transfer is about to let them go, or to withdraw them."""
    source, target = open_store("memory"), open_store("memory")
    source.enqueue(transitions.held(make_job()))
    assert 0 == move(source, target, results=True).moved
    assert [] == target.page()


# ---- a file in between -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "redis", "file"])
def test_an_export_is_everything_of_a_store(open_store: Open, kind: str) -> None:
    source, target = open_store(kind), open_store("memory")
    waiting = make_job("tests.probe", "\ud800 ?".encode("utf-8", "replace"), unique_key="one")
    source.enqueue(waiting)
    jobs = [waiting]
    for number, status in enumerate((JobStatus.PENDING, JobStatus.SUCCESS, JobStatus.FAILED)):
        jobs.append(put(source, status, queue=f"queue-{number}"))
    report = TransferReport()
    lines = [json.dumps(one.to_dict()) for one in exported(source, report, results=True)]
    assert (2, 2, {}) == (report.moved, report.ended, report.refused)

    back = [StoredJob.from_dict(json.loads(line)) for line in lines]
    for known in (0, 4):
        report = TransferReport()
        load(target, back, report)
        assert (4, known) == (report.moved + report.ended + report.known, report.known)
    for job in jobs:
        before, after = seen(source, job), seen(target, job)
        numbers = {"lease_epoch": after.record.lease_epoch, "ref": after.record.ref}
        assert before.record.replace(**numbers).encode() == after.record.encode()
        assert (before.result, before.error) == (after.result, after.error)
        assert past(source, job) == past(target, job)


def test_an_import_brings_no_job_back_that_was_moved_since(open_store: Open) -> None:
    source, target = open_store("memory"), open_store("memory")
    job = make_job()
    source.enqueue(job)
    jobs = list(exported(source, TransferReport()))
    move(source, target)
    report = TransferReport()
    load(source, jobs, report)
    assert (0, {job.id: "it was moved from here to the new store"}) == (
        report.moved,
        report.refused,
    )
    assert seen(source, job).status is JobStatus.CANCELLED


def test_an_export_leaves_out_what_another_store_has_and_names_what_cannot_be_read(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = open_store("sqlite"), open_store("memory")
    moved, bad, held = make_job(), make_job(), transitions.held(make_job())
    source.enqueue(moved)
    move(source, target)
    source.enqueue(held)
    with monkeypatch.context() as patch:
        patch.setattr(JobRecord, "encode", lambda _: b"\xc1")
        source.enqueue(bad)
    report = TransferReport()
    assert [] == list(exported(source, report, results=True))
    assert {bad.id: "its record cannot be read"} == report.refused


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("{}", "it is not a job of an export"),
        ("[1]", "it is not a job of an export"),
        ('{"job": {"id": "x"}, "result": null}', "func_name"),
    ],
)
def test_a_line_that_is_no_job_is_refused(line: str, error: str) -> None:
    with pytest.raises(PayloadError, match=error):
        StoredJob.from_dict(json.loads(line))
