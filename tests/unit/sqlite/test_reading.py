"""What readers are told of the SQLite store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nuvom.core.record import JobStatus, StoredError
from nuvom.errors import PayloadError
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.queue_backends.sqlite.schema import decode_error, encode_error
from nuvom.testing import make_job, make_settlement
from tests.unit.sqlite.conftest import Real, make_queue

ME = "worker-1"


def test_store_without_a_file_is_empty(project: Path, clock: Real) -> None:
    queue = make_queue(project, clock)
    assert (0, None, [], [], [], {}) == (
        queue.qsize(),
        queue.get("none"),
        queue.page(),
        queue.stats(),
        queue.error_groups(),
        queue.parked_tasks,
    )
    assert not (project / ".nuvom" / "nuvom.db").exists()
    queue.stop()


@pytest.mark.parametrize("suffix", ["%", "_", "!", "\\", "'"])
def test_end_of_an_id_is_taken_as_it_is(queue: SQLiteJobQueue, suffix: str) -> None:
    queue.enqueue(make_job())
    assert [] == queue.find_ids(suffix)


@pytest.mark.parametrize("status", [99, -1])
def test_status_that_is_none_is_named_as_damage(queue: SQLiteJobQueue, status: int) -> None:
    job = make_job()
    queue.enqueue(job)
    queue.store.db.write(lambda one: one.execute("UPDATE jobs SET status = ?", (status,)))
    with pytest.raises(PayloadError, match="run `nuvom doctor`"):
        queue.get(job.id)


def test_pages_go_by_number_and_not_by_time(queue: SQLiteJobQueue) -> None:
    jobs = [make_job(created_at=float(100 - number)) for number in range(10)]
    queue.enqueue_many(jobs)
    first = queue.page(limit=4)
    second = queue.page(limit=4, before=first[-1].record.id)
    expected = [job.id for job in reversed(jobs)]
    assert expected[:8] == [one.record.id for one in (*first, *second)]


def test_group_that_was_pruned_meanwhile_is_left_out(
    queue: SQLiteJobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.enqueue(make_job())
    (job,) = queue.claim(1, ME)
    queue.settle([make_settlement(job, JobStatus.FAILED)])
    read_one = queue.store.db.read_one

    def pruned(sql: str, parameters: Any = ()) -> Any:
        return None if "task, error" in sql else read_one(sql, parameters)

    monkeypatch.setattr(queue.store.db, "read_one", pruned)
    assert [] == queue.error_groups()


def test_stats_tell_what_jobs_wait_for(queue: SQLiteJobQueue, clock: Real) -> None:
    now = clock.now()
    queue.enqueue(make_job(created_at=now - 9, queue="a"))
    queue.enqueue(make_job(created_at=now - 5, queue="a"))
    queue.enqueue(make_job(run_at=now + 60, queue="a"))
    queue.enqueue(make_job(queue="b"))
    (job,) = queue.claim(1, ME, ["b"])
    queue.settle([make_settlement(job, JobStatus.PENDING, run_at=now + 60)])
    queue.pause("c", "me")
    a, b, c = queue.stats()
    assert (2, 1, 0, now - 9) == (a.ready, a.scheduled, a.retrying, a.oldest_ready_at)
    assert (0, 0, 1, 1, None) == (b.ready, b.scheduled, b.retrying, b.waiting, b.oldest_ready_at)
    assert ("c", "me", 0) == (c.queue, c.paused_by, c.waiting)


def test_errors_survive_their_stored_form() -> None:
    error = StoredError("ValueError", "no", "Traceback", "ab12")
    assert error == decode_error(encode_error(error))
    assert decode_error(encode_error(None)) is None
