"""What an SQLite error means for a store, and what to do about it.

SQLite reports a full disk only if a plain write fails, and does not report what a failed flush left
behind; this module detects both. Once damage is found, nothing is written to the file until a check
of the whole file finds it sound. A note beside the file tells other processes.

Sources: the SQLite documentation on ``PRAGMA quick_check`` and on how databases get corrupted.
How damage is handled: ``docs/decisions/0018-damaged-files.md``.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING

from nuvom.errors import BackendUnavailable, NuvomError, StorageFull
from nuvom.host.files import FULL, on_file, private_directory, sync_data, write_again, write_all

if TYPE_CHECKING:
    from pathlib import Path

BUSY_SECS = 60.0
"""How long to wait for a lock: longer than any healthy process holds one."""

QUICK_CHECK = "PRAGMA quick_check(1)"
"""Checks the whole file and returns ``ok`` or the first problem.

Takes about a second for each GB that the system has cached in memory, and keeps a snapshot open
meanwhile. Writers are not blocked.
"""

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_MAY_BE_FULL = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})
_FAILED_FLUSHES = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})
_PROBE_BYTES = 64 << 10  # more than SQLite ever adds to one of its files at a time
_FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_CREATES = _FLAGS | os.O_CREAT
_NOTE = "damaged"
_SALVAGE = "save what can be read with `nuvom doctor --salvage NEW_FILE`"


def is_busy(error: sqlite3.Error) -> bool:
    """Whether the error is only about another connection's lock."""
    return _code(error) in _BUSY


def is_damage(error: sqlite3.Error) -> bool:
    """Whether SQLite found something in the file that it cannot have written."""
    return _code(error) == sqlite3.SQLITE_CORRUPT


def is_failed_flush(error: sqlite3.Error) -> bool:
    """Whether earlier writes may never reach the device; see ``flush_log``."""
    return getattr(error, "sqlite_errorcode", 0) in _FAILED_FLUSHES


def _code(error: sqlite3.Error) -> int:
    """Return the primary result code, or 0 if the error has none."""
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def translate(error: sqlite3.Error, where: Path, setting: str) -> NuvomError:
    """Return our own error, which says what SQLite's error means and what to do."""
    code = _code(error)
    if code == sqlite3.SQLITE_FULL or (code in _MAY_BE_FULL and _has_no_room(where)):
        return StorageFull(where, "the disk is full")
    if is_damage(error):
        return damaged(where, str(error))
    reason, repair = {
        sqlite3.SQLITE_BUSY: (
            f"another process has held its lock for more than {BUSY_SECS:g} s",
            "Find the program that has the file open (`fuser`, `lsof`) and let it finish.",
        ),
        sqlite3.SQLITE_READONLY: (
            "it is read-only",
            f"Give yourself the right to write it, or point the setting {setting} elsewhere.",
        ),
        sqlite3.SQLITE_CANTOPEN: (
            "it cannot be opened",
            f"See that folder and disk can be written, or point the setting {setting} elsewhere.",
        ),
        sqlite3.SQLITE_NOTADB: (
            "it is not a SQLite database",
            f"Point the setting {setting} elsewhere; if it was Nuvom's, put a backup in its place.",
        ),
    }.get(code, (str(error), "Run `nuvom doctor`; nothing was changed."))
    return BackendUnavailable(where, reason, repair)


def _has_no_room(database: Path) -> bool:
    """Whether nothing can be written beside a database: the disk is full."""
    probe = f"{database}.{os.urandom(6).hex()}.tmp"
    try:
        on_file(probe, _CREATES | os.O_EXCL, lambda file: write_all(file, bytes(_PROBE_BYTES)))
    except OSError as error:
        return error.errno in FULL
    finally:
        with suppress(OSError):
            os.unlink(probe)
    return False


def flush_log(database: Path, *, again: bool) -> None:
    """Flush the write-ahead log.

    After a failed flush, commits made without a flush, or by other processes, could be a hole in
    the log, and the log would end there when read after a power cut. Opening the log drops no
    lock: SQLite's locks are on the database and the ``-shm`` file.

    Args:
        again: A flush has failed: rewrite the log first. Hold the write lock.
    Raises: OSError: the log may not be on the device.
    """

    def flush(descriptor: int) -> None:
        if again:
            write_again(descriptor, 0, os.fstat(descriptor).st_size)
        sync_data(descriptor)

    with suppress(FileNotFoundError):  # another journal mode
        on_file(f"{database}-wal", _FLAGS, flush)


def file_bytes(path: os.PathLike[str] | str) -> int:
    """Return the size of a file, or 0 if it is missing.

    Never opens it: closing a descriptor would drop the locks that SQLite has on it.
    """
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def damaged(where: Path, reason: str) -> BackendUnavailable:
    """Return the error that refuses a damaged file."""
    return BackendUnavailable(
        where,
        f"it is damaged ({' '.join(reason.split())}), and nothing is written to it any more",
        f"Stop all that use it, then put a backup in its place, or {_SALVAGE}.",
    )


def note_damage(directory: Path, reason: str) -> None:
    """Make the next process that opens the file check all of it. Never raises."""
    with suppress(OSError, NuvomError):  # the damage itself is what gets reported
        private_directory(directory)
        text = f"{reason}\n".encode()
        on_file(directory / _NOTE, _CREATES | os.O_TRUNC, lambda note: write_all(note, text))


def has_note(directory: Path) -> bool:
    """Whether a process has found damage, and none has found the file sound since."""
    return os.path.lexists(directory / _NOTE)


def forget_note(directory: Path) -> None:
    """Remove the note: the file is sound, perhaps because a backup replaced it."""
    with suppress(OSError):
        os.unlink(directory / _NOTE)
