"""Moving committed pages into the database: guarded, by one process, and never failing a commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nuvom.config.settings import Settings
from nuvom.errors import BackendUnavailable
from nuvom.host.lock import FileLock
from nuvom.queue_backends.sqlite import checkpoint as checkpoint_module
from nuvom.queue_backends.sqlite.checkpoint import Checkpointer, has_reset_race
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
def checkpointer(db: Database, monkeypatch: pytest.MonkeyPatch) -> Checkpointer:
    monkeypatch.setattr(db.checkpointer, "_is_guarded", True)
    return db.checkpointer


def fill(db: Database, count: int = 50) -> None:
    for _ in range(count):
        db.write(
            lambda one: one.execute(
                "INSERT INTO commands (worker, word) VALUES ('w', ?)", ("x" * 4000,)
            )
        )


@pytest.mark.parametrize(
    ("version", "has_race"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 0), False),
        ((4, 0, 0), False),
    ],
)
def test_versions_with_the_race_are_known(version: tuple[int, ...], has_race: bool) -> None:  # noqa: FBT001
    assert has_race == has_reset_race(version)


def test_short_log_is_left_alone(db: Database, checkpointer: Checkpointer) -> None:
    assert not checkpointer.look()
    assert () == checkpointer.connections


def test_missing_log_is_left_alone(db: Database, checkpointer: Checkpointer) -> None:
    checkpointer._log = f"{checkpointer._log}.none"
    assert not checkpointer.look(trigger_bytes=0)


def test_long_log_is_moved_into_the_database(db: Database, checkpointer: Checkpointer) -> None:
    fill(db)
    before = db.path.stat().st_size
    assert checkpointer.look(trigger_bytes=0)
    assert db.path.stat().st_size > before
    assert 2 == len(checkpointer.connections)
    assert checkpointer.look(trigger_bytes=0)
    assert 2 == len(checkpointer.connections)


def test_log_is_looked_at_once_in_a_while(
    db: Database, checkpointer: Checkpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def look() -> None:
        looks.append(checkpointer._commits)
        checkpointer._commits = 0

    monkeypatch.setattr(checkpointer, "look", look)
    checkpointer._commits = 0
    for _ in range(130):
        checkpointer.after_commit()
    assert [checkpoint_module._LOOK_EVERY] * (130 // checkpoint_module._LOOK_EVERY) == looks


def test_nobody_can_write_during_a_guarded_checkpoint(
    db: Database, checkpointer: Checkpointer
) -> None:
    fill(db)
    checkpointer.look(trigger_bytes=0)
    fill(db)
    stranger = sqlite3.connect(db.path, timeout=0, isolation_level=None)
    refused: list[str] = []

    class Watched:
        def execute(self, statement: str) -> Any:
            with pytest.raises(sqlite3.OperationalError) as refusal:
                stranger.execute("BEGIN IMMEDIATE")
            refused.append(str(refusal.value))
            return real.execute(statement)

        def close(self) -> None:
            real.close()

    real, guard = checkpointer.connections
    checkpointer.connections = (Watched(), guard)  # type: ignore[assignment]
    assert checkpointer.look(trigger_bytes=0)
    assert ["database is locked"] == refused
    stranger.execute("BEGIN IMMEDIATE")  # and afterwards anybody can
    stranger.close()


def test_checkpoint_on_a_fixed_version_needs_no_guard(
    db: Database, checkpointer: Checkpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpointer, "_is_guarded", False)
    fill(db)
    statements: list[str] = []
    checkpointer.connections = (db.connect(), db.connect())
    checkpointer.connections[1].set_trace_callback(statements.append)
    assert checkpointer.look(trigger_bytes=0)
    assert [] == statements


def test_checkpoint_waits_for_no_writer(db: Database, checkpointer: Checkpointer) -> None:
    fill(db)
    stranger = sqlite3.connect(db.path, timeout=0, isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    assert not checkpointer.look(trigger_bytes=0)
    stranger.execute("ROLLBACK")
    stranger.close()
    assert checkpointer.look(trigger_bytes=0)


def test_guard_is_given_back_when_the_checkpoint_fails(
    db: Database, checkpointer: Checkpointer
) -> None:
    fill(db)
    checkpointer.look(trigger_bytes=0)

    class Failing:
        def execute(self, _: str) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        def close(self) -> None: ...

    real, guard = checkpointer.connections
    checkpointer.connections = (Failing(), guard)  # type: ignore[assignment]
    fill(db)
    assert not checkpointer.look(trigger_bytes=0)
    assert not guard.in_transaction
    real.close()


def test_one_process_checkpoints_at_a_time(db: Database, checkpointer: Checkpointer) -> None:
    fill(db)
    db.directory.mkdir(exist_ok=True)
    other = FileLock(db.directory / "checkpoint.lock")
    assert other.acquire()
    assert not checkpointer.look(trigger_bytes=0)
    other.release()
    assert checkpointer.look(trigger_bytes=0)


def test_one_thread_checkpoints_at_a_time(db: Database, checkpointer: Checkpointer) -> None:
    fill(db)
    with checkpointer._busy:
        assert not checkpointer.look(trigger_bytes=0)


@pytest.mark.parametrize(
    "error",
    [sqlite3.DatabaseError("malformed"), BackendUnavailable("the lock", "no room for it")],
)
def test_trouble_with_a_checkpoint_never_reaches_who_has_committed(
    db: Database, checkpointer: Checkpointer, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(checkpointer, "_elected", fail)
    monkeypatch.setattr(checkpoint_module, "_LOOK_EVERY", 1)
    monkeypatch.setattr(
        checkpointer, "look", lambda: Checkpointer.look(checkpointer, trigger_bytes=0)
    )
    fill(db, 3)
    assert [(3,)] == db.read("SELECT count(*) FROM commands")


def test_log_stays_short_under_load(
    db: Database, checkpointer: Checkpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_module, "TRIGGER_BYTES", 100_000)
    monkeypatch.setattr(
        checkpointer, "look", lambda: Checkpointer.look(checkpointer, trigger_bytes=100_000)
    )
    sizes = []
    for _ in range(10):
        fill(db, 100)
        sizes.append(Path(checkpointer._log).stat().st_size)
    assert max(sizes) < 1_500_000  # it would be eight million


def test_closing_twice_is_fine(db: Database, checkpointer: Checkpointer) -> None:
    fill(db)
    checkpointer.look(trigger_bytes=0)
    checkpointer.close()
    checkpointer.close()
    assert () == checkpointer.connections
    assert checkpointer.look(trigger_bytes=0)
