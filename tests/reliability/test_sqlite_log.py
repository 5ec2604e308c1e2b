"""R12, F13, F14: the write-ahead log stays bounded, and no commit can slip between checkpoints."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nuvom.config.settings import Settings
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.host import crashpoint
from nuvom.inspection.inspector import Inspector
from nuvom.queue_backends.sqlite import SQLiteJobQueue, checkpoint
from nuvom.queue_backends.sqlite.queue import _CLAIM_UNDER_PRESSURE
from nuvom.testing.builders import make_job
from nuvom.worker import Worker
from tests.engine import LIMIT_SECS
from tests.reliability import tasks
from tests.reliability.workspace import Workspace

MIB = 1 << 20


def log_bytes(path: Path) -> int:
    return os.stat(f"{path}-wal").st_size


@contextmanager
def snapshot_open(path: Path) -> Iterator[None]:
    """Keep a snapshot open, as a forgotten shell does."""
    reader = sqlite3.connect(path, isolation_level=None)
    try:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM jobs").fetchall()
        yield
    finally:
        reader.close()


@pytest.fixture
def queue(project: Path) -> Iterator[SQLiteJobQueue]:
    queue = SQLiteJobQueue(Settings(root=project, durability="normal"))
    queue.start()
    yield queue
    queue.stop()


def test_f14_a_log_behind_a_foreign_snapshot_is_told_of_and_grows_slower(
    queue: SQLiteJobQueue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = queue.store.db.path
    monkeypatch.setattr(checkpoint, "SLOW_BYTES", 9 * MIB)
    monkeypatch.setattr(checkpoint, "FULL_BYTES", 12 * MIB)
    slept: list[float] = []
    monkeypatch.setattr(queue.store.db.checkpointer._clock, "sleep", slept.append)
    jobs = [make_job("tests.padded", "x" * 500) for _ in range(1500)]
    with snapshot_open(path), caplog.at_level(logging.WARNING, "nuvom"):
        for job in jobs:
            queue.enqueue(job)
        assert log_bytes(path) > 9 * MIB
        assert slept
        assert max(slept) > 2 * min(slept)
        assert len(queue.claim(1000, "worker")) == _CLAIM_UNDER_PRESSURE
    told = [
        record for record in caplog.records if getattr(record, "event", "") == "storage.log_long"
    ]
    assert len(told) == 1
    assert str(path) in told[0].getMessage()
    for _ in range(3):  # the first finds the reader gone, the next begins the log anew
        queue.enqueue(make_job())
    queue.store.db.checkpointer.slows_down()
    assert not queue.store.db.checkpointer.slows_down()
    before = len(slept)
    queue.enqueue(make_job())
    assert len(slept) == before


def test_f13_nobody_can_write_during_a_checkpoint(queue: SQLiteJobQueue) -> None:
    checkpointer = queue.store.db.checkpointer
    queue.enqueue(make_job())
    refused: list[str] = []

    def write(point: str) -> None:
        if point.startswith("sqlite.checkpoint"):
            other = sqlite3.connect(queue.store.db.path, timeout=0, isolation_level=None)
            try:
                other.execute("BEGIN IMMEDIATE").execute("ROLLBACK")
            except sqlite3.OperationalError:
                refused.append(point)
            finally:
                other.close()

    crashpoint.arm(write)
    assert checkpointer.look(trigger_bytes=0)
    assert refused == ["sqlite.checkpoint.before", "sqlite.checkpoint.after"]


def test_f13_every_connection_has_the_pragmas_that_keep_the_file_safe(
    queue: SQLiteJobQueue,
) -> None:
    queue.enqueue(make_job())
    queue.get("unknown")
    queue.store.db.checkpointer.look(trigger_bytes=0)
    db = queue.store.db
    assert db._writer is not None
    for connection in (db._writer, *db._readers, *db.checkpointer.connections):
        values = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in (
                "journal_mode",
                "wal_autocheckpoint",
                "journal_size_limit",
                "trusted_schema",
                "cell_size_check",
                "mmap_size",
                "busy_timeout",
            )
        }
        assert values == {
            "journal_mode": "wal",
            "wal_autocheckpoint": 0,
            "journal_size_limit": 8 * MIB,
            "trusted_schema": 0,
            "cell_size_check": 1,
            "mmap_size": 0,
            "busy_timeout": 0,
        }


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("jobs_a_second", [500, None])
def test_r12_the_log_stays_bounded_behind_a_reader_of_a_minute(
    tmp_path: Path, figures: Callable[[str], None], jobs_a_second: int | None
) -> None:
    """At 500 jobs a second, and as fast as they can be enqueued."""
    workspace = Workspace(tmp_path)
    with workspace.open() as runtime:
        runtime.queue.start()
        path = runtime.settings.db_path
        stopping = threading.Event()
        producer = threading.Thread(target=enqueue, args=(jobs_a_second, stopping))
        worker = Worker(runtime, threads=2)
        worker.start()
        producer.start()
        try:
            with snapshot_open(path):
                longest, ends_at = 0, SYSTEM_CLOCK.monotonic() + 60
                while SYSTEM_CLOCK.monotonic() < ends_at:
                    longest = max(longest, log_bytes(path))
                    SYSTEM_CLOCK.sleep(0.1)
            SYSTEM_CLOCK.sleep(5)
            after = log_bytes(path)
        finally:
            stopping.set()
            producer.join(LIMIT_SECS)
            worker.stop()
            worker.join(LIMIT_SECS)
        done = sum(one.success for one in Inspector(runtime).stats())
        figures(
            f"{jobs_a_second or 'all'} jobs/s: {done} jobs done, log at most {longest / MIB:.1f} "
            f"MiB, {after / MIB:.1f} MiB five seconds after the reader"
        )
        assert longest < 64 * MIB
        if jobs_a_second is not None:  # at full load it may be between two checkpoints just then
            assert after <= 8 * MIB


def enqueue(jobs_a_second: int | None, stopping: threading.Event) -> None:
    while not stopping.is_set():
        tasks.bare.map([(number,) for number in range(50)])
        if jobs_a_second is not None:
            stopping.wait(50 / jobs_a_second)
