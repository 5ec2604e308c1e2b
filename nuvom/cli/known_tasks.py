"""Which tasks the project has, as commands that enqueue need to know.

They come from the manifest. Where it is missing, or does not know a name, the code is read
anew (never run), so that nobody has to remember a discovery step. A name that stays unknown is
explained: which file it should be in, and what hides it there.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nuvom.cli.session import project_root
from nuvom.config.project import import_roots
from nuvom.discovery.explain import why_no_task
from nuvom.discovery.manifest import read_manifest, write_manifest
from nuvom.discovery.scan import scan
from nuvom.discovery.stub import signature_of
from nuvom.errors import (
    AmbiguousTask,
    InvalidManifest,
    TaskHidden,
    TaskNotFound,
    plural,
)
from nuvom.registry.registry import find_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from nuvom.cli.invocation import Invocation
    from nuvom.config.settings import Settings
    from nuvom.discovery.entries import TaskEntry


def listed_tasks(invocation: Invocation, settings: Settings) -> tuple[TaskEntry, ...]:
    """Return the tasks of the manifest, which is made now where it is missing.

    Raises: ProjectNotFound: there is no project here, and no task that would make it one.
        InvalidManifest.
    """
    listed = read_manifest(settings.manifest_file)
    return _scanned(invocation, settings, "There is no manifest yet") if listed is None else listed


def find_task(invocation: Invocation, settings: Settings, name: str) -> TaskEntry:
    """Return the task that ``name`` means: a full name or an unambiguous last part.

    Raises: TaskNotFound, TaskHidden, AmbiguousTask; ProjectNotFound, InvalidManifest.
    """
    listed = read_manifest(settings.manifest_file)
    if listed is not None:
        try:
            return _named(name, listed)
        except TaskNotFound:
            if settings.environment == "prod":
                raise
    why = "There is no manifest yet" if listed is None else f"The manifest has no task {name}"
    found = _scanned(invocation, settings, why)
    try:
        return _named(name, found)
    except TaskNotFound as error:
        hidden = explanation(settings.root, name)
        if hidden is None:
            raise
        file, reason = hidden
        raise TaskHidden(name, file, reason, [entry.name for entry in found]) from error


def explanation(root: Path, name: str) -> tuple[str, str] | None:
    """Return the file that a task of this name would be in, and why it is not found there.

    None where no such file exists.
    """
    for file, function in _places(root, name):
        reason = why_no_task(root, file, function)
        if reason is not None:
            return os.path.relpath(file, root), reason
    return None


def _places(root: Path, name: str) -> Iterator[tuple[str, str]]:
    """Yield the files that exist and may define ``name``, with the function's path in them."""
    parts = name.split(".")
    for base in import_roots(root):
        for count in range(len(parts) - 1, 0, -1):
            files = _module_files(base, parts[:count])
            yield from ((file, ".".join(parts[count:])) for file in files if os.path.isfile(file))


def full_name(name: str, entries: Iterable[TaskEntry]) -> str:
    """Return the full name for a last part, or ``name`` itself where it is not clear."""
    try:
        return find_name(name, [entry.name for entry in entries])
    except (TaskNotFound, AmbiguousTask):
        return name


def manifest_or_nothing(settings: Settings) -> tuple[TaskEntry, ...]:
    """Return the tasks of the manifest; none where it is missing or damaged.

    For what only reads better with them. Everything else has to say that it is damaged.
    """
    try:
        return read_manifest(settings.manifest_file) or ()
    except InvalidManifest:
        return ()


def positional_names(settings: Settings, task: str) -> tuple[str, ...]:
    """Return the names of a task's positional parameters; empty where nobody knows them."""
    for entry in manifest_or_nothing(settings):
        if entry.name == task:
            parameters = signature_of(entry.signature).parameters.values()
            return tuple(one.name for one in parameters if one.kind < one.VAR_POSITIONAL)
    return ()


def _named(name: str, listed: Sequence[TaskEntry]) -> TaskEntry:
    by_name = {entry.name: entry for entry in listed}
    return by_name[find_name(name, by_name)]


def _scanned(invocation: Invocation, settings: Settings, why: str) -> tuple[TaskEntry, ...]:
    found = scan(settings.root)
    if not found.tasks and not settings.state_dir.is_dir():
        project_root(invocation)  # without a task, only a marker makes this a project
    write_manifest(settings.manifest_file, found.tasks, root=settings.root)
    seen = f"{plural(found.files_seen, 'file')} read, {plural(len(found.tasks), 'task')} found"
    invocation.out.say(f"{why}: {seen}.")
    for problem in found.errors:
        invocation.out.warn(str(problem))
    return found.tasks


def _module_files(base: Path, parts: Sequence[str]) -> list[str]:
    module = os.path.join(base, *parts)
    return [f"{module}.py", os.path.join(module, "__init__.py")]
