"""The records that discovery passes around: tasks and problems. Plain, immutable data."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import msgspec

Level = Literal["error", "warning"]


class Problem(NamedTuple):
    """Something to report about one file.

    Attributes:
        file: Path relative to the project root, with ``/``.
        line: Counted from 1; 0 means the file as a whole.
        level: ``error``: the file, or part of it, could not be used. ``warning``: it was used,
            but probably not as intended.
    """

    file: str
    line: int
    reason: str
    level: Level = "error"

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.reason}"


class TaskEntry(msgspec.Struct, frozen=True, rename={"is_async": "async"}, omit_defaults=True):
    """A task of the project: one entry of the manifest.

    The parser fills in only what it can read from the file's content. It leaves ``module`` and
    ``file`` empty, and also ``name`` unless the name is a literal.

    Attributes:
        name: ``module.qualname``, or the decorator's literal ``name=``.
        qualname: Dotted path inside the module, as ``__qualname__`` will be.
        file: Path relative to the project root, with ``/``.
        line: Line of the ``def``.
        signature: Parameters and return annotation as text, ``(x: int) -> int``.
        importable: Whether a worker can import the module, and the function from it.
        options: The decorator's literal options, in plain JSON types.
        dynamic_options: Names of the other options, sorted; ``**`` for an unpacked mapping.
        doc: First line of the docstring, or None.
        hash: SHA-256 of the function's source, including decorators; line endings do not matter.
        kept: The file cannot be parsed at present; this is what it said before.
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
    kept: bool = False

    @property
    def aliases(self) -> tuple[str, ...]:
        """The task's former names, as far as they are literals."""
        given = self.options.get("aliases", ())
        listed = [given] if isinstance(given, str) else given
        return tuple(listed) if isinstance(listed, list) else ()

    @property
    def has_schedule(self) -> bool:
        """Whether the decorator gives a schedule."""
        return self.options.get("schedule") is not None or "schedule" in self.dynamic_options

    @property
    def place(self) -> str:
        """Where the task is defined, as ``file:line``."""
        return f"{self.file}:{self.line}"


class Duplicate(NamedTuple):
    """A task name that several functions claim.

    Attributes:
        places: Two or more ``file:line``; the manifest lists the first.
    """

    name: str
    places: tuple[str, ...]
