"""Checks of what lies in the project: settings, the folder ``.nuvom``, tasks, plugins."""

from __future__ import annotations

import os
import platform
import shutil
from typing import TYPE_CHECKING

import msgspec

from nuvom._version import __version__
from nuvom.config.project import STATE_DIR, check_state_dir
from nuvom.config.sources import problems
from nuvom.diagnosis.findings import Finding, fail, failed, ok, warn
from nuvom.discovery.manifest import diff, read_manifest
from nuvom.discovery.scan import scan
from nuvom.errors import NuvomError
from nuvom.plugins.loader import find_entries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nuvom.config.sources import Loaded
    from nuvom.discovery.manifest import Changes

_LEAST_FREE_BYTES = 200 << 20
_SHOWN = 5


def environment_findings() -> Iterator[Finding]:
    """Yield the versions at work."""
    python = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    yield ok("versions", f"nuvom {__version__}, {python}, msgspec {msgspec.__version__}")


def settings_findings(root: Path) -> Iterator[Finding]:
    """Yield what is wrong with the settings, all of it."""
    errors, warnings = problems(root)
    yield from (failed("settings", error) for error in errors)
    yield from (warn("settings", text, "Correct or remove it.") for text in warnings)
    if not errors and not warnings:
        yield ok("settings", "all sources can be used")


def folder_findings(loaded: Loaded) -> Iterator[Finding]:
    """Yield whether ``.nuvom`` can be written, and whether the disk has room."""
    root = loaded.settings.root
    folder = root / STATE_DIR
    if not folder.is_dir():
        yield ok("folder", f"{folder} is not there yet; the first job makes it")
    else:
        yield from _state_dir_findings(root, folder)
    free = shutil.disk_usage(root).free
    if free < _LEAST_FREE_BYTES:
        text = f"only {free >> 20} MiB are free on the disk of {root}"
        yield warn("disk", text, "Free some space; `nuvom prune` removes old results.")


def _state_dir_findings(root: Path, folder: Path) -> Iterator[Finding]:
    try:
        check_state_dir(root)
    except NuvomError as error:
        yield failed("folder", error)
        return
    if os.access(folder, os.W_OK):
        yield ok("folder", f"{folder} can be written")
    else:
        fix = "Make it writable, or move what is in it with the settings sqlite_path and others."
        yield fail("folder", f"{folder} cannot be written", fix)


def task_findings(loaded: Loaded) -> Iterator[Finding]:
    """Yield how the manifest compares with the code, and what discovery stumbled over."""
    settings = loaded.settings
    found = scan(settings.root, use_cache=settings.state_dir.is_dir())
    try:
        listed = read_manifest(settings.manifest_file)
    except NuvomError as error:
        yield failed("tasks", error)
        return
    changes = diff(listed or (), found.tasks)
    refresh = "Run: nuvom discover tasks"
    if listed is None and not found.tasks:
        yield warn("tasks", "no task was found", "Make a first one: nuvom init")
    elif listed is None:
        yield warn("tasks", f"{len(found.tasks)} found, but there is no manifest", refresh)
    elif not changes.is_empty:
        yield warn("tasks", f"the manifest is stale: {_summary(changes)}", refresh)
    else:
        yield ok("tasks", f"{len(found.tasks)} in the manifest, as in the code")
    for problem in found.problems[:_SHOWN]:
        yield warn("tasks", str(problem))
    if len(found.problems) > _SHOWN:
        more = f"{len(found.problems) - _SHOWN} more such problems"
        yield warn("tasks", more, "All of them: nuvom discover tasks --check")


def _summary(changes: Changes) -> str:
    parts = [
        f"{len(tasks)} {word}"
        for word, tasks in (
            ("added", changes.added),
            ("changed", changes.changed),
            ("removed", changes.removed),
            ("moved", changes.moved),
        )
        if tasks
    ]
    return ", ".join(parts)


def plugin_findings(loaded: Loaded) -> Iterator[Finding]:
    """Yield which plugins are named and by whom; none is loaded."""
    if loaded.settings.plugins == "off":
        yield ok("plugins", "off")
        return
    try:
        entries = find_entries(loaded.settings)
    except NuvomError as error:
        yield failed("plugins", error)
        return
    if not entries:
        yield ok("plugins", "none is named")
    for entry in entries:
        yield ok("plugins", f"{entry.name}: {entry.target}, named by {entry.source}")
