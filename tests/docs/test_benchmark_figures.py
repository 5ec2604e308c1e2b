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
NAMES = {
    "Nuvom, SQLite, full": "nuvom-sqlite-full",
    "Nuvom, PostgreSQL, full": "nuvom-postgres-full",
    "Nuvom, Redis": "nuvom-redis",
}


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


def block(report: ModuleType, path: Path, name: str) -> str:
    """Return what is between the marks of a page."""
    _, inside, _ = report.between_marks(path.read_text(encoding="utf-8"), name)
    return str(inside)


def rows(block: str) -> dict[str, list[str]]:
    """Return the cells of the first table of a block, by row; the heading under ``""``."""
    table = block[block.index("\n| ") + 1 :].partition("\n\n")[0]
    lines = [line.strip("|").split("|") for line in table.splitlines()]
    return {cells[0].strip(" *"): [cell.strip() for cell in cells[1:]] for cells in lines}


def number(cell: str) -> float:
    return float(cell.replace(",", "").partition(" ")[0])


def published(block: str) -> dict[str, Any]:
    """Return what the report said, as far as its larger table still tells it."""
    table = rows(block)
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
                "title": title,
                "kind": "nuvom" if title.startswith("Nuvom,") else "peer",
                "server": title in fastest,
                "median": {"drain": number(cells[drain])}
                | ({} if cells[pick_up] == "-" else {"pick_up_ms_median": number(cells[pick_up])}),
            }
            for title, cells in table.items()
        ]
    }


def test_what_the_readme_says_in_words_is_what_the_report_gives(report: ModuleType) -> None:
    said = block(report, README, report.HEADLINE)
    assert said == report.headline(published(block(report, PAGE, report.TABLE)))


def test_what_the_readme_says_about_servers_is_what_the_report_gives(report: ModuleType) -> None:
    tables = block(report, PAGE, report.SERVERS)
    given = report.on_servers(published(tables)) if "\n| " in tables else ""
    assert block(report, README, report.SERVERS) == given


def test_a_target_names_rows_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, catalogue = (module(name, monkeypatch) for name in ("targets", "catalogue"))
    known = {one.name for rows in catalogue.GROUPS.values() for one in rows}
    known |= {targets.SERVED, targets.PEERS}
    named = {row for _, row in targets._TWO_WORKERS}
    for _, row, _, others, _ in (*targets._AT_LEAST, *targets._AT_MOST):
        named |= {row, *((others,) if isinstance(others, str) else others)}
    assert named - known == set()
