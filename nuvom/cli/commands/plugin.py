"""``nuvom plugin``: which plugins are named, what they are, whether they keep their promises."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuvom.cli import exit_codes
from nuvom.cli.base import Group
from nuvom.cli.completion import plugins as plugin_names
from nuvom.cli.invocation import Invocation, pass_invocation
from nuvom.cli.scaffolds import TYPES, class_name, write_plugin
from nuvom.cli.session import folder_or_root, project_or_here, settings
from nuvom.cli.tables import Cell, Column, Table
from nuvom.cli.text import quoted
from nuvom.config.project import here
from nuvom.errors import PluginNotFound
from nuvom.plugins.loader import find_entries

if TYPE_CHECKING:
    from nuvom.config.settings import Settings
    from nuvom.plugins.lifecycle import PluginEntry

LIST_SCHEMA = "nuvom.plugins/1"
INSPECT_SCHEMA = "nuvom.plugin/1"
SCAFFOLD_SCHEMA = "nuvom.scaffold/1"
# What loads a plugin's code is not imported for help.
_LOADING = "nuvom.cli.plugin_trial"


@click.group(cls=Group, default="list")
def plugin() -> None:
    """Show, test and scaffold plugins."""


@plugin.command(name="list")
@pass_invocation
def list_(invocation: Invocation) -> None:
    """Show which plugins packages or .nuvom_plugins.toml name; none is loaded."""
    chosen = settings(invocation, project_or_here(invocation)).settings
    entries = find_entries(chosen)
    out = invocation.out
    if out.as_json:
        out.json(LIST_SCHEMA, {"enabled": chosen.plugins, "plugins": [_data(e) for e in entries]})
        return
    empty = "No plugin is named." if chosen.plugins == "on" else "Plugins are off."
    out.table(_table(entries), empty=empty)


def _data(entry: PluginEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "target": entry.target,
        "key": entry.key or None,
        "source": entry.source,
        "version": entry.version or None,
    }


def _table(entries: list[PluginEntry]) -> Table:
    columns = [
        Column("Name"),
        Column("Target", stretch=True),
        Column("Listed as"),
        Column("Version"),
        Column("Named by", stretch=True),
    ]
    rows: list[list[Cell | str]] = [
        [entry.name, entry.target, entry.key or "-", entry.version or "-", entry.source]
        for entry in entries
    ]
    return Table(columns, rows)


@plugin.command()
@click.argument("name", shell_complete=plugin_names)
@pass_invocation
def inspect(invocation: Invocation, name: str) -> None:
    """Show what is known of the plugin NAME without loading it."""
    chosen = settings(invocation, project_or_here(invocation)).settings
    entry = _entry(chosen, name)
    out = invocation.out
    data = {**_data(entry), "used_as": _uses(chosen, entry)}
    if out.as_json:
        out.json(INSPECT_SCHEMA, data)
        return
    for label, value in data.items():
        shown = ", ".join(value) if isinstance(value, list) else value
        heading = out.out.paint(label.replace("_", " ").ljust(8), "dim")
        out.lines([f"{heading} {shown or '-'}"])
    out.hint(f"Does it keep its promises? nuvom plugin test {name}")


def _entry(chosen: Settings, name: str) -> PluginEntry:
    entries = find_entries(chosen)
    for entry in entries:
        if entry.answers_to(name):
            return entry
    raise PluginNotFound(name, [entry.name for entry in entries])


def _uses(chosen: Settings, entry: PluginEntry) -> list[str]:
    """Return the settings that name a backend as this plugin is named."""
    keys = ("queue_backend", "result_backend", "scheduler_backend")
    return [key for key in keys if getattr(chosen, key) == entry.name]


@plugin.command()
@click.argument("name", required=False, shell_complete=plugin_names)
@pass_invocation
def status(invocation: Invocation, name: str | None) -> int:
    """Load and start plugins, or the one called NAME, and say how that went.

    This runs the plugins' code. Exit 4 where one fails.
    """
    code: int = import_module(_LOADING).show_status(invocation, name)
    return code


@plugin.command(name="test")
@click.argument("target", required=False, shell_complete=plugin_names)
@click.option("--only", multiple=True, metavar="PATTERN", help="Only laws or chapters like this.")
@pass_invocation
def test_(invocation: Invocation, target: str | None, only: tuple[str, ...]) -> int:
    """Hold TARGET to the laws of its contract; exit 7 if one is broken.

    TARGET is a plugin's name, a Python file, or module:Class; without it all plugins of
    .nuvom_plugins.toml are tested. This runs the plugin's code.
    """
    code: int = import_module(_LOADING).test(invocation, target, only)
    return code


@plugin.command()
@click.argument("name", required=False)
@click.option("--name", "named", metavar="NAME", help="The same as the argument NAME.")
@click.option(
    "--type",
    "-c",
    "--capability",
    "kind",
    type=click.Choice(tuple(TYPES)),
    default="queue_backend",
    show_default=True,
    help="What the plugin provides.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The folder to write into; default: a new one called NAME.",
)
@click.option("-f", "--force", is_flag=True, help="Overwrite files that are there.")
@click.option("-t", "--test", "is_tested", is_flag=True, help="Run `plugin test` on it at once.")
@pass_invocation
def scaffold(
    invocation: Invocation,
    name: str | None,
    *,
    named: str | None,
    kind: str,
    out: Path | None,
    force: bool,
    is_tested: bool,
) -> int:
    """Write a small package NAME that works and passes the laws, to start from."""
    if (name is None) == (named is None):
        raise click.UsageError("Give the plugin one name: nuvom plugin scaffold my_queue.")
    name = name or named or ""
    if not name.isidentifier() or not name.islower() or not name.isascii():
        raise click.UsageError(f"{name!r} is no module name: use a-z, 0-9 and _, such as my_queue.")
    base = folder_or_root(invocation) if invocation.project is not None else here()
    folder = base / (name if out is None else out)
    files = write_plugin(folder, name, kind, force=force)
    if invocation.out.as_json and not is_tested:
        data = {"name": name, "class": class_name(name), "type": kind, "files": files}
        invocation.out.json(SCAFFOLD_SCHEMA, data)
    elif not invocation.out.as_json:
        for file in files:
            invocation.out.lines([quoted(file)])
    module = folder / f"{name}.py"
    if is_tested:
        code: int = import_module(_LOADING).test(invocation, str(module), ())
        return code
    invocation.out.hint(f"Next: nuvom plugin test {quoted(module)}")
    return exit_codes.OK
