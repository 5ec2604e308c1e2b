"""The stored form of a user's object, and errors that locate a value that cannot be stored.

``Unstorable`` is raised deep inside a value and collects its path on the way out, so that storable
values incur no cost. It never leaves this package: ``not_storable`` converts it into the error
that users see.
"""

from __future__ import annotations

from enum import Enum
from itertools import chain
from typing import TYPE_CHECKING, Any

from nuvom.errors import NotStorable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TypeAlias

    Steps: TypeAlias = Iterable[tuple[str, object]]

MAX_DEPTH = 64
"""How deeply containers may be nested, counted from an argument or a result.

Far deeper than real data, yet shallow enough to walk even when the call stack is already deep.
"""

_STEPS_SHOWN = 12
_KEY_CHARACTERS_SHOWN = 60
_PLAIN_BASES = (str, int, float, bytes, list, dict, set, frozenset, tuple)


class Shaped:
    """The plain data of one dataclass, Enum member, ``msgspec.Struct`` or named tuple.

    ``Vocabulary`` creates and resolves it; a codec only carries it.

    Attributes:
        name: The qualified name of the class. It is only compared with the classes that an
            annotation names, never used to find one.
        data: Values by field name; for an Enum the member's name, for a Flag its number.
    """

    __slots__ = ("data", "name")

    def __init__(self, name: str, data: dict[str, Any] | str | int) -> None:
        self.name = name
        self.data = data

    def __repr__(self) -> str:
        if isinstance(self.data, dict):
            fields = ", ".join(f"{key}={value!r}" for key, value in self.data.items())
            return f"{self.name}({fields})"
        return f"{self.name}[{self.data!r}]"


class Unstorable(Exception):  # noqa: N818  # a signal inside this package, not an error of the tree
    """``value`` cannot be stored.

    Attributes:
        refused: What cannot be stored.
        because: The reason, or ``""`` if the type is explanation enough.
        trail: The path to it from the inside out: each step and the container it starts from.
    """

    def __init__(self, value: object, because: str) -> None:
        super().__init__(because)
        self.refused = value
        self.because = because
        self.trail: list[tuple[str, object]] = []

    def inside(self, holder: object, steps: Steps | None = None) -> Unstorable:
        """Record that ``holder`` contains the value, or the last recorded holder; return self.

        Args:
            steps: The steps from ``holder`` to its children, if ``holder`` is not one of the
                standard containers.
        """
        child = self.trail[-1][1] if self.trail else self.refused
        known = _steps_into(holder) if steps is None else steps
        step = next((step for step, candidate in known if candidate is child), "[?]")
        self.trail.append((step, holder))
        return self


def too_deep(value: object) -> Unstorable:
    """Return the refusal of a container nested in ``MAX_DEPTH`` others."""
    return Unstorable(value, f"it is nested more than {MAX_DEPTH} levels deep")


def not_storable(error: Unstorable | RecursionError, whole: object, roots: Steps) -> NotStorable:
    """Return the error that says where in ``whole`` the refused value is.

    Args:
        roots: The parts of ``whole`` and their names in errors.
    """
    if isinstance(error, RecursionError):
        reason = "the call stack has no room left to walk it"
        return NotStorable("the value", type(whole).__name__, reason)
    trail = error.inside(whole, roots).trail[::-1]
    reached = [holder for _, holder in trail[1:]] + [error.refused]
    holders: set[int] = set()
    for count, ((_, holder), child) in enumerate(zip(trail, reached, strict=True), start=1):
        holders.add(id(holder))
        if id(child) in holders:  # found by going too deep; the reason is another
            return NotStorable(_path(trail[:count]), type(child).__name__, "it contains itself")
    return NotStorable(_path(trail), type(error.refused).__name__, error.because)


def _path(trail: Sequence[tuple[str, object]]) -> str:
    more = "..." if len(trail) > _STEPS_SHOWN else ""
    return "".join(step for step, _ in trail[:_STEPS_SHOWN]) + more


# ---- the steps of a path --------------------------------------------------------------------


def arguments(args: tuple[Any, ...], names: Sequence[str]) -> Steps:
    """Yield each positional argument with its name in errors."""
    for index, value in enumerate(args):
        yield names[index] if index < len(names) else f"args[{index}]", value


def keywords(kwargs: Mapping[str, Any]) -> Steps:
    """Yield each keyword argument with its name in errors."""
    return ((f"kwargs[{name!r}]", value) for name, value in kwargs.items())


def fields(data: Mapping[str, Any]) -> Steps:
    """Yield the step to each field and the field's value."""
    return ((f".{name}", value) for name, value in data.items())


def _steps_into(holder: Any) -> Steps:
    if isinstance(holder, Shaped):
        return fields(holder.data) if isinstance(holder.data, dict) else (("", holder.data),)
    if isinstance(holder, dict):
        keys = ((f".keys()[{index}]", key) for index, key in enumerate(holder))
        return chain(((_key_step(key), value) for key, value in holder.items()), keys)
    if isinstance(holder, set | frozenset):
        return (("{*}", item) for item in holder)
    return ((f"[{index}]", item) for index, item in enumerate(holder))


def _key_step(key: object) -> str:
    if type(key) is str and len(key) > _KEY_CHARACTERS_SHOWN:
        return f"[{key[:_KEY_CHARACTERS_SHOWN]!r}...]"
    if type(key) in (str, int, float, bool, type(None)):
        return f"[{key!r}]"
    return f"[{type(key).__name__}]"


# ---- reasons --------------------------------------------------------------------------------


def kind_of_class(cls: type) -> str:
    """Return the kind of a class that only an annotation makes storable, or ``""``."""
    if issubclass(cls, Enum):
        return "an Enum"
    if hasattr(cls, "__struct_fields__"):
        return "a msgspec.Struct"
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return "a named tuple"
    if hasattr(cls, "__dataclass_fields__"):
        return "a dataclass"
    return ""


def reason_for(value: Any) -> str:
    """Return why a codec does not store ``value``, as far as its type shows."""
    cls = type(value)
    kind = kind_of_class(cls)
    if kind:
        return f"{kind} is stored only where the annotation names {cls.__name__}"
    if isinstance(value, bytearray | memoryview):
        return "pass bytes(value)"
    for base in _PLAIN_BASES:
        if isinstance(value, base):
            plain = base.__name__
            return f"a subclass of {plain} would come back as {plain}; pass {plain}(value)"
    if hasattr(cls, "__next__") or cls is range:
        return "pass list(value)"
    return ""
