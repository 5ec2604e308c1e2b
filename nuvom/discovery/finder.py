"""Finds the decorated functions of a module by walking its syntax tree in the order of execution.

It knows which names stand for Nuvom's decorator at each point (``bindings.py``), in which
scope a function is defined, and whether importing the module will define it. It looks at
statements only: expressions matter to it as decorators and as assigned values.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias

from nuvom.discovery import bindings
from nuvom.discovery.bindings import DECORATORS, Names, become, forget, path_of, rebind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


class Place(NamedTuple):
    """Where in a module a statement stands.

    Attributes:
        prefix: What precedes the name of a function defined here in its ``__qualname__``.
        obstacle: Why importing the module does not define it, or None.
        arms: For each branching statement around it, the arm it is in. Two places with
            different arms of one statement exclude each other.
        outer: In the body of a class: the names around the class, since its methods do not
            see its own. None elsewhere.
    """

    prefix: str = ""
    obstacle: str | None = None
    arms: tuple[tuple[int, int], ...] = ()
    outer: Names | None = None

    def in_arm(self, statement: ast.stmt, arm: int) -> Place:
        """Return this place inside one arm of a branching statement."""
        return self._replace(arms=(*self.arms, (id(statement), arm)))


class Sighting(NamedTuple):
    """A function under our decorator.

    Attributes:
        call: The decorator's call, or None when it is bare.
    """

    node: FunctionNode
    call: ast.Call | None
    place: Place

    @property
    def qualname(self) -> str:
        """The function's ``__qualname__``."""
        return f"{self.place.prefix}{self.node.name}"

    def excludes(self, other: Sighting) -> bool:
        """Whether at most one of the two is ever defined, as in ``if`` and its ``else``."""
        mine = dict(self.place.arms)
        return any(mine.get(statement, arm) != arm for statement, arm in other.place.arms)


