"""Follows decorators from module to module: which functions are tasks, and with which options.

``parser.py`` has read what each module says; here a small evaluator follows the paths: imports and
re-exports, presets such as ``task.preset(queue="db")``, ``functools.partial(task, ...)``, wrapper
functions that return ``task(...)`` of their argument, and classes with such methods.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from nuvom.discovery.parser import (
    JOINED,
    NOTHING,
    UNKNOWN,
    UNPACKED,
    Call,
    Facts,
    Function,
    Paths,
    absolute_path,
    joined_path,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

NUVOM, SHIM, DJANGO = "Nuvom", "Celery on Nuvom", "Django on Nuvom"
# `nuvom.task` is the decorator; the module of that name also exports it as `task`.
DECORATORS = {
    **dict.fromkeys(("nuvom.task", "nuvom.task.task"), NUVOM),
    "nuvom.compat.celery.shared_task": SHIM,
    **dict.fromkeys(("celery.shared_task", "celery.task", "celery.decorators.task"), "Celery"),
    **dict.fromkeys(("dramatiq.actor", "dramatiq.actor.actor"), "Dramatiq"),
    **dict.fromkeys(("rq.job", "rq.decorators.job", "django_rq.job"), "RQ"),
    **{
        f"huey.contrib.djhuey.{name}": "Huey"
        for name in ("task", "db_task", "periodic_task", "db_periodic_task")
    },
}
_OF_FRAMEWORKS = {"django.tasks.task": DJANGO}  # if the setting `task_decorators` names them
# Objects of other engines whose methods are decorators of tasks.
_APPLICATIONS = {
    "celery.Celery": ("Celery", ("task",)),
    "nuvom.compat.celery.Celery": (SHIM, ("task",)),
    **{
        f"huey.{name}Huey": ("Huey", ("task", "periodic_task"))
        for name in ("", "Redis", "Sqlite", "File", "Memory", "PriorityRedis")
    },
}
_ENGINES = frozenset(path.partition(".")[0] for path in (*DECORATORS, *_APPLICATIONS))
KNOWN_PACKAGES = _ENGINES | {"functools", "builtins"}


def _with_parents(paths: Iterable[str]) -> frozenset[str]:
    """Return paths, and the modules and objects that hold what they name."""
    return frozenset(part for path in paths for part in accumulate(path.split("."), joined_path))


_SOURCES = _with_parents((*DECORATORS, *_APPLICATIONS))
_SAME_OBJECT = ("builtins.staticmethod", "builtins.classmethod")
_PARTIAL = "functools.partial"
_CALLABLE = frozenset({_PARTIAL, *_SAME_OBJECT, *_APPLICATIONS})
_MOST_STEPS = 25  # from one name to the next; a longer way is a circle
_MOST_WORK = 200  # steps for one answer; functions may call each other without end
_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class DecoratorValue:
    """What makes a task of a function.

    Attributes:
        engine: Whose tasks.
        options: The options known so far, in plain JSON types.
        dynamic: The names of those that only the code knows.
        refused: What ``@task`` does not accept, as written.
        is_given: Whether ``task_decorators`` names it: of its options, only ``name`` is read.
    """

    engine: str = NUVOM
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    dynamic: frozenset[str] = frozenset()
    refused: str = ""
    is_given: bool = False


@dataclass(frozen=True)
class Made:
    """A task that a decorator has made of the function in question."""

    decorator: DecoratorValue


class _Target(NamedTuple):
    """The function in question."""


class _Text(NamedTuple):
    text: str


class _Object(NamedTuple):
    """Something imported that is not of the project, such as a module."""

    path: str


class _Application(NamedTuple):
    """An object of another engine that has its decorators as methods."""

    engine: str
    methods: tuple[str, ...]


class _Defined(NamedTuple):
    """A function, a class, or an object of a class, of the project.

    Attributes:
        around: The parameters that the functions around it were called with.
        owner: The object whose method it is, which is its first parameter.
    """

    module: str
    qualname: str
    around: _Parameters
    is_object: bool = False
    owner: _Defined | None = None


class _Rest(NamedTuple):
    """Keyword arguments that a function passes on."""

    options: dict[str, Any]
    dynamic: frozenset[str]


Value: TypeAlias = (
    "DecoratorValue | Made | _Target | _Text | _Object | _Application | _Defined | _Partial | _Rest"
    " | _Literal"
)
_Parameters: TypeAlias = dict[str, "list[Value]"]  # what those of a function stand for


class _Literal(NamedTuple):
    value: Any


_NONE: _Parameters = {}
_TARGET = _Target()


class Given(NamedTuple):
    """The arguments of a call, evaluated."""

    positional: Sequence[list[Value]] = ()
    options: Mapping[str, Any] = _NO_OPTIONS
    dynamic: Mapping[str, list[Value]] = _NO_OPTIONS

    def with_more(self, more: Given) -> Given:
        """Return these arguments and those of a later call."""
        return Given(
            (*self.positional, *more.positional),
            {**self.options, **more.options},
            {**self.dynamic, **more.dynamic},
        )


class _Partial(NamedTuple):
    """A function of the project with some of its arguments given."""

    function: _Defined
    given: Given


class References:
    """Follows paths through the modules of a project.

    Args:
        facts: What each module says, by its name.
        packages: Those of the modules that are packages.
        decorators: Dotted names that are decorators of tasks, as the setting
            ``task_decorators`` says.

    Attributes:
        unread: Paths of texts that a task's name depends on, and that no facts tell.
    """

    def __init__(
        self,
        facts: Mapping[str, Facts],
        packages: Iterable[str] = (),
        decorators: Iterable[str] = (),
    ) -> None:
        self._facts = facts
        self._packages = frozenset(packages)
        self._given = frozenset(decorators)
        self._sources = _SOURCES | _with_parents(self._given)
        self.unread: set[str] = set()
        self._steps = self._work = 0
        self._found: dict[str, list[Value]] = {}  # by path
        self._capable: dict[tuple[str, str], bool] = {}
        self._names: dict[str, frozenset[str]] = {}

    # ---- questions ------------------------------------------------------------------------

    def made_by(self, decorators: Sequence[Paths], module: str) -> Made | None:
        """Return the task that the decorators of a function make of it, or None."""
        given = Given([[_TARGET]])
        values = (value for paths in decorators for value in self._values(paths, module))
        made = (one for value in values for one in self._applied(value, given))
        return next((one for one in made if isinstance(one, Made)), None)

    def makes_tasks(self, module: str, name: str) -> bool:
        """Whether a name of a module is, or may lead to, a decorator of tasks."""
        key = module, name
        if key not in self._capable:
            self._capable[key] = False  # in a circle
            facts = self._facts[module]
            values = self._values(facts.names.get(name, ()), module)
            self._capable[key] = name in facts.suspects or any(map(self._is_capable, values))
        return self._capable[key]

    def words_in_imports(self) -> set[str]:
        """Return words of which each import that leads to tasks has one.

        That is the last part of a module's name; of a package also a name, after ``from . import``.
        """
        words = {part for path in self._given for part in path.split(".")} | _ENGINES
        for module in self._facts:
            names = self.names_in(module)
            if names:
                words.add(module.rpartition(".")[2])
            if module in self._packages:
                words.update(names)
        return words

    def is_decorator(self, path: str, module: str) -> bool:
        """Whether an expression such as ``app.task`` is a decorator of tasks in a module."""
        first, _, rest = path.partition(".")
        names = self._facts[module].names.get(first, ())
        paths = [f"{one}.{rest}" if rest else one for one in names if one[0] not in '"?']
        return any(isinstance(one, DecoratorValue) for one in self._values(paths, module))

    def leads_to_tasks(self, path: str) -> bool:
        """Whether what is imported, ``module.name`` or ``module.*``, leads to a decorator."""
        module, _, name = path.rpartition(".")
        if name == "*":
            return module in self._sources or bool(self.names_in(module))
        if path in self._sources:
            return True
        if module not in self._facts:
            return False
        if name in self._facts[module].names:
            return self.makes_tasks(module, name)
        return any(map(self._is_capable, self._imported(path)))

    def names_in(self, module: str) -> frozenset[str]:
        """Return the names of a module that lead to a decorator, with those that it imports."""
        if module not in self._names:
            self._names[module] = frozenset()  # in a circle
            facts = self._facts.get(module, NOTHING)
            own = (name for name in facts.names if self.makes_tasks(module, name))
            stars = (self.names_in(self._absolute(star, module)) for star in facts.stars)
            self._names[module] = frozenset(own).union(*stars)
        return self._names[module]

    def place_of(self, paths: Paths, module: str) -> tuple[str, str] | None:
        """Return module and qualified name of the project's function behind a decorator."""
        for path in paths:
            if path[0] == "=" and "." not in path:  # what was called, and not what it returned
                called = self._facts[module].calls[int(path[1:])].function
                return self.place_of(called, module)
            for value in self._values([path], module):
                if isinstance(value, _Defined):
                    return value.module, value.qualname
        return None

    def unknown_in(self, paths: Paths, module: str) -> str:
        """Return the path of the ``task`` of an object that cannot be followed, or ``""``."""
        for path in paths:
            if path[0] == "=" and "." not in path:
                called = self._facts[module].calls[int(path[1:])].function
                return self.unknown_in(called, module)
            if path[0] not in '"?$:=' and path.endswith(".task"):
                values = self._values([path], module)
                if all(isinstance(one, _Object) for one in values):
                    return self._absolute(path, module) if path[0] == "." else path
        return ""

    def _is_capable(self, value: Value) -> bool:
        match value:
            case DecoratorValue() | _Application():
                return True
            case _Object(path):
                return path in ("nuvom", "celery", "nuvom.compat.celery") or path in _APPLICATIONS
            case _Partial():
                return any(isinstance(one, Made | DecoratorValue) for one in self._outcomes(value))
            case _Defined():
                if any(isinstance(one, Made | DecoratorValue) for one in self._outcomes(value)):
                    return True
                facts, prefix = self._facts[value.module], f"{value.qualname}."
                own = [name for name in facts.names if name.startswith(prefix)]
                bases = self._values(facts.classes.get(value.qualname, ()), value.module)
                return any(self.makes_tasks(value.module, name) for name in own) or any(
                    self._is_capable(base) for base in bases
                )
        return False

    def _outcomes(self, value: _Defined | _Partial) -> Iterator[Value]:
        """Yield what comes of using something as a decorator, with and without a call."""
        methods = (value._replace(owner=value),) if isinstance(value, _Defined) else ()
        for used in (value, *methods):
            yield from self._applied(used, Given([[_TARGET]]))
            for first in self._applied(used, Given()):
                yield first
                if isinstance(first, _Defined | _Partial):
                    yield from self._applied(first, Given([[_TARGET]]))

    # ---- paths ----------------------------------------------------------------------------

    def _values(
        self, paths: Iterable[str], module: str, around: _Parameters = _NONE
    ) -> list[Value]:
        """Return all that paths may stand for, as seen from a module."""
        if self._steps == 0:
            self._work = 0
        self._work += 1
        if self._steps >= _MOST_STEPS or self._work > _MOST_WORK:
            return []
        self._steps += 1
        try:
            found: list[Value] = []
            for path in sorted(paths):
                found += self._value(path, module, around)
            return found
        finally:
            self._steps -= 1

    def _value(self, path: str, module: str, around: _Parameters) -> list[Value]:
        mark, rest = path[0], path[1:]
        if mark == '"':
            return [_Text(rest)]
        if mark == ":":
            return self._named(module, rest, around)
        if mark in "=$":
            first, *attributes = rest.split(".")
            if mark == "$":
                values = list(around.get(first, ()))
            else:
                values = self._returned(self._facts[module].calls[int(first)], module, around)
            for name in attributes:
                values = [one for value in values for one in self._attribute(value, name)]
            return values
        if mark == ".":
            path = self._absolute(path, module)
            return (self._imported if path in self._given else self._of_project)(path)
        return [_Object("")] if path == UNKNOWN else self._imported(path)

    def _absolute(self, path: str, module: str) -> str:
        return absolute_path(path, module, is_package=module in self._packages)

    def _imported(self, path: str) -> list[Value]:
        """Return what a dotted path stands for: of the project, or of a package that is known."""
        if path not in self._found:
            self._found[path] = []  # in a circle
            self._found[path] = self._looked_up(path)
        return self._found[path]

    def _looked_up(self, path: str) -> list[Value]:
        if path in self._given and path not in _OF_FRAMEWORKS:
            return [DecoratorValue(dynamic=frozenset({UNPACKED}), is_given=True)]
        engine = (_OF_FRAMEWORKS if path in self._given else DECORATORS).get(path)
        if engine is not None:
            return [DecoratorValue(engine)]
        before, _, last = path.rpartition(".")
        if before in self._given or before in DECORATORS:
            return [one for value in self._imported(before) for one in self._attribute(value, last)]
        return self._of_project(path)

    def _of_project(self, path: str) -> list[Value]:
        parts = path.split(".")
        for count in range(len(parts) - 1, 0, -1):
            module = ".".join(parts[:count])
            if module in self._facts:
                return self._member(module, parts[count], parts[count + 1 :])
        return [_Object(path)]

    def _member(self, module: str, name: str, attributes: Sequence[str]) -> list[Value]:
        facts = self._facts[module]
        if name in facts.names:
            values = self._values(facts.names[name], module)
        else:
            values = self._values([joined_path(star, name) for star in facts.stars], module)
        for attribute in attributes:
            values = [one for value in values for one in self._attribute(value, attribute)]
        return values

    def _named(self, module: str, qualname: str, around: _Parameters) -> list[Value]:
        """Return the function or class of a module, or what a name of a class refers to."""
        facts = self._facts[module]
        if qualname in facts.functions or qualname in facts.classes:
            return [_Defined(module, qualname, around)]
        owner, _, name = qualname.rpartition(".")
        if owner in facts.classes:
            (value,) = self._named(module, owner, around)
            return self._attribute(value, name)
        return []

    def _attribute(self, value: Value, name: str) -> list[Value]:
        match value:
            case DecoratorValue():
                return [value] if name == "preset" else []
            case _Object(path):
                return self._imported(f"{path}.{name}")
            case _Application(engine, methods):
                return [DecoratorValue(engine)] if name in methods else []
            case _Defined():
                return self._inherited(value, name, value)
        return []

    def _inherited(self, value: _Defined, name: str, owner: _Defined) -> list[Value]:
        """Return what an attribute of a class, or of its bases, is to the object ``owner``."""
        module, qualname, around = value.module, value.qualname, value.around
        facts = self._facts[module]
        member = f"{qualname}.{name}"
        if member in facts.names:
            values = self._values(facts.names[member] - {f":{member}"}, module, around)
            if member in facts.functions:
                bound = owner if owner.is_object else None
                values.append(_Defined(module, member, around, owner=bound))
            return values
        found = []
        for base in self._values(facts.classes.get(qualname, ()), module, around):
            if isinstance(base, _Defined):
                found += self._inherited(base, name, owner)
            elif isinstance(base, _Object) and base.path in _APPLICATIONS:
                found += self._attribute(_Application(*_APPLICATIONS[base.path]), name)
        return found

    # ---- calls ----------------------------------------------------------------------------

    def _returned(self, call: Call, module: str, around: _Parameters) -> list[Value]:
        values = partial(self._values, module=module, around=around)
        called = [one for one in values(call.function - {JOINED}) if _is_callable(one)]
        if not called and call.function != {JOINED}:
            return []
        positional: list[list[Value]] = []
        for paths in call.arguments:
            found = values(paths)
            rest = [one.value for one in found if isinstance(one, _Literal)]
            if rest and isinstance(rest[0], _Positional):
                positional += rest[0].values
            else:
                positional.append(found)
        if call.function == {JOINED}:
            self._miss(positional)
            return _joined(positional)
        dynamic = {name: values(paths) for name, paths in call.dynamic.items()}
        self._miss([dynamic.get("name", [])])
        given = Given(positional, call.options, dynamic)
        return [one for value in called for one in self._applied(value, given)]

    def _miss(self, texts: Iterable[list[Value]]) -> None:
        self.unread |= {one.path for text in texts for one in text if isinstance(one, _Object)}

    def _applied(self, value: Value, given: Given) -> list[Value]:
        """Return what a call of ``value`` may return."""
        match value:
            case DecoratorValue():
                return _decorated(value, given)
            case _Object(path) if path == _PARTIAL and given.positional:
                wrapped, rest = given.positional[0], given._replace(positional=given.positional[1:])
                return [one for first in wrapped for one in self._preset(first, rest)]
            case _Object(path) if path in _SAME_OBJECT and given.positional:
                return given.positional[0]
            case _Object(path) if path in _APPLICATIONS:
                return [_Application(*_APPLICATIONS[path])]
            case _Defined():
                return self._called(value, given)
            case _Partial(function, before):
                return self._called(function, before.with_more(given))
        return []

    def _preset(self, value: Value, given: Given) -> list[Value]:
        """Return a function with some of its arguments given."""
        if isinstance(value, DecoratorValue):
            return _decorated(value, given)
        return [_Partial(value, given)] if isinstance(value, _Defined) else []

    def _called(self, value: _Defined, given: Given) -> list[Value]:
        facts = self._facts[value.module]
        function = facts.functions.get(value.qualname)
        if function is not None:
            if value.owner is not None:
                given = given._replace(positional=([value.owner], *given.positional))
            inside = value.around | _bound(function, given)
            return self._values(function.returns, value.module, inside)
        if not value.is_object:
            bases = self._values(facts.classes.get(value.qualname, ()), value.module, value.around)
            made = [_decorated(one, given) for one in bases if isinstance(one, DecoratorValue)]
            return made[0] if made else [value._replace(is_object=True)]
        return [
            one
            for method in self._attribute(value, "__call__")
            for one in self._applied(method, given)
        ]


