"""Copies the readable part of a damaged database into a new one; the old one is not changed.

Rows are read in order of their numbers. Behind one that cannot be read the next number is tried, so
that an unreadable page costs only its own rows, except for the first, which leads to all others.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nuvom.config.project import create_private_file
from nuvom.errors import BackendUnavailable
from nuvom.host.files import storage_errors, sync_directory
from nuvom.queue_backends.sqlite.errors import file_bytes, translate
from nuvom.queue_backends.sqlite.schema import is_prepared, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator

# The tables of workers and their commands are omitted: no worker uses the new file yet.
_TABLES = ("jobs", "payloads", "attempts", "queues", "meta")
_MOST_FAILURES = 100_000  # for each table; after that, give up on the rest
_HALVES = (
    "DELETE FROM jobs WHERE record IS NULL AND seq NOT IN (SELECT seq FROM payloads)",
    "DELETE FROM payloads WHERE seq NOT IN (SELECT seq FROM jobs)",
    "DELETE FROM attempts WHERE seq NOT IN (SELECT seq FROM jobs)",
)
_COUNT = "SELECT count(*) FROM jobs INDEXED BY sqlite_autoindex_jobs_1"  # reads no row itself
_SPENT = "UPDATE spent SET seq = max(seq, ?, coalesce((SELECT max(seq) FROM jobs), 0))"


class Salvaged(NamedTuple):
    """What was copied.

    Attributes:
        jobs: Complete jobs.
        attempts: Attempts in their histories.
        lost: Jobs that could not be read, or only in part; if their index is unreadable too, all
            numbers that they may have had.
    """

    jobs: int
    attempts: int
    lost: int


def salvage(source: Path, target: Path) -> Salvaged:
    """Copy everything readable in ``source`` and its log into the new file ``target``.

    No process may use ``source`` meanwhile. It is read from a copy, which needs as much disk space
    again.
    Raises: BackendUnavailable: ``target`` already exists, or nothing is readable. StorageFull.
    """
    if not file_bytes(source):
        raise BackendUnavailable(source, "it is missing or empty", "There is nothing to save.")
    with storage_errors(target), tempfile.TemporaryDirectory(dir=target.parent) as folder:
        copy = Path(folder, "copy")
        for end in ("", "-wal"):
            with suppress(FileNotFoundError):
                shutil.copyfile(f"{source}{end}", f"{copy}{end}")
        if not create_private_file(target, setting="--salvage"):
            raise BackendUnavailable(target, "it is there already", "Name a file that is not.")
        try:
            found = _read_into(target, copy, source)
            sync_directory(target.parent)
        except BaseException as error:
            os.unlink(target)
            if isinstance(error, sqlite3.Error):
                raise translate(error, target, "--salvage") from error
            raise
    return found


def _read_into(target: Path, copy: Path, source: Path) -> Salvaged:
    with closing(sqlite3.connect(copy, isolation_level=None)) as old:
        _look_at(old, source)
        with closing(_new(target)) as new:
            return _copy(old, new)


def _new(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    prepare(connection, path)
    return connection


def _look_at(copy: sqlite3.Connection, source: Path) -> None:
    """Raise BackendUnavailable if the file is not Nuvom's, or its tables cannot be found."""
    try:
        copy.execute("PRAGMA cell_size_check = ON")
        is_prepared(copy, source)
        copy.execute("SELECT seq FROM jobs LIMIT 0")
    except sqlite3.DatabaseError as error:
        repair = "Put a backup in its place, or try the command .recover of SQLite's own shell."
        raise BackendUnavailable(source, f"its tables cannot be found ({error})", repair) from error


def _copy(old: sqlite3.Connection, new: sqlite3.Connection) -> Salvaged:
    new.execute("BEGIN IMMEDIATE")
    unread, *_ = [_copy_table(old, new, table) for table in _TABLES]
    halves, *_ = [new.execute(statement).rowcount for statement in _HALVES]
    spent = 0
    with suppress(sqlite3.DatabaseError):
        spent = old.execute("SELECT max(seq) FROM spent").fetchone()[0] or 0
    new.execute(_SPENT, (spent,))
    jobs, attempts = (
        new.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("jobs", "attempts")
    )
    new.execute("COMMIT")
    lost = unread + halves
    with suppress(sqlite3.DatabaseError):
        lost = max(0, old.execute(_COUNT).fetchone()[0] - jobs)
    return Salvaged(jobs, attempts, lost)


def _copy_table(old: sqlite3.Connection, new: sqlite3.Connection, table: str) -> int:
    """Copy the rows of one table; return how many numbers could not be read or copied."""
    width = len(new.execute(f"SELECT * FROM {table}").description)
    insert = f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * width)})"
    query = f"SELECT rowid, * FROM {table} NOT INDEXED WHERE rowid >= ? ORDER BY rowid"
    lost = 0
    for row in _readable(old, query):
        try:
            lost += row is None or not new.execute(insert, row[1:]).rowcount
        except sqlite3.IntegrityError:  # a value that its column does not allow
            lost += 1
    return lost


def _readable(connection: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...] | None]:
    """Yield each row, preceded by its number, or None in place of one that cannot be read."""
    number = 0
    for _ in range(_MOST_FAILURES):
        try:
            for row in connection.execute(query, (number,)):
                number = max(number, row[0] + 1)  # a damaged page may lead back
                yield row
            return
        except sqlite3.DatabaseError:
            number += 1
            yield None
