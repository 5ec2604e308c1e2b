"""The generated pages say what the code says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tools import reference


def test_the_pages_are_up_to_date() -> None:
    assert reference.main(["--check"]) == 0, "run: python -m tools.reference"


def test_a_stale_page_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(reference.DOCS / "configuration.md", tmp_path)
    monkeypatch.setattr(reference, "DOCS", tmp_path)
    assert reference.main(["--check"]) == 1
    assert "is stale" in capsys.readouterr().err
    assert reference.main([]) == 0
    assert reference.main(["--check"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"cli.md", "errors.md", "configuration.md"}
