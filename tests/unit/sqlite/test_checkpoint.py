"""Moving committed pages into the database: by one process, and never failing a commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from nuvom.config.settings import Settings
from nuvom.errors import BackendUnavailable
from nuvom.queue_backends.sqlite import checkpoint as checkpoint_module
from nuvom.queue_backends.sqlite.checkpoint import Checkpointer
from nuvom.queue_backends.sqlite.connection import Database
from tests.unit.sqlite.conftest import Real

PUT = "INSERT INTO commands (worker, word) VALUES ('w', ?)"


@pytest.fixture
def db(project: Path, clock: Real) -> Iterator[Database]:
    path = project / ".nuvom" / "nuvom.db"
    db = Database(path, Settings(root=project), clock, setting="sqlite_path")
    db.open()
    yield db
    db.close()


@pytest.fixture
def checkpointer(db: Database) -> Checkpointer:
    """Return the checkpointer of a database with something in its log."""
    fill(db)
    return db.checkpointer


def fill(db: Database, count: int = 50) -> None:
    for _ in range(count):
        db.execute(PUT, ("x" * 4000,))


def test_log_stays_short_under_load(
    db: Database, checkpointer: Checkpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        checkpointer, "look", lambda: Checkpointer.look(checkpointer, trigger_bytes=100_000)
    )
    sizes = []
    for _ in range(10):
        fill(db, 100)
        sizes.append(Path(f"{db.path}-wal").stat().st_size)
    assert max(sizes) < 1_500_000  # it would be eight million


def test_checkpoint_waits_for_no_writer(db: Database, checkpointer: Checkpointer) -> None:
    stranger = sqlite3.connect(db.path, timeout=0, isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    assert not checkpointer.look(trigger_bytes=0)
    stranger.execute("ROLLBACK")
    stranger.close()
    assert checkpointer.look(trigger_bytes=0)


@pytest.mark.parametrize(
    "error",
    [sqlite3.DatabaseError("malformed"), BackendUnavailable("the lock", "no room for it")],
)
def test_trouble_with_a_checkpoint_never_reaches_who_has_committed(
    db: Database, checkpointer: Checkpointer, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    tries: list[Exception] = []

    def fail() -> None:
        tries.append(error)
        raise error

    monkeypatch.setattr(checkpointer, "look", fail)
    fill(db, 2 * checkpoint_module._LOOK_EVERY)
    assert tries