def _is_callable(value: Value) -> bool:
    if isinstance(value, _Object):
        return value.path in _CALLABLE
    return isinstance(value, DecoratorValue | _Defined | _Partial)


class _Positional(NamedTuple):
    """Positional arguments that a function passes on."""

    values: Sequence[list[Value]]


def _bound(function: Function, given: Given) -> dict[str, list[Value]]:
    """Return what the parameters of a function stand for in a call."""
    names = function.parameters
    bound: dict[str, list[Value]] = {
        name: [_Literal(value)] for name, value in function.defaults.items()
    }
    for place, name in enumerate(names):
        if name.startswith("*"):
            bound[name[1:]] = [_Literal(_Positional(given.positional[place:]))]
        elif place < len(given.positional):
            bound[name] = given.positional[place]
    known = {*names, *function.defaults}
    rest = {name: value for name, value in given.options.items() if name not in known}
    bound |= {name: [_Literal(value)] for name, value in given.options.items() if name in known}
    bound |= {name: values for name, values in given.dynamic.items() if name in known}
    if function.rest:
        more, unknown = _options(given.dynamic, known)
        bound[function.rest] = [_Rest(rest | more, unknown)]
    return bound


def _decorated(decorator: DecoratorValue, given: Given) -> list[Value]:
    """Return what a call of a decorator returns: itself with more options, or a task."""
    first = given.positional[0] if given.positional else []
    has_target = any(isinstance(one, _Target) for one in first)
    if decorator.is_given and given.options.get("bind") is not True:  # which only Celery's take
        kept = ({key: one[key] for key in one if key == "name"} for one in given[1:])
        given = Given((), *kept)
    more, unknown = _options(given.dynamic)
    options = {**decorator.options, **given.options, **more}
    dynamic = (decorator.dynamic - options.keys()) | unknown
    changed = replace(decorator, options=options, dynamic=frozenset(dynamic))
    if not given.positional or has_target:
        return [Made(changed) if has_target else changed]
    texts = [one for one in first if isinstance(one, _Text)]
    if texts and changed.engine == NUVOM:
        return [replace(changed, refused=f'"{texts[0].text}"')]
    is_none = any(isinstance(one, _Literal) and one.value is None for one in first)
    return [changed] if is_none or changed.engine != NUVOM else []


def _options(
    dynamic: Mapping[str, list[Value]], known: Iterable[str] = ()
) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the options whose values can be told, and the names of the others."""
    told: dict[str, Any] = {}
    unknown: set[str] = set()
    for name, values in dynamic.items():
        match values:
            case _ if name in known:
                continue
            case [_Rest(options, others)]:
                told |= options
                unknown |= others
            case [_Text(text)]:
                told[name] = text
            case [_Literal(None)]:
                continue
            case [_Literal(value)] if not isinstance(value, _Positional):
                told[name] = value
            case _:
                unknown.add(name)
    return told, frozenset(unknown)


def _joined(parts: list[list[Value]]) -> list[Value]:
    """Return the text that parts make together, if each is a single text."""
    text = ""
    for part in parts:
        match part:
            case [_Text(one)] | [_Literal(str() as one)]:
                text += one
            case _:
                return []
    return [_Text(text)]
