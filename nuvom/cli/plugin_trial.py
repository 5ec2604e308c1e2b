"""Loads plugins on request: ``nuvom plugin status`` and ``nuvom plugin test``."""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from traceback import format_exception
from typing import TYPE_CHECKING, Any

from nuvom.cli import exit_codes
from nuvom.cli.session import folder_or_root, project_or_here, settings
from nuvom.cli.tables import Cell, Column, Table
from nuvom.cli.text import duration
from nuvom.cli.user_files import import_file
from nuvom.discovery.auto_register import add_import_roots
from nuvom.errors import PluginFailed, PluginNotFound, plural
from nuvom.plugins.contracts import Plugin
from nuvom.plugins.lifecycle import make_extras, plugin_error
from nuvom.plugins.loader import find_entries, import_object, load_plugins, project_entries
from nuvom.queue_backends.base import BaseJobQueue
from nuvom.result_backends.base import BaseResultBackend

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nuvom.cli.invocation import Invocation
    from nuvom.config.settings import Settings
    from nuvom.errors import PluginError
    from nuvom.plugins.lifecycle import FailedPlugin, LoadedPlugin

STATUS_SCHEMA = "nuvom.plugin_status/1"
TEST_SCHEMA = "nuvom.plugin_test/1"
# Named by text: nothing but plugins' own tests and this command needs the kit.
_KIT = "nuvom.testing.conformance.trial"
_STYLES = {"kept": "green", "broken": "red", "skipped": "dim"}
_BASES = (BaseJobQueue, BaseResultBackend, Plugin)


# ---- status -----------------------------------------------------------------------------


def show_status(invocation: Invocation, name: str | None) -> int:
    """Load and start plugins, stop them, and show how that went; 4 where one failed."""
    root = project_or_here(invocation)
    chosen = settings(invocation, root).settings
    add_import_roots(root)
    plugins = load_plugins(chosen, only=name)
    plugins.start_pending(chosen, make_extras())
    started = plugins.started
    plugins.stop()
    failures = {plugin: error for plugin, hook, error in plugins.reports if hook == "stop"}
    rows = [_of_started(loaded, failures.get(loaded.name)) for loaded in started]
    rows += [_of_failed(failure) for failure in plugins.failed]
    out = invocation.out
    if out.as_json:
        out.json(STATUS_SCHEMA, {"plugins": rows})
    else:
        out.table(_status_table(rows), empty="No plugin is named.")
        for _, _, error in plugins.reports:
            out.error((("Error", error.what), ("Fix", error.fix)))
            if out.verbosity and error.__cause__ is not None:
                out.say("".join(format_exception(error.__cause__)).rstrip("\n"))
    return exit_codes.CONFIG if plugins.reports else exit_codes.OK


def _of_started(loaded: LoadedPlugin, error: PluginError | None) -> dict[str, Any]:
    return {
        "name": loaded.name,
        "ok": error is None,
        "version": loaded.version,
        "api_version": loaded.plugin.api_version,
        "provides": list(loaded.provides),
        "requires": list(loaded.requires),
        "target": loaded.entry.target,
        "source": loaded.entry.source,
        "error": None if error is None else error.what,
    }


def _of_failed(failure: FailedPlugin) -> dict[str, Any]:
    return {
        "name": failure.name,
        "ok": False,
        "version": None,
        "api_version": None,
        "provides": list(failure.provides),
        "requires": [],
        "target": failure.entry.target,
        "source": failure.entry.source,
        "error": failure.error.what,
    }


def _status_table(rows: Sequence[dict[str, Any]]) -> Table:
    columns = [
        Column("Name"),
        Column("Status"),
        Column("Version"),
        Column("Provides", stretch=True),
        Column("From", stretch=True),
    ]
    return Table(
        columns,
        [
            [
                row["name"],
                Cell("ok", "green") if row["ok"] else Cell("failed", "red"),
                row["version"] or "-",
                ", ".join(row["provides"]) or "-",
                row["source"],
            ]
            for row in rows
        ],
    )


# ---- test -------------------------------------------------------------------------------


def test(invocation: Invocation, target: str | None, only: Sequence[str]) -> int:
    """Hold the targets to their laws; 7 where a law is broken.

    Raises: PluginNotFound: there is no such target. PluginError: it cannot be imported.
        MissingExtra: the kit's packages are not installed.
    """
    kit: Any = import_module(_KIT)
    reports = []
    for found in list(_targets(invocation, target)):
        _head(invocation, found)
        told = _teller(invocation)
        try:
            reports.append(kit.run(found, only=only or ("*",), told=told))
        except TypeError as error:  # no kit fits it
            name = getattr(found, "__name__", type(found).__name__)
            raise PluginFailed(name, target or "listed", str(error)) from error
    if not reports:
        raise PluginNotFound(target or "any")
    broken = [report for report in reports if not report.ok]
    out = invocation.out
    if out.as_json:
        data = {"ok": not broken, "reports": [report.to_dict() for report in reports]}
        out.json(TEST_SCHEMA, data)
    else:
        for report in reports:
            out.say(_sum(report))
    return exit_codes.CHECK_FAILED if broken else exit_codes.OK


def _head(invocation: Invocation, found: object) -> None:
    if not invocation.out.as_json:
        name = getattr(found, "__qualname__", type(found).__qualname__)
        invocation.out.lines([invocation.out.out.paint(name, "bold")])


def _teller(invocation: Invocation) -> Any:  # noqa: ANN401  # a callback of the kit
    out = invocation.out

    def told(finding: Any) -> None:  # noqa: ANN401  # of the kit, which is not imported here
        if out.as_json or (finding.outcome == "skipped" and not out.verbosity):
            return
        outcome = out.out.paint(finding.outcome.ljust(7), _STYLES[finding.outcome])
        out.lines([f"  {outcome}  {finding.law.replace('_', ' ')} ({duration(finding.secs)})"])
        if finding.outcome == "broken":
            out.text(f"           {finding.promise}\n           {finding.detail}")
            if out.verbosity:
                out.text(finding.trace)

    return told


def _sum(report: Any) -> str:  # noqa: ANN401  # of the kit
    parts = [f"{plural(len(report.kept), 'law')} kept", f"{len(report.broken)} broken"]
    if report.skipped:
        parts.append(f"{len(report.skipped)} not declared")
    return f"{report.target}: {', '.join(parts)}."


def _targets(invocation: Invocation, target: str | None) -> Iterator[object]:
    """Yield the classes that ``target`` means."""
    root = folder_or_root(invocation)
    add_import_roots(root)
    if target is None:
        for entry in project_entries(root):
            yield _import(entry.target)
        return
    path = Path(target)
    if path.suffix == ".py":
        yield from _in_file(path)
    elif ":" in target:
        yield _import(target)
    else:
        yield from _named(settings(invocation, root).settings, target)


def _named(chosen: Settings, name: str) -> Iterator[object]:
    entries = find_entries(chosen)
    found = [entry for entry in entries if entry.answers_to(name)]
    if not found:
        raise PluginNotFound(name, [entry.name for entry in entries])
    for entry in found:
        yield _import(entry.target)


def _import(target: str) -> object:
    try:
        return import_object(target)
    except (Exception, SystemExit) as error:  # a plugin's module: whatever it raises is named
        raise plugin_error(target, target, error) from error


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
