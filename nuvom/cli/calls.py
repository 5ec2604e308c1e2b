"""Calls of tasks that people put together by hand, checked against what discovery found.

Commands and the dashboard's forms both use this, so that an argument means the same in each.
"""

from __future__ import annotations

import json
import re
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from nuvom.discovery.stub import annotation_text
from nuvom.errors import InvalidArguments, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from inspect import Parameter, Signature

    from nuvom.core.record import JobRecord

    Call = tuple[tuple[Any, ...], dict[str, Any]]

_KEYWORD = re.compile(r"(?P<name>[^\W\d]\w*)=(?P<text>.*)", re.DOTALL)
_READERS: dict[str, Callable[[str], Any]] = {
    "Path": Path,
    "Decimal": Decimal,
    "UUID": UUID,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
}


def call_of(
    task: str, signature: Signature, words: Sequence[str]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Parse task arguments from ``words``: ``2 3``, ``x=2``, ``'{"a": [1]}'``, ``text``.

    A word is a JSON literal or, failing that, text. A parameter annotated as a plain ``str``,
    ``Path``, ``Decimal``, ``UUID``, ``datetime``, ``date`` or ``time`` gets exactly that type.
    ``name=value`` is a keyword argument if the task takes one of that name.

    Raises: InvalidArguments: a word does not fit the type of its parameter, or has no parameter.
    """
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for word in words:
        match = _KEYWORD.fullmatch(word)
        keyword = None if match is None else _keyword_parameter(signature, match["name"])
        try:
            if match is not None and keyword is not None:
                kwargs[match["name"]] = _value(keyword, match["text"])
            else:
                name = None if match is None else match["name"]
                args.append(_value(_positional(signature, len(args), word, name), word))
        except ValueError as error:
            raise InvalidArguments(task, str(error), signature=str(signature)) from None
    return tuple(args), kwargs


def _positional(signature: Signature, at: int, word: str, name: str | None) -> Parameter:
    """Return the parameter for the positional argument at index ``at``.

    Raises: ValueError: there is none for ``word``, whether or not it looks like ``name=...``.
    """
    parameters = signature.parameters.values()
    positional = [one for one in parameters if one.kind < one.VAR_POSITIONAL]
    rest = [one for one in parameters if one.kind is one.VAR_POSITIONAL]
    if at < len(positional) or rest:
        return [*positional[at:], *rest][0]
    msg = f"it takes {plural(len(positional), 'argument')}, and {word!r} is one too many"
    if name is not None:
        msg = f"it has no parameter {name}, which {word!r} would set"
    raise ValueError(msg)


def _keyword_parameter(signature: Signature, name: str) -> Parameter | None:
    found = signature.parameters.get(name)
    if found is not None and found.kind in (found.POSITIONAL_OR_KEYWORD, found.KEYWORD_ONLY):
        return found
    values = signature.parameters.values()
    return next((one for one in values if one.kind is one.VAR_KEYWORD), None)


def _value(parameter: Parameter, word: str) -> Any:  # noqa: ANN401  # what the word means
    """Convert a word for a parameter. Raises: ValueError: it does not fit."""
    try:
        literal = json.loads(word)
    except (ValueError, RecursionError):
        literal = word
    note = annotation_text(parameter)
    name = note.removesuffix(" | None").rpartition(".")[2]
    if literal is None and note.endswith("None"):
        return None
    text = literal if isinstance(literal, str) else word
    if name == "str":
        return text
    if name not in _READERS:
        return literal
    try:
        return _READERS[name](text)
    except (ValueError, InvalidOperation):
        msg = f"{parameter.name} cannot be {word!r}: it is a {name}"
        raise ValueError(msg) from None


def changes_of(called: JobRecord) -> dict[str, Any]:
    """Return what a job that repeats another one takes from the record of a new call."""
    return {"args": called.args, "kwargs": called.kwargs, "unique_key": None, "unique_for": None}
