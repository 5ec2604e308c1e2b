"""What the names in a scope stand for, as far as they stand for something of Nuvom.

Used by ``finder.py`` while it walks through a module in the order in which Python would run
it. Nothing is imported or evaluated: a name is followed from its import through plain
assignments to the decorator that uses it.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PACKAGE = "nuvom"
# `nuvom.task` is the decorator, and the module of that name offers it as `task` too.
DECORATORS = frozenset({"nuvom.task", "nuvom.task.task"})

# Names that stand for something of Nuvom, with its dotted path. Any other name is absent: a
# name that is bound to something else leaves the mapping.
Names: TypeAlias = dict[str, str]


def path_of(expression: ast.expr, names: Names) -> str | None:
    """Return the dotted path, such as ``nuvom.task``, that an expression stands for, or None."""
    attributes = []
    while isinstance(expression, ast.Attribute):
        attributes.append(expression.attr)
        expression = expression.value
    if not isinstance(expression, ast.Name):
        return None
    start = names.get(expression.id)
    return None if start is None else ".".join([start, *reversed(attributes)])


def bind(statement: ast.stmt, names: Names) -> None:
    """Note what a statement without a body binds: an import, an assignment, ``del``."""
    binder = _BINDERS.get(type(statement))
    if binder is not None:
        binder(statement, names)


def rebind(targets: Iterable[ast.expr], names: Names) -> None:
    """Note that assignment targets are now bound to something that is not ours."""
    for target in targets:
        forget(names_in_target(target), names)


def forget(bound: Iterable[str | None], names: Names) -> None:
    """Note that names are now bound to something that is not ours."""
    for name in bound:
        if name is not None:
            names.pop(name, None)


def become(names: Names, *endings: Names) -> None:
    """Let ``names`` be what holds after any one of several ways through the code.

    A name that is ours on one way counts as ours: ``except ImportError: task = None`` does not
    take the decorator away from those who have Nuvom.
    """
    merged: Names = {}
    for ending in endings:
        merged.update(ending)
    names.clear()
    names.update(merged)


def names_in_target(target: ast.expr) -> Iterator[str]:
    """Yield the plain names that an assignment target binds, nested tuples included."""
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, ast.Starred):
        yield from names_in_target(target.value)
    elif isinstance(target, ast.Tuple | ast.List):
        for element in target.elts:
            yield from names_in_target(element)


def names_in_pattern(pattern: ast.pattern) -> Iterator[str | None]:
    """Yield what a ``case`` pattern captures."""
    for node in ast.walk(pattern):
        if isinstance(node, ast.MatchAs | ast.MatchStar):
            yield node.name
        elif isinstance(node, ast.MatchMapping):
            yield node.rest


def parameter_names(parameters: ast.arguments) -> Iterator[str]:
    """Yield the names of all parameters of a function."""
    plain = [*parameters.posonlyargs, *parameters.args, *parameters.kwonlyargs]
    for parameter in (*plain, parameters.vararg, parameters.kwarg):
        if parameter is not None:
            yield parameter.arg


def _bind_import(statement: ast.Import, names: Names) -> None:
    for alias in statement.names:
        bound = alias.asname or alias.name.partition(".")[0]
        # `import a.b` binds `a`; `import a.b as c` binds `a.b` to `c`.
        _bind_name(bound, alias.name if alias.asname else bound, names)


def _bind_import_from(statement: ast.ImportFrom, names: Names) -> None:
    # A relative import is never ours, and what a foreign star import binds cannot be known:
    # it is taken to leave our names alone.
    origin = "" if statement.level else statement.module or ""
    for alias in statement.names:
        if alias.name != "*":
            _bind_name(alias.asname or alias.name, f"{origin}.{alias.name}", names)
        elif f"{origin}.task" in DECORATORS:  # `task` is in the package's __all__
            names["task"] = f"{origin}.task"


def _bind_assignment(statement: ast.Assign, names: Names) -> None:
    path = path_of(statement.value, names)
    rebind(statement.targets, names)
    for target in statement.targets:
        if isinstance(target, ast.Name):
            _bind_name(target.id, path, names)


def _bind_annotated(statement: ast.AnnAssign, names: Names) -> None:
    if statement.value is not None and isinstance(statement.target, ast.Name):
        _bind_name(statement.target.id, path_of(statement.value, names), names)


def _bind_augmented(statement: ast.AugAssign, names: Names) -> None:
    rebind([statement.target], names)


def _bind_delete(statement: ast.Delete, names: Names) -> None:
    rebind(statement.targets, names)


def _bind_type_alias(  # pragma: no cover  # there is no such statement in Python 3.11
    statement: Any,  # noqa: ANN401  # nor a class for it
    names: Names,
) -> None:
    rebind([statement.name], names)


_BINDERS: dict[type, Callable[[Any, Names], None]] = {
    ast.Import: _bind_import,
    ast.ImportFrom: _bind_import_from,
    ast.Assign: _bind_assignment,
    ast.AnnAssign: _bind_annotated,
    ast.AugAssign: _bind_augmented,
    ast.Delete: _bind_delete,
    getattr(ast, "TypeAlias", type(None)): _bind_type_alias,
}


def _bind_name(name: str, path: str | None, names: Names) -> None:
    if path is not None and (path == PACKAGE or path.startswith(f"{PACKAGE}.")):
        names[name] = path
    else:
        names.pop(name, None)
