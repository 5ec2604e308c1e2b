"""The generated pages say what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from nuvom import errors
from tests.cli.test_frame import ALL
from tools import reference
from tools.reference import errors_page


def test_the_pages_are_up_to_date() -> None:
    assert reference.main(["--check"]) == 0, "run: python -m tools.reference"


def test_every_command_is_on_the_page() -> None:
    page = reference.page()
    for path in ALL:
        assert f" nuvom {' '.join(path)}\n" in page


def test_every_error_has_a_section_with_an_anchor() -> None:
    page = errors_page()
    for name in vars(errors):
        if isinstance(getattr(errors, name), type) and issubclass(getattr(errors, name), Exception):
            assert f"## {name}\n" in page
            assert f"(#{name.lower()})" in page


def test_a_stale_page_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reference, "DOCS", tmp_path)
    assert reference.main(["--check"]) == 1
    assert "is stale" in capsys.readouterr().err
    assert reference.main([]) == 0
    assert reference.main(["--check"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"cli.md", "errors.md"}
