"""The records that discovery passes around: tasks, problems, changes.

All are plain, immutable data. ``TaskEntry`` is one line of the manifest and what the registry
is given; a ``FoundTask`` is the part of it that a file's content alone decides.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

Level = Literal["error", "warning"]


class Note(NamedTuple):
    """Something to tell about one file.

    Attributes:
        line: Counted from 1; 0 means the file as a whole.
    """

    line: int
    reason: str
    level: Level = "error"


class Problem(NamedTuple):
    """A note together with its file.

    Attributes:
        file: Path relative to the project root, with ``/``.
        line: Counted from 1; 0 means the file as a whole.
        level: ``error``: the file, or a part of it, could not be used. ``warning``: it was
            used, but probably not as meant.
    """

    file: str
    line: int
    reason: str
    level: Level = "error"

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.reason}"


class FoundTask(NamedTuple):
    """A decorated function, as its file's content describes it.

    Attributes:
        qualname: Dotted path inside the module, as ``__qualname__`` will be.
        name: The literal ``name=`` of the decorator, or None.
        line: Line of the ``def``.
        signature: Parameters and return annotation as text, ``(x: int) -> int``.
        importable: Whether the function exists under ``qualname`` once the module is imported.
        options: The decorator's options that are literals, in plain JSON types.
        dynamic_options: Names of the other options, sorted; ``**`` for an unpacked mapping.
        doc: First line of the docstring, or None.
        hash: SHA-256 of the function's source, decorators included, whatever its line ends.
    """

    qualname: str
    name: str | None
    line: int
    signature: str
    is_async: bool
    importable: bool
    options: dict[str, Any]
    dynamic_options: tuple[str, ...]
    doc: str | None
    hash: str


class TaskEntry(NamedTuple):
    """A task of the project: one entry of the manifest.

    Attributes:
        name: ``module.qualname``, or the decorator's literal ``name=``.
        file: Path relative to the project root, with ``/``.
        importable: Whether a worker can import it.

    The other attributes are those of ``FoundTask``.
    """

    name: str
    module: str
    qualname: str
    file: str
    line: int
    signature: str
    is_async: bool
    importable: bool
    options: dict[str, Any]
    dynamic_options: tuple[str, ...]
    doc: str | None
    hash: str

    @property
    def place(self) -> str:
        """Where it is defined, as ``file:line``."""
        return f"{self.file}:{self.line}"


class Duplicate(NamedTuple):
    """A task name that several functions claim.

    Attributes:
        places: Two or more ``file:line``; the first is the one in the manifest.
    """

    name: str
    places: tuple[str, ...]


class Changes(NamedTuple):
    """What differs between two lists of tasks, each part sorted by name.

    Attributes:
        changed: Tasks of which more than the line differs, as they are now.
        moved: Tasks of which only the line differs, as they are now.
    """

    added: tuple[TaskEntry, ...] = ()
    removed: tuple[TaskEntry, ...] = ()
    changed: tuple[TaskEntry, ...] = ()
    moved: tuple[TaskEntry, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether both lists are equal."""
        return not any(self)


class Scan(NamedTuple):
    """What one walk through a project found.

    Attributes:
        tasks: One entry for each name, sorted by name.
        problems: Sorted by file and line; duplicates and tasks that cannot be imported too.
        files_seen: Python files that no rule hides.
        files_read: Those of them whose content was read.
        files_parsed: Those of them that were parsed.
    """

    tasks: tuple[TaskEntry, ...]
    problems: tuple[Problem, ...]
    duplicates: tuple[Duplicate, ...]
    files_seen: int
    files_read: int
    files_parsed: int

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that kept something from being used."""
        return tuple(problem for problem in self.problems if problem.level == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The problems that only need a look."""
        return tuple(problem for problem in self.problems if problem.level == "warning")
