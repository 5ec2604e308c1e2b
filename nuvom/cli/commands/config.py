"""``nuvom config``: show the settings, check them, and explain where a value comes from."""

from __future__ import annotations

import click

from nuvom.cli import exit_codes
from nuvom.cli.context import Group, Invocation
from nuvom.cli.output import Cell, Table
from nuvom.cli.params import config_keys
from nuvom.cli.project import load_settings, project_root
from nuvom.config.settings import ALIASES, SETTINGS
from nuvom.config.sources import explain, problems
from nuvom.inspection.views import nuvom_error_data


@click.group(cls=Group, default="show")
def config() -> None:
    """Show, check and explain the settings.

    A flag beats the environment, then .env, then nuvom.toml or [tool.nuvom], then the default.
    """


@config.command()
def show(invocation: Invocation) -> None:
    """Show each setting, its value and where it comes from. Secrets are shown as ***."""
    root = project_root(invocation)
    loaded = load_settings(invocation, root)
    sources = {name: origins[0].source for name, origins in loaded.origins.items()}
    values = {
        name: setting.masked(getattr(loaded.settings, name)) for name, setting in SETTINGS.items()
    }
    rows: list[list[Cell | str]] = []
    for name, value in values.items():
        style = "dim" if sources[name] == "default" else "bold"
        plain = "" if value is None else str(value)
        shown = Cell(SETTINGS[name].show(value), style, plain)
        rows.append([name, shown, Cell(sources[name], style)])
    data = {
        "root": loaded.settings.root,
        "settings": values | {alias: values[name] for alias, name in ALIASES.items()},
        "sources": sources,
        "warnings": loaded.warnings,
    }
    invocation.out.answer("nuvom.config/1", data, Table(("Setting", "Value", "Source"), rows))
    invocation.out.hint(f"Project: {root}. Why a value is what it is: nuvom config explain KEY")


@config.command()
def check(invocation: Invocation) -> int:
    """Check all sources of settings without starting anything; exit 7 if one is wrong."""
    root = project_root(invocation)
    errors, warnings = problems(root)
    out = invocation.out
    if out.as_json:
        told = [nuvom_error_data(error) for error in errors]
        data = {"ok": not errors, "errors": told, "warnings": warnings}
        out.json("nuvom.config_check/1", data)
    else:
        for warning in warnings:
            out.warn(warning)
        for error in errors:
            out.error(error.what, error.fix)
        if not errors:
            out.text(f"All settings of {root} are valid.")
    return exit_codes.CHECK_FAILED if errors else exit_codes.OK


@config.command(name="explain")
@click.argument("key", shell_complete=config_keys)
def explain_(invocation: Invocation, key: str) -> None:
    """Show every place that sets KEY, and which one wins."""
    explanation = explain(load_settings(invocation, project_root(invocation)), key)
    name, rows, out = explanation.name, explanation.rows, invocation.out
    wide = max(len(row.text) for row in rows)
    lines = [
        f"  {row.source:<13} {row.text:<{wide}} {' <- used' if row.is_used else ''}".rstrip()
        for row in rows
    ]
    sources = [
        {"source": row.source, "text": None if row.text == "-" else row.text, "used": row.is_used}
        for row in rows
    ]
    data = {"key": name, "value": explanation.value, "sources": sources, "note": explanation.note}
    shown = [
        f"{name} = {explanation.value}",
        *lines,
        f"  {explanation.meaning}.",
        f"  {explanation.note}",
    ]
    out.answer("nuvom.config_key/1", data, "\n".join(shown))
