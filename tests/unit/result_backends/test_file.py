"""What is the file results' own; the laws of all result backends are in tests/conformance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nuvom.config.settings import Settings
from nuvom.core.record import JobStatus, StoredError
from nuvom.queue_backends.file import FileJobQueue
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.result_backends.file import FileResultBackend
from nuvom.testing.builders import make_job, make_settlement

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ERROR = StoredError("ValueError", "no", "Traceback ...", "here")


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[FileJobQueue]:
    queue = FileJobQueue(Settings(root=tmp_path))
    yield queue
    queue.stop()


@pytest.fixture
def joined(queue: FileJobQueue) -> FileResultBackend:
    backend = FileResultBackend(queue.settings)
    assert backend.joins(queue)
    return backend


def test_it_joins_the_file_queue_of_its_folder_and_no_other(tmp_path: Path) -> None:
    backend = FileResultBackend(Settings(root=tmp_path))
    assert not backend.joins(MemoryJobQueue())
    assert not backend.joins(FileJobQueue(Settings(root=tmp_path, file_path="elsewhere")))
    assert backend.joins(FileJobQueue(Settings(root=tmp_path)))
    assert FileResultBackend().joins(FileJobQueue())


def test_what_the_queue_settled_is_read(queue: FileJobQueue, joined: FileResultBackend) -> None:
    for name in ("well", "badly", "waits"):
        queue.enqueue(make_job("shop.send", 1, id=name, tags=("t",)))
    well, badly = queue.claim(2, "w")
    queue.settle(
        [
            make_settlement(well, value={"n": 1}),
            make_settlement(badly, JobStatus.FAILED, error=ERROR),
        ]
    )
    assert joined.get_result("well") == {"n": 1}
    assert joined.get_error("badly") == ERROR
    assert joined.get_result("waits") is None
    full = joined.get_full("well")
    assert full is not None
    assert (full["args"], full["worker"], full["status"]) == ([1], "w", "SUCCESS")
    assert [one["id"] for one in joined.list_jobs()] == ["waits", "badly", "well"]


def test_the_later_of_two_outcomes_counts(queue: FileJobQueue, joined: FileResultBackend) -> None:
    queue.enqueue(make_job("shop.send", id="a"))
    (job,) = queue.claim(1, "w")
    queue.settle([make_settlement(job, value="settled")])
    assert not joined.set_result("a", "late", record=job)
    assert joined.get_result("a") == "settled"
    assert joined.set_result("a", "later", record=job.replace(lease_epoch=9))
    assert joined.get_result("a") == "later"
    assert [one["result"] for one in joined.list_jobs()] == ["later"]


def test_what_is_forgotten_is_gone_from_the_queue_unless_it_still_runs(
    queue: FileJobQueue, joined: FileResultBackend
) -> None:
    queue.enqueue(make_job("shop.send", id="a"))
    (job,) = queue.claim(1, "w")
    assert not joined.forget("a")
    assert queue.settle([make_settlement(job)]) == [True]
    assert joined.forget("a")
    assert queue.get("a") is None
    assert not joined.forget("a")


def test_stopping_leaves_the_queue_open(queue: FileJobQueue, joined: FileResultBackend) -> None:
    joined.start()
    queue.enqueue(make_job("shop.send", id="a"))
    queue.claim(1, "w")
    joined.stop()
    assert queue.extend("w") == {"a": 1}


def test_a_waiter_learns_of_what_another_process_settled(
    tmp_path: Path, queue: FileJobQueue, joined: FileResultBackend
) -> None:
    other = FileJobQueue(Settings(root=tmp_path))
    other.enqueue(make_job("shop.send", id="a"))
    with joined.waiter() as waiter:
        assert waiter is not None
        assert not waiter.wait(0)
        other.settle([make_settlement(job) for job in other.claim(1, "w")])
        assert waiter.wait(30)
        assert joined.get_full("a") is not None
        other.enqueue(make_job("shop.send", id="b"))
        other.cancel("b")
        assert waiter.wait(30), "it asks to be rung again before it is looked"
    other.stop()


def test_beside_another_queue_an_outcome_is_written_first_and_once_for_each_delivery(
    tmp_path: Path,
) -> None:
    backend = FileResultBackend(Settings(root=tmp_path, durability="normal"))
    job = make_job("shop.send", id="a", status=JobStatus.RUNNING, lease_epoch=2)
    assert backend.set_result("a", 1, record=job)
    assert not backend.set_error("a", "no", record=job)
    again = FileResultBackend(Settings(root=tmp_path))
    assert again.get_result("a") == 1
    assert not again.set_result("a", 2, record=job.replace(lease_epoch=1))
    for one in (backend, again):
        one.stop()
