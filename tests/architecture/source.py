"""A source tree as syntax trees, and what a rule reports about it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from nuvom.discovery.parser import syntax_tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Finding:
    """One breach of a rule. ``where`` is stable (no line number), so exceptions can name it."""

    rule: str
    where: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.where} (line {self.line}): {self.text}"


@dataclass(frozen=True)
class Module:
    """One Python file: ``place`` is its path from the root, ``name`` what one imports."""

    place: str
    text: str

    @cached_property
    def name(self) -> str:
        parts = self.place.removesuffix(".py").split("/")
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def is_facade(self) -> bool:
        return self.place.endswith("__init__.py")

    @cached_property
    def tree(self) -> ast.Module:
        return syntax_tree(self.text.encode())

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def walk(self) -> Iterator[tuple[ast.AST, tuple[ast.AST, ...]]]:
        """Yield every node with its ancestors, outermost first, the module left out."""
        yield from _walk(self.tree, ())

    def report(self, rule: str, node: ast.AST, scope: str, text: str) -> Finding:
        where = f"{self.place}:{scope}" if scope else self.place
        return Finding(rule, where, getattr(node, "lineno", 1), text)


def _walk(
    node: ast.AST, above: tuple[ast.AST, ...]
) -> Iterator[tuple[ast.AST, tuple[ast.AST, ...]]]:
    for child in ast.iter_child_nodes(node):
        yield child, above
        yield from _walk(child, (*above, child))


def scope_of(above: tuple[ast.AST, ...]) -> str:
    """Return ``Class.method`` for a node with these ancestors, ``""`` at the top level."""
    return ".".join(node.name for node in above if isinstance(node, SCOPES))


def in_function(above: tuple[ast.AST, ...]) -> bool:
    """Return whether a node with these ancestors runs only when a function is called."""
    return any(isinstance(node, FUNCTIONS) for node in above)


def for_types_only(above: tuple[ast.AST, ...]) -> bool:
    """Return whether a node with these ancestors is there for type checkers alone."""
    tests = [node.test for node in above if isinstance(node, ast.If)]
    return any(ast.unparse(test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"} for test in tests)


def load(root: Path, *tops: str) -> list[Module]:
    """Return the modules under these files and folders of ``root``, in the order of paths."""
    found = []
    for top in tops:
        path = root / top
        files = [path] if path.is_file() else sorted(path.rglob("*.py"))
        for file in files:
            place = file.relative_to(root).as_posix()
            found.append(Module(place, file.read_text(encoding="utf-8")))
    return found
