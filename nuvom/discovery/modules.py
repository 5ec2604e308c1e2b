"""The modules of a project: which file is which, and what each says, read and parsed at most once.

A module is parsed if it mentions tasks, or imports a name that leads to a decorator of tasks: so
the way of a decorator through re-exports is followed, and the rest of the project is left alone.

``.nuvom/cache/discovery.json`` holds the results for unchanged files. It is separate from the
manifest because it contains times and sizes. It is only a cache: a damaged one is rebuilt, and
discovery works without it if it cannot be written.
"""

from __future__ import annotations

import ast
import json
import keyword
import logging
import os
import re
import sys
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from nuvom.config.project import STATE_DIR, ensure_folder_for
from nuvom.discovery.entries import Duplicate, Problem, TaskEntry
from nuvom.discovery.parser import (
    NOTHING,
    Facts,
    Sighting,
    absolute_path,
    joined_path,
    read_facts,
    syntax_problems,
    syntax_tree,
)
from nuvom.discovery.references import KNOWN_PACKAGES, Made, References
from nuvom.discovery.walker import SourceFile, read_file
from nuvom.errors import NuvomError
from nuvom.host.files import write_durably
from nuvom.log import get_logger, log_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    Tell = Callable[[int, int], None]

CACHE_FILE = os.path.join(STATE_DIR, "cache", "discovery.json")
TICK_NANOS = 2_000_000_000  # the coarsest file system clock, that of FAT

# What the parser finds in a file depends on this code and on Python's grammar.
_FORMAT = f"5 python {sys.version_info.major}.{sys.version_info.minor}"
_PACKAGE = "__init__"
_PACKAGE_FILE = f"{_PACKAGE}.py"
# The source of a decorator; other modules are parsed if they import one. One that contains only
# ``task`` is parsed in the end, so that broken source is reported.
_ENGINES = (b"nuvom", b"celery", b"dramatiq", b"huey", b"import rq", b"from rq", b"django_rq")
_IMPORT = re.compile(rb"\n[ \t]*(?:from|import)[ \t]([^\n(]*(?:\([^)]*\))?)")
_WORD = re.compile(r"[\w.*]+")

_log = get_logger("discovery")


def module_of(file: str, roots: Sequence[str]) -> tuple[str, str | None]:
    """Return the module name of ``file``, and why it cannot be imported, or None.

    The rules are those of ``project.module_name_for``, with two differences: this function does
    not access the disk, which would be too slow for each file of a scan, and it also names files
    that cannot be imported.

    Args:
        roots: The import roots as prefixes of ``file``, the longest first; the last is ``""``.
    """
    root = _root_of(file, roots)
    parts = file[len(root) :].removesuffix(".py").split("/")
    if parts[-1] == _PACKAGE and len(parts) > 1:
        parts.pop()
    elif parts == [_PACKAGE] and not root:
        return _PACKAGE, "the project root itself cannot be imported as a package"
    module = ".".join(parts)
    for part in parts:
        if not part.isidentifier() or keyword.iskeyword(part):
            return module, f"`{part}` cannot be part of a module's name"
    return module, None


def guess_roots(sources: Iterable[SourceFile]) -> tuple[str, ...]:
    """Return the folders from which a project's code imports, besides its root and ``src``.

    It is a folder that holds packages without being one, if code below it imports one of them.
    """
    below: dict[str, list[SourceFile]] = {}
    folders = set()
    for source in sources:
        folder, _, name = source.file.rpartition("/")
        below.setdefault(folder, []).append(source)
        if name == _PACKAGE_FILE:
            folders.add(folder)
    candidates: dict[str, set[str]] = {}
    for folder in folders:
        root, _, package = folder.rpartition("/")
        if root not in folders and root not in ("", "src"):
            candidates.setdefault(root, set()).add(package)
    found = []
    for root, packages in sorted(candidates.items()):
        words = "|".join(map(re.escape, sorted(packages))).encode()
        uses = re.compile(rb"^[ \t]*(?:from|import)[ \t]+(?:" + words + rb")\b", re.MULTILINE)
        if any(
            uses.search(_quietly_read(source))
            for folder, inside in below.items()
            if f"{folder}/".startswith(f"{root}/")
            for source in inside
        ):
            found.append(root)
    return tuple(found)


