"""``nuvom migrate-from celery``: what of Celery code runs on Nuvom, and what does not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nuvom.cli.context import Group, Invocation
from nuvom.cli.output import Table
from nuvom.cli.project import folder_or_root, load_settings
from nuvom.errors import plural

if TYPE_CHECKING:
    from nuvom.compat.celery.survey import Survey

_PLURALS = {
    "import": "imports",
    "definition": "tasks",
    "submission": "calls",
    "retry": "retries",
    "canvas": "canvas",
    "schedule": "schedules",
}


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
        _show(invocation, found)
    verb = "changed" if write else "would change"
    out.say(f"{plural(len(found.edits), 'file')} {verb}.")
    if found.edits and not write:
        out.hint("Next: --diff shows the changes, --write makes them. See docs/celery-shim.md")


def _show(invocation: Invocation, found: Survey) -> None:
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
