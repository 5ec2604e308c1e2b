"""Finds all tasks of a project: walks it, reads what changed, parses, names. Writes only its cache.

``.nuvom/cache/discovery.json`` holds the results for unchanged files. It is separate from the
manifest because it contains times and sizes. It is only a cache: a damaged one is rebuilt, and
discovery works without it if it cannot be written. The command line calls this module, and so
does a worker in development, through ``auto_register.py``.
"""

from __future__ import annotations

import json
import keyword
import logging
import os
import sys
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from nuvom.config.project import STATE_DIR, ensure_folder_for, import_roots
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.discovery.entries import Problem, TaskEntry
from nuvom.discovery.ignore import IgnoreRules, PatternList
from nuvom.discovery.parser import NOTHING, Parsed, mentions_tasks, parse
from nuvom.discovery.walker import SourceFile, Walker, read_file
from nuvom.errors import NuvomError, ProjectNotFound
from nuvom.host.files import write_durably
from nuvom.log import get_logger, log_event

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nuvom.core.clock import Clock

CACHE_FILE = os.path.join(STATE_DIR, "cache", "discovery.json")

_SOURCE_PREFIX = "src/"
_PACKAGE = "__init__.py"
# The result of parsing a file depends on this code and on Python's grammar.
_FORMAT = f"3 python {sys.version_info.major}.{sys.version_info.minor}"
_TICK_NANOS = 2_000_000_000  # the coarsest file system clock, that of FAT

_log = get_logger("discovery")


class Duplicate(NamedTuple):
    """A task name that several functions claim.

    Attributes:
        places: Two or more ``file:line``; the manifest lists the first.
    """

    name: str
    places: tuple[str, ...]


class Scan(NamedTuple):
    """The result of one walk through a project.

    Attributes:
        tasks: One entry for each name, sorted by name.
        problems: Sorted by file and line; includes duplicates and tasks that cannot be imported.
        files_seen: How many Python files no rule hides.
        files_read: How many of them were read.
        files_parsed: How many of them were parsed.
    """

    tasks: tuple[TaskEntry, ...]
    problems: tuple[Problem, ...]
    duplicates: tuple[Duplicate, ...]
    files_seen: int
    files_read: int
    files_parsed: int

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems because of which something could not be used."""
        return tuple(problem for problem in self.problems if problem.level == "error")


def scan(
    root: str | Path,
    *,
    exclude: Sequence[str] = (),
    include: Sequence[str] = (),
    use_cache: bool = True,
    clock: Clock = SYSTEM_CLOCK,
) -> Scan:
    """Return all tasks below ``root``, without importing or running anything.

    Args:
        exclude: Patterns as in ``.nuvomignore``, relative to the root; they take precedence.
        include: If given, only files that match one of these patterns are considered.
        use_cache: False means neither read nor write the cache. The cache is written only if
            ``.nuvom`` already exists or something was found.
    Raises: ProjectNotFound: ``root`` is not a folder.
    """
    base = Path(os.path.realpath(root))
    if not base.is_dir():
        raise ProjectNotFound([root])
    rules = IgnoreRules(
        exclude=PatternList(exclude, "--exclude"),
        include=PatternList(include, "--include") if include else None,
    )
    walker = Walker(os.fspath(base), rules)
    problems = walker.problems
    reader = _Reader(base, problems, started_ns=int(clock.now() * 1e9), use_cache=use_cache)
    source_is_root = len(import_roots(base)) > 1
    entries: list[TaskEntry] = []
    for source in walker.files():
        parsed = reader.read(source)
        problems += [one._replace(file=source.file) for one in parsed.problems]
        entries += _named(parsed.tasks, source.file, problems, source_is_root=source_is_root)
    if use_cache and (entries or os.path.isdir(base / STATE_DIR)):
        reader.save()
    tasks, duplicates = _by_name(entries, problems, source_is_root=source_is_root)
    problems += hiding_problems(base)
    counts = reader.files_seen, reader.files_read, reader.files_parsed
    return Scan(tasks, tuple(sorted(problems)), duplicates, *counts)


def _named(
    tasks: tuple[TaskEntry, ...], file: str, problems: list[Problem], *, source_is_root: bool
) -> list[TaskEntry]:
    """Return a file's tasks with their module and name; add what prevents their import."""
    if not tasks:
        return []
    module, obstacle = module_of(file, source_is_root=source_is_root)
    if obstacle is not None:
        reason = "no worker can import the task {}: {}"
        problems += [
            Problem(file, one.line, reason.format(one.qualname, obstacle), "warning")
            for one in tasks
        ]
    return [
        msgspec.structs.replace(
            one,
            name=one.name or f"{module}.{one.qualname}",
            module=module,
            file=file,
            importable=one.importable and obstacle is None,
        )
        for one in tasks
    ]