class Finder:
    """Walks through one module and gathers ``sightings``.

    Args:
        has_walrus: Whether the source holds ``:=``; only then expressions can bind names.
    """

    def __init__(self, *, has_walrus: bool) -> None:
        self.sightings: list[Sighting] = []
        self._has_walrus = has_walrus
        # Bodies of functions run after the code around them, so they are looked at last.
        self._later: list[Callable[[], None]] = []

    def walk(self, module: ast.Module) -> None:
        """Look at every statement of the module.

        Raises: RecursionError: it is nested too deeply.
        """
        self._block(module.body, {}, Place())
        for look in self._later:  # grows while it is gone through
            look()

    def _block(self, body: Iterable[ast.stmt], names: Names, place: Place) -> None:
        for statement in body:
            if self._has_walrus:
                _forget_walrus(statement, names)
            handler = self._HANDLERS.get(type(statement))
            if handler is None:
                bindings.bind(statement, names)
            else:
                handler(self, statement, names, place)

    def _function(self, node: FunctionNode, names: Names, place: Place) -> None:
        for decorator in node.decorator_list:
            call = decorator if isinstance(decorator, ast.Call) else None
            if path_of(call.func if call else decorator, names) in DECORATORS:
                self.sightings.append(Sighting(node, call, place))
                break
        forget([node.name], names)
        visible = names if place.outer is None else place.outer
        at_definition = visible.copy()

        def look() -> None:
            # The function may be called at any time between its definition and the end.
            self._function_body(node, {**visible, **at_definition}, place)

        self._later.append(look)

    def _function_body(self, node: FunctionNode, names: Names, place: Place) -> None:
        qualname = f"{place.prefix}{node.name}"
        obstacle = place.obstacle or f"it is defined inside the function {qualname}"
        forget(bindings.parameter_names(node.args), names)
        self._block(node.body, names, Place(f"{qualname}.<locals>.", obstacle, place.arms))

    def _class(self, node: ast.ClassDef, names: Names, place: Place) -> None:
        outer = names if place.outer is None else place.outer
        inside = place._replace(prefix=f"{place.prefix}{node.name}.", outer=outer)
        self._block(node.body, names.copy(), inside)
        forget([node.name], names)

    def _arm(self, body: list[ast.stmt], names: Names, place: Place) -> Names:
        """Look at one way through the code; return the names at its end."""
        inside = names.copy()
        self._block(body, inside, place)
        return inside

    def _if(self, statement: ast.If, names: Names, place: Place) -> None:
        endings: list[Names] = []
        current = statement
        while True:  # a long chain of elif is nested ever deeper: loop instead of recursing
            obstacle = place.obstacle or _obstacle_of(current.test)
            inside = place.in_arm(statement, len(endings))._replace(obstacle=obstacle)
            endings.append(self._arm(current.body, names, inside))
            if len(current.orelse) != 1 or not isinstance(current.orelse[0], ast.If):
                break
            current = current.orelse[0]
        otherwise = place.in_arm(statement, len(endings))
        become(names, *endings, self._arm(current.orelse, names, otherwise))

    def _try(self, statement: ast.Try, names: Names, place: Place) -> None:
        first = place.in_arm(statement, 0)
        tried = self._arm(statement.body, names, first)
        endings = [self._arm(statement.orelse, tried, first)]
        for number, handler in enumerate(statement.handlers, start=1):
            caught = {**names, **tried}  # the exception may come before or after any binding
            forget([handler.name], caught)
            endings.append(self._arm(handler.body, caught, place.in_arm(statement, number)))
        become(names, *endings)
        self._block(statement.finalbody, names, place)

    def _for(self, statement: ast.For, names: Names, place: Place) -> None:
        rebind([statement.target], names)
        self._while(statement, names, place)

    def _while(self, statement: ast.While | ast.For, names: Names, place: Place) -> None:
        become(names, names.copy(), self._arm(statement.body, names, place))
        self._block(statement.orelse, names, place)

    def _with(self, statement: ast.With, names: Names, place: Place) -> None:
        rebind([item.optional_vars for item in statement.items if item.optional_vars], names)
        self._block(statement.body, names, place)

    def _match(self, statement: ast.Match, names: Names, place: Place) -> None:
        endings = [names.copy()]
        for number, case in enumerate(statement.cases):
            captured = names.copy()
            forget(bindings.names_in_pattern(case.pattern), captured)
            endings.append(self._arm(case.body, captured, place.in_arm(statement, number)))
        become(names, *endings)

    _HANDLERS: ClassVar[dict[type[ast.stmt], Callable[[Any, Any, Names, Place], None]]] = {
        ast.FunctionDef: _function,
        ast.AsyncFunctionDef: _function,
        ast.ClassDef: _class,
        ast.If: _if,
        ast.Try: _try,
        ast.TryStar: _try,
        ast.For: _for,
        ast.AsyncFor: _for,
        ast.While: _while,
        ast.With: _with,
        ast.AsyncWith: _with,
        ast.Match: _match,
    }


def _obstacle_of(test: ast.expr) -> str | None:
    """Return why the body of ``if test:`` does not run when a worker imports the module."""
    match test:
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return "it stands under `if TYPE_CHECKING`, which never runs"
        case ast.Compare(
            ast.Name("__name__"), [ast.Eq()], [ast.Constant("__main__")]
        ) | ast.Compare(ast.Constant("__main__"), [ast.Eq()], [ast.Name("__name__")]):
            return 'it stands under `if __name__ == "__main__"`, which does not run in a worker'
    return None


def _forget_walrus(statement: ast.stmt, names: Names) -> None:
    children = ast.iter_child_nodes(statement)
    heads = [child for child in children if isinstance(child, ast.expr | ast.withitem)]
    nodes = (node for head in heads for node in ast.walk(head))
    rebind([node.target for node in nodes if isinstance(node, ast.NamedExpr)], names)
