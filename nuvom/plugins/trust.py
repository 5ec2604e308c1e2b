"""Checks whether another user could have written a file that names code to run.

It opens the file first and checks what it opened, so that the file cannot be swapped between the
check and the read. It does not interpret the content.
"""

from __future__ import annotations

import os
import shlex
import stat
import sys
from typing import TYPE_CHECKING

from nuvom.errors import InvalidConfigFile, PluginNotTrusted

if TYPE_CHECKING:
    from pathlib import Path

_MAX_BYTES = 1 << 20
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
# Each flag exists only on some systems. Non-blocking: a pipe of this name must not block us.
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_FLAGS |= getattr(os, "O_BINARY", 0)


def read_trusted(path: Path) -> bytes | None:
    """Return the content of ``path``, or None if there is no such file.

    On Windows, Python cannot see owners and access lists: only the file's type is checked.

    Raises:
        PluginNotTrusted: it is a symbolic link or not a regular file, belongs neither to the
            current user nor to root, or another user may write to it or to its folder.
        InvalidConfigFile: it cannot be read, or is longer than 1 MiB.
    """
    if path.is_symlink():
        repair = "Put a copy of the file in the place of the link."
        raise PluginNotTrusted(path, "it is a symbolic link", repair)
    try:
        descriptor = os.open(path, _FLAGS)
        try:
            found = os.fstat(descriptor)
            content = os.read(descriptor, _MAX_BYTES + 1) if stat.S_ISREG(found.st_mode) else b""
        finally:
            os.close(descriptor)
        folder = path.parent.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise InvalidConfigFile(path, reason) from error
    if not stat.S_ISREG(found.st_mode):
        repair = "Move it away, or put a regular file in its place."
        raise PluginNotTrusted(path, "it is not a regular file", repair)
    _check(path, "it", path, found)
    _check(path, f"its folder {path.parent}", path.parent, folder)
    if len(content) > _MAX_BYTES:
        raise InvalidConfigFile(path, f"it is longer than {_MAX_BYTES} bytes")
    return content


def _check(path: Path, what: str, place: Path, found: os.stat_result) -> None:
    if sys.platform == "win32":  # access lists decide, which Python does not read
        return
    quoted, user = shlex.quote(str(place)), os.geteuid()
    if found.st_uid not in (user, 0):
        repair = f"If you trust what is in it, run: chown {user} {quoted}"
        raise PluginNotTrusted(path, f"{what} belongs to the user {found.st_uid}", repair)
    if found.st_mode & _OTHERS_WRITE:
        repair = f"Run: chmod go-w {quoted}"
        raise PluginNotTrusted(path, f"{what} can be written to by other users", repair)
