"""``nuvom discover tasks``, ``nuvom list tasks``: find tasks in the code, show the manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec.structs import asdict

from nuvom.cli import exit_codes
from nuvom.cli.context import Group, Invocation
from nuvom.cli.output import Cell, Table, quoted
from nuvom.cli.project import folder_or_root, load_settings, project_root
from nuvom.config.project import ensure_state_dir
from nuvom.discovery.manifest import diff, encode, has_content, read_manifest, write_manifest
from nuvom.discovery.scan import scan
from nuvom.errors import InvalidManifest, plural

if TYPE_CHECKING:
    from nuvom.discovery.entries import TaskEntry
    from nuvom.discovery.manifest import Changes
    from nuvom.discovery.scan import Scan


_CHANGES = ("added", "changed", "removed", "moved")


@click.group(cls=Group, default="tasks")
def discover() -> None:
    """Find the tasks in your code, by reading it and never by running it."""


@discover.command(name="tasks")
@click.option("--check", is_flag=True, help="Only compare; exit 7 if the manifest is stale.")
@click.option("--include", multiple=True, metavar="GLOB", help="Look only at files that match.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Skip files that match.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The manifest to write or compare, instead of the project's.",
)
def discover_tasks(
    invocation: Invocation,
    *,
    check: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    out: Path | None,
) -> int:
    """Look for @task in the project's files and bring the manifest up to date."""
    root = folder_or_root(invocation)
    settings = load_settings(invocation, root).settings
    manifest = settings.manifest_file if out is None else out.absolute()
    has_state = (root / ".nuvom").is_dir()
    if not check and out is None:  # before the scan, which stores its cache there
        ensure_state_dir(root, setting="manifest_path")
    found = scan(root, include=include, exclude=exclude, use_cache=has_state or not check)
    changes, is_current = _compared(invocation, manifest, found)
    is_stale = check and not is_current
    if not check:
        write_manifest(manifest, found.tasks, root=root)
    if invocation.out.as_json:
        _write_json(invocation, manifest, (found, changes), is_stale=is_stale)
    else:
        _show_changes(invocation, found, changes)
        counted = f"{plural(len(found.tasks), 'task')} in {plural(found.files_seen, 'file')}"
        difference = changes_text(changes) or "nothing changed"
        result = f"{difference}. Manifest: {quoted(manifest)}"
        if is_stale:
            result = f"the manifest is stale ({difference}). Run: nuvom discover tasks"
        elif check:
            result = "the manifest is up to date."
        invocation.out.say(f"{counted}: {result}")
    if not found.tasks:
        invocation.out.hint("No @task was found. Write a first one: nuvom init")
    elif not check:
        invocation.out.hint("Next: nuvom list tasks, or start a worker: nuvom runworker")
    return exit_codes.CHECK_FAILED if is_stale else exit_codes.OK


def _compared(invocation: Invocation, manifest: Path, found: Scan) -> tuple[Changes, bool]:
    """Return the changes since the manifest was written, and whether it is up to date."""
    before: tuple[TaskEntry, ...] | None
    try:
        before = read_manifest(manifest)
    except InvalidManifest as error:
        invocation.out.warn(error.what)
        before = ()
    is_current = has_content(manifest, encode(found.tasks)) or (before is None and not found.tasks)
    return diff(before or (), found.tasks), is_current


def _show_changes(invocation: Invocation, found: Scan, changes: Changes) -> None:
    out = invocation.out
    signs = {"+": ("green", changes.added), "~": ("yellow", changes.changed)}
    signs["-"] = ("red", changes.removed)
    for sign, (style, entries) in signs.items():
        for task in entries:
            out.lines([f"{out.out.paint(sign, style)} {task.name}{task.signature}  {task.place}"])
    for problem in found.problems:
        out.warn(str(problem))


def changes_text(changes: Changes) -> str:
    """Return text such as ``1 added, 2 moved``; empty if nothing changed."""
    counts = [(len(getattr(changes, word)), word) for word in _CHANGES]
    return ", ".join(f"{count} {word}" for count, word in counts if count)


def _write_json(
    invocation: Invocation, manifest: Path, result: tuple[Scan, Changes], *, is_stale: bool
) -> None:
    found, changes = result
    data = {
        "manifest": manifest,
        "stale": is_stale,
        "tasks": [task.name for task in found.tasks],
        **{word: [task.name for task in getattr(changes, word)] for word in _CHANGES},
        "problems": [problem._asdict() for problem in found.problems],
        "duplicates": [duplicate._asdict() for duplicate in found.duplicates],
        "files": {
            "seen": found.files_seen,
            "read": found.files_read,
            "parsed": found.files_parsed,
        },
    }
    invocation.out.json("nuvom.discovery/1", data)


@click.group(name="list", cls=Group, default="tasks")
def list_() -> None:
    """List the tasks that were found."""


@list_.command(name="tasks")
def list_tasks(invocation: Invocation) -> None:
    """List the tasks of the manifest: name, signature, queue and place."""
    manifest = load_settings(invocation, project_root(invocation)).settings.manifest_file
    entries = read_manifest(manifest)
    rows = [_row(entry) for entry in entries or ()]
    tasks = [
        {**asdict(entry), "dynamic_options": list(entry.dynamic_options)} for entry in entries or ()
    ]
    data = {"manifest": None if entries is None else manifest, "tasks": tasks}
    table = Table(("Task", "Signature", "Queue", "Place"), rows, folded=("Place",))
    if entries is None and not invocation.out.as_json:
        invocation.out.say("There is no manifest yet. Run: nuvom discover tasks")
    empty = "" if entries is None else "No task was found yet."
    invocation.out.answer("nuvom.tasks/1", data, table, empty=empty)


def _row(entry: TaskEntry) -> list[Cell | str]:
    is_dynamic = "queue" in entry.dynamic_options
    queue = "(in code)" if is_dynamic else str(entry.options.get("queue", "default"))
    name = Cell(entry.name, "" if entry.importable else "dim")
    signature = ("async " if entry.is_async else "") + entry.signature
    return [name, signature, queue, entry.place]
