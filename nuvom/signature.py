"""Whether the arguments of a call fit a function, checked when the job is made.

Most calls are judged by counting; only the rest pay for ``inspect.Signature.bind``. Used by
the dispatcher, once for each task and then for each call.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from nuvom.errors import InvalidArguments

if TYPE_CHECKING:
    from collections.abc import Callable

_SIMPLE = (inspect.Parameter.POSITIONAL_OR_KEYWORD,)


class Binder:
    """Checks calls of one function.

    Attributes:
        names: Names of the positional parameters, in order.
    """

    __slots__ = ("_are_counts_enough", "_fewest", "_func", "_most", "_task", "names")

    def __init__(self, task: str, func: Callable[..., Any]) -> None:
        self._task = task
        self._func = func
        self._fewest = self._most = 0
        self._are_counts_enough = False
        self.names: tuple[str, ...] = ()
        signature = self.signature
        if signature is not None:
            self._measure(list(signature.parameters.values()))

    @property
    def signature(self) -> inspect.Signature | None:
        """The function's signature, or None where Python cannot tell (some C functions)."""
        try:
            return inspect.signature(self._func)
        except (ValueError, TypeError):
            return None

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Return when ``func(*args, **kwargs)`` would find all its parameters.

        Raises: InvalidArguments (a TypeError): it would not.
        """
        if self._are_counts_enough and not kwargs and self._fewest <= len(args) <= self._most:
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
        self._are_counts_enough = all(parameter.kind in _SIMPLE for parameter in parameters)
        positional = [
            parameter
            for parameter in parameters
            if parameter.kind
            in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        ]
        self.names = tuple(parameter.name for parameter in positional)
        self._most = len(positional)
        self._fewest = sum(parameter.default is parameter.empty for parameter in positional)


class _Plain:
    """An annotation that is only text; ``str`` of a signature would put it in quotes."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def signature_text(signature: inspect.Signature) -> str:
    """Return ``(x: int, y: int) -> int``, also of a module with postponed annotations."""

    def plain(annotation: object) -> object:
        return _Plain(annotation) if isinstance(annotation, str) else annotation

    parameters = [
        one.replace(annotation=plain(one.annotation)) for one in signature.parameters.values()
    ]
    returned = plain(signature.return_annotation)
    return str(signature.replace(parameters=parameters, return_annotation=returned))
