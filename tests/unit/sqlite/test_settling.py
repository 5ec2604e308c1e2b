"""Closing attempts in the SQLite store, in bulk and one by one."""

from __future__ import annotations

from typing import Any

import pytest

from nuvom.core.record import JobRecord, JobStatus, StoredError
from nuvom.errors import BackendUnavailable
from nuvom.queue_backends.sqlite import SQLiteJobQueue, hot
from nuvom.testing import make_job, make_settlement
from tests.unit.sqlite.conftest import Real, seen

ME = "worker-1"


def claimed(queue: SQLiteJobQueue, count: int = 1, **fields: Any) -> list[JobRecord]:
    queue.enqueue_many([make_job(**fields) for _ in range(count)])
    return queue.claim(count, ME)


def test_bulk_leaves_alone_what_another_worker_runs_by_now(queue: SQLiteJobQueue) -> None:
    late, mine = claimed(queue, 2)
    queue.release([late])
    (again,) = queue.claim(1, "worker-2")
    assert late.id == again.id
    both = [make_settlement(late, value=8), make_settlement(mine, value=8)]
    assert [False, True] == queue.settle(both)
    assert "RUNNING" == seen(queue, late).status
    assert [True] == queue.settle([make_settlement(again, value=9)])
    assert b"\x09" == seen(queue, late).result


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9, 17])
def test_the_fenced_are_told_apart_in_a_bulk_of_any_size(
    queue: SQLiteJobQueue, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(hot, "_MOST", 8)
    jobs = claimed(queue, count)
    expected = [number % 3 != 1 for number in range(count)]
    for job, is_mine in zip(jobs, expected, strict=True):
        if not is_mine:
            queue.cancel(job.id)
    assert expected == queue.settle(
        [make_settlement(job, value=number) for number, job in enumerate(jobs)]
    )
    results = [bytes([number]) if is_mine else None for number, is_mine in enumerate(expected)]
    assert results == [seen(queue, job).result for job in jobs]


def test_mixed_batch_is_answered_in_its_order(queue: SQLiteJobQueue, clock: Real) -> None:
    success, failure, retried, fenced, parent, late = claimed(queue, 6)
    child = make_job("tests.child")
    queue.cancel(fenced.id)
    queue.cancel(late.id)
    settled = [
        make_settlement(failure, JobStatus.FAILED),
        make_settlement(success, value=8),
        make_settlement(fenced, JobStatus.FAILED),
        make_settlement(retried, JobStatus.PENDING, run_at=clock.now() + 5),
        make_settlement(parent, value=8, children=(child,)),
        make_settlement(late, value=8),
    ]
    assert [True, True, False, True, True, False] == queue.settle(settled)
    assert JobStatus.PENDING is seen(queue, child).status
    assert clock.now() + 5 == seen(queue, retried).record.run_at
    assert [True, True, False, True, True, False] == queue.settle(settled)
    assert 2 == queue.qsize()


def test_success_clears_what_earlier_attempts_left(queue: SQLiteJobQueue, clock: Real) -> None:
    (job,) = claimed(queue, unique_key="k")
    retry = make_settlement(
        job, JobStatus.PENDING, run_at=clock.now(), error=StoredError("ValueError", "no")
    )
    queue.settle([retry])
    (again,) = queue.claim(1, ME)
    queue.report_progress(again, 1, 2, "half")
    found = seen(queue, again)
    assert (found.error, found.progress) == (StoredError("ValueError", "no"), (1, 2, "half"))
    queue.settle([make_settlement(again, value=8)])
    found = seen(queue, again)
    assert (None, None) == (found.error, found.progress)
    assert queue.enqueue(make_job(unique_key="k")) is None


def counted(queue: SQLiteJobQueue) -> int:
    """Return how many successes the file itself knows of."""
    query = "SELECT coalesce(sum(count), 0) FROM rollups WHERE kind = 'success'"
    ((count,),) = queue.store.db.read(query)
    return int(count)


def settle_one(queue: SQLiteJobQueue) -> None:
    (job,) = claimed(queue)
    queue.settle([make_settlement(job, value=1)])


def test_successes_join_the_roll_ups_once_a_second(queue: SQLiteJobQueue, clock: Real) -> None:
    for expected in (1, 1, 1):  # the first at once, as after each longer time without any
        settle_one(queue)
        assert counted(queue) == expected
    clock.advance(1)
    settle_one(queue)
    assert counted(queue) == 4


@pytest.mark.parametrize("way", ["heartbeat", "stop", "read"])
def test_successes_that_are_held_join_the_roll_ups(queue: SQLiteJobQueue, way: str) -> None:
    settle_one(queue)
    settle_one(queue)
    assert counted(queue) == 1
    if way == "heartbeat":
        queue.extend(ME)
    elif way == "stop":
        queue.stop()
    else:
        queue.rollups(0, 2e9, 60)
    assert counted(queue) == 2


def test_roll_ups_are_kept_where_the_file_cannot_be_written(
    queue: SQLiteJobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle_one(queue)
    settle_one(queue)

    def fail(*_: object, **__: object) -> None:
        raise BackendUnavailable("the file", "it is full")

    with monkeypatch.context() as broken:
        broken.setattr(queue.store.db, "transaction", fail)
        with pytest.raises(BackendUnavailable):
            queue.extend(ME)
    queue.extend(ME)
    assert counted(queue) == 2
