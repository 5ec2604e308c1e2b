"""Generates the documentation and the JSON schema of the settings from one table.

``docs/configuration.md`` holds the generated table between two markers, and a test compares them.
Editors can validate ``nuvom.toml`` against the schema.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from nuvom.config.settings import NONE, SETTINGS, WORKER_START, show

if TYPE_CHECKING:
    from nuvom.config.settings import Setting

BEGIN = "<!-- settings: generated from nuvom/config/settings.py -->"
END = "<!-- end of settings -->"


def markdown_table() -> str:
    """Return one row for each setting: name, default, values, meaning."""
    rows = ["| Setting | Default | Values | Meaning |", "|---|---|---|---|"]
    rows += [_row(setting) for setting in SETTINGS.values()]
    return "\n".join(rows)


def with_table(page: str) -> str:
    """Return the page with an up-to-date table between its markers.

    Raises: ValueError: the page lacks a marker.
    """
    before, after = page.index(BEGIN) + len(BEGIN), page.index(END)
    return f"{page[:before]}\n{markdown_table()}\n{page[after:]}"


def _row(setting: Setting) -> str:
    default = f"`{show(setting.default)}`"
    if setting.default is None:
        default = setting.facts["absent"]
    mark = " (W)" if setting.facts["read"] == WORKER_START else ""
    return f"| `{setting.name}`{mark} | {default} | {_values(setting)} | {setting.meaning} |"


def _values(setting: Setting) -> str:
    if setting.facts["secret"]:
        return "text, secret"
    if setting.base is bool or setting.choices:
        return ", ".join(f"`{choice}`" for choice in setting.choices or ("true", "false"))
    if setting.bounds:
        return f"{setting.range(' to ')} {setting.unit}".rstrip()
    return "a backend's name" if setting.facts["kind"] == "name" else str(setting.facts["kind"])


def json_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of ``nuvom.toml``."""
    properties = {name: msgspec.json.schema(one.hint) for name, one in SETTINGS.items()}
    for name, schema in properties.items():
        if "anyOf" in schema:  # TOML has no null
            schema["anyOf"][-1] = {"const": NONE}
        else:
            schema["default"] = SETTINGS[name].default
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "nuvom.toml",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }
