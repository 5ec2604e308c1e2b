"""Finds the tasks that one module's source defines. Pure: takes bytes and imports nothing.

Only the syntax tree counts: no project code ever runs. The parser walks the statements in source
order. It follows each imported name through plain assignments to the decorator that uses it, and
follows nothing that is computed in any other way. It keeps options that are literals of plain JSON
types. Called by ``scan.py``.
"""

from __future__ import annotations

import ast
import hashlib
import operator
import sys
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from nuvom.discovery.entries import Problem, TaskEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
# For each name, the dotted paths of imported objects that it may refer to at some point in a scope.
Names: TypeAlias = dict[str, frozenset[str]]

_PARTS_OF_BLOCKS = (ast.stmt, ast.excepthandler, ast.match_case)
# `nuvom.task` is the decorator; the module of that name also exports it as `task`.
DECORATORS = frozenset({"nuvom.task", "nuvom.task.task"})

_TOO_DEEP = "it cannot be parsed: it is nested too deeply"
_UNPACKED = "**"
_UNKNOWN_SIGNATURE = "(...)"
_LARGEST_NUMBER = 2**63  # larger ones differ between JSON readers, and huge ones cannot be printed
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}


class Parsed(NamedTuple):
    """The tasks and problems found in one module's source.

    Attributes:
        tasks: One for each qualified name.
        problems: In the order found; their ``file`` is empty.
    """

    tasks: tuple[TaskEntry, ...] = ()
    problems: tuple[Problem, ...] = ()


NOTHING = Parsed()


def mentions_tasks(source: bytes) -> bool:
    """Return whether the source is worth parsing.

    A module that defines a task contains both ``nuvom`` and ``task``. A module that contains only
    ``task`` is parsed as well, so that broken source is reported.
    """
    return b"task" in source


def parse(source: bytes) -> Parsed:
    """Return the tasks and problems of one module. Broken source is a problem, never an error."""
    try:
        tree = syntax_tree(source)
        return _tasks_of(tree, source) if b"nuvom" in source else NOTHING
    except (RecursionError, MemoryError):  # the parser reports nesting as either
        return Parsed(problems=(Problem("", 0, _TOO_DEEP),))
    except (SyntaxError, ValueError) as error:  # ValueError: null bytes, before Python 3.11.4
        reason = f"it cannot be parsed: {getattr(error, 'msg', None) or error}"
        return Parsed(problems=(Problem("", getattr(error, "lineno", None) or 0, reason),))


def syntax_tree(source: bytes) -> ast.Module:
    """Return the syntax tree of a module, without any of Python's warnings.

    Raises: SyntaxError, ValueError, RecursionError, MemoryError: it is not a valid program.
    """
    try:
        with warnings.catch_warnings():  # an invalid escape concerns only the module's author
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except SystemError:  # another thread parsed at the same moment: python/cpython#106905
        if sys.version_info >= (3, 11, 8):
            raise
        return syntax_tree(source)


def _tasks_of(tree: ast.Module, source: bytes) -> Parsed:
    finder = _Finder()
    finder.scope(tree.body, {}, _Place())
    found: dict[str, _Sighting] = {}
    for one in finder.sightings:  # as in Python, the last definition that is executed counts
        if one.qualname not in found or not one.place.obstacle:
            found[one.qualname] = one
    lines = source.splitlines()
    problems: list[Problem] = []
    tasks = tuple(_described(one, lines, problems) for one in found.values())
    return Parsed(tasks, tuple(problems))


# ---- which functions are tasks ----------------------------------------------------------


class _Place(NamedTuple):
    """The position of a statement in its module.

    Attributes:
        prefix: The part of ``__qualname__`` before the name of a function defined here.
        obstacle: Why importing the module does not run the statement, or ``""``.
        is_certain: Whether the statement stands in no block, so that it runs if its scope does.
    """

    prefix: str = ""
    obstacle: str = ""
    is_certain: bool = True


