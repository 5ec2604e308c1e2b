"""The SQLite results: read from the queue's table, or kept in a file of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nuvom.config.settings import Settings
from nuvom.core.record import JobRecord
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.result_backends.sqlite import SQLiteResultBackend
from nuvom.testing import make_job, make_settlement
from tests.unit.sqlite.conftest import Real

ME = "worker-1"


@pytest.fixture
def results(project: Path, clock: Real) -> Iterator[SQLiteResultBackend]:
    """Give results in a file of their own."""
    settings = Settings(root=project, sqlite_result_path=".nuvom/results.db")
    results = SQLiteResultBackend(settings, clock=clock)
    yield results
    results.stop()


@pytest.fixture
def guest(project: Path, clock: Real, queue: SQLiteJobQueue) -> SQLiteResultBackend:
    """Give results in the queue's file."""
    results = SQLiteResultBackend(Settings(root=project), clock=clock)
    assert results.joins(queue)
    return results


def claimed(queue: SQLiteJobQueue, **fields: Any) -> JobRecord:
    queue.enqueue(make_job(**fields))
    (job,) = queue.claim(1, ME)
    return job


# ---- with the queue -------------------------------------------------------------------------


def test_results_join_a_queue_of_the_same_file_only(
    results: SQLiteResultBackend, queue: SQLiteJobQueue
) -> None:
    assert not results.joins(queue)
    assert not results.joins(MemoryJobQueue())


def test_guest_forgets_only_what_has_ended(
    guest: SQLiteResultBackend, queue: SQLiteJobQueue
) -> None:
    job = claimed(queue)
    waiting = make_job("tests.b", "x" * 5000)
    queue.enqueue(waiting)
    assert [False, False, False] == [guest.forget(one) for one in (job.id, waiting.id, "none")]
    queue.settle([make_settlement(job)])
    assert [True, False] == [guest.forget(job.id), guest.forget(job.id)]
    assert waiting.args == queue.claim(1, ME)[0].args
