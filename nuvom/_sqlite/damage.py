"""Finds out whether a database file is damaged, and keeps a note of it for whoever opens it next.

Source for what is looked at: the SQLite documentation on ``PRAGMA quick_check`` and on how
databases get corrupted. What is done about it: ``docs/decisions/0018-damaged-files.md``.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING

from nuvom.errors import BackendUnavailable, NuvomError
from nuvom.host.files import private_directory

if TYPE_CHECKING:
    from pathlib import Path

SALVAGE = "save what can be read with `nuvom doctor --salvage NEW_FILE`"

_NOTE = "damaged"
_FLAGS = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether SQLite met something in the file that it cannot have written."""
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF == sqlite3.SQLITE_CORRUPT


def find_damage(connection: sqlite3.Connection) -> str:
    """Look at the whole file; return the first thing that is wrong with it, or nothing.

    Takes about a second for each GB that the system has in memory, and keeps a snapshot open
    meanwhile. Writers go on.
    Raises: sqlite3.Error: the file cannot be read, which may mean nothing (it is locked).
    """
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return str(error)
    return "" if found[0] == "ok" else " ".join(str(found[0]).split())


def damaged(where: Path, reason: str) -> BackendUnavailable:
    """Return the error that refuses a damaged file."""
    return BackendUnavailable(
        where,
        f"it is damaged ({reason}), and nothing is written to it any more",
        f"Stop all that use it, then put a backup in its place, or {SALVAGE}.",
    )


def note_damage(directory: Path, reason: str) -> None:
    """Have the next one who opens the file look at all of it. Never fails."""
    with suppress(OSError, NuvomError):  # the damage itself is what is told
        private_directory(directory)
        descriptor = os.open(directory / _NOTE, _FLAGS | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, f"{reason}\n".encode())
        finally:
            os.close(descriptor)


def has_note(directory: Path) -> bool:
    """Whether somebody has met damage, and nobody has found the file sound since."""
    return os.path.lexists(directory / _NOTE)


def forget_note(directory: Path) -> None:
    """The file is sound, perhaps because a backup was put in its place."""
    with suppress(OSError):
        os.unlink(directory / _NOTE)
