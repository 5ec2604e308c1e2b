"""``nuvom config``: show the settings, check them, explain where one comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nuvom.cli import exit_codes
from nuvom.cli.base import Group
from nuvom.cli.completion import config_keys
from nuvom.cli.invocation import Invocation, pass_invocation
from nuvom.cli.session import project_root, settings
from nuvom.cli.tables import Cell, Column, Table
from nuvom.config.settings import SETTINGS
from nuvom.config.sources import explain, problems

if TYPE_CHECKING:
    from nuvom.config.sources import Explanation, Loaded

SHOW_SCHEMA = "nuvom.config/1"
CHECK_SCHEMA = "nuvom.config_check/1"
EXPLAIN_SCHEMA = "nuvom.config_key/1"


@click.group(cls=Group, default="show")
def config() -> None:
    """Show, check and explain the settings.

    A flag beats the environment, which beats .env, nuvom.toml or [tool.nuvom], and the default.
    """


@config.command()
@pass_invocation
def show(invocation: Invocation) -> None:
    """Show each setting, its value and where it comes from. Secrets are shown as ***."""
    root = project_root(invocation)
    loaded = settings(invocation, root)
    if invocation.out.as_json:
        invocation.out.json(SHOW_SCHEMA, _show_data(loaded))
        return
    invocation.out.table(_show_table(loaded))
    invocation.out.hint(f"Project: {root}. Why a value is what it is: nuvom config explain KEY")


def _show_data(loaded: Loaded) -> dict[str, Any]:
    return {
        "root": loaded.settings.root,
        "settings": {
            name: setting.masked(getattr(loaded.settings, name))
            for name, setting in SETTINGS.items()
        },
        "sources": {name: origins[0].source for name, origins in loaded.origins.items()},
        "warnings": loaded.warnings,
    }


def _show_table(loaded: Loaded) -> Table:
    rows: list[list[Cell | str]] = []
    for name, setting in SETTINGS.items():
        source = loaded.origins[name][0].source
        value = setting.masked(getattr(loaded.settings, name))
        style = "dim" if source == "default" else "bold"
        plain = "" if value is None else str(value)
        rows.append([name, Cell(setting.show(value), style, plain), Cell(source, style)])
    return Table([Column("Setting"), Column("Value", stretch=True), Column("Source")], rows)


@config.command()
@pass_invocation
def check(invocation: Invocation) -> int:
    """Check all sources of settings, starting nothing; exit 7 where one is wrong."""
    root = project_root(invocation)
    errors, warnings = problems(root)
    out = invocation.out
    if out.as_json:
        told = [
            {"code": type(error).__name__, "message": error.what, "hint": error.fix}
            for error in errors
        ]
        out.json(CHECK_SCHEMA, {"ok": not errors, "errors": told, "warnings": warnings})
    else:
        for warning in warnings:
            out.warn(warning)
        for error in errors:
            out.error([("Error", error.what), ("Fix", error.fix)])
        if not errors:
            out.text(f"All settings of {root} can be used.")
    return exit_codes.CHECK_FAILED if errors else exit_codes.OK


@config.command(name="explain")
@click.argument("key", shell_complete=config_keys)
@pass_invocation
def explain_(invocation: Invocation, key: str) -> None:
    """Show every place that gives the setting KEY, and which of them counts."""
    loaded = settings(invocation, project_root(invocation))
    explanation = explain(loaded, key)
    if invocation.out.as_json:
        invocation.out.json(EXPLAIN_SCHEMA, _explain_data(explanation))
        return
    out = invocation.out
    out.text(f"{explanation.name} = {explanation.value}")
    wide = max(len(row.text) for row in explanation.rows)
    for row in explanation.rows:
        line = f"  {row.source:<13} {row.text:<{wide}}"
        used = out.out.paint("<- used", "green") if row.is_used else ""
        out.lines([f"{out.out.paint(line, '' if row.is_used else 'dim')}  {used}".rstrip()])
    out.text(f"  {SETTINGS[explanation.name].meaning}.")
    out.text(f"  {explanation.note}")


def _explain_data(explanation: Explanation) -> dict[str, Any]:
    return {
        "key": explanation.name,
        "value": explanation.value,
        "sources": [
            {
                "source": row.source,
                "text": None if row.text == "-" else row.text,
                "used": row.is_used,
            }
            for row in explanation.rows
        ],
        "note": explanation.note,
    }
