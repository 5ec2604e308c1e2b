"""How much code each room may hold, and what keeps rooms from falling into crumbs.

The block of budgets is in ``docs/architecture.md``: code lines, without blanks, comments and
docstrings. A budget goes down with its room; raising one needs a decision record.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from tests.architecture.source import SCOPES, Finding, Module

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.architecture.imports import Edge

FOLDER_MODULES = 14
FLAT_MODULES = 12
CRUMB_LINES = 100
SLACK = 1.1  # of a budget over its room: what is more has to be given back
FLAT = "flat"
PRIVATE = "private names in tests"
# The front, the program and the version: they hold next to no code and have to be there.
_NOT_COUNTED = frozenset({"__init__", "__main__", "_version"})
_NO_CODE = frozenset(
    {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
)


def code_lines(module: Module) -> int:
    """Return how many lines of a module hold code."""
    held: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type not in _NO_CODE:
            held.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(module.tree):
        if isinstance(node, (ast.Module, *SCOPES)) and ast.get_docstring(node) is not None:
            held.difference_update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(held)


def room_of(module: Module) -> str:
    """Return the folder below ``nuvom/`` that a module is in; ``flat`` beside them."""
    return "/".join(module.place.split("/")[1:-1]) or FLAT


def read(page: str) -> dict[str, int]:
    """Return the budgets by the names of their rooms, as the page gives them.

    A room without a line of its own belongs to the folder that it is in.
    """
    block = re.search(r"^```text\n(\w+ +\d+\n.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert block, "the page has no block of budgets"
    rows = (line.rsplit(maxsplit=1) for line in block[1].splitlines() if line.strip())
    return {name: int(number.replace(",", "")) for name, number in rows}


def budgets(modules: Sequence[Module], page: str) -> Iterator[Finding]:
    """Rooms that have outgrown their budget, and budgets that their room has outlived."""
    allowed = read(page)
    allowed.pop(PRIVATE, None)
    held: Counter[str] = Counter()
    for module in modules:
        held[_budget_for(room_of(module), allowed)] += code_lines(module)
    for room in sorted(held.keys() | allowed.keys()):
        lines, most = held[room], allowed.get(room)
        if most is None:
            yield Finding("budgets", room, 1, f"{lines} code lines and no budget")
        elif lines > most:
            yield Finding("budgets", room, 1, f"{lines} code lines, at most {most}")
        elif most > lines * SLACK:
            yield Finding("budgets", room, 1, f"{lines} code lines; lower its budget of {most}")


def _budget_for(room: str, allowed: dict[str, int]) -> str:
    while room not in allowed and "/" in room:
        room = room.rpartition("/")[0]
    return room


def folders(modules: Sequence[Module]) -> Iterator[Finding]:
    """Folders of more modules than somebody can keep in mind."""
    counts: Counter[str] = Counter()
    for module in modules:
        folder, _, name = module.place.removesuffix(".py").rpartition("/")
        counts[folder] += name not in _NOT_COUNTED
    for folder, count in sorted(counts.items()):
        most = FOLDER_MODULES if "/" in folder else FLAT_MODULES
        if count > most:
            yield Finding("folders", folder, 1, f"{count} modules, at most {most}")


def crumbs(modules: Sequence[Module], edges: Sequence[Edge]) -> Iterator[Finding]:
    """Small modules that only one other of their folder uses: where they belong is known."""
    users: defaultdict[str, set[str]] = defaultdict(set)
    for edge in edges:
        if not edge.external and edge.module.name != edge.target:
            users[edge.target].add(edge.module.name)
    for module in modules:
        found = users[module.name]
        is_alone = len(found) == 1 and _folder(next(iter(found))) == _folder(module.name)
        if not module.is_facade and is_alone and (lines := code_lines(module)) < CRUMB_LINES:
            text = f"{lines} code lines, used by {next(iter(found))} alone"
            yield Finding("crumbs", module.place, 1, text)


def _folder(name: str) -> str:
    return name.rpartition(".")[0]


def names(modules: Sequence[Module]) -> Iterator[Finding]:
    """Two classes of one name, and modules named after what is done instead of a thing."""
    homes: defaultdict[str, list[str]] = defaultdict(list)
    for module in modules:
        if module.place.endswith("ing.py"):
            yield Finding("names", module.place, 1, "a module is a noun")
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(module.place)
    for name, places in sorted(homes.items()):
        if len(places) > 1:
            yield Finding("names", name, 1, f"a class of this name is in {', '.join(places)}")


def private_names(tests: Sequence[Module]) -> int:
    """Return how often tests look at a private name of an object that is not their own."""
    return sum(
        isinstance(node, ast.Attribute)
        and re.match(r"_[a-z]", node.attr) is not None
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
        for module in tests
        for node, _ in module.walk()
    )
