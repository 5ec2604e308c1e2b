"""The settings as documentation and as a schema."""

from __future__ import annotations

from pathlib import Path

import pytest

from nuvom.config.reference import BEGIN, END, json_schema, markdown_table, with_table
from nuvom.config.settings import SETTINGS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"


def test_the_table_in_the_documentation_is_the_table_in_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert with_table(page) == page, "renew docs/configuration.md with config_reference.with_table"


def test_the_table_has_one_row_for_each_setting() -> None:
    rows = markdown_table().splitlines()

    assert len(rows) == len(SETTINGS) + 2
    assert all(row.count("|") == 5 for row in rows)
    assert "| `max_workers` (W) | `4` | 1 to 1024 | Threads of a worker |" in rows
    assert "| `batch_size` (W) | adaptive | 1 to 100000 | Most jobs claimed at once |" in rows


def test_only_what_is_between_the_markers_is_renewed() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"

    assert with_table(page) == f"before\n{BEGIN}\n{markdown_table()}\n{END}\nafter\n"


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="not found"):
        with_table("a page")


def test_the_schema_tells_type_range_choices_and_default() -> None:
    schema = json_schema()

    assert schema["additionalProperties"] is False
    assert {*SETTINGS} == {*schema["properties"]}
    assert schema["properties"]["max_workers"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 1024,
        "description": "Threads of a worker",
        "default": 4,
    }
    assert schema["properties"]["durability"]["enum"] == ["full", "normal"]
    assert schema["properties"]["allow_network_fs"]["type"] == "boolean"
    assert schema["properties"]["batch_size"]["anyOf"][1] == {"const": "none"}
    assert "default" not in schema["properties"]["batch_size"]
