"""What is the file queue's own; the laws of all queues are in tests/conformance."""

from __future__ import annotations

import gc
import shutil
import sys
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from nuvom.config.settings import Settings
from nuvom.core.record import JobStatus
from nuvom.core.views import WorkerInfo
from nuvom.errors import BackendUnavailable
from nuvom.host.files import sync_data
from nuvom.queue_backends import file as file_module
from nuvom.queue_backends import file_log
from nuvom.queue_backends.file import FileJobQueue
from nuvom.queue_backends.file_log import Log
from nuvom.testing.builders import make_job, make_settlement
from nuvom.testing.clock import FakeClock
from tests.unit.queue_backends.interrupting import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nuvom.core.record import JobRecord

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs fork, modes or links")


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[list[FileJobQueue]]:
    queues: list[FileJobQueue] = []
    yield queues
    for queue in queues:
        queue.stop()


@pytest.fixture
def queue(tmp_path: Path, opened: list[FileJobQueue]) -> FileJobQueue:
    opened.append(FileJobQueue(Settings(root=tmp_path)))
    return opened[-1]


@pytest.fixture
def other(tmp_path: Path, opened: list[FileJobQueue]) -> FileJobQueue:
    """Another process's view of the same store, as it were."""
    opened.append(FileJobQueue(Settings(root=tmp_path)))
    return opened[-1]


def status(queue: FileJobQueue, job_id: str) -> JobStatus:
    snapshot = queue.get(job_id)
    assert snapshot is not None
    return snapshot.status


def put(queue: FileJobQueue, *ids: str, **fields: Any) -> None:
    for job_id in ids:
        assert queue.enqueue(make_job("shop.send", id=job_id, **fields)) is None


# ---- flushes ------------------------------------------------------------------------------


@pytest.fixture
def flushes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []

    def counted(file: int) -> None:
        calls.append("flush")
        sync_data(file)

    monkeypatch.setattr(file_log, "sync_data", counted)
    return calls


def past_the_boot(queue: FileJobQueue) -> None:
    put(queue, "first")
    queue.settle([make_settlement(job) for job in queue.claim(1, "w")])


def test_what_must_survive_a_power_cut_is_flushed_once_and_nothing_else(
    queue: FileJobQueue, flushes: list[str]
) -> None:
    past_the_boot(queue)

    def costs(action: Any) -> int:
        flushes.clear()
        action()
        return len(flushes)

    assert costs(lambda: put(queue, "a")) == 1
    many = [make_job("shop.send", id=f"m{number}") for number in range(50)]
    assert costs(lambda: queue.enqueue_many(many)) == 1
    claimed: list[JobRecord] = []
    assert costs(lambda: claimed.extend(queue.claim(20, "w"))) == 0
    assert costs(lambda: queue.mark_started(claimed[0])) == 0
    assert costs(lambda: queue.report_progress(claimed[0], 1, 2, "")) == 0
    assert costs(lambda: queue.extend("w")) == 1, "a job that takes the machine down is counted"
    assert costs(lambda: queue.settle([make_settlement(job) for job in claimed[:9]])) == 1
    assert costs(lambda: queue.release(claimed[9:])) == 1
    assert costs(lambda: queue.cancel("m45")) == 1
    assert costs(lambda: queue.retry("m45")) == 1
    assert costs(lambda: queue.get("m45")) == 0
    assert costs(queue.reap) == 0
    assert costs(lambda: queue.purge("default")) == 1


