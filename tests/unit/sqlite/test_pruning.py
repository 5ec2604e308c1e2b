"""Which jobs ``prune`` removes, and how many it reads to find them."""

from __future__ import annotations

from typing import Any

import pytest

from nuvom.core.record import JobRecord, JobStatus
from nuvom.queue_backends.sqlite import SQLiteJobQueue, rows
from nuvom.testing import make_job, make_settlement
from tests.unit.sqlite.conftest import Real

ME = "worker-1"
TTL_SECS = 100.0


def put(
    queue: SQLiteJobQueue,
    count: int = 1,
    *,
    age_secs: float = 0.0,
    status: JobStatus = JobStatus.SUCCESS,
    value: Any = None,
    **fields: Any,
) -> list[JobRecord]:
    """Have jobs made, and ended, so long ago."""
    then = queue.store.clock.now() - age_secs
    fields = {"created_at": then, **fields}
    queue.enqueue_many([make_job("tests.probe", value, **fields) for _ in range(count)])
    jobs = queue.claim(count, ME, ["default"])
    queue.settle([make_settlement(job, status, finished_at=then) for job in jobs])
    return jobs


def prune(queue: SQLiteJobQueue, limit: int = 1000, *, failed_ttl_secs: float = 1000.0) -> int:
    now = queue.store.clock.now()
    return queue.prune(
        success_before=now - TTL_SECS, failed_before=now - failed_ttl_secs, limit=limit
    )


def test_job_that_was_retried_while_it_was_pruned_is_kept_whole(
    queue: SQLiteJobQueue, clock: Real, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = put(queue, age_secs=2000, status=JobStatus.FAILED, value="x" * 5000)
    transaction = queue.store.db.transaction

    def late(action: Any, **options: Any) -> Any:
        monkeypatch.undo()
        queue.retry(job.id)
        (again,) = queue.claim(1, ME)
        queue.settle([make_settlement(again, value="fresh", finished_at=clock.now())])
        return transaction(action, **options)

    monkeypatch.setattr(queue.store.db, "transaction", late)
    assert 0 == prune(queue)
    kept = queue.get(job.id)
    assert kept is not None
    assert (JobStatus.SUCCESS, job.args) == (kept.status, kept.record.args)
    assert 2 == len(queue.attempts(job.id))


# ---- times that are wrong, and lifetimes of their own ---------------------------------------


@pytest.mark.parametrize("ahead_secs", [0.0, 1e9], ids=["now", "in the future"])
def test_many_jobs_with_a_wrong_time_only_delay_the_others(
    queue: SQLiteJobQueue, clock: Real, monkeypatch: pytest.MonkeyPatch, ahead_secs: float
) -> None:
    monkeypatch.setattr(rows, "_MOST_READ", rows._BLOCK)
    put(queue, 2 * rows._BLOCK, created_at=clock.now() + ahead_secs)
    put(queue, 5, age_secs=200)
    clock.advance(TTL_SECS + 1)
    assert 2 * rows._BLOCK + 5 == sum(prune(queue, limit=10_000) for _ in range(5))


def test_result_with_a_short_life_is_found_behind_many_young_jobs(
    queue: SQLiteJobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "_MOST_READ", 2 * rows._BLOCK)
    put(queue, 3 * rows._BLOCK)
    put(queue, age_secs=20, result_ttl_secs=10)
    assert 1 == prune(queue)


def test_result_stays_while_its_key_is_taken_though_its_own_life_is_over(
    queue: SQLiteJobQueue,
) -> None:
    put(queue, age_secs=20, result_ttl_secs=10, unique_key="k", unique_for=60)
    assert 0 == prune(queue)