class _Sighting(NamedTuple):
    """A function with our decorator.

    Attributes:
        call: The decorator's call, or None when it is bare.
    """

    node: FunctionNode
    call: ast.Call | None
    place: _Place

    @property
    def qualname(self) -> str:
        return f"{self.place.prefix}{self.node.name}"


class _Finder:
    """Walks through one module and collects ``sightings``."""

    def __init__(self) -> None:
        self.sightings: list[_Sighting] = []

    def scope(self, body: list[ast.stmt], names: Names, place: _Place) -> None:
        """Visit the statements of a scope, given what the names refer to. Raises: RecursionError.

        A binding in a block may not happen, so it adds to what the name referred to before: with
        ``except ImportError: task = None`` the decorator is still ours.
        """
        for node, here in _statements(body, place):
            if isinstance(node, FunctionNode):
                self._function(node, names, here)
            elif isinstance(node, ast.ClassDef):
                prefix = f"{place.prefix}{node.name}."
                self.scope(node.body, names.copy(), _Place(prefix, here.obstacle))
            for name, paths in list(_bindings(node, names)):
                before = frozenset() if here.is_certain else names.get(name, frozenset())
                names[name] = before | paths

    def _function(self, node: FunctionNode, names: Names, place: _Place) -> None:
        for decorator in node.decorator_list:
            call = decorator if isinstance(decorator, ast.Call) else None
            if not DECORATORS.isdisjoint(_paths_of(call.func if call else decorator, names)):
                self.sightings.append(_Sighting(node, call, place))
                break
        qualname = f"{place.prefix}{node.name}"
        obstacle = place.obstacle or f"it is defined inside the function {qualname}"
        parameters = {one.arg for one in ast.walk(node.args) if isinstance(one, ast.arg)}
        visible = {name: paths for name, paths in names.items() if name not in parameters}
        self.scope(node.body, visible, _Place(f"{qualname}.<locals>.", obstacle))


def _statements(body: list[ast.stmt], place: _Place) -> Iterator[tuple[ast.AST, _Place]]:
    """Yield the statements of a scope in source order, including those in its blocks.

    Not recursive, since each ``elif`` is a block inside the one before.
    """
    waiting: list[tuple[ast.AST, _Place]] = [(node, place) for node in reversed(body)]
    while waiting:
        node, here = waiting.pop()
        yield node, here
        if isinstance(node, FunctionNode | ast.ClassDef):
            continue
        inside = here._replace(is_certain=False)
        skipped = inside._replace(obstacle=here.obstacle or _obstacle_of(node))
        parts = [one for one in ast.iter_child_nodes(node) if isinstance(one, _PARTS_OF_BLOCKS)]
        alternative = set(getattr(node, "orelse", ()))
        waiting += [(one, inside if one in alternative else skipped) for one in reversed(parts)]


def _obstacle_of(node: ast.AST) -> str:
    """Return why a worker's import of the module skips the block of an ``if``, or ``""``."""
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
            return "it stands under `if TYPE_CHECKING`, which never runs"
        case ast.If(
            test=ast.Compare(ast.Name("__name__"), [ast.Eq()], [ast.Constant("__main__")])
            | ast.Compare(ast.Constant("__main__"), [ast.Eq()], [ast.Name("__name__")])
        ):
            return 'it stands under `if __name__ == "__main__"`, which does not run in a worker'
    return ""


# ---- what names refer to ----------------------------------------------------------------


def _paths_of(expression: ast.expr | None, names: Names) -> frozenset[str]:
    """Return the dotted paths, such as ``nuvom.task``, that an expression may refer to."""
    attributes = ""
    while isinstance(expression, ast.Attribute):
        attributes = f".{expression.attr}{attributes}"
        expression = expression.value
    starts = names.get(expression.id, frozenset()) if isinstance(expression, ast.Name) else ()
    return frozenset(f"{start}{attributes}" for start in starts)