def _quietly_read(source: SourceFile) -> bytes:
    try:
        return read_file(source.path)
    except OSError:  # reported when it is read for its tasks
        return b""


class Remembered(NamedTuple):
    """What is known of a file that had this size and time.

    Attributes:
        imports: The import statements of the file, without their first word, if it was not parsed.
        facts: What it says, in JSON, if it was parsed.
        problems: Why it cannot be parsed, if it mentions tasks without defining any.
    """

    size: int
    mtime_ns: int
    imports: str = ""
    facts: str | None = None
    problems: tuple[Problem, ...] = ()


class Outcome(msgspec.Struct):
    """What the modules of a project came to."""

    tasks: tuple[TaskEntry, ...]
    problems: tuple[Problem, ...]
    duplicates: tuple[Duplicate, ...]
    others: str
    guessed_roots: tuple[str, ...]
    unparsed: tuple[str, ...]


class _Stored(msgspec.Struct):
    format: str
    packages: list[str]
    settings: str
    files: dict[str, Remembered]
    outcome: Outcome | None


class Cache:
    """What was known of a project at the last scan.

    Args:
        started_ns: When this scan began. A file modified less than one tick of its file system's
            clock before that can change again without a new modification time, so its result is
            not cached yet.
        settings: What else the outcome depends on.
    """

    def __init__(self, root: Path, started_ns: int, settings: str) -> None:
        self._root = root
        self._path = root / CACHE_FILE
        self._latest_ns = started_ns - TICK_NANOS
        self._settings = settings
        self._stored = self._load()

    def outcome(self, sources: Iterable[SourceFile]) -> Outcome | None:
        """Return what the last scan came to, if nothing has changed since."""
        stored = self._stored
        if stored is None or stored.outcome is None or stored.settings != self._settings:
            return None
        stamps = {one.file: (one.size, one.mtime_ns) for one in sources}
        known = {file: one[:2] for file, one in stored.files.items()}
        return stored.outcome if stamps == known else None

    def files(self, packages: set[str]) -> dict[str, Remembered]:
        """Return what was known of each file.

        Args:
            packages: The top-level names of the project, on which the parser's results depend.
        """
        stored = self._stored
        return stored.files if stored and packages.issubset(stored.packages) else {}

    def save(self, files: dict[str, Remembered], packages: set[str], outcome: Outcome) -> None:
        """Write the cache if it differs from what was loaded."""
        kept = {file: one for file, one in files.items() if 0 <= one.mtime_ns <= self._latest_ns}
        whole = outcome if len(kept) == len(files) else None
        stored = _Stored(_FORMAT, sorted(packages), self._settings, kept, whole)
        if stored == self._stored:
            return
        content = json.dumps(msgspec.to_builtins(stored), separators=(",", ":")).encode()
        try:
            ensure_folder_for(self._path, root=self._root, setting="manifest_path")
            # No flush needed: a cache damaged by a power cut is rebuilt.
            write_durably(self._path, content, flush=False)
        except NuvomError as error:
            text = f"The discovery cache cannot be written. {error.what}"
            log_event(_log, logging.DEBUG, "discovery.cache_unwritten", text)

    def _load(self) -> _Stored | None:
        try:
            stored = msgspec.convert(json.loads(self._path.read_bytes()), _Stored)
            if stored.format == _FORMAT:
                return stored
            reason = "it is of another version"
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            reason = str(error)
        text = f"The discovery cache is made anew: {reason}."
        log_event(_log, logging.DEBUG, "discovery.cache_rebuilt", text)
        return None


