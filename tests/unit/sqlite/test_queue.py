"""The SQLite queue beyond the laws of the kit: what breaks off, what is damaged, what is large."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nuvom.core.batch import RecordBatch
from nuvom.core.ids import new_id
from nuvom.core.record import JobRecord, JobStatus
from nuvom.errors import QueueFull, StorageFull
from nuvom.queue_backends.sqlite import SQLiteJobQueue, hot
from nuvom.queue_backends.sqlite import queue as queue_module
from nuvom.queue_backends.sqlite.hot import Claim
from nuvom.result_backends.sqlite import SQLiteResultBackend
from nuvom.testing import make_job, make_settlement
from tests.unit.sqlite.conftest import Real, damage, make_queue, seen

ME, OTHER = "worker-1", "worker-2"
NO_ARGUMENTS = b"\x90\x80"  # as a batch takes them


def call(job: JobRecord) -> bytes:
    """Return the arguments of ``job`` as a batch takes them."""
    return bytes(job.args) + bytes(job.kwargs)


def transactions(queue: SQLiteJobQueue) -> list[str]:
    """Return a list to which each statement of the writer is added from now on."""
    queue.start()
    statements: list[str] = []
    writer = queue.store.db._writer
    assert writer is not None
    writer.set_trace_callback(statements.append)
    return statements


def rows(queue: SQLiteJobQueue, query: str) -> list[Any]:
    return queue.store.db.read(query)


# ---- enqueue --------------------------------------------------------------------------------


def test_iterable_is_not_read_while_the_file_is_locked(
    queue: SQLiteJobQueue, project: Path, clock: Real
) -> None:
    other = make_queue(project, clock)

    def jobs() -> Iterator[JobRecord]:
        for _ in range(3):
            other.enqueue(make_job())  # would wait for the lock for ever
            yield make_job()

    assert {} == queue.enqueue_many(jobs())
    assert 6 == queue.qsize()
    other.stop()


def test_batch_of_a_bounded_queue_is_all_or_nothing(project: Path, clock: Real) -> None:
    queue = make_queue(project, clock, max_queue_size=3)
    for count, fits in ((4, False), (3, True)):
        with RecordBatch(make_job().replace(id="")) as batch:
            batch.extend([NO_ARGUMENTS] * count)
            if fits:
                assert {} == queue.enqueue_many(batch)
            else:
                with pytest.raises(QueueFull):
                    queue.enqueue_many(batch)
        assert (3 if fits else 0) == queue.qsize()
    queue.stop()


# ---- numbers --------------------------------------------------------------------------------


def store_one(queue: SQLiteJobQueue) -> None:
    queue.enqueue(make_job())


def store_batch(queue: SQLiteJobQueue) -> None:
    with RecordBatch(make_job().replace(id="")) as batch:
        batch.extend(call(make_job("tests.b", "x" * size)) for size in (1, 5000, 1))
        queue.enqueue_many(batch)


def store_result(queue: SQLiteJobQueue) -> None:
    results = SQLiteResultBackend(queue.store.settings)
    results.joins(queue)
    results.set_result(new_id(), 8)
    results.set_record(make_job())


def prune(queue: SQLiteJobQueue) -> None:
    queue.settle([make_settlement(job, finished_at=1.0) for job in queue.claim(9, ME)])
    assert queue.prune(success_before=1e12, failed_before=1e12) > 0


@pytest.mark.parametrize("store", [store_one, store_batch, store_result])
@pytest.mark.parametrize("remove", [SQLiteJobQueue.clear, prune])
def test_a_number_that_was_removed_never_comes_back(
    project: Path,
    clock: Real,
    store: Callable[[SQLiteJobQueue], None],
    remove: Callable[[SQLiteJobQueue], None],
) -> None:
    greatest = 0
    for _ in range(3):
        queue = make_queue(project, clock)
        for _ in range(2):
            known = rows(queue, "SELECT seq FROM jobs")
            store(queue)
            new = [row for row in rows(queue, "SELECT seq FROM jobs") if row not in known]
            assert min(new) > (greatest,)
            ((greatest,),) = rows(queue, "SELECT max(seq) FROM jobs")
            remove(queue)
        queue.stop()


# ---- large records --------------------------------------------------------------------------


def test_large_record_stands_apart_and_comes_back(queue: SQLiteJobQueue) -> None:
    small, large = make_job("tests.a", "x" * 100), make_job("tests.b", "x" * 5000)
    queue.enqueue(large)
    queue.enqueue_many([small])
    with RecordBatch(make_job().replace(id="")) as batch:
        batch.extend([call(large)])
        queue.enqueue_many(batch)
    assert [(2,)] == rows(queue, "SELECT count(*) FROM payloads")
    assert large.args == seen(queue, large).record.args
    assert [large.args, small.args, large.args] == [job.args for job in queue.claim(9, ME)]


def test_payload_goes_with_its_job(queue: SQLiteJobQueue, clock: Real) -> None:
    now = clock.now()
    for _ in range(3):
        queue.enqueue(make_job("tests.b", "x" * 5000, created_at=now))
    success, failure = queue.claim(2, ME)
    queue.settle(
        [
            make_settlement(success, finished_at=now),
            make_settlement(failure, JobStatus.FAILED, finished_at=now),
        ]
    )
    assert [(1,)] == rows(queue, "SELECT count(*) FROM attempts")
    assert 2 == queue.prune(success_before=now + 1, failed_before=now + 1)
    assert [(1,)] == rows(queue, "SELECT count(*) FROM payloads")
    assert [(0,)] == rows(queue, "SELECT count(*) FROM attempts")
    queue.clear()
    assert [(0,)] == rows(queue, "SELECT count(*) FROM payloads")


# ---- claims that break off ------------------------------------------------------------------


@pytest.mark.parametrize("step", ["read_back", "book"])
def test_claim_that_breaks_off_gives_its_jobs_back(
    queue: SQLiteJobQueue, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    jobs = [make_job() for _ in range(3)]
    queue.enqueue_many(jobs)
    (started,) = queue.claim(1, OTHER)  # a worker dies during it, so it is a suspect
    queue.mark_started(started)
    queue.store.workers.lock_of(OTHER).abandon()
    assert 1 == len(queue.reap())

    def fail(*_: object) -> None:
        raise StorageFull("slots", "no room")

    target: Any = Claim if step == "read_back" else queue.store.workers.lock_of(ME)
    monkeypatch.setattr(target, step, fail)
    with pytest.raises(StorageFull):
        queue.claim(2, ME)
    monkeypatch.undo()
    assert {} == queue.extend(ME)
    records = [seen(queue, job).record for job in jobs]
    counts = [(one.attempt, one.deliveries, one.suspect) for one in records]
    assert [(0, 1, True), (0, 0, False), (0, 0, False)] == counts
    assert 2 == len(queue.claim(9, ME, suspects=0))


@pytest.mark.parametrize("follows", ["claim", "beat"])
def test_claim_that_cannot_even_be_undone_is_undone_by_what_follows(
    queue: SQLiteJobQueue, monkeypatch: pytest.MonkeyPatch, follows: str
) -> None:
    job = make_job()
    queue.enqueue(job)

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Claim, "read_back", fail)
    monkeypatch.setattr(queue_module, "_UNDO", "no statement")
    with pytest.raises(KeyboardInterrupt):
        queue.claim(1, ME)
    assert JobStatus.RUNNING is seen(queue, job).status
    monkeypatch.undo()
    if follows == "beat":
        assert {} == queue.extend(ME)
    (claimed,) = queue.claim(1, OTHER if follows == "beat" else ME)
    assert (job.id, 1, 1, 2) == (
        claimed.id,
        claimed.attempt,
        claimed.deliveries,
        claimed.lease_epoch,
    )


# ---- damaged records ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 5000])
def test_damaged_record_is_set_aside_and_harms_no_neighbour(
    queue: SQLiteJobQueue, size: int
) -> None:
    before, bad, after = (make_job("tests.probe", "x" * size, queue="mail") for _ in range(3))
    queue.enqueue_many([before, bad, after])
    table = "jobs" if size < 1000 else "payloads"
    damage(queue, bad, table)

    assert [before.id, after.id] == [job.id for job in queue.claim(9, ME)]
    found = seen(queue, bad)
    assert found.error is not None
    assert (JobStatus.FAILED, "CorruptRecord") == (found.status, found.error.type)
    assert ("tests.probe", "mail", bad.created_at) == (
        found.record.func_name,
        found.record.queue,
        found.record.created_at,
    )
    assert [(b"\xc1",)] == rows(queue, f"SELECT record FROM {table} WHERE length(record) = 1")
    assert 3 == len(queue.page())
    assert [bad.id] == queue.failed_ids("CorruptRecord")


# ---- order ----------------------------------------------------------------------------------


def test_queues_are_served_in_turn(queue: SQLiteJobQueue) -> None:
    queue.enqueue_many(make_job(queue=name) for name in ("a", "b", "c") for _ in range(4))
    first = [queue.claim(1, ME)[0].queue for _ in range(6)]
    assert {"a", "b", "c"} == set(first[:3]) == set(first[3:])


def test_bulk_claim_that_finds_nothing_where_jobs_were_looks_elsewhere(
    queue: SQLiteJobQueue,
) -> None:
    queue.enqueue_many([make_job(queue="one") for _ in range(hot.BULK)])
    assert hot.BULK == len(queue.claim(hot.BULK, ME))  # the same moment: the clock stands still
    late = make_job(queue="two")
    queue.enqueue(late)
    assert [late.id] == [job.id for job in queue.claim(hot.BULK, ME)]


# ---- flushes --------------------------------------------------------------------------------


def test_claims_are_flushed_until_something_settled_since_the_machine_started(
    queue: SQLiteJobQueue, project: Path, clock: Real
) -> None:
    queue.enqueue_many([make_job() for _ in range(3)])
    statements = transactions(queue)
    (job,) = queue.claim(1, ME)
    assert not [one for one in statements if "synchronous = NORMAL" in one]
    assert not queue.store.has_unflushed_claim
    queue.settle([make_settlement(job)])
    queue.claim(1, ME)
    assert [one for one in statements if "synchronous = NORMAL" in one]
    assert queue.store.has_unflushed_claim
    statements.clear()
    queue.extend(ME)
    assert "PRAGMA synchronous = FULL" == statements[0]
    assert not queue.store.has_unflushed_claim

    another = make_queue(project, clock)
    assert not another.store.claims_flush
    another.stop()


def test_claim_beside_a_beat_is_flushed_by_the_next_one(
    queue: SQLiteJobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.enqueue_many([make_job() for _ in range(3)])
    queue.settle([make_settlement(job) for job in queue.claim(1, ME)])
    queue.claim(1, ME)
    execute = queue.store.db.execute

    def and_claimed(*args: Any, **options: Any) -> int:
        monkeypatch.undo()
        result = execute(*args, **options)
        queue.claim(1, ME)
        return result

    monkeypatch.setattr(queue.store.db, "execute", and_claimed)
    queue.extend(ME)
    assert queue.store.has_unflushed_claim