def test_after_a_boot_claims_are_flushed_until_a_job_has_settled(
    queue: FileJobQueue, other: FileJobQueue, flushes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(queue, "a", "b", "c")
    flushes.clear()
    (first,) = queue.claim(1, "w")
    assert len(flushes) == 1
    queue.settle([make_settlement(first)])
    flushes.clear()
    other.claim(1, "w2")
    assert flushes == []
    monkeypatch.setattr(file_module, "boot_id", lambda: "the next boot")
    fresh = FileJobQueue(queue.settings)
    flushes.clear()
    fresh.claim(1, "w3")
    assert len(flushes) >= 1
    fresh.stop()


# ---- enqueueing ---------------------------------------------------------------------------


def test_jobs_that_are_made_while_they_are_enqueued_may_use_the_store(
    queue: FileJobQueue,
) -> None:
    def jobs() -> Iterator[JobRecord]:
        for number in range(3):
            put(queue, f"before-{number}")
            assert queue.get(f"before-{number}") is not None
            yield make_job("shop.send", id=f"made-{number}")

    in_thread(lambda: queue.enqueue_many(jobs()))
    assert queue.qsize() == 6


# ---- flushing while the log is closed, or read anew ---------------------------------------


def test_stopping_before_an_enqueue_has_flushed_loses_and_refuses_nothing(
    queue: FileJobQueue, flushes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(queue, "first")
    real = Log.sync

    def stop_first(log: Log) -> None:
        monkeypatch.setattr(Log, "sync", real)
        queue.stop()  # another thread does, just now
        flushes.clear()
        log.sync()

    monkeypatch.setattr(Log, "sync", stop_first)
    put(queue, "a")
    assert flushes == ["flush"]
    assert status(queue, "a") is JobStatus.PENDING


# ---- workers ------------------------------------------------------------------------------


def test_a_worker_that_left_no_trace_is_charged_for_all(
    queue: FileJobQueue, other: FileJobQueue
) -> None:
    put(queue, "a")
    queue.announce(WorkerInfo(id="w"))
    queue.claim(1, "w")
    queue.own_workers.leave("w")
    assert [(job.id, job.suspect) for job in other.reap()] == [("a", True)]
    assert other.workers() == []
    assert "w" not in _table(other).holders


def _table(queue: FileJobQueue) -> Any:
    return queue.turn(lambda table: table)


def test_jobs_whose_worker_another_reaper_is_burying_are_left_to_it(
    queue: FileJobQueue, other: FileJobQueue
) -> None:
    from nuvom.host.worker_lock import find_dead

    put(queue, "a")
    queue.claim(1, "w")
    queue.stop()
    (corpse,) = find_dead(other.directory)
    assert other.reap() == []
    corpse.close()
    assert [(job.id, job.suspect) for job in other.reap()] == [("a", False)]


def test_workers_that_could_not_beat_because_the_store_was_locked_may_do_so_first(
    tmp_path: Path, opened: list[FileJobQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    queue, reaper = (FileJobQueue(Settings(root=tmp_path), clock=clock) for _ in range(2))
    opened += [queue, reaper]
    put(queue, "a")
    queue.claim(1, "w")
    real = reaper._lock.run

    def slow(*turn: Any) -> object:
        if clock.monotonic() < begin + 40:
            clock.advance(40)  # somebody had it for so long
        return real(*turn)

    begin = clock.monotonic()

    with monkeypatch.context() as patch:
        patch.setattr(reaper._lock, "run", slow)
        assert reaper.reap() == []
    assert reaper.reap() == []
    assert queue.extend("w") == {"a": 1}
    clock.advance(6)
    assert reaper.reap() == []
    clock.advance(31)
    assert [job.id for job in reaper.reap()] == ["a"]


# ---- odds and ends ------------------------------------------------------------------------


def test_a_call_within_a_call_of_the_same_thread_is_refused(queue: FileJobQueue) -> None:
    """A signal handler may enqueue while its thread does: it must not wait for itself."""
    with pytest.raises(BackendUnavailable, match="signal handler"):
        queue.turn(lambda _: put(queue, "b"))
    put(queue, "a")
    assert queue.qsize() == 1


# ---- the folder ---------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("part", ["", "log"])
def test_a_symbolic_link_in_place_of_a_folder_is_refused(tmp_path: Path, part: str) -> None:
    folder = tmp_path / ".nuvom" / "files" / part
    folder.parent.mkdir(parents=True, mode=0o700)
    (tmp_path / ".nuvom").chmod(0o700)
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    queue = FileJobQueue(Settings(root=tmp_path))
    with pytest.raises(BackendUnavailable, match="symbolic link"):
        queue.start()


@posix
def test_a_folder_that_vanishes_is_made_anew(queue: FileJobQueue, other: FileJobQueue) -> None:
    put(queue, "lost")
    assert other.qsize() == 1
    shutil.rmtree(queue.directory)
    with pytest.raises(BackendUnavailable):
        put(queue, "a")
    put(queue, "a")
    assert other.qsize() == 1
    put(other, "b")
    assert {one.record.id for one in queue.page()} == {"a", "b"}
    queue.claim(1, "w")
    shutil.rmtree(queue.directory)
    queue.stop()
    put(queue, "c")


def test_a_queue_that_nobody_uses_any_more_needs_no_garbage_collector(tmp_path: Path) -> None:
    gc.disable()  # which would close its sockets with a warning
    try:
        queue = FileJobQueue(Settings(root=tmp_path))
        queue.claim(1, "w")
        known = weakref.ref(queue)
        del queue
        assert known() is None
    finally:
        gc.enable()
