"""What belongs to one process of a SQLite store: bells and workers."""

from __future__ import annotations

import threading
from pathlib import Path

from nuvom.core.views import WorkerInfo
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.testing import make_job, make_settlement
from tests.engine import LIMIT_SECS
from tests.unit.sqlite.conftest import Real, make_queue

ME = "worker-1"


def test_threads_make_one_bell_and_one_presence(queue: SQLiteJobQueue) -> None:
    together = threading.Barrier(6)
    bells, presences = set(), set()

    def use() -> None:
        together.wait()
        bells.add(queue.store.wakeup)
        presences.add(queue.store.workers.lock_of(ME))

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_SECS)
    assert (1, 1) == (len(bells), len(presences))


def test_worker_that_leaves_takes_its_files_along(queue: SQLiteJobQueue) -> None:
    queue.announce(WorkerInfo(id=ME))
    folder = queue.store.db.directory / "workers"
    assert {f"{ME}.lock", f"{ME}.slots"} == {file.name for file in folder.iterdir()}
    queue.retire(ME)
    queue.retire(ME)
    assert [] == list(folder.iterdir())
    assert [] == queue.workers()


def test_dead_worker_is_not_shown_however_young_its_beat_is(queue: SQLiteJobQueue) -> None:
    queue.announce(WorkerInfo(id=ME))
    assert [ME] == [one.id for one in queue.workers()]
    queue.store.workers.lock_of(ME).abandon()  # as its death would
    assert [] == queue.workers()
    assert queue.command(ME, "stop") is False
    queue.reap()
    assert [] == queue.workers()


def test_closing_gives_up_all_places(queue: SQLiteJobQueue) -> None:
    queue.announce(WorkerInfo(id=ME))
    queue.notify()
    queue.stop()
    queue.stop()
    assert [] == list((queue.store.db.directory / "workers").iterdir())
    assert set() == queue.store.workers.living()


def test_boot_is_noted_once(queue: SQLiteJobQueue, project: Path, clock: Real) -> None:
    queue.enqueue_many([make_job(), make_job()])
    first, second = queue.claim(2, ME)
    assert queue.store.claims_flush
    queue.settle([make_settlement(first)])
    queue.settle([make_settlement(second)])
    assert not queue.store.claims_flush
    assert [(1,)] == queue.store.db.read("SELECT count(*) FROM meta")
    another = make_queue(project, clock)
    assert not another.store.claims_flush
    another.stop()
