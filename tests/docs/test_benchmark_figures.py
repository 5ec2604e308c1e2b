"""The figures in the pages are those of one report: its tables, and what is said in words."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
README, PAGE = (ROOT / name for name in ("README.md", "docs/performance.md"))
NAMES = {"Nuvom, SQLite, full": "nuvom-sqlite-full"}


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a module of the benchmarks, whose folder is no package."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for one in ("catalogue", "report", "targets"):
        monkeypatch.delitem(sys.modules, one, raising=False)
    return import_module(name)


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Give the module that writes the figures."""
    return module("report", monkeypatch)


def rows(report: ModuleType, path: Path) -> dict[str, list[str]]:
    """Return the cells of the first table between the marks, by row; the heading under ``""``."""
    _, block, _ = report.between_marks(path.read_text(encoding="utf-8"), report.TABLE)
    table = block[block.index("\n| ") + 1 :].partition("\n\n")[0]
    lines = [line.strip("|").split("|") for line in table.splitlines()]
    return {cells[0].strip(" *"): [cell.strip() for cell in cells[1:]] for cells in lines}


def number(cell: str) -> float:
    return float(cell.replace(",", "").partition(" ")[0])


def published(report: ModuleType) -> dict[str, Any]:
    """Return what the report said, as far as its larger table still tells it."""
    table = rows(report, PAGE)
    heads = table.pop("")
    del table[next(name for name in table if not name.strip("-"))]
    ratio, drain, pick_up = (
        heads.index(name) for name in ("of the fastest with a server", "Drain", "Pick-up, ms (p95)")
    )
    fastest = [name for name, cells in table.items() if cells[ratio] == "1"]
    return {
        "peers": [
            {
                "name": NAMES.get(title, title),
                "server": title in fastest,
                "median": {"drain": number(cells[drain])}
                | ({} if cells[pick_up] == "-" else {"pick_up_ms_median": number(cells[pick_up])}),
            }
            for title, cells in table.items()
        ]
    }


def test_what_the_readme_says_in_words_is_what_the_report_gives(report: ModuleType) -> None:
    _, said, _ = report.between_marks(README.read_text(encoding="utf-8"), report.HEADLINE)
    assert said == report.headline(published(report))
