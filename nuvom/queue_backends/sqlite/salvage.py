"""Copies the readable part of a damaged database into a new one; the old one is not changed.

Rows are read by number, from both ends of each range towards the damage and then by bisecting the
rest, so that an unreadable page costs only its own rows. If the first page, which leads to all
others, is gone, that of a new file replaces it: all our files begin alike.
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
from nuvom.queue_backends.sqlite.errors import damaged, file_bytes, translate
from nuvom.queue_backends.sqlite.schema import prepare, refuse_foreign

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# The tables of workers and their commands are omitted: no worker uses the new file yet.
_TABLES = ("jobs", "payloads", "attempts", "queues", "meta")
_MOST_FAILURES = 100_000  # for each table; after that, give up on the rest
_BEYOND = 10_000  # numbers to try after the last readable row if the end is unknown
_HALVES = (
    "DELETE FROM jobs WHERE record IS NULL AND seq NOT IN (SELECT seq FROM payloads)",
    "DELETE FROM payloads WHERE seq NOT IN (SELECT seq FROM jobs)",
    "DELETE FROM attempts WHERE seq NOT IN (SELECT seq FROM jobs)",
)
_COUNT = "SELECT count(*) FROM jobs INDEXED BY sqlite_autoindex_jobs_1"  # reads no row itself
_SPENT = "UPDATE spent SET seq = max(seq, ?, coalesce((SELECT max(seq) FROM jobs), 0))"
_PAGE_SIZE, _PAGE_COUNT, _FREE_PAGES = slice(16, 18), slice(28, 32), slice(32, 40)


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
            with closing(_opened(copy, source)) as old, closing(_new(target)) as new:
                found = _copy(old, new)
            sync_directory(target.parent)
        except BaseException as error:
            os.unlink(target)
            if isinstance(error, sqlite3.Error):
                raise translate(error, target, "--salvage") from error
            raise
    return found


def _new(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    prepare(connection, path)
    return connection


def _opened(copy: Path, source: Path) -> sqlite3.Connection:
    """Open the copy; if need be, replace its first page, then drop its log."""
    repairs: tuple[Callable[[Path], object], ...] = (Path.stat, _replace_first_page, _drop_log)
    for repair in repairs:
        repair(copy)
        connection = sqlite3.connect(copy, isolation_level=None)
        try:
            connection.execute("PRAGMA cell_size_check = ON")
            refuse_foreign(connection, source)
            connection.execute("SELECT seq FROM jobs LIMIT 0")
        except sqlite3.DatabaseError as error:
            connection.close()
            reason = str(error)
        except BackendUnavailable:  # belongs to another program or a newer Nuvom
            connection.close()
            raise
        else:
            return connection
    raise damaged(source, f"{reason}; nothing can be read")


def _replace_first_page(copy: Path) -> None:
    """Replace the first page with that of a new file; see ``schema.py``.

    Each table's first page is at the same place in all files of one version of the tables.
    """
    fresh = copy.with_name("fresh")
    _new(fresh).close()
    page = bytearray(fresh.read_bytes())
    size = int.from_bytes(page[_PAGE_SIZE], "big")
    del page[size:]
    pages = -(-copy.stat().st_size // size)
    page[_PAGE_COUNT] = pages.to_bytes(4, "big")
    page[_FREE_PAGES] = bytes(8)
    with open(copy, "r+b") as stream:
        stream.write(page)


def _drop_log(copy: Path) -> None:
    Path(f"{copy}-wal").unlink(missing_ok=True)


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
    known = _columns(old, table)
    columns = [name for name in _columns(new, table) if name in known]
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    insert = f"INSERT OR IGNORE INTO {table} (rowid, {names}) VALUES (?, {marks})"
    reader = _Reader(old, table, names)
    refused = 0
    for row in reader.rows():
        try:
            refused += not new.execute(insert, row).rowcount
        except sqlite3.IntegrityError:  # a value that its column does not allow
            refused += 1
    return refused + reader.failures


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """Return the names of a table's columns, except the one with the row's number."""
    columns = connection.execute(f"PRAGMA table_info({table})")
    return [name for _, name, kind, _, _, key in columns if not (kind == "INTEGER" and key)]


class _Reader:
    """Reads a table, skipping what is unreadable.

    Attributes:
        failures: How many numbers could not be read.
    """

    def __init__(self, connection: sqlite3.Connection, table: str, columns: str) -> None:
        self._connection = connection
        self._table = table
        self._columns = columns
        self._tries = 0
        self._has_failed = False
        self.failures = 0

    def rows(self, low: int = 0, high: int | None = None) -> Iterator[tuple[Any, ...]]:
        """Yield each readable row between two numbers, preceded by its own number."""
        for row in self._run(low, high, "ASC"):
            low = max(low, row[0])
            yield row
        if not self._has_failed:
            return
        for row in self._run(low, high, "DESC"):
            high = row[0]
            yield row
        high = low + _BEYOND if high is None else high
        middle = (low + high) // 2
        if middle == low:  # nothing in between
            return
        if high - low == 2 or self._tries >= _MOST_FAILURES:  # noqa: PLR2004  # one is left
            self.failures += high - low - 1
            return
        yield from self.rows(low, middle + 1)
        yield from self.rows(middle, high)

    def _run(self, low: int, high: int | None, order: str) -> Iterator[tuple[Any, ...]]:
        """Yield rows between two numbers until one is unreadable; then set ``_has_failed``."""
        query = (
            f"SELECT rowid, {self._columns} FROM {self._table} NOT INDEXED "
            f"WHERE rowid > ?1 AND (?2 IS NULL OR rowid < ?2) ORDER BY rowid {order}"
        )
        self._has_failed = False
        try:
            yield from self._connection.execute(query, (low, high))
        except sqlite3.DatabaseError:
            self._has_failed = True
            self._tries += 1
