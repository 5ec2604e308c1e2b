"""Which values of jobs are not shown: secret-sounding names, and those that the project names.

Readers never import the project's code, so names come from the settings and from the manifest; a
process that has imported the tasks also knows them from there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nuvom.core.text import MASK, mask_value
from nuvom.discovery.manifest import by_any_name, tasks_or_nothing
from nuvom.discovery.stub import signature_of
from nuvom.inspection.formats import jsonable
from nuvom.serialization.base import MAX_DEPTH, Shaped
from nuvom.serialization.classes import positional_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuvom.config.settings import Settings
    from nuvom.discovery.entries import TaskEntry
    from nuvom.registry.registry import Registry

_OPTION = "redact"


class Redaction:
    """What is known of the names of values, by task. Reads the manifest when that changes."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._settings = settings
        self._registry = registry
        self._read_of: tuple[int, ...] | None = None
        self._tasks: dict[str, TaskEntry] = {}
        self._names: dict[str, tuple[str, ...]] = {}

    def names(self, task: str) -> tuple[str, ...]:
        """Return the names of a task's positional parameters; empty if they are unknown."""
        entry, definition = self._entry(task), self._registry.get(task)
        if definition is not None:
            return positional_names(definition.func)
        if entry is None:
            return ()
        if task not in self._names:
            parameters = signature_of(entry.signature).parameters.values()
            positional = (one.name for one in parameters if one.kind < one.VAR_POSITIONAL)
            self._names[task] = tuple(positional)
        return self._names[task]

    def result(self, task: str, value: Any) -> Any:
        """Return a task's result for display: a mapping for an object, hidden values masked."""
        return _masked("result", value, self._hidden(task))

    def arguments(
        self, task: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return a call's arguments for display, as ``result`` does."""
        hidden = self._hidden(task)
        names = [*self.names(task), *[""] * len(args)]
        shown = [_masked(name, one, hidden) for name, one in zip(names, args, strict=False)]
        return shown, {name: _masked(name, one, hidden) for name, one in kwargs.items()}

    def _hidden(self, task: str) -> frozenset[str] | None:
        """Return the names of values that the project hides; None hides all."""
        entry, definition = self._entry(task), self._registry.get(task)
        names = {*self._settings.redact}
        if definition is not None:
            names.update(definition.options.redact)
        elif entry is not None and _OPTION in entry.dynamic_options:
            return None  # only the code could tell which
        if entry is not None:
            given = entry.options.get(_OPTION) or ()
            names.update([given] if isinstance(given, str) else given)
        return frozenset(name.lower() for name in names)

    def _entry(self, task: str) -> TaskEntry | None:
        path = self._settings.manifest_file
        try:
            found = os.stat(path)
            read_of: tuple[int, ...] = (found.st_ino, found.st_size, found.st_mtime_ns)
        except OSError:
            read_of = ()
        if read_of != self._read_of:
            self._read_of, self._names = read_of, {}
            self._tasks = by_any_name(tasks_or_nothing(path))
        return self._tasks.get(task)


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
            key: unmasked(one, shown[key], known[key]) if key in known and key in shown else one
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


def _masked(name: str, value: Any, hidden: frozenset[str] | None) -> Any:
    if hidden is None:
        return MASK
    # Start at a negative depth, so that nothing storable is deep enough to be cut off.
    try:
        return mask_value(name, _plain(value), -MAX_DEPTH, hidden)
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
