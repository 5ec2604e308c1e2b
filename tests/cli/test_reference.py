"""The generated pages say what the code says."""

from __future__ import annotations

from tools import reference


def test_the_pages_are_up_to_date() -> None:
    assert reference.main(["--check"]) == 0, "run: python -m tools.reference"
