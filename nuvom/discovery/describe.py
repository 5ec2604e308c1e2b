"""Turns a decorated function's syntax tree into a ``FoundTask``.

Options are taken over when they are literals (or simple sums and products of numbers) of
plain JSON types; anything else is only named. Nothing is evaluated beyond that.
"""

from __future__ import annotations

import ast
import hashlib
import operator
from typing import TYPE_CHECKING, Any

from nuvom.discovery.entries import FoundTask, Note

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.discovery.finder import FunctionNode

_UNPACKED = "**"
_UNKNOWN_SIGNATURE = "(...)"
_LARGEST_NUMBER = 2**63  # larger ones differ between JSON readers, and huge ones cannot be printed
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}


class _NotPlainError(ValueError):
    """An expression is not a literal of plain JSON types."""


def describe(
    node: FunctionNode,
    call: ast.Call | None,
    *,
    qualname: str,
    importable: bool,
    lines: list[bytes],
) -> tuple[FoundTask, list[Note]]:
    """Return the task that ``node`` defines, and what is worth telling about it.

    Args:
        call: The decorator's call, or None for a bare ``@task``.
        lines: The lines of the whole file.
    """
    literal, dynamic = _options(call)
    name, notes = _name(node, literal, dynamic)
    task = FoundTask(
        qualname=qualname,
        name=name,
        line=node.lineno,
        signature=_signature(node),
        is_async=isinstance(node, ast.AsyncFunctionDef),
        importable=importable,
        options=literal,
        dynamic_options=tuple(sorted(dynamic)),
        doc=_first_line(ast.get_docstring(node, clean=False)),  # to clean it would import inspect
        hash=_source_hash(node, lines),
    )
    return task, notes


def _options(call: ast.Call | None) -> tuple[dict[str, Any], set[str]]:
    literal: dict[str, Any] = {}
    dynamic: set[str] = set()
    for keyword in call.keywords if call else ():
        if keyword.arg is None:
            dynamic.add(_UNPACKED)
            continue
        try:
            literal[keyword.arg] = plain_value(keyword.value)
        except (_NotPlainError, RecursionError):
            dynamic.add(keyword.arg)
    return dict(sorted(literal.items())), dynamic


def _name(
    node: FunctionNode, literal: dict[str, Any], dynamic: set[str]
) -> tuple[str | None, list[Note]]:
    name = literal.pop("name", None)
    if "name" in dynamic:
        fault = "is no literal text"
    elif name is None or (isinstance(name, str) and name):
        return name, []
    else:
        fault = "is empty or no text"
    reason = f"the name= of the task {node.name} {fault}: it is listed under its default name"
    return None, [Note(node.lineno, reason, "warning")]


def plain_value(node: ast.expr) -> Any:  # noqa: ANN401  # a literal's value is of any plain type
    """Return the value of a literal in plain JSON types; a tuple becomes a list.

    Raises: _NotPlainError: it is no literal, or JSON cannot hold it unchanged.
    """
    if isinstance(node, ast.Tuple | ast.List):
        return [plain_value(element) for element in node.elts]
    if isinstance(node, ast.Dict):
        items = zip(node.keys, node.values, strict=True)
        return dict(_plain_item(key, value) for key, value in items)
    if isinstance(node, ast.Constant) and isinstance(node.value, str | bool | None):
        return node.value
    return _plain_number(node)


def _plain_item(key: ast.expr | None, value: ast.expr) -> tuple[str, Any]:
    if not (isinstance(key, ast.Constant) and isinstance(key.value, str)):
        raise _NotPlainError
    return key.value, plain_value(value)


def _plain_number(node: ast.expr) -> int | float:
    """Return a number, a signed number, or sums and products such as ``7 * 24 * 3600``."""
    value: object = None
    if isinstance(node, ast.Constant):
        value = node.value
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = -_plain_number(node.operand)
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        value = _ARITHMETIC[type(node.op)](_plain_number(node.left), _plain_number(node.right))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _NotPlainError
    if not abs(value) < _LARGEST_NUMBER:  # so put, it holds for infinity and NaN as well
        raise _NotPlainError
    return value


def _signature(node: FunctionNode) -> str:
    try:
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        return f"({ast.unparse(node.args)}){returns}"
    except (ValueError, RecursionError):  # an f-string, or nesting, that cannot be written back
        return _UNKNOWN_SIGNATURE


def _first_line(docstring: str | None) -> str | None:
    stripped = (docstring or "").strip()
    return stripped.splitlines()[0].rstrip() if stripped else None


def _source_hash(node: FunctionNode, lines: list[bytes]) -> str:
    first = min(decorator.lineno for decorator in node.decorator_list)
    return hashlib.sha256(b"\n".join(lines[first - 1 : node.end_lineno])).hexdigest()
