"""The rules of ``.env``: what is read, what is left to other tools, what is broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuvom.config.dotenv import Entry, parse
from nuvom.errors import InvalidConfigFile

PATH = Path(".env")
PRINTABLE = st.characters(exclude_categories=("Cc", "Cs"))


def read(text: str) -> dict[str, str]:
    return {entry.variable: entry.value for entry in parse(text, PATH)}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("NUVOM_X=a", "a"),
        ("NUVOM_X = a b ", "a b"),
        ("  export NUVOM_X=a", "a"),
        ("NUVOM_X=", ""),
        ("NUVOM_X= # nothing", ""),
        ("NUVOM_X=a # why", "a"),
        ("NUVOM_X=a#b", "a#b"),
        ("NUVOM_X=#b", "#b"),
        ("NUVOM_X=a=b=c", "a=b=c"),
        ("NUVOM_X=it's", "it's"),
        ("NUVOM_X='a # b'", "a # b"),
        ("NUVOM_X='a\\'", "a\\"),
        ("NUVOM_X='a' # why", "a"),
        ('NUVOM_X="a # b"', "a # b"),
        ('NUVOM_X="say \\"hi\\""', 'say "hi"'),
        ('NUVOM_X="C:\\new\\\\table"', "C:\\new\\table"),
        ('NUVOM_X="it\'s"', "it's"),
        ('NUVOM_X=""', ""),
        ("NUVOM_X=ä ö", "ä ö"),
    ],
)
def test_values_are_read(line: str, value: str) -> None:
    assert read(line) == {"NUVOM_X": value}


@pytest.mark.parametrize("value", ["$HOME", "${NUVOM_Y}", "`id`", "$(id)", "%PATH%", "~/x"])
def test_nothing_is_expanded_and_no_command_is_run(value: str) -> None:
    assert read(f'NUVOM_X={value}\nNUVOM_Y="{value}"') == {"NUVOM_X": value, "NUVOM_Y": value}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "   ",
        "# NUVOM_X=1",
        "OTHER=1",
        "PATH=/evil",
        "export LD_PRELOAD=/evil.so",
        "PYTHONSTARTUP='x' y",
        "OTHER",
        "export OTHER",
        "my.app-name=1",
        "nuvom_max_workers=3",
        "NUVOMX=1",
        "GREETING=it's",
    ],
)
def test_lines_of_other_tools_are_skipped(line: str) -> None:
    assert read(f"{line}\nNUVOM_X=1") == {"NUVOM_X": "1"}


@pytest.mark.parametrize(
    "text",
    [
        'KEY="-----BEGIN\nNUVOM_Y=2\nend" # of key\nNUVOM_X=1',
        "KEY='first\n\"second\nthird'\nNUVOM_X=1",
        'KEY="with \\" quote\nlast"\nNUVOM_X=1',
    ],
)
def test_values_of_other_tools_may_take_several_lines(text: str) -> None:
    assert read(text) == {"NUVOM_X": "1"}


def test_entries_know_their_line_whatever_ends_it() -> None:
    assert parse("# first\r\n\r\nNUVOM_X=1\r\nNUVOM_Y=2", PATH) == [
        Entry("NUVOM_X", "1", 3),
        Entry("NUVOM_Y", "2", 4),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("this is no variable", "not of the form NAME=value"),
        ("=hunter2", "not of the form NAME=value"),
        ("1X=hunter2", "not of the form NAME=value"),
        ("N\x00U\x00V\x00", "not of the form NAME=value"),
        ("NUVOM_X", "NUVOM_X has no '='"),
        ("export NUVOM_X", "NUVOM_X has no '='"),
        ("NUVOM_X='hunter2", "not closed on this line"),
        ('NUVOM_X="hunter2\\"', "not closed on this line"),
        ('NUVOM_X="hunter2\n"', "not closed on this line"),
        ('NUVOM_X="hunter2" x', "text after the closing quote"),
        ("OTHER='hunter2", "never closed"),
        ('OTHER="hunter2\nNUVOM_X="1"', "never closed"),
    ],
)
def test_a_broken_line_is_named_by_its_number_and_not_shown(line: str, reason: str) -> None:
    with pytest.raises(InvalidConfigFile) as caught:
        parse(f"# first\n{line}", PATH)

    assert caught.value.path == PATH
    assert "line 2: " in caught.value.reason
    assert reason in caught.value.reason
    assert "hunter2" not in str(caught.value)


def test_a_long_row_of_backslashes_takes_no_long_time() -> None:
    with pytest.raises(InvalidConfigFile):
        parse('NUVOM_X="' + "\\" * 100_001, PATH)


@given(st.text() | st.text(alphabet="NUVOM_X=\"'\\ #\n\rexport"))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        entries = parse(text, PATH)
    except InvalidConfigFile as error:
        assert "line " in error.reason
    else:
        assert all(entry.variable.startswith("NUVOM_") for entry in entries)


@given(st.text(alphabet=PRINTABLE))
def test_any_value_in_double_quotes_comes_back(value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')

    assert read(f'NUVOM_X="{quoted}"') == {"NUVOM_X": value}
