"""``nuvom discover tasks``, ``list tasks``, ``migrate-from``: read what is in the code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuvom.cli import exit_codes
from nuvom.cli.context import Group, Invocation
from nuvom.cli.output import Cell, Table, quoted
from nuvom.cli.params import FILE
from nuvom.cli.project import folder_or_root, load_settings, project_root
from nuvom.config.project import ensure_state_dir
from nuvom.discovery.manifest import (
    diff,
    encode,
    has_content,
    read_manifest,
    with_kept,
    write_manifest,
)
from nuvom.discovery.scan import Hints, scan
from nuvom.errors import InvalidManifest, plural
from nuvom.inspection.views import task_data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuvom.cli.output import Output
    from nuvom.compat.celery.survey import Survey
    from nuvom.discovery.entries import TaskEntry
    from nuvom.discovery.manifest import Changes
    from nuvom.discovery.scan import Scan

_PLURALS = {
    "import": "imports",
    "definition": "tasks",
    "submission": "calls",
    "retry": "retries",
    "canvas": "canvas",
    "schedule": "schedules",
}
_SIGN_STYLES = {"+": "green", "~": "yellow", "-": "red"}


@click.group(cls=Group, default="tasks")
def discover() -> None:
    """Find the tasks in your code by reading it, without running it."""


@discover.command(name="tasks")
@click.option("--check", is_flag=True, help="Only compare; exit 7 if the manifest is stale.")
@click.option("--include", multiple=True, metavar="GLOB", help="Look only at files that match.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Skip files that match.")
@click.option(
    "--out",
    type=FILE,
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
    """Look for @task in the project's files and bring the manifest up to date.

    Exits 7 if a file that may define tasks cannot be parsed: its tasks stay as they were.
    """
    root, shown = folder_or_root(invocation), invocation.out
    settings = load_settings(invocation, root).settings
    manifest = settings.manifest_file if out is None else out.absolute()
    caches = not check or (root / ".nuvom").is_dir()
    if not check and out is None:  # before the scan, which stores its cache there
        ensure_state_dir(root, setting="manifest_path")
    hints = Hints.of(settings)
    found = _scan(shown, root, include=include, exclude=exclude, hints=hints, use_cache=caches)
    before = _read(manifest, shown)
    tasks = with_kept(found.tasks, before or (), found.unparsed)
    changes = diff(before or (), tasks)
    is_current = has_content(manifest, encode(tasks)) or (before is None and not tasks)
    if not check:
        write_manifest(manifest, tasks, root=root)
    if shown.as_json:
        data = _data(found, changes)
        shown.json(
            "nuvom.discovery/1", {"manifest": manifest, "stale": check and not is_current, **data}
        )
    else:
        _show_changes(shown, found, changes)
        seen = f"{plural(len(found.tasks), 'task')} in {plural(found.files_seen, 'file')}"
        compared = _compared(changes, is_current=is_current)
        shown.say(f"{seen}: {compared if check else _written(changes, manifest)}")
    _advise(shown, found, tasks, check=check)
    is_fine = (is_current or not check) and not found.unparsed
    return exit_codes.OK if is_fine else exit_codes.CHECK_FAILED


def _scan(out: Output, root: Path, **options: Any) -> Scan:  # those of ``scan``
    with out.progress("Reading", "files") as progress:
        return scan(root, tell=lambda done, total: progress.tell(done, total=total), **options)


def _written(changes: Changes, manifest: Path) -> str:
    return f"{changes_text(changes) or 'nothing changed'}. Manifest: {quoted(manifest)}"


def _compared(changes: Changes, *, is_current: bool) -> str:
    if is_current:
        return "the manifest is up to date."
    difference = changes_text(changes) or "nothing changed"
    return f"the manifest is stale ({difference}). Run: nuvom discover tasks"


def _advise(out: Output, found: Scan, tasks: Sequence[TaskEntry], *, check: bool) -> None:
    kept = sum(task.kept for task in tasks)
    if kept:
        out.warn(f"{plural(kept, 'task')} of files that cannot be parsed stay as they were.")
    if not tasks and found.others:
        how = "nuvom migrate-from celery, or" if "Celery" in found.others else "see"
        out.say(f"{found.others} found, and none of Nuvom. To move: {how} docs/migrating/")
    elif not tasks:
        out.hint("No @task was found. Write a first one: nuvom init")
    elif not check:
        out.hint("Next: nuvom list tasks, or start a worker: nuvom runworker")


def _read(manifest: Path, out: Output) -> tuple[TaskEntry, ...] | None:
    try:
        return read_manifest(manifest)
    except InvalidManifest as error:
        out.warn(error.what)
        return ()


def _show_changes(out: Output, found: Scan, changes: Changes) -> None:
    signs = {"+": changes.added, "~": changes.changed, "-": changes.removed}
    for sign, entries in signs.items():
        for task in entries:
            out.text(f"{sign} {task.name}{task.signature}  {task.place}", _SIGN_STYLES[sign])
    for problem in found.problems:
        out.warn(str(problem))


def changes_text(changes: Changes) -> str:
    """Return text such as ``1 added, 2 moved``; empty if nothing changed."""
    counts = {word: len(entries) for word, entries in changes._asdict().items()}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


def _data(found: Scan, changes: Changes) -> dict[str, Any]:
    return {
        "tasks": [task.name for task in found.tasks],
        **{word: [task.name for task in entries] for word, entries in changes._asdict().items()},
        "problems": [problem._asdict() for problem in found.problems],
        "duplicates": [duplicate._asdict() for duplicate in found.duplicates],
        "files": {
            "seen": found.files_seen,
            "read": found.files_read,
            "parsed": found.files_parsed,
        },
    }


@click.group(name="list", cls=Group, default="tasks")
def list_() -> None:
    """List the tasks that were found."""


@list_.command(name="tasks")
def list_tasks(invocation: Invocation) -> None:
    """List the tasks of the manifest: name, signature, queue and place."""
    manifest = load_settings(invocation, project_root(invocation)).settings.manifest_file
    entries = read_manifest(manifest)
    listed = entries or ()
    tasks = [task_data(entry) for entry in listed]
    data = {"manifest": None if entries is None else manifest, "tasks": tasks}
    rows = [_row(entry) for entry in listed]
    table = Table(("Task", "Signature", "Queue", "Place"), rows, folded=("Place",))
    empty = "There is no manifest yet. Run: nuvom discover tasks"
    empty = empty if entries is None else "No task was found yet."
    invocation.out.answer("nuvom.tasks/1", data, table, empty=empty)


def _row(entry: TaskEntry) -> list[Cell | str]:
    is_dynamic = "queue" in entry.dynamic_options
    queue = "(in code)" if is_dynamic else str(entry.options.get("queue", "default"))
    former = f" (formerly {', '.join(entry.aliases)})" if entry.aliases else ""
    name = Cell(f"{entry.name}{former}", "" if entry.importable else "dim", entry.name)
    signature = ("async " if entry.is_async else "") + entry.signature
    return [name, signature, queue, entry.place]


# ---- code of another engine --------------------------------------------------------------


@click.group(name="migrate-from", cls=Group)
def migrate_from() -> None:
    """Say what of another engine's code runs on Nuvom."""


