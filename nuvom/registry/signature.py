"""Checks that the arguments of a call fit a function, when the job is created.

For most calls it is enough to compare counts and names. Only the rest pay for
``inspect.Signature.bind``. The dispatcher creates one ``Binder`` per task and checks each call.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import suppress
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NewType,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from nuvom.errors import InvalidArguments, InvalidTaskOption
from nuvom.serialization.classes import hints_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.serialization.base import Codec

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NUMBERS = (float, complex)
_SIMPLE = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Binder:
    """Checks calls of one function.

    Attributes:
        names: Names of the positional parameters, in order.
        fitting: How many positional arguments, without keyword arguments, need no further check.
    """

    __slots__ = ("_by_keyword", "_func", "_task", "fitting", "names")

    def __init__(self, task: str, func: Callable[..., Any]) -> None:
        self._task = task
        self._func = func
        self.fitting = range(0)
        # For each number of positional arguments: which other names are required and allowed.
        self._by_keyword: list[tuple[frozenset[str], frozenset[str]]] = []
        self.names: tuple[str, ...] = ()
        signature = self.signature
        if signature is not None:
            self._measure(list(signature.parameters.values()))

    @property
    def signature(self) -> inspect.Signature | None:
        """The function's signature, or None if Python cannot determine it (some C functions)."""
        try:
            return inspect.signature(self._func)
        except (ValueError, TypeError):
            return None

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Check that ``func(*args, **kwargs)`` would bind all its parameters.

        Raises: InvalidArguments (a TypeError): it would not.
        """
        if len(args) < len(self._by_keyword):
            needed, allowed = self._by_keyword[len(args)]
            if needed <= kwargs.keys() <= allowed:
                return
        signature = self.signature
        if signature is None:
            return
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            text = signature_text(signature)
            raise InvalidArguments(self._task, str(error), signature=text) from None

    def _measure(self, parameters: list[inspect.Parameter]) -> None:
        positional = [one.name for one in parameters if one.kind in _POSITIONAL]
        self.names = tuple(positional)
        if any(one.kind not in _SIMPLE for one in parameters):
            return
        needed = frozenset(one.name for one in parameters if one.default is one.empty)
        allowed = frozenset(one.name for one in parameters)
        for count in range(len(positional) + 1):
            given = frozenset(positional[:count])
            self._by_keyword.append((needed - given, allowed - given))
        fewest = sum(1 for others, _ in self._by_keyword if others)
        self.fitting = range(fewest, len(self._by_keyword))


class UniqueKey:
    """Makes the ``unique_key`` of a call from its arguments.

    Args:
        by: Names of the parameters that count; empty for all.
    Raises: InvalidTaskOption: the function has no such parameter.
    """

    def __init__(
        self, task: str, func: Callable[..., Any], by: tuple[str, ...], codec: Codec
    ) -> None:
        signature = Binder(task, func).signature
        if signature is None or not signature.parameters.keys() >= set(by):
            known = (
                "none that Python can tell"
                if signature is None
                else ", ".join(signature.parameters)
            )
            raise InvalidTaskOption("unique_by", by, f"names of the task's parameters ({known})")
        self._signature = signature
        self._by = by or tuple(signature.parameters)
        self._encode = codec.call_encoder(func)

    def of(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Return a text that is equal for calls with equal arguments, however they are passed.

        Raises: NotStorable: one of them cannot be stored.
        """
        from hashlib import blake2b  # noqa: PLC0415  # few tasks have such keys

        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        values = {name: _sorted(bound.arguments[name]) for name in self._by}
        return blake2b(self._encode((), values)[1], digest_size=16).hexdigest()


def _sorted(value: Any) -> Any:  # noqa: ANN401  # as a user passes it
    """Return a value with its dicts in the order of their keys: equal dicts are one argument."""
    if type(value) is dict:
        return {key: _sorted(value[key]) for key in sorted(value, key=repr)}
    if type(value) in (list, tuple):
        return type(value)(map(_sorted, value))
    return value


def signature_text(signature: inspect.Signature) -> str:
    """Return ``(x: int, y: int) -> int``, even for a module with postponed annotations."""
    parameters = [
        one.replace(annotation=_bare(one.annotation)) for one in signature.parameters.values()
    ]
    returned = _bare(signature.return_annotation)
    return str(signature.replace(parameters=parameters, return_annotation=returned))