def module_of(file: str, *, source_is_root: bool) -> tuple[str, str | None]:
    """Return the module name of ``file``, and why it cannot be imported, or None.

    The rules are those of ``project.module_name_for``, with two differences: this function does
    not access the disk, which would be too slow for each file of a scan, and it also names files
    that cannot be imported.
    """
    is_below_source = source_is_root and file.startswith(_SOURCE_PREFIX)
    path = file.removeprefix(_SOURCE_PREFIX) if is_below_source else file
    parts = path.removesuffix(".py").split("/")
    if parts[-1] == "__init__" and len(parts) > 1:
        parts.pop()
    elif parts == ["__init__"]:
        return "__init__", "the project root itself cannot be imported as a package"
    module = ".".join(parts)
    for part in parts:
        if not part.isidentifier() or keyword.iskeyword(part):
            return module, f"`{part}` cannot be part of a module's name"
    return module, None


def _by_name(
    entries: list[TaskEntry], problems: list[Problem], *, source_is_root: bool
) -> tuple[tuple[TaskEntry, ...], tuple[Duplicate, ...]]:
    """Return one entry for each name, sorted by name, and the names that are not unique.

    The first claim on a name wins. Importable tasks come first, then the root before ``src``, as
    on a worker's import path, then the order of file and line.
    """

    def rank(entry: TaskEntry) -> tuple[str, bool, bool, str, int]:
        is_below_source = source_is_root and entry.file.startswith(_SOURCE_PREFIX)
        return entry.name, not entry.importable, is_below_source, entry.file, entry.line

    tasks, duplicates = [], []
    for name, claims in groupby(sorted(entries, key=rank), key=attrgetter("name")):
        first, *others = claims
        tasks.append(first)
        if others:
            duplicates.append(Duplicate(name, tuple(one.place for one in (first, *others))))
        reason = f'the task name "{name}" is taken: defined in {first.place} and again here'
        problems += [Problem(one.file, one.line, reason) for one in others]
    return tuple(tasks), tuple(duplicates)


def hiding_problems(root: Path) -> Iterator[Problem]:
    """Yield a warning for each module or package that shares a name with the standard library.

    A worker's import path begins with the project. Everything that the worker and its child
    processes load later therefore imports such a file instead of the standard module.
    """
    for folder in import_roots(root):
        for path in sorted((*folder.glob("*.py"), *folder.glob("*/__init__.py"))):
            module = path.parent.name if path.name == _PACKAGE else path.stem
            if module in sys.stdlib_module_names:
                reason = (
                    f"it hides the module {module} of the standard library from workers and "
                    "their child processes, or is hidden by it: rename it"
                )
                yield Problem(path.relative_to(root).as_posix(), 0, reason, "warning")


# ---- the cache --------------------------------------------------------------------------


class _Remembered(NamedTuple):
    size: int
    mtime_ns: int
    tasks: tuple[TaskEntry, ...] = ()
    problems: tuple[Problem, ...] = ()


class _Stored(msgspec.Struct):
    format: str
    files: dict[str, _Remembered]


class _Reader:
    """Reads and parses the files that changed since the last scan.

    Args:
        started_ns: When this scan began. A file modified less than one tick of its file system's
            clock before that can change again without a new modification time, so its result is
            not cached yet.
    """

    def __init__(
        self, root: Path, problems: list[Problem], *, started_ns: int, use_cache: bool
    ) -> None:
        self.files_seen = self.files_read = self.files_parsed = 0
        self._root = root
        self._path = root / CACHE_FILE
        self._problems = problems
        self._started_ns = started_ns
        self._known = self._load() if use_cache else {}
        self._kept: dict[str, _Remembered] = {}

    def read(self, source: SourceFile) -> Parsed:
        """Return what a file defines; if it cannot be read, nothing, and a problem is added."""
        self.files_seen += 1
        known = self._known.get(source.file)
        if known is None or known[:2] != (source.size, source.mtime_ns):
            try:
                content = read_file(source.path)
            except OSError as error:
                reason = f"it cannot be read: {error.strerror}"
                self._problems.append(Problem(source.file, 0, reason))
                return NOTHING
            self.files_read += 1
            parsed = NOTHING
            if mentions_tasks(content):
                self.files_parsed += 1
                parsed = parse(content)
            known = _Remembered(source.size, source.mtime_ns, *parsed)
        if source.mtime_ns <= self._started_ns - _TICK_NANOS:
            self._kept[source.file] = known
        return Parsed(known.tasks, known.problems)

    def save(self) -> None:
        """Write the cache if it differs from what was loaded."""
        if self._kept == self._known:
            return
        stored = msgspec.to_builtins(_Stored(_FORMAT, self._kept))
        content = json.dumps(stored, separators=(",", ":")).encode()
        try:
            ensure_folder_for(self._path, root=self._root, setting="manifest_path")
            # No flush needed: a cache damaged by a power cut is rebuilt.
            write_durably(self._path, content, flush=False)
        except NuvomError as error:
            text = f"The discovery cache cannot be written. {error.what}"
            log_event(_log, logging.DEBUG, "discovery.cache_unwritten", text)

    def _load(self) -> dict[str, _Remembered]:
        try:
            stored = msgspec.convert(json.loads(self._path.read_bytes()), _Stored)
            if stored.format == _FORMAT:
                return stored.files
            reason = "it is of another version"
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            reason = str(error)
        text = f"The discovery cache is made anew: {reason}."
        log_event(_log, logging.DEBUG, "discovery.cache_rebuilt", text)
        return {}
