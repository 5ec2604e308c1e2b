"""The SQLite results: read from the queue's table, or kept in a file of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nuvom.config.settings import Settings
from nuvom.core.ids import new_id
from nuvom.core.record import JobRecord, JobStatus, StoredError
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.result_backends.full import as_stored_error
from nuvom.result_backends.sqlite import SQLiteResultBackend
from nuvom.serialization.msgpack_codec import MsgpackCodec
from nuvom.serialization.refusal import Shaped
from nuvom.testing import make_job, make_settlement
from tests.engine import LIMIT_SECS
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


def test_what_the_queue_settled_is_read(guest: SQLiteResultBackend, queue: SQLiteJobQueue) -> None:
    success, failure = claimed(queue), claimed(queue)
    queue.settle([make_settlement(success, value=8), make_settlement(failure, JobStatus.FAILED)])
    assert (8, None) == (guest.get_result(success.id), guest.get_error(success.id))
    error = guest.get_error(failure.id)
    assert error is not None
    assert (None, "ValueError") == (guest.get_result(failure.id), error.type)
    assert [failure.id, success.id] == [full["id"] for full in guest.list_jobs()]


def test_objects_are_read_as_their_data(guest: SQLiteResultBackend, queue: SQLiteJobQueue) -> None:
    class Point(msgspec.Struct):
        x: int

    def moved(point: Point) -> Point:
        raise NotImplementedError

    moved.__annotations__ = {"point": Point, "return": Point}
    codec = MsgpackCodec()
    args, kwargs = codec.call_encoder(moved)((Point(1),), {})
    job = make_job().replace(args=msgspec.Raw(args), kwargs=msgspec.Raw(kwargs))
    queue.enqueue(job)
    (job,) = queue.claim(1, ME)
    queue.settle([make_settlement(job, result=codec.result_encoder(moved)(Point(2)))])

    full = guest.get_full(job.id)
    assert full is not None
    shaped = [guest.get_result(job.id), full["result"], full["args"][0]]
    assert all(isinstance(one, Shaped) for one in shaped)
    assert [{"x": 2}, {"x": 2}, {"x": 1}] == [one.data for one in shaped]


def test_guest_leaves_the_file_to_the_queue(
    guest: SQLiteResultBackend, queue: SQLiteJobQueue
) -> None:
    queue.start()
    guest.start()
    guest.stop()
    assert queue.store.db.is_open


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


def test_forgotten_job_leaves_nothing_behind(
    guest: SQLiteResultBackend, queue: SQLiteJobQueue
) -> None:
    queue.enqueue(make_job("tests.b", "x" * 5000))
    (job,) = queue.claim(1, ME)
    queue.settle([make_settlement(job, JobStatus.FAILED)])
    assert guest.forget(job.id)
    for table in ("jobs", "payloads", "attempts"):
        assert [(0,)] == queue.store.db.read(f"SELECT count(*) FROM {table}")


# ---- in a file of their own -----------------------------------------------------------------


def test_outcome_is_kept_with_all_that_is_known(results: SQLiteResultBackend, clock: Real) -> None:
    record = make_job("tests.probe", 1, kwargs={"y": 2}, tags=("a",), metadata={"b": 1})
    record = record.replace(attempt=2, lease_epoch=3, priority=0)
    assert results.set_result(record.id, [1, 2], record=record)
    full = results.get_full(record.id)
    assert full is not None
    assert {
        "id": record.id,
        "func_name": "tests.probe",
        "status": "SUCCESS",
        "queue": "default",
        "priority": 0,
        "attempt": 2,
        "max_retries": 0,
        "args": [1],
        "kwargs": {"y": 2},
        "result": [1, 2],
        "error": None,
        "created_at": record.created_at,
        "run_at": None,
        "started_at": None,
        "finished_at": clock.now(),
        "worker": None,
        "tags": ["a"],
        "metadata": {"b": 1},
    } == full


def test_outcome_of_an_unknown_job_can_be_kept(results: SQLiteResultBackend) -> None:
    job_id = new_id()
    assert results.set_result(job_id, 8)
    assert results.set_result(job_id, 9)
    assert 9 == results.get_result(job_id)
    assert results.set_error(job_id, "no good")
    assert StoredError("Error", "no good") == results.get_error(job_id)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("no good", StoredError("Error", "no good")),
        (ValueError("no good"), StoredError("ValueError", "no good")),
        (StoredError("X", "y", "z"), StoredError("X", "y", "z")),
    ],
)
def test_error_is_kept_as_texts(given: Any, stored: StoredError) -> None:
    assert stored == as_stored_error(given)


@pytest.mark.parametrize(("epoch", "is_kept"), [(2, False), (3, False), (4, True)])
def test_later_delivery_wins(results: SQLiteResultBackend, epoch: int, *, is_kept: bool) -> None:
    record = make_job().replace(lease_epoch=3)
    assert results.set_result(record.id, "first", record=record)
    again = results.set_result(record.id, "second", record=record.replace(lease_epoch=epoch))
    assert is_kept == again
    assert ("second" if is_kept else "first") == results.get_result(record.id)


def test_record_never_touches_an_outcome(results: SQLiteResultBackend) -> None:
    record = make_job()
    results.set_record(record)
    results.set_record(record.replace(status=JobStatus.RUNNING, attempt=1))
    full = results.get_full(record.id)
    assert full is not None
    assert ("RUNNING", 1) == (full["status"], full["attempt"])
    results.set_error(record.id, "no", record=record, status=JobStatus.CANCELLED)
    results.set_record(record)
    assert "CANCELLED" == (results.get_full(record.id) or {})["status"]


def test_record_can_be_forgotten_before_it_has_an_outcome(results: SQLiteResultBackend) -> None:
    record = make_job().replace(status=JobStatus.RUNNING)
    results.set_record(record)
    assert results.forget(record.id)
    assert results.get_full(record.id) is None


def test_waiter_is_woken_by_an_outcome(results: SQLiteResultBackend) -> None:
    with results.waiter() as waiter:
        assert waiter is not None
        thread = threading.Thread(target=results.set_result, args=(new_id(), 8))
        thread.start()
        assert waiter.wait(LIMIT_SECS)
        thread.join()
        assert not waiter.wait(0)


def test_default_file_is_that_of_the_queue(project: Path) -> None:
    results = SQLiteResultBackend()
    assert project / ".nuvom" / "nuvom.db" == results.store.db.path
    results.stop()
