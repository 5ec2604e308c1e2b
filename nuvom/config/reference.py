"""The settings as documentation and as a JSON schema, made from the one table.

``docs/configuration.md`` holds the table between two markers; ``dev.py`` renews it and a test
compares. Editors check ``nuvom.toml`` with the schema.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuvom.config.setting import WORKER_START, show
from nuvom.config.settings import SETTINGS

if TYPE_CHECKING:
    from nuvom.config.setting import Setting

BEGIN = "<!-- settings: generated from nuvom/config/settings.py -->"
END = "<!-- end of settings -->"

_JSON_TYPES = {"flag": "boolean", "whole": "integer", "number": "number"}


def markdown_table() -> str:
    """Return one row for each setting: name, default, values, meaning."""
    rows = ["| Setting | Default | Values | Meaning |", "|---|---|---|---|"]
    rows += [_row(setting) for setting in SETTINGS.values()]
    return "\n".join(rows)


def with_table(page: str) -> str:
    """Return the page with the table between its markers renewed.

    Raises: ValueError: the page lacks a marker.
    """
    before, after = page.index(BEGIN) + len(BEGIN), page.index(END)
    return f"{page[:before]}\n{markdown_table()}\n{page[after:]}"


def _row(setting: Setting) -> str:
    about = setting.about
    default = f"`{show(setting.default)}`"
    if setting.default is None:
        default = about.absent
    mark = " (W)" if about.read == WORKER_START else ""
    return f"| `{setting.name}`{mark} | {default} | {_values(setting)} | {about.meaning} |"


def _values(setting: Setting) -> str:
    about = setting.about
    if about.form == "choice":
        return ", ".join(f"`{choice}`" for choice in about.choices)
    if about.form in ("whole", "number"):
        unit = f" {about.unit}" if about.unit else ""
        return f"{show(about.low)} to {show(about.high)}{unit}"
    return "text, secret" if about.secret else _FORMS[about.form]


_FORMS = {"flag": "`true`, `false`", "name": "a backend's name", "path": "path", "text": "text"}


def json_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of ``nuvom.toml``."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "nuvom.toml",
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _schema(setting) for name, setting in SETTINGS.items()},
    }


def _schema(setting: Setting) -> dict[str, Any]:
    about = setting.about
    schema: dict[str, Any] = {"type": _JSON_TYPES.get(about.form, "string")}
    if about.form in ("whole", "number"):
        schema |= {"minimum": about.low, "maximum": about.high}
    elif about.form == "choice":
        schema["enum"] = list(about.choices)
    if setting.optional:
        schema = {"anyOf": [schema, {"const": "none"}]}
    schema["description"] = about.meaning
    if setting.default is not None:
        schema["default"] = setting.default
    return schema
