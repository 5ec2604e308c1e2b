"""Describes a decorated function: literal options, signature and source, as text and plain data.

Pure: it reads the syntax tree and imports nothing. Called by ``parser.py``.
"""

from __future__ import annotations

import ast
import hashlib
import operator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from nuvom.discovery.entries import TaskEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

_UNKNOWN_SIGNATURE = "(...)"
_LARGEST_NUMBER = 2**63  # larger ones differ between JSON readers, and huge ones cannot be printed
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}


class NotPlainError(ValueError):
    """An expression is not a literal of plain JSON types."""


def entry_of(node: FunctionNode, qualname: str, lines: list[bytes]) -> TaskEntry:
    """Return what can be said of a function without knowing its decorators.

    Args:
        lines: The source of its module.
    """
    return TaskEntry(
        name="",
        module="",
        qualname=qualname,
        file="",
        line=node.lineno,
        signature=_signature(node),
        is_async=isinstance(node, ast.AsyncFunctionDef),
        importable=True,
        options={},
        dynamic_options=(),
        doc=_first_line(ast.get_docstring(node, clean=False)),  # cleaning would import inspect
        hash=_source_hash(node, lines),
    )


def without_first(text: str) -> str:
    """Return a signature without its first parameter, such as ``self``."""
    try:
        function = ast.parse(f"def _{text}: ...").body[0]
    except SyntaxError:  # it was not known
        return text
    assert isinstance(function, ast.FunctionDef)  # noqa: S101  # by construction
    given = function.args
    first = (given.posonlyargs or given.args)[:1]
    if first and len(given.defaults) < len(given.posonlyargs) + len(given.args):
        del (given.posonlyargs or given.args)[0]
    returned = "" if function.returns is None else f" -> {ast.unparse(function.returns)}"
    return f"({ast.unparse(given)}){returned}"


def plain_value(node: ast.expr | None) -> Any:  # noqa: ANN401  # a literal has any plain type
    """Return the value of a literal in plain JSON types; a tuple becomes a list.

    Numbers may have a sign, and may be sums and products such as ``7 * 24 * 3600``. A call such as
    ``timedelta(hours=1)`` becomes its seconds.
    Raises: NotPlainError: it is not a literal, or JSON cannot represent it unchanged.
    """
    match node:
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            return [plain_value(element) for element in elements]
        case ast.Dict(keys=keys, values=values):
            if not all(isinstance(key, ast.Constant) and type(key.value) is str for key in keys):
                raise NotPlainError
            return dict(zip(map(plain_value, keys), map(plain_value, values), strict=True))
        case ast.Constant(value=str() | bool() | None as value):
            return value
        case ast.Call(
            func=ast.Name(id="timedelta") | ast.Attribute(attr="timedelta"),
            args=days,
            keywords=parts,
        ):
            named = {part.arg or "": _plain_number(part.value) for part in parts}
            return _secs_of(map(_plain_number, days), named)
    return _plain_number(node)


def _plain_number(node: ast.expr | None) -> int | float:
    value: object = None
    match node:
        case ast.Constant():
            value = node.value
        case ast.UnaryOp(op=ast.USub()):
            value = -_plain_number(node.operand)
        case ast.BinOp() if type(node.op) in _ARITHMETIC:
            left, right = _plain_number(node.left), _plain_number(node.right)
            value = _ARITHMETIC[type(node.op)](left, right)
    # Written this way, the comparison also rejects infinity and NaN.
    if isinstance(value, int | float) and type(value) is not bool and abs(value) < _LARGEST_NUMBER:
        return value
    raise NotPlainError


def _secs_of(days: Iterable[int | float], parts: dict[str, int | float]) -> float:
    try:
        return timedelta(*days, **parts).total_seconds()
    except (TypeError, OverflowError):
        raise NotPlainError from None


def _signature(node: FunctionNode) -> str:
    try:
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        return f"({ast.unparse(node.args)}){returns}"
    except (ValueError, RecursionError):  # an f-string or nesting that cannot be unparsed
        return _UNKNOWN_SIGNATURE


def _first_line(docstring: str | None) -> str | None:
    stripped = (docstring or "").strip()
    return stripped.splitlines()[0].rstrip() if stripped else None


def _source_hash(node: FunctionNode, lines: list[bytes]) -> str:
    first = min(decorator.lineno for decorator in node.decorator_list)
    return hashlib.sha256(b"\n".join(lines[first - 1 : node.end_lineno])).hexdigest()
