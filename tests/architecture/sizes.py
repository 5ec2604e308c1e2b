"""Small: files, functions, nesting, positional parameters. Complexity is held by ruff (C901)."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from tests.architecture.source import FUNCTIONS, Finding, Module, scope_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FILE_LINES = 600
FUNCTION_LINES = 40
NESTING = 3
POSITIONAL = 4
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sizes(modules: Sequence[Module]) -> Iterator[Finding]:
    """Files and functions that have grown out of hand."""
    for module in modules:
        if len(module.lines) > FILE_LINES:
            text = f"{len(module.lines)} lines, at most {FILE_LINES}"
            yield Finding("sizes", module.place, 1, text)
        for node, above in module.walk():
            if isinstance(node, FUNCTIONS):
                scope = ".".join(filter(None, (scope_of(above), node.name)))
                method = bool(above) and isinstance(above[-1], ast.ClassDef)
                for text in _too_big(node, method=method):
                    yield module.report("sizes", node, scope, text)


def _too_big(function: Function, *, method: bool) -> Iterator[str]:
    lines = _length(function)
    if lines > FUNCTION_LINES:
        yield f"{lines} lines without its docstring, at most {FUNCTION_LINES}"
    depth = max((_depth(statement) for statement in function.body), default=0)
    if depth > NESTING:
        yield f"nested {depth} deep, at most {NESTING}"
    positional = len(function.args.posonlyargs) + len(function.args.args)
    if method and not _is_static(function):
        positional -= 1
    if positional > POSITIONAL:
        yield f"{positional} positional parameters, at most {POSITIONAL}"


def _length(function: Function) -> int:
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def _depth(node: ast.AST) -> int:
    """Return how deep blocks are nested. ``elif`` opens none, a new function starts anew."""
    if isinstance(node, FUNCTIONS):
        return 0
    inner = max((_depth(child) for child in _below(node)), default=0)
    return inner + isinstance(node, BLOCKS)


def _below(node: ast.AST) -> list[ast.AST]:
    children = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.If) and len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
        (other,) = node.orelse
        return [child for child in children if child is not other] + _below(other)
    return children


def _is_static(function: Function) -> bool:
    return any(
        isinstance(mark, ast.Name) and mark.id == "staticmethod" for mark in function.decorator_list
    )
