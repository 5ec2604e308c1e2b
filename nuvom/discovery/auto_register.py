"""Imports the modules that define discovered tasks.

This is the only part of discovery that runs user code. A worker gives the manifest to its
registry, which calls back to import a task's module when the first job for that task arrives.
In development the worker refreshes the manifest first.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
from functools import partial
from typing import TYPE_CHECKING

from nuvom.config.project import import_roots
from nuvom.discovery import importer as importer_module
from nuvom.discovery.importer import Importer, StillImporting, is_interrupt
from nuvom.discovery.manifest import diff, read_manifest, with_kept, write_manifest
from nuvom.discovery.scan import NO_HINTS, scan
from nuvom.errors import InvalidManifest, TaskImportFailed
from nuvom.log import get_logger, log_event
from nuvom.registry.registry import TaskDefinition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import ModuleType

    from nuvom.discovery.entries import TaskEntry
    from nuvom.discovery.manifest import Changes
    from nuvom.discovery.scan import Hints, Scan
    from nuvom.registry.registry import Registry

_MAX_REASON = 200  # characters of a user's message to show on one line

_OWN_FILES = frozenset({__file__, importer_module.__file__, importlib.__file__})

_log = get_logger("discovery")


def add_import_roots(root: Path, source_roots: Sequence[str] = ()) -> None:
    """Put the project root, ``src`` unless that is a package, and others first on ``sys.path``.

    Safe to call twice. For workers only: read-only commands never call it.
    """
    roots = [os.fspath(folder) for folder in import_roots(root.resolve(), source_roots)]
    sys.path[:] = roots + [path for path in sys.path if path not in roots]


def source_roots_of(tasks: Iterable[TaskEntry]) -> list[str]:
    """Return the folders from which the modules of tasks are imported, besides root and ``src``."""
    roots = set()
    for task in tasks:
        path = task.file.removesuffix(".py").removesuffix("/__init__")
        root = path.removesuffix(task.module.replace(".", "/")).rstrip("/")
        if root not in (path, "", "src"):
            roots.add(root)
    return sorted(roots)


def register_manifest(registry: Registry, root: Path, manifest_path: Path) -> int:
    """Add the manifest's importable tasks to ``registry``; return how many there are.

    Their modules are imported when the registry first needs them; the folders from which they
    are imported are put on ``sys.path`` now.
    Raises: InvalidManifest.
    """
    listed = read_manifest(manifest_path) or ()
    tasks = [task for task in listed if task.importable]
    add_import_roots(root, source_roots_of(tasks))
    registry.add_manifest(tasks, loader_for(root))
    return len(tasks)


def import_unnamed(root: Path, manifest_path: Path) -> Iterator[TaskImportFailed]:
    """Import the modules of tasks with names that only their code knows; yield what failed.

    Raises: InvalidManifest.
    """
    importer = Importer()
    for task in read_manifest(manifest_path) or ():
        if task.importable and not {"name", "aliases"}.isdisjoint(task.dynamic_options):
            try:
                load_task(task, root, importer)
            except TaskImportFailed as error:
                yield error


def loader_for(root: Path) -> Callable[[TaskEntry], None]:
    """Return the function that a registry calls with the entry of a task to load."""
    return partial(load_task, root=root, importer=Importer())


def load_task(entry: TaskEntry, root: Path, importer: Importer | None = None) -> None:
    """Import the module of a task, which registers it.

    The import roots must be on ``sys.path`` (``add_import_roots``).
    Raises: TaskImportFailed: the task is not importable; the import raises anything or takes
        too long; another module has that name; or the module no longer defines the task.
    """
    if not entry.importable:
        raise TaskImportFailed(entry.name, entry.module, "it is not importable where it stands")
    module = _import(entry, importer or Importer())
    reason = _fault_of(module, entry, root)
    if reason is not None:
        raise TaskImportFailed(entry.name, entry.module, reason)


def refresh(root: Path, manifest_path: Path, hints: Hints = NO_HINTS) -> tuple[Scan, Changes]:
    """Bring the manifest up to date; return what was found and what changed.

    A damaged manifest is replaced. No manifest is created for a project without tasks.
    Raises: ProjectNotFound, BackendUnavailable, StorageFull.
    """
    found = scan(root, hints=hints)
    try:
        before = read_manifest(manifest_path)
    except InvalidManifest as error:
        text = f"{error.what} It is written anew."
        log_event(_log, logging.WARNING, "discovery.manifest_rebuilt", text)
        before = ()
    tasks = with_kept(found.tasks, before or (), found.unparsed)
    if before is not None or tasks:
        write_manifest(manifest_path, tasks, root=root)
    return found, diff(before or (), tasks)


def _import(entry: TaskEntry, importer: Importer) -> ModuleType:
    try:
        return importer.load(entry.module)
    except StillImporting as slow:
        reason, is_over = str(slow), slow.ended.is_set
        raise TaskImportFailed(entry.name, entry.module, reason, is_over=is_over) from slow
    except BaseException as error:  # user code: the worker must survive whatever it raises
        if is_interrupt(error):
            raise
        raise TaskImportFailed(entry.name, entry.module, _short(error)) from error


def _fault_of(module: ModuleType, entry: TaskEntry, root: Path) -> str | None:
    """Return why an imported module is not the one that the manifest describes, or None."""
    loaded_from = getattr(module, "__file__", None)
    expected = os.path.realpath(root / entry.file)
    if loaded_from is not None and os.path.realpath(loaded_from) != expected:
        return f"its name belongs to {loaded_from}, which hides {entry.file}"
    found: object = module
    for part in (*entry.qualname.split("."), "definition"):
        if found is None:
            return f"it no longer defines {entry.qualname}"
        # Not getattr, which may run a user's __getattr__.
        attributes: Mapping[str, object] = getattr(found, "__dict__", {})
        found = attributes.get(part)
    is_sure = "name" not in entry.dynamic_options
    if isinstance(found, TaskDefinition) and found.name != entry.name and is_sure:
        return f"the task is now named {found.name}"
    return None


def _short(error: BaseException) -> str:
    """Return an exception's type and message on one line, with the place that raised it."""
    lines = traceback.format_exception_only(error)
    text = " ".join("".join(lines[-1:]).split())[:_MAX_REASON].rstrip(".")
    if isinstance(error, SyntaxError) and error.filename:
        return f"{text} ({error.filename}:{error.lineno})"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in _OWN_FILES and not frame.filename.startswith("<frozen ")
    ]
    return f"{text} ({frames[-1].filename}:{frames[-1].lineno})" if frames else text