def _bindings(node: ast.AST, names: Names) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield each name that a statement itself binds, with the paths that it then refers to."""
    if isinstance(node, FunctionNode | ast.ClassDef):
        yield node.name, frozenset()
    elif isinstance(node, ast.Import | ast.ImportFrom):
        for name, path in _imports(node):
            yield name, frozenset({path})
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    for target in _targets(node):
        paths = _paths_of(value, names) if isinstance(target, ast.Name) else frozenset()
        for one in ast.walk(target):
            if isinstance(one, ast.Name) and not isinstance(one.ctx, ast.Load):
                yield one.id, paths


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
    """Yield each name that an import binds, with its dotted path."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            # `import a.b` binds `a`; `import a.b as c` binds `a.b` to `c`.
            first = alias.name.partition(".")[0]
            yield (alias.asname, alias.name) if alias.asname else (first, first)
        return
    origin = "." * node.level + (node.module or "")
    for alias in node.names:
        if alias.name != "*":
            yield alias.asname or alias.name, f"{origin}.{alias.name}"
        elif f"{origin}.task" in DECORATORS:  # `task` is in the package's __all__
            yield "task", f"{origin}.task"


def _targets(node: ast.AST) -> list[ast.expr]:
    """Return what a statement assigns to or deletes."""
    match node:
        case ast.Assign(targets=targets) | ast.Delete(targets=targets):
            return targets
        case (
            ast.AnnAssign(target=target, value=ast.expr())
            | ast.AugAssign(target=target)
            | ast.For(target=target)
            | ast.AsyncFor(target=target)
        ):
            return [target]
        case ast.With(items=items) | ast.AsyncWith(items=items):
            return [one.optional_vars for one in items if one.optional_vars is not None]
    return []


# ---- the record of a task ---------------------------------------------------------------


class _NotPlainError(ValueError):
    """An expression is not a literal of plain JSON types."""


def _described(sighting: _Sighting, lines: list[bytes], problems: list[Problem]) -> TaskEntry:
    """Return the entry of a decorated function; add what is to be reported about it."""
    node, obstacle = sighting.node, sighting.place.obstacle
    literal, dynamic = _options(sighting.call)
    name = literal.pop("name", None)
    if "name" in dynamic or not (name is None or (isinstance(name, str) and name)):
        name = None
        problem = f"the name= of the task {node.name} is no literal text"
        reason = f"{problem}: it is listed under its default name"
        problems.append(Problem("", node.lineno, reason, "warning"))
    if obstacle:
        reason = f"no worker can import the task {sighting.qualname}: {obstacle}"
        problems.append(Problem("", node.lineno, reason, "warning"))
    return TaskEntry(
        name=name or "",
        module="",
        qualname=sighting.qualname,
        file="",
        line=node.lineno,
        signature=_signature(node),
        is_async=isinstance(node, ast.AsyncFunctionDef),
        importable=not obstacle,
        options=literal,
        dynamic_options=tuple(sorted(dynamic)),
        doc=_first_line(ast.get_docstring(node, clean=False)),  # cleaning would import inspect
        hash=_source_hash(node, lines),
    )


def _options(call: ast.Call | None) -> tuple[dict[str, Any], set[str]]:
    literal: dict[str, Any] = {}
    dynamic: set[str] = set()
    for keyword in call.keywords if call else ():
        if keyword.arg is None:
            dynamic.add(_UNPACKED)
            continue
        try:
            literal[keyword.arg] = _plain_value(keyword.value)
        except (_NotPlainError, RecursionError):
            dynamic.add(keyword.arg)
    return dict(sorted(literal.items())), dynamic


def _plain_value(node: ast.expr | None) -> Any:  # noqa: ANN401  # a literal has any plain type
    """Return the value of a literal in plain JSON types; a tuple becomes a list.

    Numbers may have a sign, and may be sums and products such as ``7 * 24 * 3600``.
    Raises: _NotPlainError: it is not a literal, or JSON cannot represent it unchanged.
    """
    match node:
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            return [_plain_value(element) for element in elements]
        case ast.Dict(keys=keys, values=values):
            if not all(isinstance(key, ast.Constant) and type(key.value) is str for key in keys):
                raise _NotPlainError
            return dict(zip(map(_plain_value, keys), map(_plain_value, values), strict=True))
        case ast.Constant(value=str() | bool() | None as value):
            return value
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
    raise _NotPlainError


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
