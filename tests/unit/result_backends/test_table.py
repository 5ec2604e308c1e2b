"""Results on the table of a memory or file queue; the laws of all are in tests/conformance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nuvom.config.settings import Settings
from nuvom.queue_backends.file import FileJobQueue
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.result_backends.file import FileResultBackend
from nuvom.result_backends.memory import MemoryResultBackend
from nuvom.testing.builders import make_job, make_settlement
from tests.conformance.list_queue import ListQueue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nuvom.core.record import JobRecord

    Queue = MemoryJobQueue | FileJobQueue
    Results = MemoryResultBackend | FileResultBackend


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Queue, Results]]:
    settings = Settings(root=tmp_path)
    queue: Queue = MemoryJobQueue(settings)
    results: Results = MemoryResultBackend(settings)
    if request.param == "file":
        queue, results = FileJobQueue(settings), FileResultBackend(settings)
    assert results.joins(queue)
    yield queue, results
    queue.stop()


@pytest.fixture
def queue(store: tuple[Queue, Results]) -> Queue:
    return store[0]


@pytest.fixture
def results(store: tuple[Queue, Results]) -> Results:
    return store[1]


def claimed(queue: Queue) -> JobRecord:
    queue.enqueue(make_job("shop.send", id="a"))
    (job,) = queue.claim(1, "w")
    return job


def test_a_backend_joins_a_queue_of_its_own_kind_and_folder_only(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path)
    assert not MemoryResultBackend().joins(ListQueue())
    assert not FileResultBackend(settings).joins(MemoryJobQueue())
    elsewhere = FileJobQueue(Settings(root=tmp_path, file_path="elsewhere"))
    assert not FileResultBackend(settings).joins(elsewhere)


def test_the_later_of_two_outcomes_counts(queue: Queue, results: Results) -> None:
    job = claimed(queue)
    queue.settle([make_settlement(job, value="settled")])
    assert not results.set_result("a", "late", record=job)
    assert results.get_result("a") == "settled"
    assert results.set_result("a", "later", record=job.replace(lease_epoch=9))
    assert [one["result"] for one in results.list_jobs()] == ["later"]


def test_an_outcome_before_the_settlement_stands_until_a_later_delivery(
    queue: Queue, results: Results
) -> None:
    job = claimed(queue)
    assert results.set_error("a", "no", record=job)
    full = results.get_full("a")
    assert full is not None
    assert (full["status"], full["worker"]) == ("FAILED", "w")
    queue.release([job])
    queue.claim(1, "w")
    assert results.get_error("a") is None


def test_forgetting_removes_a_job_that_has_ended_and_leaves_one_that_has_not(
    queue: Queue, results: Results
) -> None:
    job = claimed(queue)
    assert not results.forget("a")
    results.set_result("a", "early", record=job)
    assert results.forget("a")
    assert queue.settle([make_settlement(job)]) == [True]
    assert results.forget("a")
    assert queue.get("a") is None
