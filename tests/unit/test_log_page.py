"""What docs/logging.md says is what happens."""

from __future__ import annotations

import re
from pathlib import Path

from nuvom.logs import events as log_events
from nuvom.logs.formats import FORMATS, SCHEMA

PAGE = (Path(__file__).parents[2] / "docs" / "logging.md").read_text(encoding="utf-8")


def test_page_names_every_event_that_is_written() -> None:
    package = Path(log_events.__file__).parent.parent
    sources = {path: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    bus = sources[package / "logs" / "events.py"]
    written = set(re.findall(r'"((?:job|hook|worker|backend|plugin|schedule)\.\w+)"', bus))
    for source in sources.values():
        written |= set(re.findall(r'"event": "(\w+\.\w+)"', source))
        written |= set(re.findall(r'log(?:_event)?\(\s*_LOG,\s*[\w.]+,\s*"(\w+\.\w+)"', source))
    table = PAGE.partition("| event | level |")[2].partition("\n\n")[0]

    assert written == set(re.findall(r"`([\w.]+\.\w+)`", table))


def test_page_names_formats_schema_and_figures() -> None:
    for fmt in FORMATS:
        assert f"`{fmt}`" in PAGE
    assert f"`{SCHEMA}`" in PAGE
    assert f"the first {log_events._SUCCESS_LINES} successes of a second" in PAGE
    assert f"the first {log_events._FAILURE_LINES} of a second" in PAGE
