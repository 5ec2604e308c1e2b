"""Connections and transactions of one file: patience, errors, flushes, forks."""

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
from nuvom.queue_backends.sqlite import connection as database_module
from nuvom.queue_backends.sqlite.connection import Database
from nuvom.queue_backends.sqlite.schema import APPLICATION_ID, MIGRATIONS
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
    assert not path.exists()
    assert not db.is_open
    db.write(put("a"))
    assert db.is_open
    assert ["a"] == names(db)
    if sys.platform != "win32":
        modes = {os.stat(file).st_mode & 0o777 for file in path.parent.glob("nuvom.db*")}
        assert {0o600} == modes


def test_reading_makes_no_file(db: Database, path: Path) -> None:
    assert [] == db.read(ALL)
    assert db.read_one(ALL) is None
    assert not path.exists()


def test_file_says_that_it_is_ours(db: Database, path: Path) -> None:
    db.open()
    assert [(APPLICATION_ID,)] == db.read("PRAGMA application_id")
    assert [(len(MIGRATIONS),)] == db.read("PRAGMA user_version")
    assert [("wal",)] == db.read("PRAGMA journal_mode")


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        ("wal_autocheckpoint", 0),
        ("journal_size_limit", 8 << 20),
        ("trusted_schema", 0),
        ("cell_size_check", 1),
        ("mmap_size", 0),
        ("busy_timeout", 0),
        ("synchronous", 2),
    ],
)
def test_each_connection_has_the_pragmas_of_the_store(
    db: Database, pragma: str, value: int
) -> None:
    db.open()
    other = db.connect()
    connections = [reader_of(db), other]
    assert [[(value,)]] * 2 == [one.execute(f"PRAGMA {pragma}").fetchall() for one in connections]
    other.close()


def test_journal_mode_can_be_chosen(path: Path, clock: Real) -> None:
    db = make_database(path, clock, sqlite_journal_mode="delete")
    db.write(put("a"))
    assert [("delete",)] == db.read("PRAGMA journal_mode")
    db.close()


def test_readers_cannot_write(db: Database) -> None:
    db.open()
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader_of(db).execute(PUT, ("a",))


def test_closed_database_opens_again(db: Database) -> None:
    db.write(put("a"))
    names(db)
    db.close()
    db.close()
    assert not db.is_open
    db.write(put("b"))
    assert ["a", "b"] == names(db)


def test_too_old_a_sqlite_is_refused(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "_OLDEST_SQLITE", (99, 0, 0))
    with pytest.raises(BackendUnavailable, match=r"3\.38 or newer is needed"):
        db.open()


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
        newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    newer.close()
    with pytest.raises(BackendUnavailable, match="a newer Nuvom wrote it"):
        db.open()


def test_damaged_database_is_reported(db: Database, path: Path) -> None:
    db.write(put("a"))
    db.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(BackendUnavailable, match=r"it is damaged|malformed"):
        db.read("SELECT * FROM jobs")


@pytest.mark.skipif(
    sys.platform == "win32" or (hasattr(os, "geteuid") and os.geteuid() == 0),
    reason="rights do not bind this user",
)
def test_folder_that_cannot_be_written_is_reported(db: Database, path: Path) -> None:
    path.parent.chmod(0o500)
    try:
        with pytest.raises(BackendUnavailable, match="sqlite_path"):
            db.open()
    finally:
        path.parent.chmod(0o700)


def test_file_that_is_a_folder_is_reported(db: Database, path: Path) -> None:
    path.mkdir()
    with pytest.raises(BackendUnavailable, match="not a regular file"):
        db.open()


# ---- patience -------------------------------------------------------------------------------


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
    db: Database, locker: sqlite3.Connection, clock: Real
) -> None:
    locker.execute("BEGIN EXCLUSIVE")
    before = clock.monotonic()
    with pytest.raises(BackendUnavailable, match="another process has held its lock"):
        db.write(put("a"))
    assert 60 < clock.monotonic() - before < 61
    locker.execute("ROLLBACK")
    assert [] == names(db)


