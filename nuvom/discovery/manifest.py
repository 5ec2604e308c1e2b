"""The list of a project's tasks on disk: ``.nuvom/manifest.json``.

It holds no times and is sorted, so that the same project gives the same bytes. It is written
whole or not at all, and not touched when nothing changes. Read by commands and workers.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nuvom.config.project import cannot_write, ensure_folder_for
from nuvom.discovery.entries import Changes, TaskEntry
from nuvom.errors import BackendUnavailable, InvalidManifest
from nuvom.host.files import write_durably

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

VERSION = 1

_SETTING = "manifest_path"
_TEXT_OR_NONE = (str, type(None))
# Keys in the order in which they are written, with their types.
_KEYS: dict[str, Any] = {
    "name": str,
    "module": str,
    "qualname": str,
    "file": str,
    "line": int,
    "signature": str,
    "async": bool,
    "importable": bool,
    "options": dict,
    "dynamic_options": list,
    "doc": _TEXT_OR_NONE,
    "hash": str,
}


def read_manifest(path: Path) -> tuple[TaskEntry, ...] | None:
    """Return the tasks of a manifest, sorted by name, or None where there is no such file.

    Raises: InvalidManifest: it is damaged, cannot be read, or is of another version.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidManifest(path, (error.strerror or "it cannot be read").lower()) from error
    except (ValueError, RecursionError) as error:
        raise InvalidManifest(path, f"it is not valid JSON ({error})") from error
    fault = _fault_of(content)
    if fault is not None:
        raise InvalidManifest(path, fault)
    return tuple(sorted(map(_entry, content["tasks"]), key=lambda task: task.name))


def write_manifest(path: Path, tasks: Iterable[TaskEntry], *, root: Path) -> bool:
    """Write the manifest, if its bytes would change; return whether they did.

    The folder is made where it is missing (0700); the file has mode 0600 and is on the disk,
    whole, when this returns.
    Raises: BackendUnavailable, StorageFull: it cannot be written; it is as before.
    """
    content = encode(tasks)
    if has_content(path, content):
        return False
    ensure_folder_for(path, root=root, setting=_SETTING)
    try:
        write_durably(path, content)
    except BackendUnavailable as error:
        if isinstance(error.__cause__, OSError):  # name the setting that moves it
            raise cannot_write(path, error.__cause__, _SETTING) from error.__cause__
        raise
    return True


def has_content(path: Path, content: bytes) -> bool:
    """Return whether the file at ``path`` holds just ``content``."""
    try:
        return path.read_bytes() == content
    except OSError:  # missing, or not readable: then it has to be written
        return False


def encode(tasks: Iterable[TaskEntry]) -> bytes:
    """Return the manifest of these tasks as bytes, the same for the same tasks."""
    listed = [
        dict(zip(_KEYS, task, strict=True)) for task in sorted(tasks, key=lambda task: task.name)
    ]
    text = json.dumps({"version": VERSION, "tasks": listed}, indent=2, allow_nan=False)
    return f"{text}\n".encode("ascii")


def diff(old: Iterable[TaskEntry], new: Iterable[TaskEntry]) -> Changes:
    """Return what must be done to ``old`` to make it ``new``; tasks are the same by name."""
    before = {task.name: task for task in old}
    after = {task.name: task for task in sorted(new, key=lambda task: task.name)}
    kept = [(before[name], task) for name, task in after.items() if name in before]
    differing = [(was, now) for was, now in kept if was != now]
    return Changes(
        added=tuple(task for name, task in after.items() if name not in before),
        removed=tuple(task for name, task in sorted(before.items()) if name not in after),
        changed=tuple(now for was, now in differing if was._replace(line=now.line) != now),
        moved=tuple(now for was, now in differing if was._replace(line=now.line) == now),
    )


def _fault_of(content: object) -> str | None:
    """Return what is wrong with the parsed content of a manifest, or None."""
    if not isinstance(content, dict) or not isinstance(content.get("tasks"), list):
        return "it is not a list of tasks"
    version = content.get("version")
    if version != VERSION:
        by = (
            "a newer Nuvom" if isinstance(version, int) and version > VERSION else "another program"
        )
        return f"its version is {version!r}, as {by} writes it; this Nuvom reads {VERSION}"
    faults = (_fault_of_task(item) for item in content["tasks"])
    return next((f"tasks[{at}] {fault}" for at, fault in enumerate(faults) if fault), None)


def _fault_of_task(item: object) -> str | None:
    if not isinstance(item, dict):
        return "is not an object"
    for key, expected in _KEYS.items():
        if key not in item:
            return f"has no {key}"
        if not isinstance(item[key], expected):
            return f"has the wrong type of {key}"
    return None


def _entry(item: dict[str, Any]) -> TaskEntry:
    entry = TaskEntry(*(item[key] for key in _KEYS))
    return entry._replace(dynamic_options=tuple(map(str, entry.dynamic_options)))
