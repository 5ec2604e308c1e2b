"""Where the values that a shell completes come from. Loaded when one is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.cli.session import project_root
from nuvom.cli.shapes import short_id
from nuvom.config.settings import SETTINGS
from nuvom.config.sources import load
from nuvom.discovery.manifest import read_manifest
from nuvom.inspection import Inspector
from nuvom.plugins.loader import find_entries
from nuvom.runtime import build_runtime

if TYPE_CHECKING:
    from nuvom.cli.invocation import Invocation

_NEWEST = 50

Values = list[tuple[str, str]]


def tasks(invocation: Invocation, incomplete: str) -> Values:
    """Return the tasks of the manifest, by full name or by a last part of it."""
    settings = load(project_root(invocation)).settings
    listed = read_manifest(settings.manifest_file) or ()
    found = [(task.name, task.doc or "") for task in listed if task.name.startswith(incomplete)]
    if found:
        return found
    parts = [(task.name.rpartition(".")[2], task.name) for task in listed]
    return [(name, whole) for name, whole in parts if name.startswith(incomplete)]


def queues(invocation: Invocation, incomplete: str) -> Values:
    """Return the queues that hold or held jobs."""
    found = [(one.queue, f"{one.waiting} waiting") for one in _inspector(invocation).stats()]
    return [(name, note) for name, note in found if name.startswith(incomplete)]


def job_ids(invocation: Invocation, incomplete: str) -> Values:
    """Return the newest jobs by the end of their id, or by all of it once that is begun."""
    found = []
    for snapshot in _inspector(invocation).page(limit=_NEWEST):
        job_id, note = snapshot.record.id, f"{snapshot.record.func_name} {snapshot.status}"
        if short_id(job_id).startswith(incomplete):
            found.append((short_id(job_id), note))
        elif job_id.startswith(incomplete):
            found.append((job_id, note))
    return found


def workers(invocation: Invocation, incomplete: str) -> Values:
    """Return the live workers."""
    found = [(short_id(one.id), f"pid {one.pid}") for one in _inspector(invocation).workers()]
    return [(name, note) for name, note in found if name.startswith(incomplete)]


def fingerprints(invocation: Invocation, incomplete: str) -> Values:
    """Return the groups of failures."""
    groups = _inspector(invocation).error_groups()
    found = [(one.fingerprint, f"{one.func_name}: {one.type}") for one in groups]
    return [(name, note) for name, note in found if name.startswith(incomplete)]


def config_keys(_: Invocation, incomplete: str) -> Values:
    """Return the settings."""
    return [
        (name, setting.meaning) for name, setting in SETTINGS.items() if name.startswith(incomplete)
    ]


def _inspector(invocation: Invocation) -> Inspector:
    loaded = load(project_root(invocation))
    return Inspector(build_runtime(loaded, allow_project_plugins=False))


def plugins(invocation: Invocation, incomplete: str) -> Values:
    """Return the plugins that are named; none is loaded."""
    settings = load(project_root(invocation)).settings
    found = [(entry.name, entry.target) for entry in find_entries(settings)]
    return [(name, note) for name, note in found if name.startswith(incomplete)]
