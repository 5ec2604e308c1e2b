"""``nuvom plugin``: list plugins, describe them, and test whether they honour their contracts.

Only ``status`` and ``test`` load a plugin's code.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from traceback import format_exception
from typing import TYPE_CHECKING, Any

import click

from nuvom.cli import exit_codes
from nuvom.cli.commands.runtestworker import import_file
from nuvom.cli.commands.scaffold import PLUGIN_TYPES, class_name, write_plugin
from nuvom.cli.context import Group, Invocation
from nuvom.cli.output import Cell, Table, quoted
from nuvom.cli.params import FOLDER, plugin_names
from nuvom.cli.project import folder_or_root, load_settings
from nuvom.config.project import here
from nuvom.discovery.auto_register import add_import_roots
from nuvom.errors import PluginFailed, PluginNotFound, plural
from nuvom.inspection.formats import duration
from nuvom.plugins.contracts import Plugin
from nuvom.plugins.lifecycle import make_extras, plugin_error
from nuvom.plugins.loader import find_entries, import_object, load_plugins, project_entries
from nuvom.queue_backends.base import BaseJobQueue
from nuvom.result_backends.base import BaseResultBackend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuvom.config.settings import Settings
    from nuvom.errors import PluginError
    from nuvom.plugins.contracts import PluginProtocol
    from nuvom.plugins.lifecycle import FailedPlugin, LoadedPlugin, PluginEntry

# Imported by name: only plugins' own tests and this command need the kit.
_KIT = "nuvom.testing.conformance.trial"
_STYLES = {"kept": "green", "broken": "red", "skipped": "dim"}
_BASES = (BaseJobQueue, BaseResultBackend, Plugin)
_BACKEND_KEYS = ("queue_backend", "result_backend", "scheduler_backend")


@click.group(cls=Group, default="list")
def plugin() -> None:
    """List, test and scaffold plugins."""


@plugin.command(name="list")
def list_(invocation: Invocation) -> None:
    """List the plugins of packages and of .nuvom_plugins.toml, without loading them."""
    chosen = load_settings(invocation, folder_or_root(invocation)).settings
    entries = find_entries(chosen)
    rows = [
        [one.name, one.target, one.key or "-", one.version or "-", one.source] for one in entries
    ]
    table = Table(("Name", "Target", "Listed as", "Version", "Listed in"), rows)
    data = {"enabled": chosen.plugins, "plugins": [_data(entry) for entry in entries]}
    empty = "No plugin is listed." if chosen.plugins == "on" else "Plugins are off."
    invocation.out.answer("nuvom.plugins/1", data, table, empty=empty)


def _data(entry: PluginEntry) -> dict[str, Any]:
    return {name: value or None for name, value in entry._asdict().items()}


@plugin.command()
@click.argument("name", shell_complete=plugin_names)
def inspect(invocation: Invocation, name: str) -> None:
    """Show what is known about the plugin NAME, without loading it."""
    chosen = load_settings(invocation, folder_or_root(invocation)).settings
    entry = _named(chosen, name)[0]
    uses = [key for key in _BACKEND_KEYS if getattr(chosen, key) == entry.name]
    data = _data(entry)
    rows = [(label, value or "-") for label, value in data.items()]
    table = Table(("Field", "Value"), [*rows, ("used as", ", ".join(uses) or "-")])
    invocation.out.answer("nuvom.plugin/1", {**data, "used_as": uses}, table)
    invocation.out.hint(f"To check it against its contract: nuvom plugin test {name}")


def _named(chosen: Settings, name: str) -> list[PluginEntry]:
    """Return the entries that match a name. Raises: PluginNotFound: there is none."""
    entries = find_entries(chosen)
    found = [entry for entry in entries if entry.answers_to(name)]
    if not found:
        raise PluginNotFound(name, [entry.name for entry in entries])
    return found


# ---- status -----------------------------------------------------------------------------


@plugin.command()
@click.argument("name", required=False, shell_complete=plugin_names)
def status(invocation: Invocation, name: str | None) -> int:
    """Load and start all plugins, or only NAME, and report the result.

    This runs the plugins' code. Exits 4 if one fails.
    """
    root = folder_or_root(invocation)
    chosen = load_settings(invocation, root).settings
    add_import_roots(root, chosen.source_roots)
    plugins = load_plugins(chosen, only=name)
    plugins.start_pending(chosen, make_extras())
    started = plugins.started
    plugins.stop()
    stopping = {plugin: error for plugin, hook, error in plugins.reports if hook == "stop"}
    data = [_status_data(one, one.plugin, stopping.get(one.name)) for one in started]
    data += [_status_data(one, None, one.error) for one in plugins.failed]
    rows = [
        [
            row["name"],
            Cell("ok", "green") if row["ok"] else Cell("failed", "red"),
            row["version"] or "-",
            ", ".join(row["provides"]) or "-",
            row["source"],
        ]
        for row in data
    ]
    table = Table(("Name", "Status", "Version", "Provides", "From"), rows)
    out = invocation.out
    out.answer("nuvom.plugin_status/1", {"plugins": data}, table, empty="No plugin is listed.")
    for _, _, error in () if out.as_json else plugins.reports:
        out.error(error.what, error.fix)
        if out.verbosity and error.__cause__ is not None:
            out.say("".join(format_exception(error.__cause__)).rstrip("\n"))
    return exit_codes.CONFIG if plugins.reports else exit_codes.OK


def _status_data(
    one: LoadedPlugin | FailedPlugin, loaded: PluginProtocol | None, error: PluginError | None
) -> dict[str, Any]:
    return {
        "name": one.name,
        "ok": error is None,
        "version": getattr(one, "version", None),
        "api_version": loaded and loaded.api_version,
        "provides": list(one.provides),
        "requires": list(getattr(one, "requires", ())),
        "target": one.entry.target,
        "source": one.entry.source,
        "error": error and error.what,
    }


# ---- test -------------------------------------------------------------------------------


@plugin.command(name="test")
@click.argument("target", required=False, shell_complete=plugin_names)
@click.option("--only", multiple=True, metavar="PATTERN", help="Only laws or chapters that match.")
def test_(invocation: Invocation, target: str | None, only: tuple[str, ...]) -> int:
    """Check TARGET against the laws of its contract; exit 7 if one is broken.

    TARGET is a plugin's name, a Python file, or module:Class. Without it, all plugins in
    .nuvom_plugins.toml are tested. This runs the plugins' code.
    """
    return _test(invocation, target, only)


def _test(invocation: Invocation, target: str | None, only: tuple[str, ...] = ()) -> int:
    kit: Any = import_module(_KIT)
    out = invocation.out
    reports = []
    for found in list(_targets(invocation, target)):
        name = getattr(found, "__qualname__", type(found).__qualname__)
        if not out.as_json:
            out.text(name, "bold")
        try:
            report = kit.run(found, only=only or ("*",), told=partial(_tell, invocation))
        except TypeError as error:  # no kit fits the class
            raise PluginFailed(name, target or "listed", str(error)) from error
        reports.append(report)
        if not out.as_json:
            counts = f"{plural(len(report.kept), 'law')} kept, {len(report.broken)} broken"
            out.say(f"{report.target}: {counts}, {len(report.skipped)} not declared.")
    if not reports:
        raise PluginNotFound(target or "any")
    is_good = all(report.ok for report in reports)
    if out.as_json:
        data = {"ok": is_good, "reports": [report.to_dict() for report in reports]}
        out.json("nuvom.plugin_test/1", data)
    return exit_codes.OK if is_good else exit_codes.CHECK_FAILED


def _tell(invocation: Invocation, finding: Any) -> None:  # noqa: ANN401  # of the kit, which is not imported here
    """Show the result for one law."""
    out = invocation.out
    if out.as_json or (finding.outcome == "skipped" and not out.verbosity):
        return
    outcome = out.out.paint(finding.outcome.ljust(7), _STYLES[finding.outcome])
    out.lines([f"  {outcome}  {finding.law.replace('_', ' ')} ({duration(finding.secs)})"])
    if finding.outcome == "broken":
        out.text(f"           {finding.promise}\n           {finding.detail}")
        if out.verbosity:
            out.text(finding.trace)


def _targets(invocation: Invocation, target: str | None) -> Iterator[object]:
    """Yield the classes that ``target`` refers to."""
    root = folder_or_root(invocation)
    add_import_roots(root, load_settings(invocation, root).settings.source_roots)
    if target is not None and target.endswith(".py"):
        yield from _in_file(Path(target))
        return
    if target is not None and ":" in target:
        names = [target]
    elif target is not None:
        names = [one.target for one in _named(load_settings(invocation, root).settings, target)]
    else:
        names = [entry.target for entry in project_entries(root)]
    for name in names:
        try:
            yield import_object(name)
        except (Exception, SystemExit) as error:  # a plugin's module: report whatever it raises
            raise plugin_error(name, name, error) from error


def _in_file(path: Path) -> list[type]:
    """Return the backends and plugins that a file defines itself."""
    if not path.is_file():
        raise PluginNotFound(str(path))
    sys.path.insert(0, str(path.resolve().parent))  # so that its own test processes find it
    module = import_file(path, partial(plugin_error, path.stem, str(path)))
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, _BASES) and value.__module__ == path.stem
    ]
    if not found:
        reason = "it defines no subclass of BaseJobQueue, BaseResultBackend or Plugin"
        raise PluginFailed(path.stem, str(path), reason)
    return found


# ---- scaffold ---------------------------------------------------------------------------


@plugin.command()
@click.argument("name", required=False)
@click.option("--name", "named", metavar="NAME", help="Same as the argument NAME.")
@click.option(
    "--type",
    "-c",
    "--capability",
    "kind",
    type=click.Choice(PLUGIN_TYPES),
    default="queue_backend",
    show_default=True,
    help="What the plugin provides.",
)
@click.option(
    "--out",
    type=FOLDER,
    metavar="DIR",
    help="The folder to write into; default: a new one called NAME.",
)
@click.option("-f", "--force", is_flag=True, help="Overwrite files that exist.")
@click.option("-t", "--test", "is_tested", is_flag=True, help="Run `plugin test` on it at once.")
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
    """Write a small package NAME that passes all laws, as a starting point."""
    if (name is None) == (named is None):
        raise click.UsageError("Give the plugin one name: nuvom plugin scaffold my_queue.")
    name = name or named or ""
    if not name.isidentifier() or not name.islower() or not name.isascii():
        text = f"{name!r} is not a module name: use a-z, 0-9 and _, such as my_queue."
        raise click.UsageError(text)
    base = folder_or_root(invocation) if invocation.project is not None else here()
    folder = base / (name if out is None else out)
    files = write_plugin(folder, name, kind, force=force)
    if not invocation.out.as_json:
        invocation.out.lines(quoted(file) for file in files)
    elif not is_tested:
        data = {"name": name, "class": class_name(name), "type": kind, "files": files}
        invocation.out.json("nuvom.scaffold/1", data)
    module = folder / f"{name}.py"
    if is_tested:
        return _test(invocation, str(module))
    invocation.out.hint(f"Next: nuvom plugin test {quoted(module)}")
    return exit_codes.OK
