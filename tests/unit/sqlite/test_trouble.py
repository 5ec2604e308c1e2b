"""What SQLite's errors mean, where it does not say itself."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from nuvom.errors import BackendUnavailable, StorageFull
from nuvom.queue_backends.sqlite.errors import (
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


# ---- no room, where SQLite tells of an I/O error --------------------------------------------


@pytest.mark.parametrize(
    ("code", "number", "told"),
    [
        (sqlite3.SQLITE_FULL, errno.EIO, StorageFull),
        (sqlite3.SQLITE_IOERR_WRITE, errno.ENOSPC, StorageFull),
        (sqlite3.SQLITE_IOERR_WRITE, errno.EIO, BackendUnavailable),
        (sqlite3.SQLITE_CANTOPEN, errno.ENOSPC, StorageFull),
    ],
)
def test_whether_there_is_room_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, number: int, told: type
) -> None:
    def fail(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", fail)
    assert isinstance(translate(error_of(code), tmp_path / "file", "sqlite_path"), told)
    assert [] == list(tmp_path.iterdir())
