"""The rules of ``.env``: what is read, what is left to other tools, what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nuvom.config.sources import load
from nuvom.errors import InvalidConfigFile

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


def host(root: Path, text: str) -> str:
    (root / ".env").write_bytes(text.encode())
    return load(root, environ={}).settings.prometheus_host


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (" a b ", "a b"),
        ("a # why", "a"),
        ("a#b", "a#b"),
        ("'a # b' # why", "a # b"),
        ('"say \\"hi\\""', 'say "hi"'),
        ("'C:\\new'", "C:\\new"),
        ('"C:\\\\new"', "C:\\new"),
        *((text, text) for text in ("$HOME", "${NUVOM_Y}", "$(id)")),
    ],
)
@pytest.mark.parametrize("before", ["NUVOM_PROMETHEUS_HOST=", "  export NUVOM_PROMETHEUS_HOST = "])
def test_values_are_read_and_nothing_in_them_is_expanded(
    root: Path, before: str, value: str, expected: str
) -> None:
    assert expected == host(root, before + value)


@pytest.mark.parametrize(
    "text",
    [
        "\n   \n# NUVOM_PROMETHEUS_HOST=no",
        "PATH=/evil\nOTHER\nexport OTHER\nmy.app-name=1\nGREETING=it's",
        "nuvom_prometheus_host=no\nNUVOMX=1",
        'KEY="-----BEGIN\nNUVOM_PROMETHEUS_HOST=no\nend" # of key',
        "KEY='first\n\"second\nthird'",
    ],
)
def test_lines_of_other_tools_are_skipped(root: Path, text: str) -> None:
    assert "yes" == host(root, f"NUVOM_PROMETHEUS_HOST=yes\n{text}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("this is no variable", "line 3: it is not of the form NAME=value"),
        ("NUVOM_X", "line 3: NUVOM_X has no '='"),
        ("NUVOM_X='hunter2", "a quote is not closed"),
        ('OTHER="hunter2\nNUVOM_X="1"', "line 3: "),
    ],
)
def test_a_broken_line_is_named_by_its_number_and_not_shown(
    root: Path, text: str, reason: str
) -> None:
    with pytest.raises(InvalidConfigFile) as caught:
        host(root, f"# first\r\n\n{text}")

    assert caught.value.path == root / ".env"
    assert reason in caught.value.reason
    assert "hunter2" not in str(caught.value)
