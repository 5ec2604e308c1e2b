"""Finds the tasks that one module's source defines. Pure: takes bytes and imports nothing.

Only the syntax tree counts: no project code ever runs. The parser walks the statements in the
order in which Python would run them. It follows each imported name through plain assignments to
the decorator that uses it, and follows nothing that is computed in any other way. It keeps options
that are literals of plain JSON types. Called by ``scan.py``.
"""

from __future__ import annotations

import ast
import hashlib
import operator
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from nuvom.discovery.entries import Problem, TaskEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
# For each imported name, the dotted paths that it may refer to at some point in the module. A name
# bound to anything else is absent.
Names: TypeAlias = dict[str, frozenset[str]]

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
        tasks: In source order; only the first of several mutually exclusive definitions.
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
    with warnings.catch_warnings():  # an invalid escape concerns only the module's author
        warnings.simplefilter("ignore")
        return ast.parse(source)


def _tasks_of(tree: ast.Module, source: bytes) -> Parsed:
    finder = _Finder()
    finder.block(tree.body, {}, _Place())
    lines = source.splitlines()
    # The last of several definitions of a function counts, as in Python.
    found = {one.qualname: one for one in sorted(finder.sightings, key=_rank)}
    described = [_described(one, lines) for one in sorted(found.values(), key=_line)]
    tasks = tuple(task for task, _ in described)
    return Parsed(tasks, tuple(problem for _, problems in described for problem in problems))


# ---- which functions are tasks ----------------------------------------------------------


class _Place(NamedTuple):
    """The position of a statement in its module.

    Attributes:
        prefix: The part of ``__qualname__`` before the name of a function defined here.
        obstacle: Why importing the module does not run the statement, or ``""``.
    """

    prefix: str = ""
    obstacle: str = ""


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


def _line(sighting: _Sighting) -> int:
    return sighting.node.lineno


def _rank(sighting: _Sighting) -> tuple[bool, int]:
    """Return a sort key that puts functions last if importing the module defines them."""
    return not sighting.place.obstacle, sighting.node.lineno


class _Finder:
    """Walks through one module and collects ``sightings``."""

    def __init__(self) -> None:
        self.sightings: list[_Sighting] = []

    def block(self, body: Iterable[ast.stmt], names: Names, place: _Place) -> None:
        """Visit statements in order, given what the names refer to. Raises: RecursionError."""
        for statement in body:
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                self._function(statement, names, place)
            elif isinstance(statement, ast.ClassDef):
                inside = place._replace(prefix=f"{place.prefix}{statement.name}.")
                self.block(statement.body, names.copy(), inside)
                names.pop(statement.name, None)
            else:
                _bind(statement, names)
                ways, after = _ways(statement)
                if ways:
                    self._branches(statement, ways, names, place)
                    self.block(after, names, place)

    def _function(self, node: FunctionNode, names: Names, place: _Place) -> None:
        for decorator in node.decorator_list:
            call = decorator if isinstance(decorator, ast.Call) else None
            if not DECORATORS.isdisjoint(_paths_of(call.func if call else decorator, names)):
                self.sightings.append(_Sighting(node, call, place))
                break
        names.pop(node.name, None)
        qualname = f"{place.prefix}{node.name}"
        obstacle = place.obstacle or f"it is defined inside the function {qualname}"
        parameters = {one.arg for one in ast.walk(node.args) if isinstance(one, ast.arg)}
        visible = {name: paths for name, paths in names.items() if name not in parameters}
        self.block(node.body, visible, _Place(f"{qualname}.<locals>.", obstacle))

    def _branches(
        self,
        statement: ast.stmt,
        ways: list[tuple[str, list[ast.stmt]]],
        names: Names,
        place: _Place,
    ) -> None:
        """Visit each way through a statement; any binding it makes may apply afterwards.

        So ``except ImportError: task = None`` does not hide the decorator where Nuvom is
        installed.
        """
        endings: list[Names] = []
        for arm, (obstacle, body) in enumerate(ways):
            is_handler = arm and isinstance(statement, ast.Try | ast.TryStar)
            # The exception may come before or after any binding in the try block.
            inside = _merged(names, endings[0]) if is_handler else names.copy()
            self.block(body, inside, place._replace(obstacle=place.obstacle or obstacle))
            endings.append(inside)
        names.clear()
        names.update(_merged(*endings))


