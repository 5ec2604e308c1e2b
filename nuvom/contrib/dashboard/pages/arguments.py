"""Forms for the arguments of a task: one field for each parameter of the signature in the manifest.

Nothing is imported. What is typed is converted to the types that the annotations name, so that a
job with wrong types is refused at its field.
"""

from __future__ import annotations

import json
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from inspect import Parameter
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args, get_origin
from uuid import UUID

import msgspec

from nuvom.cli.annotations import Converter, converted
from nuvom.cli.project import make_record
from nuvom.core.text import MASK
from nuvom.discovery.stub import annotation_text, signature_of
from nuvom.errors import NuvomError
from nuvom.inspection.inspector import Inspector
from nuvom.inspection.redaction import editable, unmasked
from nuvom.serialization.base import Shaped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from inspect import Signature

    from nuvom.core.record import JobRecord
    from nuvom.discovery.entries import TaskEntry
    from nuvom.runtime import Runtime

    Values = dict[str, Any]

PREFIX = "arg."
"""How the names of fields begin; the parameter's name follows."""

_LONG = 60  # characters from which on a field has several lines
_TEXTS = (str, Path, Decimal, UUID, datetime, date, time, timedelta)
_WANTED: dict[Any, str] = {
    int: "a whole number, such as 5",
    float: "a number, such as 1.5",
    bool: "true or false",
    list: "a JSON list, such as [1, 2]",
    tuple: "a JSON list, such as [1, 2]",
    set: "a JSON list, such as [1, 2]",
    dict: 'a JSON object, such as {"a": 1}',
    datetime: "a time, such as 2026-05-11T09:30:00Z",
    date: "a date, such as 2026-05-11",
    time: "a time of day, such as 09:30:00",
    Decimal: "a decimal number, such as 9.95",
    UUID: "a UUID",
}
_LISTED, _NAMED = Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD


class ArgumentField(NamedTuple):
    """A parameter in the form.

    Attributes:
        label: The name as people see it, such as ``*args``.
        text: What stands in the field.
        hint: The annotation, and whether the value is hidden or may be left out.
        error: What is wrong with it and what to type, or "".
        placeholder: What stands there while it is empty.
    """

    name: str
    label: str
    text: str
    hint: str
    error: str = ""
    placeholder: str = ""

    @property
    def is_long(self) -> bool:
        """Whether it needs several lines."""
        return len(self.text) > _LONG or "\n" in self.text


