"""A SQLite queue on a clock that is moved by hand, and what looks into its file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nuvom.config.settings import Settings
from nuvom.core.record import JobRecord, JobSnapshot
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.queue_backends.sqlite.connection import Database
from nuvom.testing import FakeClock


class Real(FakeClock):
    """A clock whose short naps pass by themselves: those between two tries at a locked file."""

    def sleep(self, secs: float) -> None:
        self.advance(secs)


@pytest.fixture
def clock() -> Real:
    return Real()


def make_queue(root: Path, clock: FakeClock, **settings: Any) -> SQLiteJobQueue:
    return SQLiteJobQueue(Settings(root=root, **settings), clock=clock)


def damage(queue: SQLiteJobQueue, job: JobRecord, table: str) -> None:
    """Overwrite the stored record of a job, which is in ``jobs`` or, a large one, ``payloads``."""
    with sqlite3.connect(queue.store.db.path) as connection:
        connection.execute(
            f"UPDATE {table} SET record = x'c1' WHERE seq = (SELECT seq FROM jobs WHERE id = ?)",
            (job.id,),
        )
    connection.close()


@pytest.fixture
def queue(project: Path, clock: Real) -> Iterator[SQLiteJobQueue]:
    queue = make_queue(project, clock)
    yield queue
    queue.stop()


def reader_of(db: Database) -> sqlite3.Connection:
    """Return the connection that reads."""
    db.read("SELECT 1")
    (reader,) = db._readers
    return reader


def seen(queue: SQLiteJobQueue, job: JobRecord) -> JobSnapshot:
    found = queue.get(job.id)
    assert found is not None
    return found
