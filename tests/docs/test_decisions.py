"""Decision records keep their form, and the contract's record covers the contract."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from nuvom.queue_backends.base import BaseJobQueue
from nuvom.queue_backends.leased import LeasedJobQueue
from tests.docs.snippets import ROOT

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = ROOT / "docs" / "decisions"
RECORDS = sorted(FOLDER.glob("*.md"))
MOST_LINES = 60
OWN_AFFAIRS = {"start", "stop", "own_id"}  # connections and threads of the process itself


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.name)
def test_record_has_its_four_parts_and_is_short(record: Path) -> None:
    text = record.read_text(encoding="utf-8")
    assert re.match(rf"# {record.name[:4]} \S", text)
    assert ["Context", "Decision", "Consequences", "Rejected"] == re.findall(
        r"^## (.*)$", text, re.MULTILINE
    )
    assert len(text.splitlines()) <= MOST_LINES


def test_no_number_is_used_twice() -> None:
    numbers = [record.name[:4] for record in RECORDS]
    assert len(numbers) == len(set(numbers))


def test_each_method_of_the_contract_is_shown_for_both_servers() -> None:
    text = (FOLDER / "0002-five-methods-and-capabilities.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    assert all(len(row) == 3 and all(cell.strip(" |") for cell in row) for row in rows)
    shown = {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    contract = {
        name
        for cls in (BaseJobQueue, LeasedJobQueue)
        for name, value in vars(cls).items()
        if not name.startswith("_") and (callable(value) or isinstance(value, property))
    }
    assert contract - OWN_AFFAIRS == shown