class ArgumentForm:
    """The fields for a call of one task, empty or with the arguments of a job.

    Args:
        record: The job whose arguments are edited; None to enqueue a new one.
        given: What was sent, by the names of the fields; None for a form that nobody has sent.

    Attributes:
        fields: One for each parameter.
        error: What is wrong with the call as a whole, or "".
        left_out: Stored arguments for which the task has no parameter any more.
    """

    def __init__(
        self,
        runtime: Runtime,
        entry: TaskEntry,
        record: JobRecord | None = None,
        given: Mapping[str, str] | None = None,
    ) -> None:
        self._runtime = runtime
        self._entry = entry
        self._signature = signature_of(entry.signature)
        self._converter = Converter(runtime.settings)
        self._given = given
        self._stored, self._shown, self.left_out = self._read(record)
        self._values: Values = {}
        self.error = ""
        self.fields = [self._field(one) for one in self._signature.parameters.values()]

    def record(self) -> JobRecord | None:
        """Return the record of the call that was sent; None if something is wrong with it.

        ``fields`` and ``error`` then say what.
        """
        if any(one.error for one in self.fields):
            return None
        try:
            call = _call(self._signature, self._values)
            return make_record(self._runtime, self._entry, call)
        except NuvomError as error:
            self.error = error.what
        except ValueError as error:
            self.error = f"{error}"
        return None

    @property
    def wrong(self) -> list[str]:
        """The labels of the fields that have to be corrected."""
        return [one.label for one in self.fields if one.error]

    def _read(self, record: JobRecord | None) -> tuple[Values, Values, list[str]]:
        """Return stored and shown arguments by parameter, and those that have none."""
        if record is None:
            return {}, {}, []
        from_store = self._runtime.codec.decode_call(record.args, record.kwargs, shaped=True)
        shown_args, shown_kwargs = Inspector(self._runtime).shown_arguments(record)
        stored, others = by_parameter(self._signature, *from_store)
        shown, _ = by_parameter(self._signature, shown_args, shown_kwargs)
        return stored, {name: editable(one) for name, one in shown.items()}, others

    def _field(self, parameter: Parameter) -> ArgumentField:
        name = parameter.name
        label = f"{_stars(parameter)}{name}"
        kind = self._kind(parameter)
        is_stored, is_optional = name in self._stored, _is_optional(parameter)
        before = _written(self._shown[name], kind) if is_stored else ""
        is_hidden = is_stored and self._shown[name] == MASK
        before = "" if is_hidden else before
        default = "" if parameter.default is parameter.empty else repr(parameter.default)
        words = [annotation_text(parameter), "kept as it is" if is_hidden else ""]
        if not is_stored and is_optional:
            words.append("may be left out")
        hint = ", ".join(filter(None, words))
        wanted = _wanted(kind) if not is_stored and kind is not str else ""
        place = "hidden" if is_hidden else default or wanted.removeprefix("a value")
        if self._given is None:
            return ArgumentField(name, label, before, hint, "", place)
        text = self._given.get(f"{PREFIX}{name}", before)
        error = self._take(parameter, kind, text, is_same=is_stored and text == before)
        if text != before and is_stored and not is_hidden:
            hint = f"{hint}, was {before}".removeprefix(", ") if len(before) < _LONG else hint
        return ArgumentField(name, label, text, hint, error, place)

    def _kind(self, parameter: Parameter) -> Any:
        if parameter.kind in (_LISTED, _NAMED):
            return list if parameter.kind is _LISTED else dict
        return self._converter.kind_of(parameter, self._entry.file)

    def _take(self, parameter: Parameter, kind: Any, text: str, *, is_same: bool) -> str:
        """Keep the value that was typed for a parameter; return what is wrong with it, or ""."""
        name = parameter.name
        if is_same:
            self._values[name] = self._stored[name]
            return ""
        if not text.strip():
            wanted = 'a value; an empty text is ""' if kind is str else _wanted(kind)
            return "" if _is_optional(parameter) else f"Type {wanted}."
        try:
            self._values[name] = self._value(parameter, kind, text)
        except RecursionError:
            return "It is nested too deeply."
        except ValueError as error:
            return str(error)
        return ""

    def _value(self, parameter: Parameter, kind: Any, text: str) -> Any:
        """Return what a text means. Raises: ValueError: what to type instead."""
        name, new = parameter.name, _literal(text, kind)
        stored = self._stored.get(name)
        if name in self._stored:
            new = unmasked(new, self._shown[name], stored)
        if isinstance(stored, Shaped) and isinstance(new, dict) and kind is Any:
            return Shaped(stored.name, new)  # of a class that cannot be read here
        if parameter.kind in (_LISTED, _NAMED):
            return self._each(parameter, kind, new)
        try:
            return converted(name, new, kind)
        except ValueError as error:
            reason = str(error).partition(": ")[2]
            wanted = _wanted(kind)
            fallback = f"{reason[:1].upper()}{reason[1:]}."
            raise ValueError(f"Type {wanted}." if wanted != "a value" else fallback) from None

    def _each(self, parameter: Parameter, kind: Any, new: Any) -> Any:
        """Return the values of ``*args`` or ``**kwargs``, each converted to the annotation."""
        if not isinstance(new, kind):
            msg = f"Type {_wanted(kind)}."
            raise ValueError(msg)  # noqa: TRY004  # of what somebody typed
        one_of = self._converter.kind_of(parameter, self._entry.file)
        if isinstance(new, list):
            return [converted(f"{parameter.name}[{at}]", one, one_of) for at, one in enumerate(new)]
        own = self._signature.parameters.keys() & new.keys()
        if own:
            msg = f"{min(own)} has a field of its own."
            raise ValueError(msg)
        return {key: converted(key, one, one_of) for key, one in new.items()}


