"""The list of a project's tasks on disk: ``.nuvom/manifest.json``.

It is sorted and holds no timestamps, so the same project always gives the same bytes. Writes are
atomic, and an unchanged manifest is not touched. Commands and workers read it.
"""

from __future__ import annotations

import json
import os
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import msgspec

from nuvom.config.project import cannot_write, ensure_folder_for
from nuvom.discovery.entries import TaskEntry
from nuvom.errors import BackendUnavailable, InvalidManifest
from nuvom.host.files import write_durably

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from nuvom.config.settings import Settings

VERSION: Final = 1

HASHED = "code-"
"""How a release begins that is a hash, not a name."""

_SETTING = "manifest_path"
_by_name = attrgetter("name")


class _Manifest(msgspec.Struct):
    version: Literal[1]
    tasks: list[TaskEntry]


def with_kept(
    tasks: Iterable[TaskEntry], before: Iterable[TaskEntry], unparsed: Iterable[str]
) -> tuple[TaskEntry, ...]:
    """Return tasks, and those known before of files that cannot be parsed now, marked."""
    found = {task.name: task for task in tasks}
    files = set(unparsed)
    kept = [
        msgspec.structs.replace(task, kept=True)
        for task in before
        if task.file in files and task.name not in found
    ]
    return tuple(sorted((*found.values(), *kept), key=_by_name))


class Changes(NamedTuple):
    """The differences between two lists of tasks, each part sorted by name.

    Attributes:
        changed: New entries of tasks in which more than the line number differs.
        moved: New entries of tasks in which only the line number differs.
    """

    added: tuple[TaskEntry, ...] = ()
    removed: tuple[TaskEntry, ...] = ()
    changed: tuple[TaskEntry, ...] = ()
    moved: tuple[TaskEntry, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether both lists are equal."""
        return not any(self)


def read_manifest(path: Path) -> tuple[TaskEntry, ...] | None:
    """Return the tasks of a manifest, sorted by name, or None if there is no such file.

    Raises: InvalidManifest: it is damaged, cannot be read, or has another version.
    """
    try:
        content = json.loads(path.read_bytes())
        tasks = msgspec.convert(content, _Manifest).tasks
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidManifest(path, (error.strerror or "it cannot be read").lower()) from error
    except msgspec.ValidationError as error:
        raise InvalidManifest(path, _fault_of(content, error)) from error
    except (ValueError, RecursionError) as error:
        raise InvalidManifest(path, f"it is not valid JSON ({error})") from error
    return tuple(sorted(tasks, key=_by_name))


def tasks_or_nothing(path: Path) -> tuple[TaskEntry, ...]:
    """Return the tasks of a manifest; empty if it is missing or damaged."""
    try:
        return read_manifest(path) or ()
    except InvalidManifest:
        return ()


def by_any_name(tasks: Iterable[TaskEntry]) -> dict[str, TaskEntry]:
    """Return tasks by name and by alias; a name counts more than another task's alias."""
    listed = tuple(tasks)
    by_alias = {alias: task for task in listed for alias in task.aliases}
    return by_alias | {task.name: task for task in listed}


def _fault_of(content: Any, error: msgspec.ValidationError) -> str:  # noqa: ANN401  # any JSON
    version = content.get("version") if isinstance(content, dict) else VERSION
    if version == VERSION:
        return f"it is not a list of tasks ({error})"
    is_newer = isinstance(version, int) and version > VERSION
    by = "a newer Nuvom" if is_newer else "another program"
    return f"its version is {version!r}, as {by} writes it; this Nuvom reads {VERSION}"


def write_manifest(path: Path, tasks: Iterable[TaskEntry], *, root: Path) -> bool:
    """Write the manifest, if its bytes would change; return whether they did.

    A missing folder is created with mode 0700. The file has mode 0600 and is completely on disk
    when this returns.
    Raises: BackendUnavailable, StorageFull: it cannot be written; the old one is unchanged.
    """
    content = encode(tasks)
    if has_content(path, content):
        return False
    ensure_folder_for(path, root=root, setting=_SETTING)
    try:
        write_durably(path, content)
    except BackendUnavailable as error:
        if isinstance(error.__cause__, OSError):  # name the setting for its path
            raise cannot_write(path, error.__cause__, _SETTING) from error.__cause__
        raise
    return True


def has_content(path: Path, content: bytes) -> bool:
    """Return whether the file at ``path`` holds exactly ``content``."""
    try:
        return path.read_bytes() == content
    except OSError:  # missing or unreadable: it has to be written
        return False


def encode(tasks: Iterable[TaskEntry]) -> bytes:
    """Return the manifest of these tasks as bytes. The same tasks give the same bytes."""
    listed = msgspec.to_builtins(_Manifest(VERSION, sorted(tasks, key=_by_name)))
    # Not msgspec: a docstring may hold half of a surrogate pair.
    return f"{json.dumps(listed, indent=2, allow_nan=False)}\n".encode("ascii")


def diff(old: Iterable[TaskEntry], new: Iterable[TaskEntry]) -> Changes:
    """Return the changes that lead from ``old`` to ``new``; tasks are matched by name."""
    before = {task.name: task for task in sorted(old, key=_by_name)}
    after = {task.name: task for task in sorted(new, key=_by_name)}
    differing = [now for name, now in after.items() if name in before and before[name] != now]
    moved = [
        now for now in differing if msgspec.structs.replace(before[now.name], line=now.line) == now
    ]
    return Changes(
        added=tuple(task for name, task in after.items() if name not in before),
        removed=tuple(task for name, task in before.items() if name not in after),
        changed=tuple(now for now in differing if now not in moved),
        moved=tuple(moved),
    )


def is_stale(root: Path, manifest_path: Path) -> bool:
    """Return whether the manifest is missing, or older than a file that it names.

    Production workers do not scan. This check detects every edited or removed task, but not a
    task in a new file.
    Raises: InvalidManifest.
    """
    listed = read_manifest(manifest_path)
    if listed is None:
        return True
    written = os.stat(manifest_path).st_mtime_ns
    return any(_is_newer(root / file, written) for file in {task.file for task in listed})


def _is_newer(path: Path, written: int) -> bool:
    try:
        return os.stat(path).st_mtime_ns > written
    except OSError:  # removed or inaccessible, so the manifest is out of date
        return True


def release_of(settings: Settings) -> str:
    """Return what tells this version of the project's code from others.

    It is the setting ``release`` or, without one, a short hash over the files that the manifest
    names. Empty if there are none. Line endings do not matter.
    """
    if settings.release is not None:
        return settings.release
    import hashlib  # noqa: PLC0415  # slow to load, and programs that only enqueue do not need it

    files = sorted({task.file for task in tasks_or_nothing(settings.manifest_file)})
    found = hashlib.sha256()
    for file in files:
        try:
            content = (settings.root / file).read_bytes().replace(b"\r\n", b"\n")
        except OSError:  # removed since
            content = b""
        found.update(f"{file}\n{len(content)}\n".encode() + content)
    return f"{HASHED}{found.hexdigest()[:8]}" if files else ""
