"""What is stored of a user's object, and where in a value something is that cannot be stored.

``Unstorable`` is raised deep inside a value and gathers its path on the way out, so that a value
that is stored pays nothing for it. It never leaves this package: ``not_storable`` turns it
into the error that users see.
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
"""How many containers may stand inside one another, counted from an argument or a result.

Far more than data has, and few enough that walking it fits beside a deep call stack.
"""

_STEPS_SHOWN = 12
_KEY_CHARACTERS_SHOWN = 60
_PLAIN_BASES = (str, int, float, bytes, list, dict, set, frozenset, tuple)


class Shaped:
    """The plain data of one dataclass, Enum member, ``msgspec.Struct`` or named tuple.

    Made and resolved by the plans of ``classes.py``; a codec only carries it.

    Attributes:
        name: The qualified name of the class. It is compared with the classes that an
            annotation names, and never used to find one.
        data: Values by field name; of an Enum its member's name, of a Flag its number.
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
        because: The reason, or ``""`` when the type says it all.
        trail: The way to it from the inside out: each step, and the container it leads from.
    """

    def __init__(self, value: object, because: str) -> None:
        super().__init__(because)
        self.refused = value
        self.because = because
        self.trail: list[tuple[str, object]] = []

    def inside(self, holder: object, steps: Steps | None = None) -> Unstorable:
        """Note that ``holder`` holds it, or the last holder noted; return self.

        Args:
            steps: The children of ``holder`` and the steps that lead to them, for what is not
                one of our containers.
        """
        child = self.trail[-1][1] if self.trail else self.refused
        known = _steps_into(holder) if steps is None else steps
        step = next((step for step, candidate in known if candidate is child), "[?]")
        self.trail.append((step, holder))
        return self


def too_deep(value: object) -> Unstorable:
    """Return the refusal of a container below ``MAX_DEPTH`` others."""
    return Unstorable(value, f"it is nested more than {MAX_DEPTH} levels deep")


def not_storable(error: Unstorable | RecursionError, whole: object, roots: Steps) -> NotStorable:
    """Return the error that says where in ``whole`` the refused value is.

    Args:
        roots: The parts of ``whole`` and what errors call them.
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
    """Yield what errors call each positional argument, and the argument."""
    for index, value in enumerate(args):
        yield names[index] if index < len(names) else f"args[{index}]", value


def keywords(kwargs: Mapping[str, Any]) -> Steps:
    """Yield what errors call each keyword argument, and the argument."""
    return ((f"kwargs[{name!r}]", value) for name, value in kwargs.items())


def fields(data: Mapping[str, Any]) -> Steps:
    """Yield the step to each field, and its value."""
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
    """Return what a class is that only an annotation makes storable, or ``""``."""
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
    """Return why a codec does not store ``value``, as far as its type tells."""
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
