"""Resolves annotations, and finds the classes that they name.

Each annotation is resolved apart where the quick way fails, so that one that cannot be
resolved spoils no other. It becomes ``Unresolved``, which is an error only when a value
needs it. Used by ``annotations.py`` and ``_vocabulary.py``.
"""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable
from enum import Enum
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from nuvom.serialization._refusal import kind_of_class

if TYPE_CHECKING:
    from collections.abc import Mapping


class Unresolved:
    """An annotation that names something unknown at run time.

    Attributes:
        text: The annotation as written.
        why: What went wrong when it was looked up.
    """

    def __init__(self, text: str, why: str) -> None:
        self.text = text
        self.why = why


def hints_of_function(func: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function's parameters and of its ``return``."""
    try:
        return typing.get_type_hints(func)
    except Exception:  # noqa: BLE001  # user code: an annotation is any expression
        return _one_by_one(func, getattr(func, "__globals__", {}), {})


def hints_of_class(cls: type) -> dict[str, Any]:
    """Return the annotations of a class's fields, inherited ones included."""
    try:
        return typing.get_type_hints(cls)
    except Exception:  # noqa: BLE001  # user code: an annotation is any expression
        hints: dict[str, Any] = {}
        for base in reversed(cls.__mro__):
            module = sys.modules.get(base.__module__)
            hints |= _one_by_one(base, vars(module) if module else {}, vars(base))
        return hints


def _one_by_one(
    owner: Any, names: Mapping[str, Any], own_names: Mapping[str, Any]
) -> dict[str, Any]:
    hints: dict[str, Any] = {}
    for name, annotation in _annotations(owner).items():
        holder = SimpleNamespace(__annotations__={name: annotation})
        try:
            hints |= typing.get_type_hints(holder, dict(names), dict(own_names))
        except Exception as error:  # noqa: BLE001  # user code: an annotation is any expression
            hints[name] = Unresolved(_text(annotation), f"{type(error).__name__}: {error}")
    return hints


def _annotations(owner: Any) -> dict[str, Any]:
    if sys.version_info >= (3, 14):  # pragma: no cover  # annotations are made when asked for
        import annotationlib  # noqa: PLC0415  # not in older versions

        return annotationlib.get_annotations(owner, format=annotationlib.Format.FORWARDREF)
    return inspect.get_annotations(owner)


def _text(annotation: Any) -> str:
    if isinstance(annotation, typing.ForwardRef):
        return annotation.__forward_arg__
    return annotation if isinstance(annotation, str) else repr(annotation)


class ClassesNamed:
    """Collects the classes in annotations that only an annotation makes storable.

    Args:
        around: The classes that a type variable may stand for.

    Attributes:
        classes: Those found, in order, as the keys.
        unresolved: Parts that could not be looked up.
    """

    def __init__(self, around: frozenset[type] = frozenset()) -> None:
        self.around = around
        self.classes: dict[type, None] = {}
        self.unresolved: list[Unresolved] = []
        self._seen: set[int] = set()  # aliases and typed dicts may name themselves

    def add(self, hint: Any) -> None:
        """Collect from a resolved annotation."""
        if isinstance(hint, Unresolved):
            self.unresolved.append(hint)
        elif isinstance(hint, str | typing.ForwardRef):
            self.unresolved.append(Unresolved(_text(hint), "it is text inside another type"))
        elif isinstance(hint, typing.TypeVar):
            self._add_type_variable(hint)
        elif isinstance(hint, typing.NewType):
            self.add(hint.__supertype__)
        elif (
            type(hint).__name__ == "TypeAliasType"
        ):  # typing's since 3.12, typing_extensions' before
            self._add_alias(hint)
        elif typing.get_origin(hint) is not None:
            self._add_parts(typing.get_origin(hint), typing.get_args(hint))
        elif isinstance(hint, type):
            self._add_class(hint)

    def add_arguments_of_bases(self, cls: type) -> None:
        """Collect from ``User`` in ``class Users(Page[User])``."""
        for base in getattr(cls, "__orig_bases__", ()):
            for argument in typing.get_args(base):
                self.add(argument)

    def _add_class(self, cls: type) -> None:
        if issubclass(cls, dict) and hasattr(cls, "__required_keys__"):  # a TypedDict
            if self._is_new(cls):
                for hint in hints_of_class(cls).values():
                    self.add(hint)
        elif kind_of_class(cls):
            self.classes[cls] = None

    def _add_parts(self, origin: Any, arguments: tuple[Any, ...]) -> None:
        if origin is typing.Literal:
            for value in arguments:
                if isinstance(value, Enum):
                    self._add_class(type(value))
        elif origin is typing.Annotated:
            self.add(arguments[0])
        elif origin not in (type, Callable):  # classes and functions are not stored
            self.add(origin)
            for argument in arguments:
                self.add(argument)

    def _add_type_variable(self, variable: typing.TypeVar) -> None:
        self.classes.update(dict.fromkeys(self.around))
        self._add_computed(variable, "__bound__")
        for constraint in variable.__constraints__:
            self.add(constraint)

    def _add_alias(self, alias: Any) -> None:
        if self._is_new(alias):
            self._add_computed(alias, "__value__")

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