def _ways(statement: ast.stmt) -> tuple[list[tuple[str, list[ast.stmt]]], list[ast.stmt]]:
    """Return a statement's alternative blocks, and the block that runs after any of them.

    Each block comes with the reason why a worker's import of the module skips it, or ``""``.
    """
    match statement:
        case ast.If():
            ways = []
            rest: list[ast.stmt] = [statement]
            while len(rest) == 1 and isinstance(rest[0], ast.If):  # elif nests: do not recurse
                ways.append((_obstacle_of(rest[0].test), rest[0].body))
                rest = rest[0].orelse
            return [*ways, ("", rest)], []
        case ast.Try() | ast.TryStar():
            handlers = [("", handler.body) for handler in statement.handlers]
            return [("", [*statement.body, *statement.orelse]), *handlers], statement.finalbody
        case ast.For() | ast.AsyncFor() | ast.While():
            return [("", statement.body), ("", [])], statement.orelse
        case ast.With() | ast.AsyncWith():
            return [("", statement.body)], []
        case ast.Match():
            return [*(("", case.body) for case in statement.cases), ("", [])], []
    return [], []


def _obstacle_of(test: ast.expr) -> str:
    """Return why a worker's import of the module skips the body of ``if test:``, or ``""``."""
    match test:
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return "it stands under `if TYPE_CHECKING`, which never runs"
        case ast.Compare(
            ast.Name("__name__"), [ast.Eq()], [ast.Constant("__main__")]
        ) | ast.Compare(ast.Constant("__main__"), [ast.Eq()], [ast.Name("__name__")]):
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


def _bind(statement: ast.stmt, names: Names) -> None:
    """Record the names that a statement itself binds, not those that its blocks bind."""
    match statement:
        case ast.Import():
            for alias in statement.names:
                # `import a.b` binds `a`; `import a.b as c` binds `a.b` to `c`.
                first = alias.name.partition(".")[0]
                names[alias.asname or first] = frozenset({alias.name if alias.asname else first})
        case ast.ImportFrom():
            _bind_import(statement, names)
        case ast.Assign(targets=targets, value=value):
            _bind_targets(targets, _paths_of(value, names), names)
        case ast.AnnAssign(target=target, value=value) if value is not None:
            _bind_targets([target], _paths_of(value, names), names)
        case ast.Delete(targets=targets):
            _bind_targets(targets, frozenset(), names)
        case ast.AugAssign(target=target) | ast.For(target=target) | ast.AsyncFor(target=target):
            _bind_targets([target], frozenset(), names)
        case ast.With(items=items) | ast.AsyncWith(items=items):
            _bind_targets([one.optional_vars for one in items], frozenset(), names)


def _bind_import(statement: ast.ImportFrom, names: Names) -> None:
    origin = "." * statement.level + (statement.module or "")
    for alias in statement.names:
        if alias.name != "*":
            names[alias.asname or alias.name] = frozenset({f"{origin}.{alias.name}"})
        elif f"{origin}.task" in DECORATORS:  # `task` is in the package's __all__
            names["task"] = frozenset({f"{origin}.task"})


def _bind_targets(targets: Iterable[ast.expr | None], paths: frozenset[str], names: Names) -> None:
    for target in targets:
        if isinstance(target, ast.Name) and paths:
            names[target.id] = paths
        else:
            for name in _names_in(target):
                names.pop(name, None)


def _names_in(target: ast.expr | None) -> Iterable[str]:
    """Return the names that an assignment target binds, or ``del`` unbinds."""
    nodes = ast.walk(target) if target is not None else ()
    return [one.id for one in nodes if isinstance(one, ast.Name) and type(one.ctx) is not ast.Load]


def _merged(*several: Names) -> Names:
    merged: Names = {}
    for names in several:
        for name, paths in names.items():
            merged[name] = merged.get(name, frozenset()) | paths
    return merged


# ---- the record of a task ---------------------------------------------------------------


class _NotPlainError(ValueError):
    """An expression is not a literal of plain JSON types."""


def _described(sighting: _Sighting, lines: list[bytes]) -> tuple[TaskEntry, list[Problem]]:
    """Return the entry of a decorated function, and the problems to report about it."""
    node, obstacle = sighting.node, sighting.place.obstacle
    literal, dynamic = _options(sighting.call)
    name, problems = _name(node, literal, dynamic)
    task = TaskEntry(
        name=name,
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
    if obstacle:
        reason = f"no worker can import the task {task.qualname}: {obstacle}"
        problems.append(Problem("", task.line, reason, "warning"))
    return task, problems


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


def _name(
    node: FunctionNode, literal: dict[str, Any], dynamic: set[str]
) -> tuple[str, list[Problem]]:
    name = literal.pop("name", None)
    if "name" not in dynamic and (name is None or (isinstance(name, str) and name)):
        return name or "", []
    reason = (
        f"the name= of the task {node.name} is no literal text: it is listed under its default name"
    )
    return "", [Problem("", node.lineno, reason, "warning")]


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
