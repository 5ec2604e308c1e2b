"""Arguments and times as people type them on a command line.

An argument is a JSON literal or, failing that, text; a parameter annotated as a plain ``str``,
``Path``, ``Decimal``, ``UUID``, ``datetime``, ``date`` or ``time`` gets just that.
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

_KEYWORD = re.compile(r"(?P<name>[^\W\d]\w*)=(?P<text>.*)", re.DOTALL)
_SPAN = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>ms|min|s|m|h|d|w)?")
_UNIT_SECS = {
    None: 1,
    "ms": 0.001,
    "s": 1,
    "m": 60,
    "min": 60,
    "h": 3600,
    "d": 86_400,
    "w": 604_800,
}
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
    """Return the arguments that ``words`` mean: ``2 3``, ``x=2``, ``'{"a": [1]}'``, ``text``.

    ``name=value`` is a keyword argument where the task takes one of that name.
    Raises: InvalidArguments: a word does not fit the type of its parameter, or has no place.
    """
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    parameters = list(signature.parameters.values())
    positional = [one for one in parameters if one.kind < one.VAR_POSITIONAL]
    rest = next((one for one in parameters if one.kind is one.VAR_POSITIONAL), None)
    for word in words:
        match = _KEYWORD.fullmatch(word)
        keyword = None if match is None else _keyword_parameter(signature, match["name"])
        if match is not None and keyword is not None:
            kwargs[match["name"]] = _value(task, signature, keyword, match["text"])
        else:
            at = len(args)
            parameter = positional[at] if at < len(positional) else rest
            if parameter is None:
                reason = _no_place(word, None if match is None else match["name"], positional)
                raise InvalidArguments(task, reason, signature=str(signature))
            args.append(_value(task, signature, parameter, word))
    return tuple(args), kwargs


def _no_place(word: str, name: str | None, positional: Sequence[Parameter]) -> str:
    """Return why nothing in a signature takes ``word``, which looks like ``name=...`` or not."""
    if name is not None:
        return f"it has no parameter {name}, which {word!r} would set"
    if word.startswith("--"):
        return f"{word!r} comes after --, where all words are arguments, and is one too many"
    takes = plural(len(positional), "argument") if positional else "no arguments"
    return f"it takes {takes}, and {word!r} is one too many"


def _keyword_parameter(signature: Signature, name: str) -> Parameter | None:
    found = signature.parameters.get(name)
    if found is not None and found.kind in (found.POSITIONAL_OR_KEYWORD, found.KEYWORD_ONLY):
        return found
    values = signature.parameters.values()
    return next((one for one in values if one.kind is one.VAR_KEYWORD), None)


def _value(task: str, signature: Signature, parameter: Parameter | None, word: str) -> Any:  # noqa: ANN401  # what the word means
    try:
        literal = json.loads(word)
    except (ValueError, RecursionError):
        literal = word
    note = "" if parameter is None else annotation_text(parameter)
    name = note.removesuffix(" | None").rpartition(".")[2]
    if literal is None and note.endswith("None"):
        return None
    if name == "str":
        return literal if isinstance(literal, str) else word
    if name not in _READERS or parameter is None:
        return literal
    try:
        return _READERS[name](literal if isinstance(literal, str) else word)
    except (ValueError, InvalidOperation):
        reason = f"{parameter.name} cannot be {word!r}: it is a {name}"
        raise InvalidArguments(task, reason, signature=str(signature)) from None


def span_secs(text: str) -> float:
    """Return the seconds that ``30``, ``30s``, ``5m``, ``2h``, ``1d`` or ``1h30m`` mean.

    Raises: ValueError: the text means no span of time.
    """
    matches = list(_SPAN.finditer(text.strip().lower()))
    if not matches or "".join(match[0] for match in matches) != text.strip().lower():
        msg = f"{text!r} is no span of time; write 30s, 5m, 2h or 1d"
        raise ValueError(msg)
    return float(sum(float(match["number"]) * _UNIT_SECS[match["unit"]] for match in matches))