class Modules:
    """All modules of a project, parsed as far as decorators lead.

    Args:
        sources: The project's Python files.
        roots: See ``module_of``.
        decorators: See ``References``.
        cache: What is known already.
        tell: Called for each file with how many are read, and how many there are.

    Attributes:
        problems: What could not be read or parsed.
        known: What is known of each file now.
        tops: The top-level names of the project.
        files: The file of each module; where two have one name, that of the earlier root.
        names: Module and obstacle of each file; see ``module_of``.
        references: What leads to tasks.
        made: Each decorated function with its file, and what its decorators make of it.
    """

    def __init__(
        self,
        sources: Sequence[SourceFile],
        roots: Sequence[str],
        decorators: Iterable[str],
        cache: Cache | None,
        *,
        tell: Tell | None = None,
    ) -> None:
        self.problems: list[Problem] = []
        self.made: list[tuple[str, Sighting, Made | None]] = []
        self._read: set[str] = set()
        self._parsed: set[str] = set()
        self._sources = {source.file: source for source in sources}
        self.names = {file: module_of(file, roots) for file in self._sources}
        self.files: dict[str, str] = {}
        for file in sorted(self.names, key=lambda one: -roots.index(_root_of(one, roots))):
            self.files.setdefault(self.names[file][0], file)
        self._packages = {one for one, file in self.files.items() if file.endswith(_PACKAGE_FILE)}
        self.tops = {name.partition(".")[0] for name in self.files}
        self._is_relevant = (self.tops | KNOWN_PACKAGES).__contains__
        self._decorators = tuple(decorators)
        self._facts: dict[str, Facts] = {}
        self._doubtful: dict[str, bytes] = {}
        before = cache.files(self.tops) if cache is not None else {}
        self.known: dict[str, Remembered] = {}
        for count, source in enumerate(sources):
            self.known[source.file] = self._look(source, before)
            if tell is not None:
                tell(count + 1, len(sources))
        self.references = self._follow()
        self._check_syntax()

    @property
    def unparsed(self) -> tuple[str, ...]:
        """The files that may define tasks and cannot be parsed."""
        return tuple(sorted(file for file, facts in self._facts.items() if facts.problems))

    @property
    def read(self) -> int:
        """How many files were read."""
        return len(self._read)

    @property
    def parsed(self) -> int:
        """How many files were parsed."""
        return len(self._parsed)

    def line_of_call(self, file: str, function: str) -> int:
        """Return the line in which a function of a file calls a decorator of tasks, or 0."""
        try:
            tree = syntax_tree(read_file(self._sources[file].path))
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            return 0
        return _line_of_call(tree, function, self.names[file][0], self.references)

    def _follow(self) -> References:
        """Parse what imports decorators, and what imports those, until there is no more."""
        while True:
            facts = {
                name: self._facts[file] for name, file in self.files.items() if file in self._facts
            }
            references = References(facts, self._packages, self._decorators)
            words = references.words_in_imports()
            wanted = [
                file
                for file, known in self.known.items()
                if file not in self._facts
                and any(word in known.imports for word in words)
                and any(map(references.leads_to_tasks, self._imported(known.imports, file)))
            ]
            if not wanted:
                self._apply(references)
                wanted = self._unread(references)
            if not wanted:
                return references
            for file in wanted:
                content = self._doubtful.pop(file, None) or self._content(self._sources[file])
                self.known[file] = self._parse(self._sources[file], content)

    def _apply(self, references: References) -> None:
        """Find out what the decorators of each function make of it."""
        self.made = [
            (file, sighting, references.made_by(sighting.decorators, self.names[file][0]))
            for file, facts in self._facts.items()
            for sighting in facts.sightings
        ]

    def _unread(self, references: References) -> list[str]:
        """Return the files, not parsed yet, that hold a part of a task's name."""
        found = set()
        for path in references.unread:
            parts = path.split(".")
            names = [".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]
            file = next((self.files[name] for name in names if name in self.files), None)
            if file is not None and file not in self._facts:
                found.add(file)
        return sorted(found)

    def _check_syntax(self) -> None:
        """Report what cannot be parsed of the files that mention tasks without defining any."""
        for file, content in self._doubtful.items():
            self._parsed.add(file)
            self.known[file] = self.known[file]._replace(problems=syntax_problems(content))
        for file, known in self.known.items():
            found = self._facts[file].problems if file in self._facts else known.problems
            self.problems += [one._replace(file=file) for one in found]

    def _look(self, source: SourceFile, before: dict[str, Remembered]) -> Remembered:
        """Return what is known of a file, read if it has changed, parsed if it may define tasks."""
        known = before.get(source.file)
        if known is not None and known[:2] == (source.size, source.mtime_ns):
            if known.facts is not None:
                self._facts[source.file] = _facts_in(known.facts)
            return known
        content = self._content(source)
        if content is None:
            return Remembered(0, -1)
        if any(word in content for word in _ENGINES):
            return self._parse(source, content)
        if b"task" in content:
            self._doubtful[source.file] = content
        found = (one.replace(b"\n", b" ") for one in _IMPORT.findall(b"\n" + content))
        imports = b"\n".join(found).decode("utf-8", "replace")
        return Remembered(source.size, source.mtime_ns, imports)

    def _content(self, source: SourceFile) -> bytes | None:
        """Read a file; a problem is added if that is not possible."""
        try:
            content = read_file(source.path)
        except OSError as error:
            reason = f"it cannot be read: {error.strerror}"
            self.problems.append(Problem(source.file, 0, reason))
            return None
        self._read.add(source.file)
        return content

    def _parse(self, source: SourceFile, content: bytes | None) -> Remembered:
        if content is None:
            self._facts[source.file] = NOTHING
            return Remembered(0, -1)
        self._parsed.add(source.file)
        facts = self._facts[source.file] = read_facts(content, self._is_relevant)
        return Remembered(source.size, source.mtime_ns, facts=_in_json(facts))

    def _imported(self, statements: str, file: str) -> Iterator[str]:
        """Yield the dotted paths of what a file imports."""
        module, is_package = self.names[file][0], file.endswith(_PACKAGE_FILE)
        for statement in statements.split("\n"):
            origin, is_from, names = statement.partition(" import ")
            for name in _WORD.findall(names if is_from else statement):
                path = joined_path(origin.strip(), name) if is_from else name
                is_relative = path.startswith(".")
                yield absolute_path(path, module, is_package=is_package) if is_relative else path


def _line_of_call(tree: ast.Module, function: str, module: str, references: References) -> int:
    """Return the first line of a function in which a decorator of tasks stands, or 0."""
    scope: ast.AST = tree
    for part in function.split("."):
        if part != "<locals>":
            inside = [one for one in ast.walk(scope) if getattr(one, "name", None) == part]
            if not inside:
                return 0
            scope = inside[-1]
    used = [
        one.func if isinstance(one, ast.Call) else one
        for node in ast.walk(scope)
        for one in (node, *getattr(node, "decorator_list", ()))
        if isinstance(one, ast.Call | ast.Name | ast.Attribute)
    ]
    lines = [
        one.lineno
        for one in used
        if isinstance(one, ast.Name | ast.Attribute)
        and references.is_decorator(ast.unparse(one), module)
    ]
    return min(lines, default=0)


def _in_json(facts: Facts) -> str:
    # Not msgspec: a docstring may hold half of a surrogate pair.
    return json.dumps(msgspec.to_builtins(facts), separators=(",", ":"))


def _facts_in(text: str) -> Facts:
    return msgspec.convert(json.loads(text), Facts)


def _root_of(file: str, roots: Sequence[str]) -> str:
    return next(one for one in roots if file.startswith(one))