def by_parameter(
    signature: Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Values, list[str]]:
    """Return the arguments of a call by parameter, and the names of those that have none."""
    parameters = signature.parameters
    positional = [one for one in parameters.values() if one.kind < _LISTED]
    found: Values = {one.name: value for one, value in zip(positional, args, strict=False)}
    more, others = list(args[len(positional) :]), dict[str, Any]()
    for name, value in kwargs.items():
        known = parameters.get(name)
        if known is not None and known.kind not in (_LISTED, _NAMED):
            found[name] = value
        else:
            others[name] = value
    for one in parameters.values():
        if one.kind is _LISTED and more:
            found[one.name], more = more, []
        elif one.kind is _NAMED and others:
            found[one.name], others = others, {}
    unknown = [f"argument {len(positional) + at + 1}" for at in range(len(more))]
    return found, [*unknown, *others]


def _call(signature: Signature, values: Values) -> tuple[tuple[Any, ...], Values]:
    """Return arguments by parameter as a call.

    Raises: ValueError: one stands before others that can only be given by position.
    """
    args: list[Any] = []
    kwargs: Values = {}
    missing = ""
    for one in signature.parameters.values():
        if one.name not in values:
            missing = missing or one.name * (one.kind < _LISTED)
        elif one.kind is _NAMED:
            kwargs.update(values[one.name])
        elif one.kind is one.KEYWORD_ONLY or (missing and one.kind is one.POSITIONAL_OR_KEYWORD):
            kwargs[one.name] = values[one.name]
        elif missing:
            msg = f"{missing} cannot be left out, as {one.name} is given by position."
            raise ValueError(msg)
        elif one.kind is _LISTED:
            args.extend(values[one.name])
        else:
            args.append(values[one.name])
    return tuple(args), kwargs


# ---- texts and values ----------------------------------------------------------------------------


def _stars(parameter: Parameter) -> str:
    return "*" if parameter.kind is _LISTED else "**" if parameter.kind is _NAMED else ""


def _is_optional(parameter: Parameter) -> bool:
    return parameter.default is not parameter.empty or parameter.kind in (_LISTED, _NAMED)


def _members(kind: Any) -> Iterator[Any]:
    """Yield the types of a union, or the one type."""
    parts = get_args(kind)
    if NoneType in parts or get_origin(kind) not in (None, list, dict, tuple, set, frozenset):
        yield from parts if get_origin(kind) is not Literal else [kind]
    else:
        yield kind


def _takes_text(kind: Any) -> bool:
    is_enum = isinstance(kind, type) and issubclass(kind, Enum)
    return kind in _TEXTS or is_enum or get_origin(kind) is Literal


def _literal(text: str, kind: Any) -> Any:
    """Return what a text stands for: JSON, or the text itself where the type is one.

    Raises: ValueError: it is not JSON, though it has to be.
    """
    members = [one for one in _members(kind) if one is not NoneType]
    is_text = any(_takes_text(one) for one in members)
    try:
        value = json.loads(text)
    except ValueError:
        if is_text:
            return text
        is_open = kind is Any or _wanted(kind) == "a value"
        quoted = f"Not JSON. A text needs quotes: {json.dumps(text, ensure_ascii=False)}"
        raise ValueError(quoted if is_open else f"Type {_wanted(kind)}.") from None
    if isinstance(value, str) or (value is None and NoneType in _members(kind)):
        return value
    return text if is_text and all(one in _TEXTS for one in members) else value


def _written(value: Any, kind: Any) -> str:
    """Return the text from which ``_literal`` makes the same value."""
    if isinstance(value, str) and value.strip() and any(map(_takes_text, _members(kind))):
        try:
            is_same = _literal(value, kind) == value
        except ValueError:
            is_same = False
        if is_same:
            return value
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONG else json.dumps(value, ensure_ascii=False, indent=2)


def _wanted(kind: Any) -> str:
    """Return what to type for a type."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _WANTED[dict]
    found = [_WANTED.get(get_origin(one) or one) for one in _members(kind) if one is not NoneType]
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    return found[0] if len(found) == 1 and found[0] else "a value"
