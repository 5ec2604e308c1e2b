"""Promises of docs/guarantees.md that need a worker, or two stores, to be seen."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from nuvom.core.record import JobStatus
from nuvom.errors import JobFailed
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from tests.engine import LIMIT_SECS, Engine, make_runtime, untraced

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def engine(project: Path) -> Iterator[Engine]:
    with Engine(make_runtime(project, queue_backend="sqlite", result_backend="sqlite")) as engine:
        yield engine


@pytest.fixture
def two_stores(project: Path) -> Iterator[Engine]:
    runtime = make_runtime(
        project,
        queue_backend="sqlite",
        result_backend="sqlite",
        sqlite_result_path=".nuvom/results.db",
    )
    with Engine(runtime) as engine:
        yield engine


@untraced
def test_a_thread_that_hangs_gives_its_slot_back(engine: Engine) -> None:
    may_end = threading.Event()

    @engine.task(timeout_secs=0.1)
    def hang() -> str:
        while not may_end.is_set():
            try:
                may_end.wait(LIMIT_SECS)
            except BaseException:  # noqa: BLE001  # code that lets nobody stop it
                continue
        return "too late"

    @engine.task
    def quick() -> str:
        return "done"

    hung = [hang.delay() for _ in range(3)]
    with engine.worker(threads=1) as worker:
        assert quick.delay().get(LIMIT_SECS) == "done"
        for job in hung:
            with pytest.raises(JobFailed, match=r"timed out after 0\.1 s"):
                job.get(LIMIT_SECS)
        may_end.set()
        engine.wait_until(lambda: worker.stuck == 0)
        assert {JobStatus.FAILED} == {job.status for job in hung}


def test_a_coroutine_that_hangs_is_cancelled(engine: Engine) -> None:
    cancelled = threading.Event()

    @engine.task(timeout_secs=0.1)
    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    job = hang.delay()
    with engine.worker():
        with pytest.raises(JobFailed, match=r"timed out after 0\.1 s"):
            job.get(LIMIT_SECS)
        assert cancelled.wait(LIMIT_SECS)


def test_work_that_was_finished_before_a_death_between_two_stores_is_not_done_again(
    two_stores: Engine,
) -> None:
    runs = []

    @two_stores.task
    def add(x: int, y: int) -> int:
        runs.append((x, y))
        return x + y

    job = add.delay(2, 3)
    runtime = two_stores.runtime
    queue = runtime.queue
    assert isinstance(queue, SQLiteJobQueue)
    (claimed,) = queue.claim(1, "dies")
    queue.mark_started(claimed)
    runtime.results.set_result(claimed.id, 5, record=claimed)
    queue.store.workers.lock_of("dies").abandon()  # as a death would, before the queue is told
    assert [job.id] == [record.id for record in queue.reap()]
    two_stores.work()
    assert (JobStatus.SUCCESS, 5, []) == (job.status, job.get(0), runs)
