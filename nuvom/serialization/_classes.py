"""How one class of the user's is taken apart into plain data and built again from it.

A ``ClassShape`` is made only for a class that an annotation names. It knows one object; what
its fields hold is the matter of ``_vocabulary.py``.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from enum import Enum, Flag
from typing import Any

import msgspec

from nuvom.serialization._refusal import Refused, kind_of_class

_BUILTIN_BASES = (str, bytes, int, float, complex, list, dict, set, frozenset, tuple, BaseException)
_NOTHING = object()


class ClassShape(ABC):
    """Takes objects of exactly one class apart, and builds them.

    Attributes:
        cls: The class.
        fields: Names of the fields that make up an object; empty for an Enum.
        problem: Why objects of this class cannot be stored at all, or ``""``.
    """

    def __init__(self, cls: Any, fields: tuple[str, ...] = (), problem: str = "") -> None:
        self.cls = cls
        self.fields = fields
        self.problem = problem

    def take(self, value: Any) -> dict[str, Any] | str | int:
        """Return the fields of ``value``, or what stands for an Enum member.

        Raises: Refused: a field has no value.
        """
        try:
            return {name: getattr(value, name) for name in self.fields}
        except AttributeError as error:
            raise Refused(value, f"a field has no value: {error}") from None

    @abstractmethod
    def build(self, data: Any) -> Any:
        """Return the object that ``take`` described.

        Fields that are missing get the class's defaults. Whatever the class raises is raised.
        """


def shape_of(cls: type) -> ClassShape:
    """Return the shape of a class that ``kind_of_class`` knows."""
    return _SHAPES[kind_of_class(cls)](cls)


class _EnumShape(ClassShape):
    """By its name: a member may have any value, even one that cannot be stored."""

    def take(self, value: Enum) -> str:
        return value.name

    def build(self, data: Any) -> Enum:
        if type(data) is not str:
            raise TypeError(f"its members have names, not {data!r}")
        if data not in self.cls.__members__:
            raise LookupError(f"it has no member {data!r}")
        member: Enum = self.cls[data]
        return member


class _FlagShape(ClassShape):
    """By its number: a combination of flags has no name of its own."""

    def take(self, value: Flag) -> int:
        return int(value.value)

    def build(self, data: Any) -> Flag:
        if type(data) is not int:
            raise TypeError(f"it is a number, not {data!r}")
        flag: Flag = self.cls(data)
        return flag


class _DataclassShape(ClassShape):
    """Built by its generated constructor; then each field gets the value it had.

    The second step makes the object equal to the stored one even where ``__post_init__``
    changes what it is given, or a field is not a parameter of the constructor.
    """

    def __init__(self, cls: Any) -> None:
        fields = dataclasses.fields(cls)
        super().__init__(cls, tuple(field.name for field in fields), _problem_of(cls))
        self._parameters = frozenset(field.name for field in fields if field.init)

    def build(self, data: Any) -> Any:
        value = self.cls(**{name: data[name] for name in data if name in self._parameters})
        for name, field in data.items():
            if getattr(value, name, _NOTHING) is not field:
                object.__setattr__(value, name, field)  # frozen dataclasses too
        return value


class _StructShape(ClassShape):
    """Built as a dataclass is."""

    def __init__(self, cls: Any) -> None:
        super().__init__(cls, cls.__struct_fields__)

    def build(self, data: Any) -> Any:
        value = self.cls(**data)
        for name, field in data.items():
            if getattr(value, name, _NOTHING) is not field:
                msgspec.structs.force_setattr(value, name, field)
        return value


class _NamedTupleShape(ClassShape):
    """Built as a tuple, without a call of its class."""

    def __init__(self, cls: Any) -> None:
        super().__init__(cls, cls._fields)

    def build(self, data: Any) -> Any:
        values = {**self.cls._field_defaults, **data}
        missing = [name for name in self.fields if name not in values]
        if missing:
            raise LookupError(f"it has no value for {missing[0]!r}")
        return tuple.__new__(self.cls, [values[name] for name in self.fields])


def _enum_shape(cls: type) -> ClassShape:
    return _FlagShape(cls) if issubclass(cls, Flag) else _EnumShape(cls)


_SHAPES = {
    "an Enum": _enum_shape,
    "a dataclass": _DataclassShape,
    "a msgspec.Struct": _StructShape,
    "a named tuple": _NamedTupleShape,
}


def _problem_of(cls: Any) -> str:
    """Return why the fields of a dataclass are not enough to build it again, or ``""``."""
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
        if name not in kept and _is_required(cls.__dataclass_fields__[name]):
            return f"its constructor needs {name}, an InitVar, which the object does not keep"
    return ""


def _is_required(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing
