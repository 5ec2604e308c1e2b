"""Which values of jobs are not shown: secret-sounding names, and those that the project names.

Readers never import the project's code, so names come from the settings and from the manifest; a
process that has imported the tasks also knows them from there.
"""

from __future__ import annotations

import inspect
import json
import os
from collections import defaultdict
from collections.abc import Mapping
from inspect import Parameter
from typing import TYPE_CHECKING, Any, NamedTuple

from nuvom.core.text import MASK, is_secret, mask_value
from nuvom.discovery.manifest import by_any_name, tasks_or_nothing
from nuvom.discovery.stub import signature_of
from nuvom.errors import InvalidArguments
from nuvom.inspection.formats import jsonable
from nuvom.serialization.base import MAX_DEPTH, Shaped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuvom.config.settings import Settings
    from nuvom.discovery.entries import TaskEntry
    from nuvom.registry.registry import Registry, TaskDefinition

    _Call = tuple[Sequence[Any], Mapping[str, Any]]

_OPTION = "redact"


class _Task(NamedTuple):
    """What is known of one task.

    Attributes:
        made_of: The entry and the definition that this was read from.
        names: Of its positional parameters, in order.
        rest, others: Of its parameters ``*rest`` and ``**others``; empty if it has none.
        known: Of its parameters that may be given by name.
        hidden: Names whose values are not shown, in lower case; None hides all values.
    """

    made_of: tuple[TaskEntry | None, TaskDefinition | None]
    names: tuple[str, ...]
    rest: str
    others: str
    known: frozenset[str]
    hidden: frozenset[str] | None


class Redaction:
    """What is known of the names of values, by task."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._settings = settings
        self._registry = registry
        self._path = str(settings.manifest_file)
        self._read_of: tuple[int, ...] | None = None
        self._entries: dict[str, TaskEntry] = {}
        self._tasks: dict[str, _Task] = {}

    def refresh(self) -> Redaction:
        """Read the manifest if it has changed; return this."""
        try:
            found = os.stat(self._path)
            read_of: tuple[int, ...] = (found.st_ino, found.st_size, found.st_mtime_ns)
        except OSError:
            read_of = ()
        if read_of != self._read_of:
            self._entries = by_any_name(tasks_or_nothing(self._settings.manifest_file))
            self._read_of = read_of
        return self

    def names(self, task: str, count: int) -> list[str]:
        """Return names for a number of positional arguments; a number if there is none."""
        names = self._task(task).names
        return [*names[:count], *map(str, range(len(names), count))]

    def result(self, task: str, value: Any) -> Any:
        """Return a task's result for display: a mapping for an object, hidden values masked."""
        return _masked(("result",), value, self._task(task).hidden)

    def arguments(
        self, task: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return a call's arguments for display, as ``result`` does."""
        known = self._task(task)
        names = [*known.names, *[known.rest] * len(args)]
        shown = [
            _masked((name,), one, known.hidden) for name, one in zip(names, args, strict=False)
        ]
        named = {
            name: _masked(
                (name,) if name in known.known else (name, known.others), one, known.hidden
            )
            for name, one in kwargs.items()
        }
        return shown, named

    def _task(self, name: str) -> _Task:
        made_of = self._entries.get(name), self._registry.get(name)
        known = self._tasks.get(name)
        if known is None or known.made_of != made_of:
            known = self._tasks[name] = _Task(made_of, *_names(*made_of), self._hidden(*made_of))
        return known

    def _hidden(
        self, entry: TaskEntry | None, definition: TaskDefinition | None
    ) -> frozenset[str] | None:
        names = {*self._settings.redact}
        if definition is not None:
            names.update(definition.options.redact)
        elif entry is not None and _OPTION in entry.dynamic_options:
            return None  # only the code could tell which
        if entry is not None:
            given = entry.options.get(_OPTION) or ()
            names.update([given] if isinstance(given, str) else given)
        return frozenset(name.lower() for name in names)


def _names(
    entry: TaskEntry | None, definition: TaskDefinition | None
) -> tuple[tuple[str, ...], str, str, frozenset[str]]:
    """Return the names of a task's parameters, by kind; see ``_Task``."""
    if definition is not None:
        signature = inspect.signature(definition.func)
    else:
        signature = signature_of("()" if entry is None else entry.signature)
    kinds: defaultdict[Any, list[str]] = defaultdict(list)
    for one in signature.parameters.values():
        kinds[one.kind].append(one.name)
    by_place, both = kinds[Parameter.POSITIONAL_ONLY], kinds[Parameter.POSITIONAL_OR_KEYWORD]
    return (
        (*by_place, *both),
        "".join(kinds[Parameter.VAR_POSITIONAL]),
        "".join(kinds[Parameter.VAR_KEYWORD]),
        frozenset((*both, *kinds[Parameter.KEYWORD_ONLY])),
    )


def editable(value: Any) -> Any:
    """Return a value in JSON types, to be edited: integers of any size stay integers."""
    match value:
        case int():
            return value
        case Mapping():
            return {str(key): editable(one) for key, one in value.items()}
        case list() | tuple():
            return [editable(one) for one in value]
    return jsonable({"": value})[""]


def unmasked_call(
    task: str, edited: _Call, shown: _Call, stored: _Call
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return a call that somebody edited, its arguments as ``unmasked``.

    Raises: InvalidArguments: a mask is where it is unclear which value it stands for.
    """
    (args, kwargs), (shown_args, shown_kwargs), (stored_args, stored_kwargs) = edited, shown, stored
    try:
        new_args = tuple(
            unmasked(one, shown_args[at], stored_args[at])
            if at < len(stored_args)
            else _typed(one, shown_args)
            for at, one in enumerate(args)
        )
        return new_args, unmasked(dict(kwargs), shown_kwargs, stored_kwargs)
    except ValueError as error:
        raise InvalidArguments(task, str(error)) from None


def unmasked(edited: Any, shown: Any, stored: Any) -> Any:
    """Return what somebody edited with the stored values where nothing was changed.

    Args:
        shown: What was there to edit, made of ``stored``: secrets are masked, and values that JSON
            does not have are text.
    Raises: ValueError: the mask is still somewhere, but which value it stands for is unclear.
    """
    if _is_same(edited, shown):
        return stored
    data = stored.data if isinstance(stored, Shaped) else stored
    if isinstance(edited, dict) and isinstance(shown, dict) and isinstance(data, Mapping):
        known = {str(key): _opened(one) for key, one in data.items()}
        return {
            key: unmasked(one, shown[key], known[key])
            if key in known and key in shown
            else _typed(one, shown)
            for key, one in edited.items()
        }
    if isinstance(edited, list) and isinstance(shown, list) and isinstance(data, list | tuple):
        # Items may have changed places, so only those that are the same are known.
        pairs = dict(enumerate(zip(shown, map(_opened, data), strict=False)))
        return [
            pairs[at][1] if at in pairs and _is_same(one, pairs[at][0]) else _typed(one, shown)
            for at, one in enumerate(edited)
        ]
    return _typed(edited, shown)


def _is_same(one: Any, other: Any) -> bool:
    """Compare as JSON does, where true is not 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _opened(value: Any) -> Any:
    """Return the fields of an object, since the one around it is put together anew."""
    return _plain(value) if isinstance(value, Shaped) else value


def _typed(edited: Any, shown: Any) -> Any:
    mask = json.dumps(MASK)
    if mask in json.dumps(edited) and mask in json.dumps(shown):
        msg = f"{MASK} stands for a hidden value, which has to be typed again here"
        raise ValueError(msg)
    return edited


def _masked(names: tuple[str, ...], value: Any, hidden: frozenset[str] | None) -> Any:
    if hidden is None or any(is_secret(name) or name.lower() in hidden for name in names):
        return MASK
    # Start at a negative depth, so that nothing storable is deep enough to be cut off.
    try:
        return mask_value("", _plain(value), -MAX_DEPTH, hidden)
    except RecursionError:  # no codec writes data that is nested so deeply
        return "..."


def _plain(value: Any) -> Any:
    """Return a value with user classes turned into mappings, so that their secrets are found."""
    if isinstance(value, Shaped):
        if isinstance(value.data, dict):
            return {name: _plain(one) for name, one in value.data.items()}
        return value.data
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