def test_long_wait_for_a_lock_is_told_once(
    db: Database,
    locker: sqlite3.Connection,
    clock: Real,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends_at = 0.0

    def nap(secs: float) -> None:
        clock.advance(secs)
        if clock.monotonic() > ends_at and locker.in_transaction:
            locker.execute("ROLLBACK")

    def told() -> list[str]:
        events = (one for one in caplog.records if getattr(one, "event", "") == "storage.locked")
        return [one.getMessage() for one in events]

    monkeypatch.setattr(clock, "sleep", nap)
    for locked_secs, lines in ((4.9, 0), (5.5, 1), (30.0, 1)):
        locker.execute("BEGIN EXCLUSIVE")
        ends_at = clock.monotonic() + locked_secs
        db.write(put(f"{locked_secs}"))
        assert lines == len(told())
    assert str(db.path) in told()[0]


def test_error_that_is_no_lock_is_not_waited_for(db: Database, clock: Real) -> None:
    before = clock.monotonic()
    with pytest.raises(BackendUnavailable, match="no such table"):
        db.write(lambda connection: connection.execute("DELETE FROM no_such"))
    assert before == clock.monotonic()


def test_error_after_a_lock_is_not_waited_for(
    db: Database, locker: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, clock: Real
) -> None:
    def free(secs: float) -> None:
        if locker.in_transaction:
            locker.execute("ROLLBACK")

    monkeypatch.setattr(clock, "sleep", free)
    locker.execute("BEGIN IMMEDIATE")

    def action(connection: sqlite3.Connection) -> None:
        connection.execute(PUT, ("a",))
        connection.execute("DELETE FROM no_such")

    with pytest.raises(BackendUnavailable, match="no such table"):
        db.transaction(action)
    assert [] == names(db)


# ---- transactions ---------------------------------------------------------------------------


def test_nothing_of_a_transaction_stays_when_it_raises(db: Database) -> None:
    def action(connection: sqlite3.Connection) -> None:
        connection.execute(PUT, ("a",))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        db.transaction(action)
    assert [] == names(db)
    db.transaction(put("b"))
    assert ["b"] == names(db)


def test_transaction_that_has_ended_itself_is_not_rolled_back(db: Database) -> None:
    def action(connection: sqlite3.Connection) -> None:
        connection.execute(PUT, ("a",))
        connection.execute("COMMIT")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        db.transaction(action)
    assert ["a"] == names(db)


def test_transaction_returns_what_its_action_returns(db: Database) -> None:
    assert 1 == db.transaction(lambda connection: connection.execute(PUT, ("a",)).rowcount)


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


@pytest.mark.parametrize(("durability", "most"), [("full", 2), ("normal", 1)])
def test_flush_is_switched_only_where_it_changes(
    path: Path, clock: Real, durability: str, most: int
) -> None:
    db = make_database(path, clock, durability=durability)

    def level(connection: sqlite3.Connection) -> int:
        return int(connection.execute("PRAGMA synchronous").fetchone()[0])

    levels = [
        db.write(level),
        db.write(level, flush=False),
        db.write(level, flush=False),
        db.write(level),
        db.transaction(lambda _: 9),
    ]
    assert [most, 1, 1, most, 9] == levels
    db.close()


# ---- threads --------------------------------------------------------------------------------


def test_threads_share_readers_and_never_fail(db: Database) -> None:
    db.write(put("a"))
    errors: list[BaseException] = []
    together = threading.Barrier(8)

    def read() -> None:
        try:
            together.wait()
            for _ in range(200):
                assert [("a",)] == db.read(ALL)
        except BaseException as error:  # noqa: BLE001  # looked at below
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_SECS)
    assert [] == errors
    assert len(db._readers) <= 8


def test_threads_write_one_after_the_other(db: Database) -> None:
    def write(first: int) -> None:
        for number in range(first, first + 50):
            db.transaction(put(f"{number:04}"))

    threads = [threading.Thread(target=write, args=(first,)) for first in range(0, 400, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_SECS)
    assert 400 == len(names(db))


# ---- forks ----------------------------------------------------------------------------------


def test_child_forgets_the_parents_connections_and_closes_none(db: Database) -> None:
    db.write(put("a"))
    names(db)
    writer, mutex = db._writer, db._mutex
    db.drop_in_child()  # what the system calls there
    assert not db.is_open
    assert db._mutex is not mutex
    assert writer is not None
    assert writer in database_module._inherited
    writer.execute("SELECT 1")  # still open
    db.write(put("b"))
    assert ["a", "b"] == names(db)


def test_no_connection_is_open_during_a_fork_and_threads_wait_for_its_end(db: Database) -> None:
    db.write(put("a"))
    names(db)
    db.hold_for_fork()
    try:
        assert not db.is_open
        assert db._readers == []
        reading = threading.Thread(target=names, args=(db,))
        reading.start()
        reading.join(0.05)
        assert reading.is_alive()
    finally:
        db.go_on_after_fork()
    reading.join(LIMIT_SECS)
    assert not reading.is_alive()
    assert ["a"] == names(db)


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


def test_child_forgets_connections_that_were_never_made(path: Path, clock: Real) -> None:
    before = len(database_module._inherited)
    make_database(path, clock).drop_in_child()
    assert before == len(database_module._inherited)