class TypedBinder(Binder):
    """Also checks that each argument is of the type that its annotation names (``check_types``)."""

    __slots__ = ("_hints",)

    def __init__(self, task: str, func: Callable[..., Any]) -> None:
        super().__init__(task, func)
        self.fitting = range(0)  # each call needs a check
        self._hints = hints_of(inspect.unwrap(func))

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Do as ``Binder.check``, and check the types."""
        super().check(args, kwargs)
        signature = self.signature
        if signature is None:
            return
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            reason = self._misfit(signature.parameters[name], value)
            if reason:
                raise InvalidArguments(self._task, reason, signature=signature_text(signature))

    def _misfit(self, parameter: inspect.Parameter, value: Any) -> str:  # noqa: ANN401  # any argument
        name, hint = parameter.name, self._hints.get(parameter.name, Any)
        given = {name: value}
        if parameter.kind is parameter.VAR_POSITIONAL:
            given = {f"{name}[{at}]": one for at, one in enumerate(value)}
        elif parameter.kind is parameter.VAR_KEYWORD:
            given = value
        elif value is parameter.default:  # ``x: int = None``
            return ""
        return next(filter(None, (misfit(one, hint, place) for place, one in given.items())), "")


def misfit(value: Any, hint: Any, place: str) -> str:  # noqa: ANN401  # any argument and annotation
    """Return why a value is not of an annotated type, such as ``x is a str, not int``; or ``""``.

    Args:
        place: Where the value is, such as ``orders[2]``.
    """
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        is_fine = any(not misfit(value, one, place) for one in parts)
    elif origin is Annotated:
        return misfit(value, parts[0], place)
    elif origin is Literal:
        is_fine = any(value == one and type(value) is type(one) for one in parts)
    elif isinstance(hint, NewType):
        return misfit(value, hint.__supertype__, place)
    elif is_typeddict(hint):
        return _misfit_of_keys(value, hint, place)
    elif isinstance(origin or hint, type):
        is_fine = _is_a(value, origin or hint)
        if is_fine and parts:
            return _misfit_inside(value, parts, place)
    else:
        return ""  # not checked
    return "" if is_fine else f"{place} is of type {type(value).__name__}, not {_name(hint)}"


def _is_a(value: object, kind: type) -> bool:
    if kind in _NUMBERS and isinstance(value, int):  # as type checkers have it
        return True
    try:
        return isinstance(value, kind)
    except TypeError:  # a protocol that is not for run time
        return True


def _misfit_inside(value: Any, parts: tuple[Any, ...], place: str) -> str:  # noqa: ANN401  # any
    """Return the first misfit in a container."""
    if isinstance(value, Mapping) and len(parts) == len(("key", "value")):
        pairs = [(key, parts[0], f"{place} has a key that") for key in value]
        pairs += [(one, parts[1], f"{place}[{key!r}]") for key, one in value.items()]
    elif isinstance(value, tuple) and parts[-1] is not ...:
        if len(value) != len(parts):
            return f"{place} has {len(value)} items, not {len(parts)}"
        pairs = [(one, parts[at], f"{place}[{at}]") for at, one in enumerate(value)]
    elif isinstance(value, list | tuple | set | frozenset):
        pairs = [(one, parts[0], f"{place}[{at}]") for at, one in enumerate(value)]
    else:
        return ""
    return next(filter(None, (misfit(*pair) for pair in pairs)), "")


def _misfit_of_keys(value: Any, hint: Any, place: str) -> str:  # noqa: ANN401  # any
    if not isinstance(value, dict):
        return f"{place} is of type {type(value).__name__}, not {_name(hint)}"
    hints = hints_of(hint)
    missing = sorted(_required_keys(hint) - value.keys())
    if missing:
        return f"{place} lacks the key {missing[0]!r}"
    unknown = [key for key in value if key not in hints]
    if unknown:
        return f"{place} has the key {unknown[0]!r}, which {_name(hint)} does not have"
    found = (misfit(one, hints[key], f"{place}[{key!r}]") for key, one in value.items())
    return next(filter(None, found), "")


def _required_keys(hint: Any) -> set[str]:  # noqa: ANN401  # a TypedDict
    # Of annotations that are text, ``__required_keys__`` does not know the qualifiers.
    with suppress(Exception):  # an annotation is any expression
        hints = get_type_hints(hint, include_extras=True)
        marks = {key: get_origin(one) for key, one in hints.items()}
        marked = {key for key, mark in marks.items() if mark is Required}
        return marked | {key for key in hint.__required_keys__ if marks[key] is not NotRequired}
    return set()


def _name(hint: Any) -> str:  # noqa: ANN401  # any annotation
    if hint is NoneType:
        return "None"
    is_plain = isinstance(hint, type) and not get_args(hint)
    return hint.__name__ if is_plain else str(hint).replace("typing.", "")


class SourceText:
    """Source text that prints without quotes; ``str`` of a signature would quote a string."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _bare(annotation: object) -> object:
    return SourceText(annotation) if isinstance(annotation, str) else annotation
