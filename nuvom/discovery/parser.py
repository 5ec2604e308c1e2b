"""Reads one module's source, as bytes, and says which tasks it defines. Pure; imports nothing.

The syntax tree alone decides: no code of the project ever runs. The names are followed by
``finder.py``; what is written down of a task is ``describe.py``. Called by ``scan.py``.
"""

from __future__ import annotations

import ast
import warnings
from typing import NamedTuple

from nuvom.discovery.describe import describe
from nuvom.discovery.entries import FoundTask, Note
from nuvom.discovery.finder import Finder, Sighting

_TOO_DEEP = "it cannot be parsed: it is nested too deeply"


class Parsed(NamedTuple):
    """What one module's source says.

    Attributes:
        tasks: In source order; of several that exclude each other, only the first.
        notes: In the order found.
    """

    tasks: tuple[FoundTask, ...] = ()
    notes: tuple[Note, ...] = ()


NOTHING = Parsed()


def mentions_tasks(source: bytes) -> bool:
    """Return whether it is worth parsing at all.

    A module that defines a task holds both words, ``nuvom`` and ``task``. One that holds only
    the second is parsed as well, so that it is reported if it cannot be.
    """
    return b"task" in source


def parse(source: bytes) -> Parsed:
    """Return the tasks and notes of one module; broken source is a note, never an exception."""
    try:
        tree = syntax_tree(source)
        return _tasks_of(tree, source) if b"nuvom" in source else NOTHING
    except (RecursionError, MemoryError):  # the parser reports nesting as either
        return Parsed(notes=(Note(0, _TOO_DEEP),))
    except (SyntaxError, ValueError) as error:  # ValueError: null bytes, before Python 3.11.4
        reason = getattr(error, "msg", None) or str(error)
        return Parsed(notes=(Note(_line_of(error, source), f"it cannot be parsed: {reason}"),))


def _line_of(error: SyntaxError | ValueError, source: bytes) -> int:
    """Return the line of an error, also of those for which the parser gives none."""
    line = getattr(error, "lineno", None)
    if line:
        return int(line)
    before, null, _ = source.partition(b"\0")
    if null:
        return before.count(b"\n") + 1
    # What is left are unknown codecs and bytes that they cannot decode; the codec is named in
    # one of the first two lines.
    return 1 if b"coding" in source.partition(b"\n")[0] else 2


def syntax_tree(source: bytes) -> ast.Module:
    """Return the syntax tree of a module, without any of Python's warnings.

    Raises: SyntaxError, ValueError, RecursionError, MemoryError: it is no program.
    """
    with warnings.catch_warnings():  # an invalid escape is for the module's author to see
        warnings.simplefilter("ignore")
        return ast.parse(source)


def _tasks_of(tree: ast.Module, source: bytes) -> Parsed:
    finder = Finder(has_walrus=b":=" in source)
    finder.walk(tree)
    lines = source.splitlines()
    tasks: list[FoundTask] = []
    notes: list[Note] = []
    seen: list[tuple[str, Sighting]] = []
    for sighting in sorted(finder.sightings, key=_importable_first):
        task, remarks = _describe(sighting, lines)
        name = task.name or task.qualname
        if any(known == name and other.excludes(sighting) for known, other in seen):
            continue
        seen.append((name, sighting))
        tasks.append(task)
        notes.extend(remarks)
    tasks.sort(key=lambda task: task.line)
    return Parsed(tuple(tasks), tuple(notes))


def _importable_first(sighting: Sighting) -> tuple[bool, int]:
    return sighting.place.obstacle is not None, sighting.node.lineno


def _describe(sighting: Sighting, lines: list[bytes]) -> tuple[FoundTask, list[Note]]:
    obstacle = sighting.place.obstacle
    task, notes = describe(
        sighting.node,
        sighting.call,
        qualname=sighting.qualname,
        importable=obstacle is None,
        lines=lines,
    )
    if obstacle is not None:
        reason = f"no worker can import the task {task.qualname}: {obstacle}"
        notes.append(Note(task.line, reason, "warning"))
    return task, notes
