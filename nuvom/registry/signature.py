"""Checks that the arguments of a call fit a function, when the job is created.

For most calls it is enough to compare counts and names. Only the rest pay for
``inspect.Signature.bind``. The dispatcher creates one ``Binder`` per task and checks each call.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from nuvom.errors import InvalidArguments

if TYPE_CHECKING:
    from collections.abc import Callable

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
