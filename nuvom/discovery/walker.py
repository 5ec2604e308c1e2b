"""Walks a project's folders and yields its Python files. Opens only ignore files.

The walk stays inside the root: it does not enter linked folders, and a linked file counts only if
its target is inside too. Whatever it cannot access becomes a problem, and the walk continues. It
uses strings and ``os.scandir`` for speed: a run without changes does little else.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import TYPE_CHECKING, NamedTuple

from nuvom.discovery.entries import Problem
from nuvom.discovery.ignore import (
    ENVIRONMENT_MARKS,
    IGNORE_FILE,
    OUTPUT_FOLDERS,
    IgnoreRules,
    PatternList,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FILE_BYTES = 2 << 20  # real modules are shorter; larger ones are generated data

_LINKED = "it is a symbolic link, and linked folders are not entered"
LEAVES_ROOT = "it is a symbolic link that leads out of the project: not followed"
NOT_REGULAR = "it is not a regular file"

_READ_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)  # the walk resolved all links; a new one is an attack
    | getattr(os, "O_NONBLOCK", 0)  # a pipe that replaced the file must not block us
    | getattr(os, "O_BINARY", 0)  # keeps line endings on Windows
)


class SourceFile(NamedTuple):
    """A Python file that no rule hides.

    Attributes:
        path: Absolute path to open; for a symbolic link, that of its target.
        file: Path relative to the root, with ``/``.
    """

    path: str
    file: str
    size: int
    mtime_ns: int


class _Folder(NamedTuple):
    path: str
    prefix: str  # "" for the root, else with a trailing slash
    rules: IgnoreRules


class Walker:
    """One walk through a project.

    Args:
        root: Absolute, with links resolved.
        rules: The rules that apply in addition to the ignore files that the walk finds.

    Attributes:
        problems: Grows during the walk.
        hidden: Why each skipped folder or Python file was skipped, by path; grows during the
            walk.
    """

    def __init__(self, root: str, rules: IgnoreRules) -> None:
        self.problems = rules.problems
        self.hidden: dict[str, str] = {}
        self._root = root
        self._rules = rules

    def files(self) -> Iterator[SourceFile]:
        """Yield each Python file once, in no particular order."""
        self._pending = [_Folder(self._root, "", self._rules)]
        while self._pending:
            yield from self._files_in(self._pending.pop())

    def _files_in(self, folder: _Folder) -> Iterator[SourceFile]:
        try:
            with os.scandir(folder.path) as listing:
                entries = list(listing)
        except OSError as error:
            self._report(folder.prefix or ".", f"the folder cannot be read: {error.strerror}")
            return
        names = {entry.name for entry in entries}
        mark = _environment_mark(folder, names)
        if mark:
            reason = f"it holds {mark}, as an environment of installed packages does"
            self.hidden[folder.prefix[:-1]] = reason
            return
        if IGNORE_FILE in names:
            folder = folder._replace(rules=self._rules_with(folder))
        for entry in entries:
            try:
                source = None
                if entry.is_dir(follow_symlinks=False):
                    self._enter(entry, folder)
                elif entry.name.endswith(".py"):
                    source = self._file(entry, folder)
                elif entry.is_symlink():
                    self.hidden[folder.prefix + entry.name] = _LINKED
            except OSError as error:
                self._report(folder.prefix + entry.name, f"it cannot be read: {error.strerror}")
                continue
            if source is not None:
                yield source

    def _enter(self, entry: os.DirEntry[str], folder: _Folder) -> None:
        file = folder.prefix + entry.name
        is_package = entry.name in OUTPUT_FOLDERS and os.path.isfile(
            os.path.join(entry.path, "__init__.py")
        )
        reason = folder.rules.why_folder(file, is_package=is_package)
        if _is_junction(entry.path):
            reason = _LINKED
        if reason is None:
            self._pending.append(_Folder(entry.path, f"{file}/", folder.rules))
        else:
            self.hidden[file] = reason

    def _file(self, entry: os.DirEntry[str], folder: _Folder) -> SourceFile | None:
        if entry.name.startswith("."):  # `.#a.py` is an editor's lock
            return None
        file = folder.prefix + entry.name
        reason = folder.rules.why_file(file)
        if reason is not None:
            self.hidden[file] = reason
            return None
        if entry.is_symlink():
            return self._linked(entry.path, file)
        found = entry.stat(follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode):
            self._report(file, NOT_REGULAR)
            return None
        return SourceFile(entry.path, file, found.st_size, found.st_mtime_ns)

    def _linked(self, path: str, file: str) -> SourceFile | None:
        target = os.path.realpath(path)
        found = os.stat(target)
        if not stat.S_ISREG(found.st_mode):
            return None
        if not target.startswith(os.path.join(self._root, "")):
            self.problems.append(Problem(file, 0, LEAVES_ROOT, "warning"))
            return None
        return SourceFile(target, file, found.st_size, found.st_mtime_ns)

    def _rules_with(self, folder: _Folder) -> IgnoreRules:
        origin = folder.prefix + IGNORE_FILE
        try:
            content = read_file(os.path.join(folder.path, IGNORE_FILE))
        except OSError as error:
            self._report(origin, f"it cannot be read, so it hides nothing: {error.strerror}")
            return folder.rules
        lines = content.decode("utf-8-sig", "surrogateescape").split("\n")
        patterns = PatternList(lines, origin, folder.prefix)
        self.problems.extend(patterns.problems)
        return folder.rules.within(patterns)

    def _report(self, file: str, reason: str) -> None:
        self.problems.append(Problem(file, 0, reason))


def _environment_mark(folder: _Folder, names: set[str]) -> str | None:
    """Return the file that marks a folder below the root as an environment, or None."""
    marks = ENVIRONMENT_MARKS & names
    if not folder.prefix or not marks or folder.rules.brings_back(folder.prefix[:-1]):
        return None
    return min(marks)


def read_file(path: str) -> bytes:
    """Return a regular file's content.

    Raises: OSError: it cannot be read, is a link, is not a regular file, or is larger than
        ``MAX_FILE_BYTES``.
    """
    descriptor = os.open(path, _READ_FLAGS)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, NOT_REGULAR)
        if found.st_size > MAX_FILE_BYTES:
            raise OSError(errno.EFBIG, f"it is larger than {MAX_FILE_BYTES >> 20} MiB")
        return os.read(descriptor, found.st_size)
    finally:
        os.close(descriptor)


def _is_junction(path: str) -> bool:
    """Return whether a folder is a Windows junction, which points elsewhere like a link."""
    if sys.platform == "win32":  # pragma: no cover
        return os.lstat(path).st_reparse_tag == stat.IO_REPARSE_TAG_MOUNT_POINT
    return False
