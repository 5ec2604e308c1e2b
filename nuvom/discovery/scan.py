"""Finds all tasks of a project: walk, read what changed, parse, name. Writes only its cache.

The steps are in files of their own; this one puts them together and names the tasks. Called
by the command line and, through ``auto_register.py``, by a worker in development.
"""

from __future__ import annotations

import keyword
import os
from pathlib import Path
from typing import TYPE_CHECKING

from nuvom.config.project import STATE_DIR, import_roots
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.discovery import cache
from nuvom.discovery.entries import Duplicate, Problem, Scan, TaskEntry
from nuvom.discovery.hiding import hiding_problems
from nuvom.discovery.ignore import IgnoreRules, PatternList
from nuvom.discovery.parser import NOTHING, Parsed, mentions_tasks, parse
from nuvom.discovery.walker import SourceFile, Walker, read_file
from nuvom.errors import ProjectNotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nuvom.core.clock import Clock
    from nuvom.discovery.entries import FoundTask

_SOURCE_PREFIX = "src/"


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
        exclude: Patterns as in ``.nuvomignore``, relative to the root; they win over it.
        include: If given, only files that fit one of these patterns are looked at.
        use_cache: Neither read nor write the cache when False. It is written only where there
            is a ``.nuvom`` folder already, or something was found.
    Raises: ProjectNotFound: ``root`` is not a folder.
    """
    base = os.path.realpath(root)
    if not os.path.isdir(base):
        raise ProjectNotFound([root])
    path = Path(base, cache.CACHE_FILE)
    started_ns = int(clock.now() * 1e9)
    memory = cache.DiscoveryCache(cache.load(path) if use_cache else {}, started_ns)
    scanner = _Scanner(base, _rules(exclude, include), memory)
    scanner.run()
    found = scanner.result()
    if use_cache and (found.tasks or os.path.isdir(os.path.join(base, STATE_DIR))):
        memory.save(path, Path(base))
    return found


def _rules(exclude: Sequence[str], include: Sequence[str]) -> IgnoreRules:
    return IgnoreRules(
        exclude=PatternList(exclude, "--exclude") if exclude else None,
        include=PatternList(include, "--include") if include else None,
    )


class _Scanner:
    def __init__(self, root: str, rules: IgnoreRules, memory: cache.DiscoveryCache) -> None:
        self._root = root
        self._memory = memory
        self._walker = Walker(root, rules)
        self._parsed: dict[str, Parsed] = {}  # only files that hold something to tell
        self._files_seen = self._files_read = self._files_parsed = 0

    def run(self) -> None:
        memory = self._memory
        for source in self._walker.files():
            self._files_seen += 1
            parsed = memory.find(source)
            if parsed is None:
                parsed = self._look(source)
            if parsed is not NOTHING:
                self._parsed[source.file] = parsed

    def _look(self, source: SourceFile) -> Parsed:
        """Read and parse one file; what goes wrong is a problem."""
        try:
            content = read_file(source.path, source.size)
        except OSError as error:
            reason = f"it cannot be read: {error.strerror}"
            self._walker.problems.append(Problem(source.file, 0, reason))
            return NOTHING
        self._files_read += 1
        parsed = NOTHING
        if mentions_tasks(content):
            self._files_parsed += 1
            parsed = parse(content)
        self._memory.keep(source, parsed)
        return parsed

    def result(self) -> Scan:
        problems = self._walker.problems
        source_is_root = len(import_roots(Path(self._root))) > 1
        entries: list[TaskEntry] = []
        for file, parsed in self._parsed.items():
            problems.extend(Problem(file, *note) for note in parsed.notes)
            if parsed.tasks:
                module, obstacle = module_of(file, source_is_root=source_is_root)
                entries.extend(_entry(task, file, module, obstacle) for task in parsed.tasks)
                problems.extend(_unimportable(parsed.tasks, file, obstacle))
        tasks, duplicates = _by_name(entries, source_is_root=source_is_root)
        problems.extend(_duplicate_problems(duplicates))
        problems.extend(hiding_problems(Path(self._root)))
        return Scan(
            tasks=tasks,
            problems=tuple(sorted(problems)),
            duplicates=duplicates,
            files_seen=self._files_seen,
            files_read=self._files_read,
            files_parsed=self._files_parsed,
        )


def module_of(file: str, *, source_is_root: bool) -> tuple[str, str | None]:
    """Return the module that ``file`` is, and why it cannot be imported, or None.

    The rules are those of ``project.module_name_for``, without its looks at the disk, which a
    scan cannot afford for each file; and what cannot be imported has a name here too.
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


def _entry(task: FoundTask, file: str, module: str, obstacle: str | None) -> TaskEntry:
    return TaskEntry(
        name=task.name or f"{module}.{task.qualname}",
        module=module,
        qualname=task.qualname,
        file=file,
        line=task.line,
        signature=task.signature,
        is_async=task.is_async,
        importable=task.importable and obstacle is None,
        options=task.options,
        dynamic_options=task.dynamic_options,
        doc=task.doc,
        hash=task.hash,
    )


def _unimportable(tasks: Iterable[FoundTask], file: str, obstacle: str | None) -> Iterable[Problem]:
    if obstacle is not None:
        for task in tasks:
            reason = f"no worker can import the task {task.qualname}: {obstacle}"
            yield Problem(file, task.line, reason, "warning")


def _by_name(
    entries: list[TaskEntry], *, source_is_root: bool
) -> tuple[tuple[TaskEntry, ...], tuple[Duplicate, ...]]:
    """Return one entry for each name, sorted by name, and the names that are taken twice.

    The first one counts: what a worker can import before what it cannot, the root before
    ``src`` as on its import path, then by file and line.
    """

    def rank(entry: TaskEntry) -> tuple[str, bool, bool, str, int]:
        is_below_source = source_is_root and entry.file.startswith(_SOURCE_PREFIX)
        return entry.name, not entry.importable, is_below_source, entry.file, entry.line

    groups: dict[str, list[TaskEntry]] = {}
    for entry in sorted(entries, key=rank):
        groups.setdefault(entry.name, []).append(entry)
    duplicates = tuple(
        Duplicate(name, tuple(entry.place for entry in group))
        for name, group in groups.items()
        if len(group) > 1
    )
    return tuple(group[0] for group in groups.values()), duplicates


def _duplicate_problems(duplicates: Iterable[Duplicate]) -> Iterable[Problem]:
    for name, (first, *others) in duplicates:
        for other in others:
            file, _, line = other.rpartition(":")
            reason = f'the task name "{name}" is taken: defined in {first} and again here'
            yield Problem(file, int(line), reason)
