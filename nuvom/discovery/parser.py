"""Reads one module: which functions are decorated with what, and what its names refer to.

Only the syntax tree counts: no project code ever runs. The parser walks the statements in source
order and follows each name through imports, assignments and calls. Whether a decorator is Nuvom's
may depend on other modules, so it is left to ``references.py``. Called by ``scan.py``.

A *path* is a text that says what an expression refers to:

==================  ==============================================================================
``a.b.c``           an imported object; ``.b.c`` relative to the module's package
``:f``, ``:A.f``    a function or class of this module
``=3``, ``=3.task`` what call number 3 of this module returned, and an attribute of that
``$name``           a parameter of the function around
``"text``           a text
``?``               something else
==================  ==============================================================================
"""

from __future__ import annotations

import ast
import re
import sys
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec

from nuvom.discovery.description import FunctionNode, NotPlainError, entry_of, plain_value
from nuvom.discovery.entries import Problem, TaskEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Paths: TypeAlias = frozenset[str]
# For each name, what it may refer to at some point in a scope.
Names: TypeAlias = dict[str, Paths]

JOINED = "+"  # in place of a function: texts put together
UNKNOWN = "?"
NO_PATHS: Paths = frozenset()
_PARTS_OF_BLOCKS = (ast.stmt, ast.excepthandler, ast.match_case)
_TOO_DEEP = "it cannot be parsed: it is nested too deeply"
UNPACKED = "**"
_MOST_TEXT = 200  # characters of a text that may be part of a name
_WORD = re.compile(rb"[A-Za-z_]\w*")
_NESTED_DECORATOR = re.compile(rb"^[ \t]*@", re.MULTILINE)
NEWER = "it is written for Python "
_NEW_SYNTAX = (  # version, part of the message, pattern of the line
    ((3, 14), "multiple exception types must be parenthesized", ""),
    ((3, 14), "", r"\bt[\"']"),
    ((3, 12), "", r"^\s*type\s+\w+\s*(\[.*\])?\s*="),
    ((3, 12), "", r"^\s*(async\s+)?(def|class)\s+\w+\s*\["),
    ((3, 12), "f-string", ""),
)
_OWN = ("$self.", "$cls.")  # of all that parameters are, only these are called
_BUILTINS = ("staticmethod", "classmethod")


class Call(msgspec.Struct, array_like=True, frozen=True):
    """A call whose result may be a decorator.

    Attributes:
        function: Paths of what is called.
        arguments: Paths of each positional argument.
        options: The literal keyword arguments, in plain JSON types.
        dynamic: Paths of the others by name; ``**`` for an unpacked mapping.
    """

    function: Paths
    arguments: tuple[Paths, ...] = ()
    options: dict[str, Any] = {}
    dynamic: dict[str, Paths] = {}


class Function(msgspec.Struct, array_like=True, frozen=True):
    """A function that may return a decorator or a task.

    Attributes:
        parameters: Its positional parameters; ``*`` before a name that takes the rest.
        defaults: The literal defaults by name.
        returns: Paths of what it returns.
        rest: The name that takes the rest of the keyword arguments, or ``""``.
    """

    parameters: tuple[str, ...]
    defaults: dict[str, Any]
    returns: Paths
    rest: str = ""


class Sighting(msgspec.Struct, array_like=True, frozen=True):
    """A decorated function.

    Attributes:
        entry: What is known without its decorators.
        decorators: Paths of each decorator, the outermost first.
        obstacle: Why importing the module does not run the statement, or ``""``.
    """

    entry: TaskEntry
    decorators: tuple[Paths, ...]
    obstacle: str


class Facts(msgspec.Struct, array_like=True, frozen=True):
    """What one module says; the paths in it are meant as seen from that module.

    Attributes:
        names: What the names of the module, and of its classes as ``Class.name``, refer to.
        stars: Modules from which all names are imported.
        classes: Its classes, with the paths of their bases.
        functions: Functions that may return a decorator, by qualified name.
        suspects: Functions that mention what comes from ``nuvom``, methods as ``Class.name``.
    """

    names: dict[str, Paths] = {}
    stars: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    classes: dict[str, Paths] = {}
    functions: dict[str, Function] = {}
    suspects: frozenset[str] = frozenset()
    sightings: tuple[Sighting, ...] = ()
    problems: tuple[Problem, ...] = ()


