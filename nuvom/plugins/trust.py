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
_FILE_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


def read_trusted(path: Path) -> bytes | None:
    """Return the content of ``path``, or None if there is no such file.

    On Windows, Python cannot see owners and access lists: only the file's type is checked.

    Raises:
        PluginNotTrusted: it is a symbolic link or not a regular file, belongs neither to the
            current user nor to root, or another user may write to it or to its folder.
        InvalidConfigFile: it cannot be read, or is longer than 1 MiB.
    """
    try:
        if sys.platform == "win32" and path.is_symlink():  # pragma: no cover
            raise _is_link(path)
        descriptor, folder = _opened(path)
        try:
            _check(path, os.fstat(descriptor), folder)
            content = os.read(descriptor, _MAX_BYTES + 1)
        finally:
            os.close(descriptor)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if path.is_symlink():  # the system refuses links: too many levels
            raise _is_link(path) from error
        reason = (error.strerror or type(error).__name__).lower()
        raise InvalidConfigFile(path, reason) from error
    if len(content) > _MAX_BYTES:
        raise InvalidConfigFile(path, f"it is longer than {_MAX_BYTES} bytes")
    return content


def _opened(path: Path) -> tuple[int, os.stat_result | None]:
    """Return a descriptor of ``path``, and its folder's state at the time of opening."""
    if sys.platform == "win32":  # pragma: no cover  # cannot open folders
        return os.open(path, _FILE_FLAGS), None
    holder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return os.open(path.name, _FILE_FLAGS, dir_fd=holder), os.fstat(holder)
    finally:
        os.close(holder)


def _check(path: Path, found: os.stat_result, folder: os.stat_result | None) -> None:
    if not stat.S_ISREG(found.st_mode):
        repair = "Move it away, or put a regular file in its place."
        raise PluginNotTrusted(path, "it is not a regular file", repair)
    if folder is not None:
        _check_owner_and_mode(path, "it", (path, found))
        _check_owner_and_mode(path, f"its folder {path.parent}", (path.parent, folder))


def _check_owner_and_mode(path: Path, what: str, judged: tuple[Path, os.stat_result]) -> None:
    place, found = judged
    quoted = shlex.quote(str(place))
    user = _user()
    if found.st_uid not in (user, 0):
        repair = f"If you trust what is in it, run: chown {user} {quoted}"
        raise PluginNotTrusted(path, f"{what} belongs to the user {found.st_uid}", repair)
    if found.st_mode & _OTHERS_WRITE:
        repair = f"Run: chmod go-w {quoted}"
        raise PluginNotTrusted(path, f"{what} can be written to by other users", repair)


def _user() -> int:
    if sys.platform == "win32":  # pragma: no cover  # not asked there
        return 0
    return os.geteuid()


def _is_link(path: Path) -> PluginNotTrusted:
    return PluginNotTrusted(
        path, "it is a symbolic link", "Put a copy of the file in the place of the link."
    )
