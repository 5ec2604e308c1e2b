"""Taking back jobs in the SQLite store: who is charged, and how it is grouped."""

from __future__ import annotations

import pytest

from nuvom.core.record import JobStatus
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.testing import make_job
from tests.unit.sqlite.conftest import Real, seen

ME, OTHER = "worker-1", "worker-2"


def test_worker_that_is_gone_without_a_trace_is_charged(queue: SQLiteJobQueue) -> None:
    job = make_job()
    queue.enqueue(job)
    queue.claim(1, ME)
    queue.store.workers.leave(ME)  # in good order, but its job was never settled
    (record,) = queue.reap()
    assert (1, True) == (record.deliveries, record.suspect)


def test_nobody_is_silent_who_could_not_beat(
    queue: SQLiteJobQueue, clock: Real, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job()
    queue.enqueue(job)
    queue.claim(1, ME)
    clock.advance(31)
    transaction = queue.store.db.transaction

    def locked_for_long(action: object, **options: object) -> object:
        clock.advance(16)
        return transaction(action, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(queue.store.db, "transaction", locked_for_long)
    assert [] == queue.reap()
    monkeypatch.undo()
    assert [] == queue.reap()
    assert JobStatus.RUNNING is seen(queue, job).status
    clock.advance(5)
    assert [job.id] == [one.id for one in queue.reap()]
