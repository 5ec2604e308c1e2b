"""What SQLite's errors mean, where it does not say itself."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from nuvom.errors import BackendUnavailable, StorageFull
from nuvom.queue_backends.sqlite import errors as trouble
from nuvom.queue_backends.sqlite.errors import (
    file_bytes,
    flush_log,
    is_busy,
    is_failed_flush,
    translate,
)


def error_of(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("what SQLite says")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (sqlite3.SQLITE_BUSY, "another process has held its lock for more than 60 s"),
        (sqlite3.SQLITE_READONLY, "it is read-only"),
        (sqlite3.SQLITE_CANTOPEN, "it cannot be opened"),
        (sqlite3.SQLITE_NOTADB, "it is not a SQLite database"),
        (sqlite3.SQLITE_CORRUPT, "it is damaged"),
        (sqlite3.SQLITE_IOERR, "what SQLite says"),
    ],
)
def test_error_of_sqlite_says_what_to_do(code: int, text: str) -> None:
    error = translate(error_of(code), Path("the file"), "sqlite_path")
    assert isinstance(error, BackendUnavailable)
    assert text in error.what
    assert error.fix


def test_full_disk_is_said_as_such() -> None:
    assert isinstance(translate(error_of(sqlite3.SQLITE_FULL), Path("the file"), "x"), StorageFull)


def test_error_without_a_code_is_passed_on_as_text() -> None:
    error = translate(sqlite3.ProgrammingError("closed"), Path("the file"), "sqlite_path")
    assert "closed" in error.what
    assert not is_busy(sqlite3.ProgrammingError("closed"))


def test_extended_code_of_a_lock_is_a_lock() -> None:
    assert is_busy(error_of(sqlite3.SQLITE_BUSY | (2 << 8)))


def test_flush_that_failed_is_told_apart() -> None:
    assert is_failed_flush(error_of(sqlite3.SQLITE_IOERR_FSYNC))
    assert not is_failed_flush(error_of(sqlite3.SQLITE_IOERR_WRITE))
    assert not is_failed_flush(sqlite3.ProgrammingError("closed"))


# ---- no room, where SQLite tells of an I/O error --------------------------------------------


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_CANTOPEN])
@pytest.mark.parametrize(
    ("number", "told"), [(errno.ENOSPC, StorageFull), (errno.EIO, BackendUnavailable)]
)
def test_whether_there_is_room_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, number: int, told: type
) -> None:
    def fail(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", fail)
    assert isinstance(translate(error_of(code), tmp_path / "file", "sqlite_path"), told)
    assert [] == list(tmp_path.iterdir())


def test_trying_leaves_nothing_behind(tmp_path: Path) -> None:
    error = translate(error_of(sqlite3.SQLITE_IOERR), tmp_path / "file", "sqlite_path")
    assert isinstance(error, BackendUnavailable)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="it knows no such limit")
def test_log_that_may_not_grow_is_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trouble, "_longest_file_bytes", lambda: 100_000)
    (tmp_path / "file-wal").write_bytes(bytes(60_000))
    error = translate(error_of(sqlite3.SQLITE_IOERR_WRITE), tmp_path / "file", "sqlite_path")
    assert isinstance(error, StorageFull)


# ---- flushing the log -----------------------------------------------------------------------


@pytest.mark.parametrize("again", [False, True])
def test_log_is_flushed_and_keeps_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, again: bool
) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "file-wal").write_bytes(content)
    written: list[int] = []
    flushed: list[int] = []
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        written.append(real(descriptor, data))
        return written[-1]

    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(trouble, "sync_data", flushed.append)
    flush_log(tmp_path / "file", again=again)
    assert len(flushed) == 1
    assert sum(written) == (len(content) if again else 0)
    assert content == (tmp_path / "file-wal").read_bytes()


def test_database_without_a_log_needs_none(tmp_path: Path) -> None:
    flush_log(tmp_path / "file", again=True)
    assert [] == list(tmp_path.iterdir())


def test_size_of_a_file_is_asked_without_opening_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert [5, 0] == [file_bytes(tmp_path / "file"), file_bytes(tmp_path / "none")]
