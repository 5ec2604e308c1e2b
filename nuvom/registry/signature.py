"""Checks that the arguments of a call fit a function, when the job is created.

For most calls it is enough to compare counts and names. Only the rest pay for
``inspect.Signature.bind``. The dispatcher creates one ``Binder`` per task and checks each call.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from nuvom.errors import InvalidArguments, InvalidTaskOption

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nuvom.serialization.base import Codec

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
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


class SourceText:
    """Source text that prints without quotes; ``str`` of a signature would quote a string."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _bare(annotation: object) -> object:
    return SourceText(annotation) if isinstance(annotation, str) else annotation