@migrate_from.command(name="celery")
@click.argument("path", metavar="[PATH]", default=".", type=click.Path(path_type=Path))
@click.option("--diff", is_flag=True, help="Print what would change, as a diff.")
@click.option("--write", is_flag=True, help="Change imports and settings.")
def celery(invocation: Invocation, path: Path, *, diff: bool, write: bool) -> None:
    """Report what the code in PATH uses of Celery, by reading it.

    With `nuvom.compat.celery` most code runs unchanged but for its imports, which --write changes.
    It also adds decorators that discovery cannot follow to the setting task_decorators. What needs
    a hand, or has nothing like it in Nuvom yet, is listed with its place.
    """
    from nuvom.compat.celery.survey import survey, write_edits  # noqa: PLC0415  # not with help

    out, root = invocation.out, folder_or_root(invocation)
    if not path.resolve().is_relative_to(root):
        root = path if path.is_dir() else path.parent
    settings = load_settings(invocation, root).settings
    found = survey(root, path, settings.task_decorators, has_hooks=settings.hooks is not None)
    if write:
        write_edits(root, found.edits)
    data = {
        "files": {"seen": found.files, "changed": [one.file for one in found.edits]},
        "written": write,
        "counts": found.counts,
        "remarks": [one._asdict() for one in found.remarks if one.level != "maps"],
        "diff": "".join(one.diff for one in found.edits) if diff or write else None,
    }
    if out.as_json:
        out.json("nuvom.migration/1", data)
        return
    if diff or write:
        out.lines(line for one in found.edits for line in one.diff.splitlines())
    else:
        _show_survey(invocation, found)
    verb = "changed" if write else "would change"
    out.say(f"{plural(len(found.edits), 'file')} {verb}.")
    if found.edits and not write:
        out.hint("Next: --diff shows the changes, --write makes them. See docs/celery-shim.md")


def _show_survey(invocation: Invocation, found: Survey) -> None:
    out = invocation.out
    rows = [
        [_PLURALS[kind], *(str(number) for number in levels.values())]
        for kind, levels in found.counts.items()
        if any(levels.values())
    ]
    empty = "No use of Celery was found."
    out.table(Table(("What", "Maps", "By hand", "Unsupported"), rows), empty=empty)
    for one in found.remarks:
        if one.level != "maps":
            word = "by hand" if one.level == "hand" else one.level
            out.text(f"{one.file}:{one.line}: {one.what}: {word}: {one.reason}")
