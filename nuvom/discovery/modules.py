"""The modules of a project: which file is which, and what each says, read and parsed at most once.

A module is parsed if it mentions tasks, or imports a name that leads to a decorator of tasks: so
the way of a decorator through re-exports is followed, and the rest of the project is left alone.

``.nuvom/cache/discovery.json`` holds the results for unchanged files. It is separate from the
manifest because it contains times and sizes. Its first line is all that is needed if nothing has
changed; the second holds what is known of each file. It is only a cache: a damaged one is rebuilt,
and discovery works without it if it cannot be written.
"""

from __future__ import annotations

import ast
import json
import keyword
import logging
import os
import re
import sys
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple, TypeVar

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
_FORMAT = f"9 python {sys.version_info.major}.{sys.version_info.minor}"
_PACKAGE = "__init__"
_PACKAGE_FILE = f"{_PACKAGE}.py"
# An import statement without its first word: up to the end of the line or of the parentheses.
_NAMES = rb"(?:(?<=import)|(?<=import ))\((?:[^)#]++|#[^\n]*+)*+\)"
_IMPORT = re.compile(
    rb"\n[ \t]*(?:from|import)[ \t]((?:[^\n(\\]++|\\\r?\n)*+(?:" + _NAMES + rb")?)"
)
# The same for a file that has imports after others on a line.
_INLINE = (b"; from ", b"; import ", b": from ", b": import ")
_IMPORT_INLINE = re.compile(
    rb"[\n;:][ \t]*(?:from|import)[ \t]((?:[^\n(\\;]++|\\\r?\n)*+(?:" + _NAMES + rb")?)"
)
# What seems to make a task: the file is parsed, so that broken source and unknown decorators are
# reported.
_TASK_MARK = re.compile(rb"\n[ \t]*@(?!pytest\.)[\w.]*task\b")
_WORD = re.compile(r"[\w.*]+")

_log = get_logger("discovery")
_Kind = TypeVar("_Kind")


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

    It is a folder that holds packages without being one, if code below it imports one of them. The
    folders between the two may be namespace packages.
    """
    below: dict[str, list[SourceFile]] = {}
    folders = set()
    for source in sources:
        folder, _, name = source.file.rpartition("/")
        below.setdefault(folder, []).append(source)
        if name == _PACKAGE_FILE:
            folders.add(folder)
    candidates: dict[str, set[str]] = {}
    regular = {folder.rpartition("/")[2] for folder in folders}
    for folder in folders:
        root, _, package = folder.rpartition("/")
        while root not in folders and root not in ("", "src"):
            candidates.setdefault(root, set()).add(package)
            root, _, outer = root.rpartition("/")
            package = f"{outer}.{package}"
            if outer in regular:  # tests are often in folders named as the packages that they test
                break
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
    """

    size: int
    mtime_ns: int
    imports: str = ""
    facts: str | None = None


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
    stamps: dict[str, tuple[int, int]]
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
        self._stored, self._rest = self._load()

    def outcome(self, sources: Iterable[SourceFile]) -> Outcome | None:
        """Return what the last scan came to, if nothing has changed since."""
        stored = self._stored
        if stored is None or stored.outcome is None or stored.settings != self._settings:
            return None
        stamps = {one.file: (one.size, one.mtime_ns) for one in sources}
        return stored.outcome if stamps == stored.stamps else None

    def files(self, packages: set[str]) -> dict[str, Remembered]:
        """Return what was known of each file.

        Args:
            packages: The top-level names of the project and of the decorators in its settings, on
                which the parser's results depend.
        """
        if self._stored is None or not packages.issubset(self._stored.packages):
            return {}
        return _decoded(self._rest, dict[str, Remembered]) or {}

    def save(self, files: dict[str, Remembered], packages: set[str], outcome: Outcome) -> None:
        """Write the cache if it would change."""
        kept = {file: one for file, one in files.items() if 0 <= one.mtime_ns <= self._latest_ns}
        whole = outcome if len(kept) == len(files) else None
        stamps = {file: one[:2] for file, one in kept.items()}
        stored = _Stored(_FORMAT, sorted(packages), self._settings, stamps, whole)
        rest = _in_json(kept).encode()
        if (stored, rest) == (self._stored, self._rest):
            return
        try:
            ensure_folder_for(self._path, root=self._root, setting="manifest_path")
            # No flush needed: a cache damaged by a power cut is rebuilt.
            content = b"\n".join((_in_json(stored).encode(), rest))
            write_durably(self._path, content, flush=False)
        except NuvomError as error:
            text = f"The discovery cache cannot be written. {error.what}"
            log_event(_log, logging.DEBUG, "discovery.cache_unwritten", text)

    def _load(self) -> tuple[_Stored | None, bytes]:
        try:
            first, _, rest = self._path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None, b""
        except OSError as error:
            _say_rebuilt(error)
            return None, b""
        stored = _decoded(first, _Stored)
        if stored is not None and stored.format != _FORMAT:
            _say_rebuilt("it is of another version")
            return None, b""
        return stored, rest