NOTHING = Facts()


def read_facts(source: bytes, is_relevant: Callable[[str], bool]) -> Facts:
    """Return what a module says. Broken source is a problem, never an error.

    Args:
        is_relevant: Tells whether an imported object may lead to a decorator of tasks, from the
            first part of its path.
    """
    found: list[Facts] = []
    problems = _failures(
        lambda: found.append(_Reader(source, is_relevant).read(syntax_tree(source)))
    )
    return found[0] if found else Facts(problems=problems)


def syntax_problems(source: bytes) -> tuple[Problem, ...]:
    """Return why a module cannot be parsed, if it cannot."""
    return _failures(lambda: syntax_tree(source))


def _failures(parse: Callable[[], object]) -> tuple[Problem, ...]:
    try:
        parse()
    except (RecursionError, MemoryError):  # the parser reports nesting as either
        return (Problem("", 0, _TOO_DEEP),)
    except (SyntaxError, ValueError) as error:  # ValueError: null bytes, before Python 3.11.4
        reason = f"it cannot be parsed: {getattr(error, 'msg', None) or error}"
        version = _version_of(error)
        if version > sys.version_info[:2]:
            reason = f"{NEWER}{version[0]}.{version[1]}"
        return (Problem("", getattr(error, "lineno", None) or 0, reason),)
    return ()


def _version_of(error: SyntaxError | ValueError) -> tuple[int, int]:
    """Return the version of Python whose syntax an error seems to come from."""
    message, text = getattr(error, "msg", ""), getattr(error, "text", None) or ""
    for version, in_message, in_text in _NEW_SYNTAX:
        if (in_message and in_message in message) or (in_text and re.search(in_text, text)):
            return version
    return (0, 0)


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


def _is_ours(path: str) -> bool:
    return path.partition(".")[0] == "nuvom"


def absolute_path(path: str, module: str, *, is_package: bool) -> str:
    """Return a relative path, as seen from a module, as one that begins with a module."""
    rest = path.lstrip(".")
    parts = module.split(".")
    around = parts[: max(0, len(parts) - (len(path) - len(rest)) + is_package)]
    return ".".join((*around, rest))


def joined_path(module: str, name: str) -> str:
    """Return the path of a name in a module, which may be relative."""
    return f"{module}{name}" if module.endswith(".") else f"{module}.{name}"


class _Place(NamedTuple):
    """The position of a statement in its module.

    Attributes:
        prefix: The part of ``__qualname__`` before the name of a function defined here.
        obstacle: Why importing the module does not run the statement, or ``""``.
        is_certain: Whether the statement stands in no block, so that it runs if its scope does.
        function: The qualified name of the function around, or ``""``.
    """

    prefix: str = ""
    obstacle: str = ""
    is_certain: bool = True
    function: str = ""


class _Waiting(NamedTuple):
    """A function whose body is not read yet, and the words in its text."""

    node: FunctionNode
    place: _Place
    words: set[str]


