"""Connections and transactions of one file: opening, locks of others, flushes, threads, forks."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nuvom.config.settings import Settings
from nuvom.errors import BackendUnavailable
from nuvom.host import files
from nuvom.queue_backends.sqlite import connection as database_module
from nuvom.queue_backends.sqlite.connection import Database
from nuvom.testing import FakeClock
from tests.engine import LIMIT_SECS
from tests.unit.sqlite.conftest import Real, reader_of

PUT = "INSERT INTO meta (name, value) VALUES (?, 'x')"
ALL = "SELECT name FROM meta ORDER BY name"


@pytest.fixture
def path(project: Path) -> Path:
    return project / ".nuvom" / "nuvom.db"


def make_database(path: Path, clock: FakeClock, **settings: Any) -> Database:
    root = path.parent.parent
    return Database(path, Settings(root=root, **settings), clock, setting="sqlite_path")


@pytest.fixture
def db(path: Path, clock: Real) -> Iterator[Database]:
    db = make_database(path, clock)
    yield db
    db.close()


def put(name: str) -> Any:
    return lambda connection: connection.execute(PUT, (name,))


def names(db: Database) -> list[str]:
    return [name for (name,) in db.read(ALL)]


# ---- opening --------------------------------------------------------------------------------


def test_file_is_made_at_the_first_write_and_is_private(db: Database, path: Path) -> None:
    assert [] == names(db)
    assert not path.exists()
    db.write(put("a"))
    assert ["a"] == names(db)
    if sys.platform != "win32":
        modes = {os.stat(file).st_mode & 0o777 for file in path.parent.glob("nuvom.db*")}
        assert {0o600} == modes


@pytest.mark.parametrize("is_allowed", [False, True])
def test_database_on_a_network_file_system_is_refused(
    path: Path, clock: Real, monkeypatch: pytest.MonkeyPatch, *, is_allowed: bool
) -> None:
    monkeypatch.setattr(files, "network_kind", lambda _path: "nfs4")
    db = make_database(path, clock, allow_network_fs=is_allowed)
    if is_allowed:
        db.open()
    else:
        with pytest.raises(BackendUnavailable, match="network file system"):
            db.open()
    assert is_allowed == path.exists()
    db.close()


# ---- files that are not ours ----------------------------------------------------------------


def test_file_that_is_no_database_is_left_alone(db: Database, path: Path) -> None:
    path.write_bytes(b"This is a letter to my grandmother. " * 100)
    before = path.read_bytes()
    with pytest.raises(BackendUnavailable, match="it is not a SQLite database") as refusal:
        db.open()
    assert "sqlite_path" in refusal.value.fix
    assert before == path.read_bytes()


@pytest.mark.parametrize("application", [0, 12345])
def test_database_of_another_program_is_left_alone(
    db: Database, path: Path, application: int
) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE letters (text TEXT)")
        other.execute(f"PRAGMA application_id = {application}")
    other.close()
    before = path.read_bytes()
    with pytest.raises(BackendUnavailable, match="a SQLite database of another program"):
        db.open()
    assert before == path.read_bytes()
    assert [path.name] == [file.name for file in path.parent.glob("nuvom.db*")]


def test_tables_of_a_newer_version_are_left_alone(db: Database, path: Path) -> None:
    db.open()
    db.close()
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 2")
    newer.close()
    with pytest.raises(BackendUnavailable, match="a newer Nuvom wrote it"):
        db.open()


# ---- locks of other processes ---------------------------------------------------------------


@pytest.fixture
def locker(db: Database, path: Path) -> Iterator[sqlite3.Connection]:
    """Give another program's connection to the file."""
    db.open()
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
    yield other
    other.close()


def test_lock_of_another_process_is_waited_for(
    db: Database, locker: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, clock: Real
) -> None:
    locker.execute("BEGIN IMMEDIATE")
    naps: list[float] = []

    def nap(secs: float) -> None:
        naps.append(secs)
        if len(naps) == 20:
            locker.execute("COMMIT")

    monkeypatch.setattr(clock, "sleep", nap)
    db.write(put("a"))
    db.transaction(put("b"))
    assert ["a", "b"] == names(db)
    assert 20 == len(naps)
    assert 0.0001 <= min(naps) <= max(naps) <= 0.0005


def test_transaction_has_the_lock_before_it_reads(db: Database, locker: sqlite3.Connection) -> None:
    """Else another process could write between its look and its write, which then fails."""

    def look(connection: sqlite3.Connection) -> None:
        assert connection.in_transaction
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            locker.execute("BEGIN IMMEDIATE")

    db.transaction(look)


def test_lock_that_is_never_given_back_is_reported_in_the_end(
    db: Database, locker: sqlite3.Connection, clock: Real, caplog: pytest.LogCaptureFixture
) -> None:
    locker.execute("BEGIN EXCLUSIVE")
    before = clock.monotonic()
    with pytest.raises(BackendUnavailable, match="another process has held its lock"):
        db.write(put("a"))
    assert 60 < clock.monotonic() - before < 61
    assert ["storage.locked"] == [getattr(one, "event", "") for one in caplog.records]
    locker.execute("ROLLBACK")
    assert [] == names(db)


def test_nothing_of_a_transaction_stays_when_it_raises(db: Database) -> None:
    def action(connection: sqlite3.Connection) -> None:
        connection.execute(PUT, ("a",))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        db.transaction(action)
    db.transaction(put("b"))
    assert ["b"] == names(db)


# ---- flushes --------------------------------------------------------------------------------


def test_what_had_no_flush_gets_one_at_the_end_whatever_followed(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[Path] = []
    monkeypatch.setattr(database_module, "flush_log", lambda path, again: flushed.append(path))
    db.write(put("one"), flush=False)
    db.write(lambda connection: connection.execute("DELETE FROM queues WHERE false"))
    db.close()
    assert [db.path] == flushed


# ---- threads and forks ----------------------------------------------------------------------


def test_no_connection_is_open_during_a_fork_and_threads_wait_for_its_end(db: Database) -> None:
    db.write(put("a"))
    names(db)
    db.hold_for_fork()
    try:
        assert db._writer is None
        assert db._readers == []
        reading = threading.Thread(target=names, args=(db,))
        reading.start()
        reading.join(0.05)
        assert reading.is_alive()
    finally:
        db.go_on_after_fork()
    reading.join(LIMIT_SECS)
    assert not reading.is_alive()


def test_a_fork_waits_for_who_reads_just_now(db: Database) -> None:
    db.write(put("a"))

    def fork() -> None:
        db.hold_for_fork()
        db.go_on_after_fork()

    forking = threading.Thread(target=fork)

    def read(text: str) -> None:
        forking.start()
        forking.join(0.05)
        assert forking.is_alive()

    reader_of(db).set_trace_callback(read)
    db.read("SELECT 1")
    forking.join(LIMIT_SECS)
    assert not forking.is_alive()
