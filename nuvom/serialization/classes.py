"""Stores objects of user classes, guided by the annotations of a function.

Dataclasses, Enums, ``msgspec.Struct`` and named tuples are stored as plain data and rebuilt from
the annotations, never from a stored name. A ``Vocabulary`` does both, before encoding and after
decoding. It holds the classes that the annotations of a function name, and those that the fields
of these classes name. Where in an annotation a class is named does not matter. ``Codec`` creates
the vocabularies; for most functions they are empty.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from collections import Counter
from collections.abc import Callable, Iterable
from enum import Enum, Flag
from operator import is_
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from nuvom.errors import PayloadError
from nuvom.serialization.refusal import (
    MAX_DEPTH,
    Shaped,
    Unstorable,
    fields,
    kind_of_class,
    not_storable,
    too_deep,
)

if TYPE_CHECKING:
    from nuvom.serialization.refusal import Steps

_PLAIN = frozenset({type(None), bool, int, float, str, bytes})
_HOLDERS = frozenset({list, dict, tuple, set, frozenset})
_BUILTIN_BASES = (str, bytes, int, float, complex, list, dict, set, frozenset, tuple, BaseException)
_NOTHING = object()


# ---- the classes of one function --------------------------------------------------------------


def call_vocabulary(func: Callable[..., Any]) -> Vocabulary:
    """Return the vocabulary for the arguments of ``func``.

    Never raises: an annotation that cannot be resolved is an error only if a value needs it.
    """
    hints = hints_of(inspect.unwrap(func))
    return Vocabulary(hint for name, hint in hints.items() if name != "return")


def result_vocabulary(func: Callable[..., Any]) -> Vocabulary:
    """Return the vocabulary for the results of ``func``. Never raises."""
    return Vocabulary([hints_of(inspect.unwrap(func)).get("return")])


def positional_names(func: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of a function's positional parameters, without evaluating annotations."""
    code = getattr(inspect.unwrap(func), "__code__", None)
    return () if code is None else code.co_varnames[: code.co_argcount]


class Vocabulary:
    """The classes whose objects may be stored. Falsy if there are none.

    Args:
        hints: Resolved annotations that name the classes.
    """

    def __init__(self, hints: Iterable[Any]) -> None:
        named = _ClassesNamed()
        for hint in hints:
            named.add(hint)
        self._unresolved = named.unresolved
        names = Counter(cls.__qualname__ for cls in named.classes)
        self._by_class: dict[type, Shape] = {}
        self._by_name: dict[str, Shape] = {}
        for cls in named.classes:
            name = cls.__qualname__
            if names[name] > 1:
                name = f"{cls.__module__}.{name}"
            shape = _shape_type(cls)(cls, name)
            self._by_class[cls] = self._by_name[name] = shape

    def __bool__(self) -> bool:
        return bool(self._by_class or self._unresolved)

    def lower_all(self, whole: Any, roots: Steps) -> Any:
        """Return a tuple or dict with the values in it lowered; see ``lower``.

        Args:
            roots: The values and their names in errors.
        Raises: NotStorable: an object cannot be stored; its path says where it is.
        """
        try:
            return _mapped(whole, self.lower)
        except (Unstorable, RecursionError) as error:
            raise not_storable(error, whole, roots) from None

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
        if kind in _PLAIN or (kind is list and _PLAIN.issuperset(map(type, value))):
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
            raise Unstorable(value, f"the annotations name two classes called {shape.name}")
        if shape.problem:
            raise Unstorable(value, shape.problem)
        data = shape.take(value)
        if isinstance(data, dict):
            try:
                data = {name: self.lower(field, depth) for name, field in data.items()}
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
                f"{where}: it holds a {value.name}, but the annotations name {known}{more}"
            )
        data = value.data
        if isinstance(data, dict):
            unknown = [name for name in data if name not in shape.names]
            if unknown:
                raise PayloadError(f"{where}: {shape.name} has no field {unknown[0]!r} here")
            data = {name: self.lift(field, where) for name, field in data.items()}
        try:
            return shape.build(data)
        except Exception as error:  # user code: constructors, __post_init__, Enum._missing_
            reason = f"{where}: no {shape.name} can be made of it: {type(error).__name__}: {error}"
            raise PayloadError(reason) from error


