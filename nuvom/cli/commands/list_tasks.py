"""``nuvom list tasks``: what the manifest holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from msgspec import structs

from nuvom.cli.base import Group
from nuvom.cli.invocation import Invocation, pass_invocation
from nuvom.cli.session import project_root, settings
from nuvom.cli.tables import Cell, Column, Table
from nuvom.discovery.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuvom.discovery.entries import TaskEntry

SCHEMA = "nuvom.tasks/1"


@click.group(name="list", cls=Group, default="tasks")
def list_() -> None:
    """Show the tasks that were found."""


@list_.command()
@pass_invocation
def tasks(invocation: Invocation) -> None:
    """Show the tasks of the manifest: name, signature, queue and place."""
    loaded = settings(invocation, project_root(invocation))
    manifest = loaded.settings.manifest_file
    entries = read_manifest(manifest)
    out = invocation.out
    if out.as_json:
        listed = [_data(entry) for entry in entries or ()]
        out.json(SCHEMA, {"manifest": None if entries is None else manifest, "tasks": listed})
        return
    if entries is None:
        out.say("There is no manifest yet. Run: nuvom discover tasks")
    out.table(_table(entries or ()), empty="" if entries is None else "No task was found yet.")


def _data(entry: TaskEntry) -> dict[str, Any]:
    return {**structs.asdict(entry), "dynamic_options": list(entry.dynamic_options)}


def _table(entries: Sequence[TaskEntry]) -> Table:
    columns = [
        Column("Task"),
        Column("Signature", stretch=True),
        Column("Queue"),
        Column("Place", stretch=True, keeps_end=True),
    ]
    return Table(columns, [_row(entry) for entry in entries])


def _row(entry: TaskEntry) -> list[Cell | str]:
    queue = (
        "(in code)" if "queue" in entry.dynamic_options else entry.options.get("queue", "default")
    )
    name = Cell(entry.name, "" if entry.importable else "dim")
    signature = ("async " if entry.is_async else "") + entry.signature
    return [name, signature, str(queue), entry.place]
