"""What readers are told of the SQLite store."""

from __future__ import annotations

from pathlib import Path

import pytest

from nuvom.core.record import JobStatus
from nuvom.errors import PayloadError
from nuvom.queue_backends.sqlite import SQLiteJobQueue
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


@pytest.mark.parametrize("status", [99, -1])
def test_status_that_is_none_is_named_as_damage(queue: SQLiteJobQueue, status: int) -> None:
    job = make_job()
    queue.enqueue(job)
    queue.store.db.write(lambda one: one.execute("UPDATE jobs SET status = ?", (status,)))
    with pytest.raises(PayloadError, match="run `nuvom doctor`"):
        queue.get(job.id)


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