def _mapped(holder: Any, change: Callable[[Any], Any]) -> Any:
    """Return ``holder`` with its children changed, or itself if no child changes."""
    items = [change(item) for item in holder]
    if type(holder) is not dict:
        return holder if all(map(is_, items, holder)) else type(holder)(items)
    values = [change(value) for value in holder.values()]
    if all(map(is_, items, holder)) and all(map(is_, values, holder.values())):
        return holder
    return dict(zip(items, values, strict=True))


# ---- what annotations name --------------------------------------------------------------------


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

    Attributes:
        classes: The classes found, in order, as the keys.
        unresolved: Parts that could not be resolved.
    """

    def __init__(self) -> None:
        self.classes: dict[type, None] = {}
        self.unresolved: list[Unresolved] = []
        self._seen: set[int] = set()  # classes and aliases may be recursive

    def add(self, hint: Any) -> None:
        """Collect the classes in a resolved annotation, and in the fields of these classes."""
        try:
            self._add(hint)
        except Exception as error:  # noqa: BLE001  # user code: aliases are computed when asked for
            self.unresolved.append(Unresolved(str(hint), f"{type(error).__name__}: {error}"))

    def _add(self, hint: Any) -> None:
        if isinstance(hint, Unresolved):
            self.unresolved.append(hint)
        elif isinstance(hint, str | typing.ForwardRef):
            self.unresolved.append(Unresolved(_text(hint), "it is text inside another type"))
        elif isinstance(hint, typing.TypeVar):
            self._add_all([hint.__bound__, *hint.__constraints__])
        elif isinstance(hint, typing.NewType):
            self.add(hint.__supertype__)
        elif type(hint).__name__ == "TypeAliasType":  # typing's since 3.12, else an extension's
            if self._is_new(hint):
                self.add(hint.__value__)
        elif typing.get_origin(hint) is not None:
            self._add_parts(typing.get_origin(hint), typing.get_args(hint))
        elif isinstance(hint, type):
            self._add_class(hint)

    def _add_all(self, hints: Iterable[Any]) -> None:
        for hint in hints:
            self.add(hint)

    def _add_parts(self, origin: Any, parts: tuple[Any, ...]) -> None:
        if origin is typing.Literal:
            self._add_all(type(value) for value in parts)
        elif origin is typing.Annotated:
            self.add(parts[0])
        elif origin not in (type, Callable):  # classes and functions are not stored
            self._add_all([origin, *parts])

    def _add_class(self, cls: type) -> None:
        is_typed_dict = issubclass(cls, dict) and hasattr(cls, "__required_keys__")
        if not (is_typed_dict or kind_of_class(cls)) or not self._is_new(cls):
            return
        if not is_typed_dict:
            self.classes[cls] = None
        for base in getattr(cls, "__orig_bases__", ()):  # ``User`` in ``class Users(Page[User])``
            self._add_all(typing.get_args(base))
        if not issubclass(cls, Enum):
            self._add_all(hints_of(cls).values())

    def _is_new(self, owner: object) -> bool:
        if id(owner) in self._seen:
            return False
        self._seen.add(id(owner))
        return True


def hints_of(owner: Any) -> dict[str, Any]:
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
        name: Its name in stored data.
        names: Names of the fields that make up an object; empty for an Enum.
        problem: Why objects of this class cannot be stored at all, or ``""``.
    """

    names: tuple[str, ...] = ()
    problem = ""

    def __init__(self, cls: Any, name: str) -> None:
        self.cls = cls
        self.name = name

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
        if type(data) is not str or data not in self.cls.__members__:
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

    def __init__(self, cls: Any, name: str) -> None:
        super().__init__(cls, name)
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

    def __init__(self, cls: Any, name: str) -> None:
        super().__init__(cls, name)
        self.names = cls._fields

    def build(self, data: Any) -> Any:
        values = {**self.cls._field_defaults, **data}
        return tuple.__new__(self.cls, [values[name] for name in self.names])


def _shape_type(cls: type) -> type[Shape]:
    if issubclass(cls, Enum):
        return _FlagShape if issubclass(cls, Flag) else _EnumShape
    is_named_tuple = issubclass(cls, tuple) and hasattr(cls, "_fields")
    return _NamedTupleShape if is_named_tuple else _FieldsShape


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
