"""``nuvom discover tasks``: find the tasks in the code and write the manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from nuvom.cli import exit_codes
from nuvom.cli.base import Group
from nuvom.cli.invocation import Invocation, pass_invocation
from nuvom.cli.session import folder_or_root, settings
from nuvom.cli.text import quoted
from nuvom.config.project import ensure_state_dir
from nuvom.discovery.manifest import diff, encode, has_content, read_manifest, write_manifest
from nuvom.discovery.scan import scan
from nuvom.errors import InvalidManifest, plural

if TYPE_CHECKING:
    from nuvom.discovery.entries import TaskEntry
    from nuvom.discovery.manifest import Changes
    from nuvom.discovery.scan import Scan

SCHEMA = "nuvom.discovery/1"


class Comparison(NamedTuple):
    """A scan beside the manifest.

    Attributes:
        is_stale: Whether the manifest differs from what was found.
    """

    manifest: Path
    found: Scan
    changes: Changes
    is_stale: bool


@click.group(cls=Group, default="tasks")
def discover() -> None:
    """Find the tasks in your code, by reading it and never by running it."""


@discover.command()
@click.option("--check", is_flag=True, help="Only compare; exit 7 where the manifest is stale.")
@click.option("--include", multiple=True, metavar="GLOB", help="Look only at files like this.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave out files like this.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The manifest to write or compare, instead of the project's.",
)
@pass_invocation
def tasks(
    invocation: Invocation,
    *,
    check: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    out: Path | None,
) -> int:
    """Look for @task in the project's files and bring the manifest up to date."""
    root = folder_or_root(invocation)
    manifest = settings(invocation, root).settings.manifest_file if out is None else out.absolute()
    has_state = (root / ".nuvom").is_dir()
    if not check and out is None:  # before the scan, which keeps its cache there
        ensure_state_dir(root, setting="manifest_path")
    found = scan(root, include=include, exclude=exclude, use_cache=has_state or not check)
    compared = _compare(invocation, manifest, found)
    if not check:
        write_manifest(manifest, found.tasks, root=root)
    _show(invocation, compared, check=check)
    return exit_codes.CHECK_FAILED if check and compared.is_stale else exit_codes.OK


def _compare(invocation: Invocation, manifest: Path, found: Scan) -> Comparison:
    before: tuple[TaskEntry, ...] | None
    try:
        before = read_manifest(manifest)
    except InvalidManifest as error:
        invocation.out.warn(error.what)
        before = ()
    changes = diff(before or (), found.tasks)
    is_current = has_content(manifest, encode(found.tasks)) or (before is None and not found.tasks)
    return Comparison(manifest, found, changes, not is_current)


def _show(invocation: Invocation, compared: Comparison, *, check: bool) -> None:
    out = invocation.out
    if out.as_json:
        out.json(SCHEMA, _data(compared, check=check))
        return
    found, changes = compared.found, compared.changes
    for sign, style, entries in (
        ("+", "green", changes.added),
        ("~", "yellow", changes.changed),
        ("-", "red", changes.removed),
    ):
        for task in entries:
            out.lines([f"{out.out.paint(sign, style)} {task.name}{task.signature}  {task.place}"])
    for problem in found.problems:
        out.warn(str(problem))
    out.say(_summary(compared, check=check))
    if not check and found.tasks:
        out.hint("Next: nuvom list tasks, or start a worker: nuvom runworker")
    elif not found.tasks:
        out.hint("No @task was found. Make a first one: nuvom init")


def _summary(compared: Comparison, *, check: bool) -> str:
    found, changes = compared.found, compared.changes
    counted = f"{plural(len(found.tasks), 'task')} in {plural(found.files_seen, 'file')}"
    parts = [
        f"{len(entries)} {word}"
        for word, entries in (
            ("added", changes.added),
            ("changed", changes.changed),
            ("removed", changes.removed),
            ("moved", changes.moved),
        )
        if entries
    ]
    difference = ", ".join(parts) or "nothing changed"
    if not check:
        return f"{counted}: {difference}. Manifest: {quoted(compared.manifest)}"
    if not compared.is_stale:
        return f"{counted}: the manifest is up to date."
    return f"{counted}: the manifest is stale ({difference}). Run: nuvom discover tasks"


def _data(compared: Comparison, *, check: bool) -> dict[str, Any]:
    found, changes = compared.found, compared.changes
    return {
        "manifest": compared.manifest,
        "stale": compared.is_stale and check,
        "tasks": [task.name for task in found.tasks],
        "added": [task.name for task in changes.added],
        "removed": [task.name for task in changes.removed],
        "changed": [task.name for task in changes.changed],
        "moved": [task.name for task in changes.moved],
        "problems": [problem._asdict() for problem in found.problems],
        "duplicates": [duplicate._asdict() for duplicate in found.duplicates],
        "files": {
            "seen": found.files_seen,
            "read": found.files_read,
            "parsed": found.files_parsed,
        },
    }
