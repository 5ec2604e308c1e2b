"""Closing attempts in the SQLite store, in bulk and one by one."""

from __future__ import annotations

from typing import Any

import pytest

from nuvom.core.record import JobRecord, JobSnapshot, JobStatus, StoredError
from nuvom.queue_backends.sqlite import SQLiteJobQueue, hot
from nuvom.testing import make_job, make_settlement
from tests.engine import LIMIT_SECS
from tests.unit.sqlite.conftest import Real

ME = "worker-1"


def claimed(queue: SQLiteJobQueue, count: int = 1, **fields: Any) -> list[JobRecord]:
    queue.enqueue_many([make_job(**fields) for _ in range(count)])
    return queue.claim(count, ME)


def seen(queue: SQLiteJobQueue, job: JobRecord) -> JobSnapshot:
    found = queue.get(job.id)
    assert found is not None
    return found


def statements(queue: SQLiteJobQueue) -> list[str]:
    found: list[str] = []
    writer = queue.store.db._writer
    assert writer is not None
    writer.set_trace_callback(found.append)
    return found


def test_successes_are_settled_by_one_statement(queue: SQLiteJobQueue) -> None:
    jobs = claimed(queue, 50)
    queue.settle([make_settlement(jobs[0])])  # marks the boot
    found = statements(queue)
    assert [True] * 49 == queue.settle(
        [make_settlement(job, value=number) for number, job in enumerate(jobs[1:])]
    )
    assert 1 == len([one for one in found if not one.startswith("PRAGMA")])
    assert [b"\x00", b"\x01", b"\x02"] == [seen(queue, job).result for job in jobs[1:4]]


def test_results_of_any_size_keep_apart(queue: SQLiteJobQueue) -> None:
    jobs = claimed(queue, 4)
    values = ["x" * 100_000, "", None, b"\0\xff"]
    queue.settle(
        [make_settlement(job, value=value) for job, value in zip(jobs, values, strict=True)]
    )
    results = [seen(queue, job).result for job in jobs]
    assert [100_005, 1, 1, 4] == [len(result or b"") for result in results]


def test_result_that_is_not_kept_is_none(queue: SQLiteJobQueue) -> None:
    kept, dropped = claimed(queue, 2)
    queue.settle([make_settlement(kept, value=8), make_settlement(dropped, result=None)])
    assert [b"\x08", None] == [seen(queue, kept).result, seen(queue, dropped).result]


def test_who_was_fenced_is_told_apart_in_a_bulk(queue: SQLiteJobQueue) -> None:
    jobs = claimed(queue, 5)
    queue.cancel(jobs[1].id)
    queue.release([jobs[3]])
    expected = [True, False, True, False, True]
    settled = [make_settlement(job, value=8) for job in jobs]
    assert expected == queue.settle(settled)
    assert expected == queue.settle(settled)  # twice is safe
    assert ["SUCCESS", "CANCELLED", "SUCCESS", "PENDING", "SUCCESS"] == [
        seen(queue, job).status for job in jobs
    ]


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


def test_child_wakes_a_worker(queue: SQLiteJobQueue) -> None:
    (job,) = claimed(queue)
    settled = [make_settlement(job, children=(make_job("tests.child"),))]
    assert queue.wait_for_work(LIMIT_SECS, lambda: queue.settle(settled) != [True])


def test_child_of_a_fenced_success_is_not_stored(queue: SQLiteJobQueue) -> None:
    (job,) = claimed(queue)
    queue.cancel(job.id)
    child = make_job("tests.child")
    assert [False] == queue.settle([make_settlement(job, children=(child,))])
    assert queue.get(child.id) is None


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


@pytest.mark.parametrize("status", ["SUCCESS", "FAILED"])
def test_key_stays_taken_for_its_time_after_the_end(
    queue: SQLiteJobQueue, clock: Real, status: str
) -> None:
    now = clock.now()
    (job,) = claimed(queue, unique_key="k", unique_for=60.0, created_at=now)
    queue.settle([make_settlement(job, JobStatus(status))])
    assert job.id == queue.enqueue(make_job(unique_key="k", unique_for=60.0, created_at=now))
    clock.advance(61)
    assert queue.enqueue(make_job(unique_key="k")) is None


def test_failure_without_a_fingerprint_is_grouped_by_its_type_and_task(
    queue: SQLiteJobQueue,
) -> None:
    first, second = claimed(queue, 2)
    queue.settle(
        [
            make_settlement(first, JobStatus.FAILED, error=StoredError("ValueError", "no")),
            make_settlement(second, JobStatus.FAILED, error=None),
        ]
    )
    assert [first.id] == queue.failed_ids(f"ValueError:{first.func_name}")
    assert [second.id] == queue.failed_ids(f"FAILED:{second.func_name}")
    assert JobStatus.FAILED is seen(queue, second).status


def test_history_tells_each_attempt_but_parking(queue: SQLiteJobQueue, clock: Real) -> None:
    (job,) = claimed(queue)
    queue.settle([make_settlement(job, JobStatus.PARKED)])
    queue.unpark([job.func_name])
    for status in (JobStatus.PENDING, JobStatus.SUCCESS):
        (job,) = queue.claim(1, ME)
        queue.settle([make_settlement(job, status, run_at=clock.now())])
    assert [(1, "retry"), (2, "success")] == [
        (one.number, one.outcome) for one in queue.attempts(job.id)
    ]