class _Reader:
    """Walks through one module and collects its facts."""

    def __init__(self, source: bytes, is_relevant: Callable[[str], bool]) -> None:
        self._lines = source.splitlines()
        self._is_relevant = is_relevant
        self._stars: list[str] = []
        self._calls: list[Call] = []
        self._members: Names = {}
        self._classes: dict[str, Paths] = {}
        self._functions: dict[str, Function] = {}
        self._returns: dict[str, set[str]] = {}
        self._waiting: list[_Waiting] = []
        self._worthy: set[str] = set()
        self._sightings: dict[str, Sighting] = {}

    def read(self, tree: ast.Module) -> Facts:
        names: Names = {}
        self._scope(tree.body, names, _Place())
        self._read_bodies(names)
        ours = [name for name, paths in names.items() if any(map(_is_ours, paths))]
        returning = {
            name: msgspec.structs.replace(one, returns=frozenset(self._returns[name]))
            for name, one in self._functions.items()
            if any(path[0] != "$" for path in self._returns.get(name, ()))
        }
        kept = {*returning, *self._classes}
        return Facts(
            {
                name: paths
                for name, paths in (names | self._members).items()
                if any(path[0] != ":" or path[1:] in kept for path in paths)
            },
            tuple(self._stars),
            tuple(self._calls),
            self._classes,
            returning,
            frozenset(self._mentioning(tree.body, ours)) if ours else frozenset(),
            tuple(self._sightings.values()),
        )

    def _mentioning(
        self, body: list[ast.stmt], names: list[str], prefix: str = ""
    ) -> Iterator[str]:
        """Yield the functions in whose text one of these names stands."""
        for node in body:
            if isinstance(node, ast.ClassDef):
                yield from self._mentioning(node.body, names, f"{prefix}{node.name}.")
            elif isinstance(node, FunctionNode):
                text = b"\n".join(self._lines[node.lineno - 1 : node.end_lineno])
                if any(re.search(rf"\b{name}\b".encode(), text) for name in names):
                    yield f"{prefix}{node.name}"

    def _scope(self, body: list[ast.stmt], names: Names, place: _Place) -> None:
        """Visit the statements of a scope, given what the names refer to. Raises: RecursionError.

        A binding in a block may not happen, so it adds to what the name referred to before: with
        ``except ImportError: task = None`` the decorator is still ours.
        """
        for node, here in _statements(body, place):
            bound: Paths | None = None
            if isinstance(node, FunctionNode):
                bound = self._function(node, names, here)
            elif isinstance(node, ast.ClassDef):
                bound = self._class(node, names, here)
            elif isinstance(node, ast.Return) and here.function:
                self._returns.setdefault(here.function, set()).update(
                    self._paths(node.value, names)
                )
            for name, paths in list(self._bindings(node, names, bound)):
                before = NO_PATHS if here.is_certain else names.get(name, NO_PATHS)
                if not paths and any(path[0] == '"' for path in before):
                    paths = frozenset({UNKNOWN})  # noqa: PLW2901  # else the text would seem sure
                names[name] = before | paths

    def _function(self, node: FunctionNode, names: Names, place: _Place) -> Paths:
        """Note a function and what it returns; return what its name refers to."""
        qualname = f"{place.prefix}{node.name}"
        decorators = [self._paths(one, names) for one in node.decorator_list]
        bound = frozenset({f":{qualname}"})
        if any(decorators):
            self._see(node, qualname, tuple(decorators), place)
            if place.function and (wrapped := self._wrapped(node, names)):
                bound = wrapped
        if not place.function:  # its body runs later, when all names of the module are bound
            self._waiting.append(_Waiting(node, place, self._words(node)))
        elif self._is_worth_a_look(self._words(node), names):
            self._read_body(node, names, place)
        return bound

    def _read_bodies(self, names: Names) -> None:
        """Read functions that mention what may lead to a decorator, then who mentions them."""
        while True:
            chosen: list[_Waiting] = []
            left: list[_Waiting] = []
            for one in self._waiting:
                is_chosen = self._is_worth_a_look(one.words, names) or self._uses_own(one)
                (chosen if is_chosen else left).append(one)
            if not chosen:
                return
            self._waiting = left
            for node, place, _ in chosen:
                self._worthy.add(f"{place.prefix}{node.name}")
                self._read_body(node, names, place)

    def _read_body(self, node: FunctionNode, names: Names, place: _Place) -> None:
        qualname = f"{place.prefix}{node.name}"
        obstacle = place.obstacle or f"it is defined inside the function {qualname}"
        given = node.args
        every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        parameters = {one.arg: frozenset({f"${one.arg}"}) for one in every if one is not None}
        self._functions[qualname] = _function_of(given)
        inside = _Place(f"{qualname}.<locals>.", obstacle, function=qualname)
        self._scope(node.body, names | parameters, inside)

    def _words(self, node: FunctionNode) -> set[str]:
        """Return the words in a function; ``import`` only if it has a decorator inside."""
        text = b"\n".join(self._lines[node.lineno - 1 : node.end_lineno])
        words = {word.decode() for word in _WORD.findall(text)}
        if "import" in words and not _NESTED_DECORATOR.search(text):
            words.discard("import")
        return words

    def _is_worth_a_look(self, words: set[str], names: Names) -> bool:
        """Whether a function mentions anything that may lead to a decorator."""
        if self._stars or not words.isdisjoint(("nuvom", "import")):
            return True
        for word in words.intersection(names):
            for path in names[word]:
                if path[0] not in '":?' or path[1:] in self._worthy or path[1:] in self._classes:
                    return True
        return False

    def _uses_own(self, one: _Waiting) -> bool:
        """Whether a method may return what another method of its object returns."""
        owner = one.place.prefix.removesuffix(".")
        if owner not in self._classes or not {"self", "return"} <= one.words:
            return False
        has_bases = any(path[0] not in '"?' for path in self._classes[owner])
        return has_bases or any(f"{owner}.{word}" in self._worthy for word in one.words)

    def _see(
        self, node: FunctionNode, qualname: str, decorators: tuple[Paths, ...], place: _Place
    ) -> None:
        before = self._sightings.get(qualname)
        if before is None or not place.obstacle:  # as in Python, the last definition counts
            entry = entry_of(node, qualname, self._lines)
            self._sightings[qualname] = Sighting(entry, decorators, place.obstacle)

    def _wrapped(self, node: FunctionNode, names: Names) -> Paths:
        """Return what ``@task`` makes of a function that stands for another: ``@wraps(other)``.

        Such a function has the other one's name, so the task is the other one's.
        """
        for one in node.decorator_list:
            if isinstance(one, ast.Call) and self._paths(one.func, names) == {"functools.wraps"}:
                arguments = tuple(self._paths(argument, names) for argument in one.args[:1])
                others = [
                    self._paths(other, names) for other in node.decorator_list if other is not one
                ]
                found = [self._called(Call(other, arguments)) for other in others if other]
                return frozenset(found)
        return NO_PATHS

    def _class(self, node: ast.ClassDef, names: Names, place: _Place) -> Paths:
        qualname = f"{place.prefix}{node.name}"
        bases = frozenset().union(*(self._paths(base, names) for base in node.bases))
        inside = names.copy()
        self._scope(node.body, inside, _Place(f"{qualname}.", place.obstacle))
        members = {
            name: paths for name, paths in inside.items() if paths and names.get(name) != paths
        }
        self._classes[qualname] = bases
        if not place.function:
            self._members |= {f"{qualname}.{name}": paths for name, paths in members.items()}
        return frozenset({f":{qualname}"})

    # ---- what names refer to --------------------------------------------------------------

    def _bindings(
        self, node: ast.AST, names: Names, bound: Paths | None
    ) -> Iterator[tuple[str, Paths]]:
        """Yield each name that a statement itself binds, with the paths that it then refers to."""
        if isinstance(node, FunctionNode | ast.ClassDef):
            yield node.name, bound or NO_PATHS
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for name, path in self._imports(node):
                yield name, frozenset({path}) if self._leads_on(path) else NO_PATHS
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        for target in _targets(node):
            paths = self._paths(value, names) if isinstance(target, ast.Name) else NO_PATHS
            if isinstance(node, ast.AnnAssign) and isinstance(value, ast.Call):  # maybe of a proxy
                paths |= self._result(ast.Call(node.annotation, [], []), names)
            for one in ast.walk(target):
                if isinstance(one, ast.Name) and not isinstance(one.ctx, ast.Load):
                    yield one.id, paths

    def _imports(self, node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
        """Yield each name that an import binds, with its dotted path."""
        if isinstance(node, ast.Import):
            for alias in node.names:
                # `import a.b` binds `a`; `import a.b as c` binds `a.b` to `c`.
                first = alias.name.partition(".")[0]
                yield (alias.asname, alias.name) if alias.asname else (first, first)
            return
        origin = "." * node.level + (node.module or "")
        for alias in node.names:
            path = joined_path(origin, alias.name)
            if alias.name != "*":
                yield alias.asname or alias.name, path
            elif self._leads_on(origin):
                self._stars.append(origin)

    def _leads_on(self, path: str) -> bool:
        return path[0] == "." or self._is_relevant(path.partition(".")[0])

    def _paths(self, expression: ast.expr | None, names: Names) -> Paths:
        """Return what an expression may refer to."""
        found = NO_PATHS
        match expression:
            case ast.Name(id=name):
                found = self._name(name, names)
            case ast.Attribute(value=value, attr=attr):
                paths = self._paths(value, names)
                found = frozenset(f"{path}.{attr}" for path in paths if path[0] not in '"?')
            case ast.Constant(value=str() as text) if len(text) <= _MOST_TEXT:
                found = frozenset({f'"{text}'})
            case ast.Call():
                found = self._result(expression, names)
            case ast.IfExp(body=one, orelse=other):
                found = self._paths(one, names) | self._paths(other, names)
            case ast.BoolOp(values=values):
                found = frozenset().union(*(self._paths(one, names) for one in values))
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                found = self._joined([left, right], names)
            case ast.JoinedStr(values=values):
                parts = [getattr(one, "value", None) for one in values]
                plain = [ast.Constant(one) if isinstance(one, str) else one for one in parts]
                found = self._joined(plain, names)
        return found

    def _name(self, name: str, names: Names) -> Paths:
        known = names.get(name)
        if known is not None:
            return known
        if name in _BUILTINS:
            return frozenset({f"builtins.{name}"})
        return frozenset(joined_path(star, name) for star in self._stars)

    def _joined(self, parts: list[Any], names: Names) -> Paths:
        paths = tuple(self._paths(one, names) for one in parts)
        return (
            frozenset({self._called(Call(frozenset({JOINED}), paths))}) if all(paths) else NO_PATHS
        )

    def _result(self, call: ast.Call, names: Names) -> Paths:
        """Return the path of what a call returns, if it may be a decorator."""
        function = frozenset(
            path
            for path in self._paths(call.func, names)
            if path[0] not in '"$?' or path.startswith(_OWN)
        )
        if not function:
            return NO_PATHS
        arguments = [
            self._paths(one.value if isinstance(one, ast.Starred) else one, names)
            for one in call.args
        ]
        literal: dict[str, Any] = {}
        dynamic: dict[str, Paths] = {}
        for keyword in call.keywords:
            name = keyword.arg or UNPACKED
            try:
                literal[name] = plain_value(keyword.value if keyword.arg else None)
            except (NotPlainError, RecursionError):
                dynamic[name] = self._paths(keyword.value, names)
        return frozenset({self._called(Call(function, tuple(arguments), literal, dynamic))})

    def _called(self, call: Call) -> str:
        self._calls.append(call)
        return f"={len(self._calls) - 1}"


def _function_of(given: ast.arguments) -> Function:
    positional = [*given.posonlyargs, *given.args]
    first = len(positional) - len(given.defaults)
    pairs = [
        *zip([one.arg for one in positional[first:]], given.defaults, strict=True),
        *zip([one.arg for one in given.kwonlyargs], given.kw_defaults, strict=True),
    ]
    defaults = {}
    for name, value in pairs:
        try:
            defaults[name] = plain_value(value)
        except (NotPlainError, RecursionError):
            continue
    parameters = [one.arg for one in positional]
    if given.vararg is not None:
        parameters.append(f"*{given.vararg.arg}")
    rest = given.kwarg.arg if given.kwarg is not None else ""
    return Function(tuple(parameters), defaults, NO_PATHS, rest)


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
