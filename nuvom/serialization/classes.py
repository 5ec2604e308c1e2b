"""Stores objects of user classes, guided by the annotations of a function.

Dataclasses, Enums, ``msgspec.Struct`` and named tuples are stored as plain data and rebuilt from
the annotation, never from a stored name. A plan does both, before encoding and after decoding.
``Codec`` creates the plans; most functions need none. The position of a class in an annotation
does not matter: with ``list[User]``, a ``User`` may be anywhere in the argument and comes back in
the same place.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, Flag
from functools import cached_property
from operator import is_
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec

from nuvom.errors import PayloadError
from nuvom.serialization.refusal import (
    MAX_DEPTH,
    Shaped,
    Unstorable,
    arguments,
    fields,
    keywords,
    kind_of_class,
    not_storable,
    too_deep,
)

_PLAIN = frozenset({type(None), bool, int, float, str, bytes})
_HOLDERS = frozenset({list, dict, tuple, set, frozenset})
_BUILTIN_BASES = (str, bytes, int, float, complex, list, dict, set, frozenset, tuple, BaseException)
_NOTHING = object()
_NO_PARAMETERS = (lambda: None).__code__  # for callables other than Python functions


# ---- plans ----------------------------------------------------------------------------------


class CallPlan:
    """The classes that each parameter of one function may hold."""

    def __init__(self, parameters: Parameters, vocabularies: Mapping[str, Vocabulary]) -> None:
        self._names = parameters.positional
        self._by_position = [vocabularies[name] for name in parameters.positional]
        self._by_keyword = {name: vocabularies[name] for name in parameters.keywords}
        self._rest = vocabularies[parameters.rest]
        self._keyword_rest = vocabularies[parameters.keyword_rest]

    def lower(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with objects of annotated classes replaced by ``Shaped``.

        Raises: NotStorable: one of these objects cannot be stored; its path says where it is.
        """
        try:
            lowered = [self._positional(index).lower(value) for index, value in enumerate(args)]
        except (Unstorable, RecursionError) as error:
            raise not_storable(error, args, arguments(args, self._names)) from None
        try:
            named = {name: self._keyword(name).lower(value) for name, value in kwargs.items()}
        except (Unstorable, RecursionError) as error:
            raise not_storable(error, kwargs, keywords(kwargs)) from None
        return tuple(lowered), named

    def lift(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments that ``lower`` was given.

        Raises: PayloadError: the stored data does not fit the current annotations.
        """
        lifted = [
            self._positional(index).lift(value, where)
            for index, (where, value) in enumerate(arguments(args, self._names))
        ]
        named = {
            name: self._keyword(name).lift(value, f"kwargs[{name!r}]")
            for name, value in kwargs.items()
        }
        return tuple(lifted), named

    def _positional(self, index: int) -> Vocabulary:
        return self._by_position[index] if index < len(self._by_position) else self._rest

    def _keyword(self, name: str) -> Vocabulary:
        return self._by_keyword.get(name, self._keyword_rest)


class ResultPlan:
    """The classes that the result of one function may hold."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def lower(self, value: Any) -> Any:
        """Return the result with objects of annotated classes replaced by ``Shaped``.

        Raises: NotStorable: as ``CallPlan.lower``.
        """
        try:
            return self._vocabulary.lower(value)
        except (Unstorable, RecursionError) as error:
            raise not_storable(error, (value,), [("result", value)]) from None

    def lift(self, value: Any) -> Any:
        """Return the result that ``lower`` was given. Raises: PayloadError."""
        return self._vocabulary.lift(value, "result")


def call_plan(func: Callable[..., Any]) -> CallPlan | None:
    """Return the plan for calls of ``func``, or None if its parameters need none.

    Never raises: an annotation that cannot be resolved is an error only if a value needs it.
    """
    parameters, hints = Parameters(func), _hints_of(inspect.unwrap(func))
    lexicon = Lexicon()
    vocabularies = {name: lexicon.vocabulary(hints.get(name)) for name in parameters.all}
    return CallPlan(parameters, vocabularies) if any(vocabularies.values()) else None


def result_plan(func: Callable[..., Any]) -> ResultPlan | None:
    """Return the plan for results of ``func``, or None if its return annotation needs none.

    Never raises, like ``call_plan``.
    """
    vocabulary = Lexicon().vocabulary(_hints_of(inspect.unwrap(func)).get("return"))
    return ResultPlan(vocabulary) if vocabulary else None


class Parameters:
    """Names of a function's parameters, by kind; ``""`` stands for a missing one.

    Read from the code object, since ``inspect.signature`` may evaluate annotations.
    """

    def __init__(self, func: Callable[..., Any]) -> None:
        code: Any = getattr(inspect.unwrap(func), "__code__", _NO_PARAMETERS)
        counted = code.co_argcount + code.co_kwonlyargcount
        names: tuple[str, ...] = code.co_varnames[:counted]
        rest = list(code.co_varnames[counted:])
        self.positional = names[: code.co_argcount]
        self.keywords = names[code.co_posonlyargcount :]
        self.rest = rest.pop(0) if code.co_flags & inspect.CO_VARARGS else ""
        self.keyword_rest = rest.pop(0) if code.co_flags & inspect.CO_VARKEYWORDS else ""
        self.all = (*names, self.rest, self.keyword_rest)


# ---- what one annotation names --------------------------------------------------------------


class Vocabulary:
    """The classes that may be stored in one place. Falsy if there are none.

    Args:
        shapes: The shapes of the classes.
        unresolved: Parts of the annotation that could not be resolved.
    """

    def __init__(self, shapes: Iterable[Shape], unresolved: list[Unresolved]) -> None:
        self._by_class = {shape.cls: shape for shape in shapes}
        self._by_name = {shape.name: shape for shape in self._by_class.values()}
        self._unresolved = unresolved

    def __bool__(self) -> bool:
        return bool(self._by_class or self._unresolved)

    def lower(self, value: Any, depth: int = 0) -> Any:
        """Return ``value`` with each object of a known class replaced by ``Shaped``.

        A value that holds none is returned as the same object. Objects of other classes stay
        unchanged; the codec refuses them.

        Args:
            depth: The number of containers around ``value``.
        Raises: Unstorable: an object is of a subclass of a known class, may be of a class that
            could not be resolved, cannot be taken apart, or is nested too deeply.
        """
        kind = type(value)
        if kind in _PLAIN:
            return value
        shape = self._by_class.get(kind)
        if shape is None and kind not in _HOLDERS:
            self._refuse_look_alike(value)
            return value
        if depth == MAX_DEPTH:
            raise too_deep(value)
        if shape is not None:
            return self._take(value, shape, depth + 1)
        try:
            return _mapped(value, lambda child: self.lower(child, depth + 1))
        except Unstorable as refused:
            refused.inside(value)
            raise

    def _take(self, value: Any, shape: Shape, depth: int) -> Shaped:
        if self._by_name[shape.name] is not shape:
            raise Unstorable(value, f"its annotation names two classes called {shape.name}")
        if shape.problem:
            raise Unstorable(value, shape.problem)
        data = shape.take(value)
        if isinstance(data, dict):
            try:
                data = {
                    name: field if not (own := shape.fields[name]) else own.lower(field, depth)
                    for name, field in data.items()
                }
            except Unstorable as refused:
                refused.inside(value, fields(data))
                raise
        return Shaped(shape.name, data)

    def _refuse_look_alike(self, value: Any) -> None:
        cls = type(value)
        for known in self._by_class:
            if issubclass(cls, known):
                raise Unstorable(
                    value,
                    f"the annotation names {known.__name__}, and a subclass would come back "
                    f"without what it adds; name {cls.__name__} too",
                )
        if self._unresolved and kind_of_class(cls):
            first = self._unresolved[0]
            raise Unstorable(
                value, f"the annotation {first.text!r} cannot be resolved: {first.why}"
            )

    def lift(self, value: Any, where: str) -> Any:
        """Return ``value`` with each ``Shaped`` replaced by the object that it describes.

        Args:
            where: The name of the whole value in errors.
        Raises: PayloadError: a ``Shaped`` is of another class, or its class has changed.
        """
        kind = type(value)
        if kind is Shaped:
            return self._build(value, where)
        if kind not in _HOLDERS:
            return value
        try:
            return _mapped(value, lambda child: self.lift(child, where))
        except PayloadError:
            raise
        except Exception as error:  # user code: __hash__ and __eq__ of the objects rebuilt
            raise PayloadError(f"{where}: {type(error).__name__}: {error}") from error

    def _build(self, value: Shaped, where: str) -> Any:
        shape = self._by_name.get(value.name)
        if shape is None:
            known = ", ".join(self._by_name) or "no such class"
            more = "".join(f"; {part.text!r} cannot be resolved" for part in self._unresolved)
            raise PayloadError(
                f"{where}: it holds a {value.name}, but the annotation names {known}{more}"
            )
        data = value.data
        if isinstance(data, dict):
            unknown = [name for name in data if name not in shape.fields]
            if unknown:
                raise PayloadError(f"{where}: {shape.name} has no field {unknown[0]!r} here")
            data = {name: shape.fields[name].lift(field, where) for name, field in data.items()}
        try:
            return shape.build(data)
        except Exception as error:  # user code: constructors, __post_init__, Enum._missing_
            reason = f"{where}: no {shape.name} can be made of it: {type(error).__name__}: {error}"
            raise PayloadError(reason) from error


class Lexicon:
    """Builds the vocabularies of one function, with one shape per class."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[type, frozenset[type]], Shape] = {}

    def vocabulary(self, hint: Any, around: frozenset[type] = frozenset()) -> Vocabulary:
        """Return the vocabulary of a resolved annotation.

        Args:
            around: The classes that a type variable in it may represent.
        """
        named = _ClassesNamed(around)
        named.add(hint)
        beside = frozenset(named.classes)
        return Vocabulary([self._shape(cls, beside) for cls in named.classes], named.unresolved)

    def _shape(self, cls: type, beside: frozenset[type]) -> Shape:
        """Return the shape of ``cls``, which an annotation names ``beside`` others.

        The type variables of a generic class may represent any class named with it, and also
        ``User`` in ``class Users(Page[User])``.
        """
        named = _ClassesNamed(beside if getattr(cls, "__parameters__", ()) else frozenset())
        for base in getattr(cls, "__orig_bases__", ()):
            for argument in typing.get_args(base):
                named.add(argument)
        key = (cls, named.around | frozenset(named.classes))
        if key not in self._shapes:
            kind = "a Flag" if issubclass(cls, Flag) else kind_of_class(cls)
            self._shapes[key] = _SHAPES[kind](cls, self, key[1])
        return self._shapes[key]


def _mapped(holder: Any, change: Callable[[Any], Any]) -> Any:
    """Return ``holder`` with its children changed, or itself if no child changes."""
    items = [change(item) for item in holder]
    if type(holder) is not dict:
        return holder if all(map(is_, items, holder)) else type(holder)(items)
    values = [change(value) for value in holder.values()]
    if all(map(is_, items, holder)) and all(map(is_, values, holder.values())):
        return holder
    return dict(zip(items, values, strict=True))


class Unresolved(NamedTuple):
    """An annotation that names something that does not exist at run time.

    Attributes:
        text: The annotation as written.
        why: Why it could not be resolved.
    """

    text: str
    why: str


class _ClassesNamed:
    """Collects the classes in annotations that are storable only because of an annotation.

    Args:
        around: The classes that a type variable may represent.

    Attributes:
        classes: The classes found, in order, as the keys.
        unresolved: Parts that could not be resolved.
    """

    def __init__(self, around: frozenset[type]) -> None:
        self.around = around
        self.classes: dict[type, None] = {}
        self.unresolved: list[Unresolved] = []
        self._seen: set[int] = set()  # aliases and typed dicts may be recursive

    def add(self, hint: Any) -> None:
        """Collect the classes in a resolved annotation."""
        if isinstance(hint, Unresolved):
            self.unresolved.append(hint)
        elif isinstance(hint, str | typing.ForwardRef):
            self.unresolved.append(Unresolved(_text(hint), "it is text inside another type"))
        elif isinstance(hint, typing.TypeVar):
            self.classes.update(dict.fromkeys(self.around))
            self._add_computed(hint, "__bound__")
            for constraint in hint.__constraints__:
                self.add(constraint)
        elif isinstance(hint, typing.NewType):
            self.add(hint.__supertype__)
        elif type(hint).__name__ == "TypeAliasType":  # typing's since 3.12, else an extension's
            if self._is_new(hint):
                self._add_computed(hint, "__value__")
        elif typing.get_origin(hint) is not None:
            self._add_parts(typing.get_origin(hint), typing.get_args(hint))
        elif isinstance(hint, type):
            self._add_class(hint)

    def _add_class(self, cls: type) -> None:
        if issubclass(cls, dict) and hasattr(cls, "__required_keys__"):  # a TypedDict
            if self._is_new(cls):
                for hint in _hints_of(cls).values():
                    self.add(hint)
        elif kind_of_class(cls):
            self.classes[cls] = None

    def _add_parts(self, origin: Any, parts: tuple[Any, ...]) -> None:
        if origin is typing.Literal:
            for value in parts:
                if isinstance(value, Enum):
                    self._add_class(type(value))
        elif origin is typing.Annotated:
            self.add(parts[0])
        elif origin not in (type, Callable):  # classes and functions are not stored
            self.add(origin)
            for part in parts:
                self.add(part)

    def _add_computed(self, owner: Any, name: str) -> None:
        try:
            hint = getattr(owner, name)
        except Exception as error:  # noqa: BLE001  # user code, computed when asked for
            self.unresolved.append(Unresolved(str(owner), f"{type(error).__name__}: {error}"))
        else:
            self.add(hint)

    def _is_new(self, owner: object) -> bool:
        if id(owner) in self._seen:
            return False
        self._seen.add(id(owner))
        return True


def _hints_of(owner: Any) -> dict[str, Any]:
    """Return the annotations of a function, or of a class and its bases, by name.

    If the fast way fails, each annotation is resolved separately, so that a failure does not
    affect the others. An annotation that fails becomes ``Unresolved``, which is an error only if
    a value needs it.
    """
    try:
        return typing.get_type_hints(owner)
    except Exception:  # noqa: BLE001  # user code: an annotation is any expression
        hints: dict[str, Any] = {}
        for one in reversed(owner.__mro__) if isinstance(owner, type) else [owner]:
            hints |= _resolved_apart(one)
        return hints


def _resolved_apart(owner: Any) -> dict[str, Any]:
    module = sys.modules.get(getattr(owner, "__module__", ""))
    names = getattr(owner, "__globals__", None) or (vars(module) if module else {})
    own_names = dict(vars(owner)) if isinstance(owner, type) else {}
    hints: dict[str, Any] = {}
    for name, annotation in _annotations(owner).items():
        holder = SimpleNamespace(__annotations__={name: annotation})
        try:
            hints |= typing.get_type_hints(holder, dict(names), own_names)
        except Exception as error:  # noqa: BLE001  # user code: an annotation is any expression
            hints[name] = Unresolved(_text(annotation), f"{type(error).__name__}: {error}")
    return hints


def _annotations(owner: Any) -> dict[str, Any]:
    if sys.version_info >= (3, 14):  # pragma: no cover  # annotations are lazy
        import annotationlib  # noqa: PLC0415  # not in older versions

        return annotationlib.get_annotations(owner, format=annotationlib.Format.FORWARDREF)
    return inspect.get_annotations(owner)


def _text(annotation: Any) -> str:
    if isinstance(annotation, typing.ForwardRef):
        return annotation.__forward_arg__
    return annotation if isinstance(annotation, str) else repr(annotation)


# ---- one class ------------------------------------------------------------------------------


class Shape:
    """Takes objects of exactly one class apart and rebuilds them.

    Attributes:
        cls: The class.
        names: Names of the fields that make up an object; empty for an Enum.
        problem: Why objects of this class cannot be stored at all, or ``""``.
    """

    names: tuple[str, ...] = ()
    problem = ""

    def __init__(self, cls: Any, lexicon: Lexicon, around: frozenset[type]) -> None:
        self.cls = cls
        self.name: str = cls.__qualname__
        self._lexicon = lexicon
        self._around = around

    @cached_property
    def fields(self) -> dict[str, Vocabulary]:
        """The vocabulary of each field; computed on first use, since classes may be recursive."""
        hints = _hints_of(self.cls)
        return {
            name: self._lexicon.vocabulary(hints.get(name), self._around) for name in self.names
        }

    def take(self, value: Any) -> dict[str, Any] | str | int:
        """Return the fields of ``value``, or the name or number of an Enum member.

        Raises: Unstorable: a field has no value.
        """
        try:
            return {name: getattr(value, name) for name in self.names}
        except AttributeError as error:
            raise Unstorable(value, f"a field has no value: {error}") from None

    def build(self, data: Any) -> Any:
        """Return the object that ``take`` described.

        Missing fields get the class's defaults. Exceptions from the class propagate.
        """
        raise NotImplementedError


class _EnumShape(Shape):
    """Stores a member's name: its value may be anything, even something not storable."""

    def take(self, value: Enum) -> str:
        return value.name

    def build(self, data: Any) -> Any:
        if type(data) is not str:
            raise TypeError(f"its members have names, not {data!r}")
        if data not in self.cls.__members__:
            raise LookupError(f"it has no member {data!r}")
        return self.cls[data]


class _FlagShape(Shape):
    """Stores a flag's number: a combination of flags has no name of its own."""

    def take(self, value: Flag) -> int:
        return int(value.value)

    def build(self, data: Any) -> Any:
        if type(data) is not int:
            raise TypeError(f"it is a number, not {data!r}")
        return self.cls(data)


class _FieldsShape(Shape):
    """A dataclass or Struct: built by its constructor, then each field is set to its old value.

    The second step makes the object equal to the stored one even if ``__post_init__`` changes
    its input, or a field is not a parameter of the constructor.
    """

    def __init__(self, cls: Any, lexicon: Lexicon, around: frozenset[type]) -> None:
        super().__init__(cls, lexicon, around)
        if dataclasses.is_dataclass(cls):
            self.names = tuple(field.name for field in dataclasses.fields(cls))
            self.problem = _problem_of(cls)
            self._parameters = {field.name for field in dataclasses.fields(cls) if field.init}
            self._set: Callable[[Any, str, Any], None] = object.__setattr__  # frozen ones too
        else:
            self.names = cls.__struct_fields__
            self._parameters = set(self.names)
            self._set = msgspec.structs.force_setattr

    def build(self, data: Any) -> Any:
        value = self.cls(**{name: data[name] for name in data if name in self._parameters})
        for name, field in data.items():
            if getattr(value, name, _NOTHING) is not field:
                self._set(value, name, field)
        return value


class _NamedTupleShape(Shape):
    """Built as a tuple, without calling its class."""

    def __init__(self, cls: Any, lexicon: Lexicon, around: frozenset[type]) -> None:
        super().__init__(cls, lexicon, around)
        self.names = cls._fields

    def build(self, data: Any) -> Any:
        values = {**self.cls._field_defaults, **data}
        missing = [name for name in self.names if name not in values]
        if missing:
            raise LookupError(f"it has no value for {missing[0]!r}")
        return tuple.__new__(self.cls, [values[name] for name in self.names])


_SHAPES: dict[str, type[Shape]] = {
    "a Flag": _FlagShape,
    "an Enum": _EnumShape,
    "a dataclass": _FieldsShape,
    "a msgspec.Struct": _FieldsShape,
    "a named tuple": _NamedTupleShape,
}


def _problem_of(cls: Any) -> str:
    """Return why the fields of a dataclass are not enough to rebuild it, or ``""``."""
    for base in _BUILTIN_BASES:
        if issubclass(cls, base):
            return f"it is also a {base.__name__}, whose content is not in its fields"
    owner = next(base for base in cls.__mro__ if "__init__" in vars(base))
    params = vars(owner).get("__dataclass_params__")
    if params is None or not params.init:
        return "its constructor is written by hand, so that its fields may not be enough for it"
    code = owner.__init__.__code__
    kept = {field.name for field in dataclasses.fields(cls)}
    for name in code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]:
        field = cls.__dataclass_fields__[name]
        is_required = field.default is field.default_factory is dataclasses.MISSING
        if name not in kept and is_required:
            return f"its constructor needs {name}, an InitVar, which the object does not keep"
    return ""
