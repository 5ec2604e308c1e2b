"""Docstrings where a reader needs them, and no word that means something else elsewhere."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from tests.architecture.source import (
    FUNCTIONS,
    SCOPES,
    Finding,
    Module,
    for_types_only,
    in_function,
    scope_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FORBIDDEN = frozenset(
    ["actor", "addon", "broker", "consumer", "helper", "manager", "message", "nack", "util"]
)
FORBIDDEN_FOR_MODULES = FORBIDDEN | {"common"}
# Their docstring is elsewhere: at the contract, at the implementation, at the getter.
EXCUSED = frozenset(["override", "overload", "setter", "deleter"])


def docstrings(modules: Sequence[Module]) -> Iterator[Finding]:
    """Modules, public classes and public functions without a docstring.

    What stands in a private module (``_lockfile.py``) is not public.
    A method inherits the docstring of the method that it overrides, if the class it overrides
    is ours.
    """
    documented = _documented_methods(modules)
    for module in modules:
        if not ast.get_docstring(module.tree):
            yield Finding("docstrings", module.place, 1, "the module has no docstring")
        for node, above in module.walk():
            if not isinstance(node, SCOPES) or in_function(above) or ast.get_docstring(node):
                continue
            names = [*scope_of(above).split("."), node.name]
            private = any(name.startswith("_") for name in [*module.name.split("."), *names])
            if private or _is_excused(node) or for_types_only(above):
                continue
            if not _inherits(node.name, above, documented):
                yield module.report("docstrings", node, ".".join(filter(None, names)), "has none")


def _is_excused(node: ast.AST) -> bool:
    marks = getattr(node, "decorator_list", [])
    return any(getattr(mark, "attr", getattr(mark, "id", "")) in EXCUSED for mark in marks)


Documented = dict[str, tuple[set[str], list[str]]]


def _documented_methods(modules: Sequence[Module]) -> Documented:
    """Return, for each class name, its methods with docstrings and the names of its bases."""
    found: Documented = {}
    for module in modules:
        for node, _above in module.walk():
            if isinstance(node, ast.ClassDef):
                methods = {
                    method.name
                    for method in node.body
                    if isinstance(method, FUNCTIONS) and ast.get_docstring(method)
                }
                bases = [_last_name(base) for base in node.bases]
                known = found.get(node.name, (set(), []))
                found[node.name] = known[0] | methods, known[1] + bases
    return found


def _last_name(base: ast.expr) -> str:
    if isinstance(base, ast.Subscript):
        return _last_name(base.value)
    return str(getattr(base, "attr", getattr(base, "id", "")))


def _inherits(name: str, above: tuple[ast.AST, ...], documented: Documented) -> bool:
    if not above or not isinstance(above[-1], ast.ClassDef):
        return False
    waiting, seen = [_last_name(base) for base in above[-1].bases], set[str]()
    while waiting:
        base = waiting.pop()
        methods, bases = documented.get(base, (set(), []))
        if name in methods:
            return True
        waiting += [other for other in bases if other not in seen]
        seen.add(base)
    return False


def words(modules: Sequence[Module]) -> Iterator[Finding]:
    """Names of modules, classes and functions that hold a forbidden word."""
    for module in modules:
        stem = module.name.rpartition(".")[2]
        for word in _words_of(stem, FORBIDDEN_FOR_MODULES):
            yield Finding("words", module.place, 1, f"the module's name says {word!r}")
        for node, above in module.walk():
            if isinstance(node, SCOPES):
                for word in _words_of(node.name, FORBIDDEN):
                    yield module.report("words", node, scope_of((*above, node)), f"says {word!r}")


def _words_of(name: str, forbidden: frozenset[str]) -> list[str]:
    """Return the forbidden words in a snake_case or CamelCase name, plurals included."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return [part for part in parts if part.lower().removesuffix("s") in forbidden]