class _Leading:
    """What leads to tasks, as far as is known, with answers kept.

    Attributes:
        words: Words of which each import that leads to tasks has one.
    """

    def __init__(self, references: References) -> None:
        self.words = references.words_in_imports()
        self._references = references
        self._found: dict[str, frozenset[str] | None] = {}

    def found_in(self, path: str) -> frozenset[str] | None:
        """Return None if what is imported leads to tasks, else those of its names that do."""
        if path not in self._found:
            leads = self._references.leads_to_tasks(path)
            self._found[path] = None if leads else self._references.names_in(path)
        return self._found[path]


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
        decorators: Sequence[str],
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
        self.tops = {name.partition(".")[0] for name in (*self.files, *decorators)}
        self._is_relevant = (self.tops | KNOWN_PACKAGES).__contains__
        self._decorators = tuple(decorators)
        alone = References({}, decorators=self._decorators)
        self._imported: dict[str, frozenset[str]] = {}
        self._engines = _Leading(alone)
        self._facts: dict[str, Facts] = {}
        before = cache.files(self.tops) if cache is not None else {}
        self.known: dict[str, Remembered] = {}
        for count, source in enumerate(sources):
            self.known[source.file] = self._look(source, before)
            if tell is not None:
                tell(count + 1, len(sources))
        self.references = self._follow()
        self.problems += [
            one._replace(file=file) for file, facts in self._facts.items() for one in facts.problems
        ]

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

    def is_parsed(self, file: str) -> bool:
        """Whether a file mentions Nuvom, or leads to what does."""
        return file in self._facts

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
            leading = _Leading(references)
            wanted = [
                file
                for file, known in self.known.items()
                if file not in self._facts
                and self._leads(known.imports, self._sources[file], leading)
            ]
            if not wanted:
                self._apply(references)
                wanted = self._unread(references)
            if not wanted:
                return references
            for file in wanted:
                content = self._content(self._sources[file])
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
        imports = _imports_in(content)
        is_marked = b"nuvom" in content or _TASK_MARK.search(b"\n" + content)
        if is_marked or self._leads(imports, source, self._engines):
            return self._parse(source, content)
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

    def _leads(self, imports: str, source: SourceFile, leading: _Leading) -> bool:
        """Whether a file imports a name that leads to tasks, or uses one of an imported module."""
        if not any(word in imports for word in leading.words):
            return False
        file = source.file
        if file not in self._imported:
            self._imported[file] = frozenset(self._imported_by(imports, file))
        found = [leading.found_in(path) for path in self._imported[file]]
        used = frozenset().union(*(one for one in found if one is not None))
        if not used or None in found:
            return None in found
        pattern = rf"\.(?:{'|'.join(used)})\b"
        return bool(re.search(pattern.encode(), _quietly_read(source)))

    def _imported_by(self, statements: str, file: str) -> Iterator[str]:
        """Yield the dotted paths of what a file imports."""
        module, is_package = self.names[file][0], file.endswith(_PACKAGE_FILE)

        def absolute(path: str) -> str:
            return absolute_path(path, module, is_package=is_package) if path[0] == "." else path

        for statement in statements.split("\n"):
            origin, is_from, names = statement.partition(" import ")
            if not is_from:
                for path in _WORD.findall(statement):  # `import a.b` binds `a`
                    yield from accumulate(absolute(path).split("."), joined_path)
            for name in _WORD.findall(names):
                yield absolute(joined_path(origin.strip(), name))


def _imports_in(content: bytes) -> str:
    """Return the import statements of a module without their first word, each on a line."""
    pattern = _IMPORT_INLINE if any(mark in content for mark in _INLINE) else _IMPORT
    found = (
        one.replace(b"\n", b" ").replace(b"import(", b"import (")
        for one in pattern.findall(b"\n" + content)
    )
    return b"\n".join(found).decode("utf-8", "replace")


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


def _in_json(record: object) -> str:
    # Not msgspec: a docstring may hold half of a surrogate pair.
    return json.dumps(msgspec.to_builtins(record), separators=(",", ":"))


def _decoded(text: bytes, kind: type[_Kind]) -> _Kind | None:
    try:
        return msgspec.convert(json.loads(text), kind)
    except (ValueError, RecursionError) as error:
        _say_rebuilt(error)
        return None


def _say_rebuilt(reason: object) -> None:
    text = f"The discovery cache is made anew: {reason}."
    log_event(_log, logging.DEBUG, "discovery.cache_rebuilt", text)


def _facts_in(text: str) -> Facts:
    return msgspec.convert(json.loads(text), Facts)


def _root_of(file: str, roots: Sequence[str]) -> str:
    return next(one for one in roots if file.startswith(one))
