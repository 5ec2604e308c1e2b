"""Which classes of the user's a function takes and returns, as its annotations say.

Dataclasses, Enums, ``msgspec.Struct`` and named tuples are stored as plain data and rebuilt
from the annotation, never from a stored name. A plan does both, before encoding and after
decoding. ``Codec`` makes the plans; most functions need none.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from nuvom.serialization._hints import hints_of_function
from nuvom.serialization._refusal import Refused, arguments, keywords, not_storable
from nuvom.serialization._vocabulary import Lexicon, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_NO_CLASSES = Vocabulary()


class CallPlan:
    """The classes that each parameter of one function may hold."""

    def __init__(self, parameters: Parameters, vocabularies: Mapping[str, Vocabulary]) -> None:
        self._names = parameters.positional
        self._by_position = [vocabularies[name] for name in parameters.positional]
        self._by_keyword = {name: vocabularies[name] for name in parameters.keywords}
        self._rest = vocabularies.get(parameters.rest, _NO_CLASSES)
        self._keyword_rest = vocabularies.get(parameters.keyword_rest, _NO_CLASSES)

    def lower(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with objects of annotated classes as ``Shaped``.

        Raises: NotStorable: such an object cannot be stored; its path says where it is.
        """
        try:
            lowered = [self._positional(index).lower(value) for index, value in enumerate(args)]
        except (Refused, RecursionError) as error:
            raise not_storable(error, args, arguments(args, self._names)) from None
        try:
            named = {name: self._keyword(name).lower(value) for name, value in kwargs.items()}
        except (Refused, RecursionError) as error:
            raise not_storable(error, kwargs, keywords(kwargs)) from None
        return tuple(lowered), named

    def lift(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments that ``lower`` was given.

        Raises: PayloadError: what is stored does not fit the annotations here and now.
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

    def lower(self, value: Any, *, root: str = "result") -> Any:
        """Return the result with objects of annotated classes as ``Shaped``.

        Raises: NotStorable: as ``CallPlan.lower``.
        """
        try:
            return self._vocabulary.lower(value)
        except (Refused, RecursionError) as error:
            raise not_storable(error, (value,), [(root, value)]) from None

    def lift(self, value: Any, *, root: str = "result") -> Any:
        """Return the result that ``lower`` was given. Raises: PayloadError."""
        return self._vocabulary.lift(value, root)


def call_plan(func: Callable[..., Any]) -> CallPlan | None:
    """Return the plan for calls of ``func``, or None when its parameters need none.

    Never raises: an annotation that cannot be resolved is an error when a value needs it.
    """
    parameters = Parameters(func)
    hints = hints_of_function(inspect.unwrap(func))
    lexicon = Lexicon()
    vocabularies = {name: lexicon.vocabulary(hints.get(name)) for name in parameters.all}
    return CallPlan(parameters, vocabularies) if any(vocabularies.values()) else None


def result_plan(func: Callable[..., Any]) -> ResultPlan | None:
    """Return the plan for results of ``func``, or None when its return needs none.

    Never raises, as ``call_plan``.
    """
    hints = hints_of_function(inspect.unwrap(func))
    vocabulary = Lexicon().vocabulary(hints.get("return"))
    return ResultPlan(vocabulary) if vocabulary else None


class Parameters:
    """Names of a function's parameters, by kind; a name is ``""`` where there is none.

    Read from the code, since ``inspect.signature`` may evaluate annotations.
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


_NO_PARAMETERS = (lambda: None).__code__  # of callables that are not Python functions
