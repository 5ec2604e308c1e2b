"""Which module imports which: the edges that layers and cycles are judged by.

Every import statement counts, also one inside a function or under ``TYPE_CHECKING``.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.architecture.source import Finding, Module, for_types_only, in_function, scope_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True)
class Edge:
    """``module`` imports the module ``target`` (ours) or a library (``external``)."""

    module: Module
    target: str
    line: int
    scope: str
    deferred: bool
    for_types: bool
    external: bool
    whole_package: bool

    @property
    def where(self) -> str:
        return f"{self.module.place} -> {self.target}"

    def report(self, rule: str, text: str) -> Finding:
        return Finding(rule, self.where, self.line, text)


def edges(modules: Sequence[Module], package: str = "nuvom") -> list[Edge]:
    """Return all imports of these modules."""
    known = {module.name for module in modules}
    return [edge for module in modules for edge in _edges_of(module, known, package)]


def _edges_of(module: Module, known: set[str], package: str) -> Iterator[Edge]:
    for node, above in module.walk():
        for target in _targets(node, module, known):
            yield Edge(
                module=module,
                target=target,
                line=getattr(node, "lineno", 1),
                scope=scope_of(above),
                deferred=in_function(above),
                for_types=for_types_only(above),
                external=target.partition(".")[0] != package,
                whole_package=_names_package(node, target, package),
            )


def _targets(node: ast.AST, module: Module, known: set[str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = _base(node, module)
    # ``from nuvom.discovery import walker`` means the module, not the package.
    found = [f"{base}.{alias.name}" for alias in node.names]
    return list(dict.fromkeys(name if name in known else base for name in found))


def _base(node: ast.ImportFrom, module: Module) -> str:
    if not node.level:
        return node.module or ""
    package = module.name.split(".")
    keep = len(package) - node.level + module.is_facade
    return ".".join(package[:keep] + ([node.module] if node.module else []))


def _names_package(node: ast.AST, target: str, package: str) -> bool:
    """Return whether this is ``import nuvom`` or takes a public name from the package itself.

    ``from nuvom import task`` gives the decorator although ``nuvom.task`` is a module.
    """
    if target == package:
        return True
    from_package = isinstance(node, ast.ImportFrom) and node.module == package
    return from_package and target == f"{package}.task"


def deferred(found: Sequence[Edge]) -> Iterator[Finding]:
    """Internal imports inside functions: they hide what a module depends on."""
    for edge in found:
        if edge.deferred and not edge.external:
            yield edge.report("deferred", f"imports {edge.target} inside {edge.scope}()")


def facades(modules: Sequence[Module], found: Sequence[Edge]) -> Iterator[Finding]:
    """Uses of a package's own front inside the package: they tie everything to everything."""
    fronts = {module.name for module in modules if module.is_facade}
    for edge in found:
        if not edge.external and (edge.whole_package or edge.target in fronts):
            yield edge.report("facades", f"imports the front {edge.target}; name the module")


def cycles(found: Sequence[Edge], excused: frozenset[str] = frozenset()) -> Iterator[Finding]:
    """Groups of modules that import each other, each reported once with a way round.

    ``excused`` holds edges (``where``) that are left out.
    """
    graph: dict[str, set[str]] = {}
    for edge in found:
        if not edge.external and edge.where not in excused and edge.target != edge.module.name:
            graph.setdefault(edge.module.name, set()).add(edge.target)
    seen: set[str] = set()
    for start in sorted(graph):
        way = [] if start in seen else _way_round(graph, start)
        if way:
            seen.update(way)
            yield Finding("cycles", " -> ".join(way), 1, "these modules import each other")


def _way_round(graph: dict[str, set[str]], start: str) -> list[str]:
    """Return a shortest way from ``start`` back to itself, or an empty list."""
    ways = [[start]]
    reached: set[str] = set()
    for way in ways:  # grows while it is walked: breadth first
        for target in sorted(graph.get(way[-1], ())):
            if target == start:
                return [*way, start]
            if target not in reached:
                reached.add(target)
                ways.append([*way, target])
    return []
