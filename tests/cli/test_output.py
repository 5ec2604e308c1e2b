"""Text, tables and JSON: what is shown is harmless, fits, and means what was stored."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from nuvom.cli.output import Cell, Stream, Table, clean, quoted
from nuvom.inspection.formats import ago, duration, jsonable
from tests.cli.shell import stream

# ---- text -------------------------------------------------------------------------------


@given(st.text())
def test_cleaned_text_holds_no_control_character_but_line_ends(text: str) -> None:
    cleaned = clean(text)
    assert all(char == "\n" or char.isprintable() or ord(char) > 0x9F for char in cleaned)
    assert "\x1b" not in cleaned
    cleaned.encode()  # no half of a pair is left


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("a\u202eb\u2066c\u200fd", "abcd"),
        ("a\rb\x00c\x7f", "abc"),
        ("one\ttwo", "one two"),
        ("half \ud83d", "half "),
    ],
)
def test_escape_sequences_and_overrides_are_taken_out(text: str, shown: str) -> None:
    assert shown == clean(text)


@pytest.mark.parametrize(
    ("secs", "text"),
    [
        (0, "0 s"),
        (0.0004, "<1 ms"),
        (0.85, "850 ms"),
        (3.25, "3.2 s"),
        (14.4, "14 s"),
        (185, "3 min 5 s"),
        (7200, "2 h"),
        (187_200, "2 d 4 h"),
    ],
)
def test_durations_are_said_as_people_say_them(secs: float, text: str) -> None:
    assert text == duration(secs)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (None, "-"),
        (1000.0, "now"),
        (880.0, "2 min ago"),
        (1014.0, "in 14 s"),
        (1000.0 + 172_800, "in 2 d"),
    ],
)
def test_moments_are_told_from_now(moment: float | None, text: str) -> None:
    assert text == ago(moment, 1000.0)


@pytest.mark.skipif(sys.platform == "win32", reason="quotes of POSIX shells")
def test_paths_can_be_pasted_back() -> None:
    assert quoted(Path("/tmp/a.py")) == "/tmp/a.py"
    assert quoted("/tmp/my files/ä.py") == "'/tmp/my files/ä.py'"
    assert quoted("it's") == "'it'\"'\"'s'"


# ---- tables -----------------------------------------------------------------------------

COLUMNS = ("ID", "Task", "N")


def rows_of(
    rows: list[list[Cell | str]], *, encoding: str = "utf-8", color: str = "never"
) -> list[str]:
    table = Table(COLUMNS, rows, right=("N",))
    return table.fitted_lines(Stream(stream(encoding, terminal=True), color))


def test_a_table_has_a_heading_a_rule_and_aligned_columns() -> None:
    assert rows_of([["1", "tasks.add", "5"], ["22", "x", "10"]]) == [
        "ID  Task        N",
        "─────────────────",
        "1   tasks.add   5",
        "22  x          10",
    ]


@given(st.lists(st.tuples(st.text(), st.text(), st.text()), max_size=5))
def test_a_table_fits_eighty_columns_whatever_is_in_it(rows: list[tuple[str, str, str]]) -> None:
    lines = rows_of([list(row) for row in rows])
    assert all(cell_len(line) <= 80 for line in lines)
    assert len(lines) == len(rows) + 2


def test_a_table_for_a_pipe_is_not_cut() -> None:
    wide = "x" * 200
    lines = Table(COLUMNS, [["1", wide, "5"]], folded=("Task",)).fitted_lines(Stream(stream()))
    assert 3 == len(lines)
    assert lines[2].split() == ["1", wide, "5"]


def test_plain_tables_are_tab_separated_whole_and_one_line_each() -> None:
    rows: list[list[Cell | str]] = [
        [Cell("12345678", "red", "whole-12345678"), "a\tb\nc" + "x" * 100]
    ]
    table = Table(("Job ID", "Text"), rows)
    assert list(table.plain_lines()) == ["job_id\ttext", "whole-12345678\ta b c" + "x" * 100]


# ---- colour -----------------------------------------------------------------------------


def has_color(
    color: str = "auto", *, terminal: bool = True, environ: Mapping[str, str] | None = None
) -> bool:
    return Stream(stream(terminal=terminal), color, environ or {}).has_color


@pytest.mark.skipif(sys.platform == "win32", reason="no console in a test")
def test_the_flag_beats_the_environment_and_that_beats_the_terminal() -> None:
    assert has_color()
    assert not has_color(terminal=False)
    assert not has_color(environ={"NO_COLOR": "1"})
    assert has_color(environ={"NO_COLOR": ""})
    assert not has_color(environ={"TERM": "dumb"})
    assert has_color(terminal=False, environ={"FORCE_COLOR": "1"})
    assert has_color(terminal=False, environ={"CLICOLOR_FORCE": "1"})
    assert not has_color(terminal=False, environ={"FORCE_COLOR": "0"})
    assert not has_color(environ={"NO_COLOR": "1", "FORCE_COLOR": "1"})
    assert has_color("always", terminal=False, environ={"NO_COLOR": "1"})
    assert not has_color("never", environ={"FORCE_COLOR": "1"})


# ---- JSON -------------------------------------------------------------------------------


def test_every_storable_value_has_a_form_in_json() -> None:
    data: dict[Any, object] = {
        "deep": [{"large": -(2**60)}, (2**53, 2**60)],
        "nan": float("nan"),
        "bytes": b"\x00\xff",
        "moment": datetime(2025, 1, 2, 3, 4, tzinfo=UTC),
        "span": timedelta(minutes=1),
        "decimal": Decimal("1.50"),
        "set": {2, 1},
        "half": "\ud800",
        3: "key",
    }
    assert jsonable(data) == {
        "deep": [{"large_str": str(-(2**60))}, [2**53, str(2**60)]],
        "nan": "nan",
        "bytes": "AP8=",
        "moment": "2025-01-02T03:04:00+00:00",
        "span": 60.0,
        "decimal": "1.50",
        "set": [1, 2],
        "half": "?",
        "3": "key",
    }


@settings(max_examples=50)
@given(
    st.recursive(
        st.none() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_json_never_fails_and_never_holds_a_number_that_readers_would_round(value: object) -> None:
    def exact(text: str) -> int:
        assert abs(int(text)) <= 2**53
        return int(text)

    json.loads(json.dumps(jsonable({"value": value}), allow_nan=False), parse_int=exact)
