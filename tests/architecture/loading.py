"""What importing costs, counted in modules and never in seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.architecture.source import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

MOST_MODULES = 60
NOT_WITH_THE_PACKAGE = (
    "asyncio",
    "click",
    "cronsim",
    "dataclasses",
    "django",
    "flask",
    "importlib.metadata",
    "inspect",
    "logging",
    "msgspec",
    "multiprocessing",
    "nuvom.compat",
    "nuvom.contrib",
    "rich",
    "sqlite3",
    "zoneinfo",
)
NOT_WITH_HELP = (
    "asyncio",
    "django",
    "flask",
    "importlib.metadata",
    "multiprocessing",
    "nuvom.compat",
    "nuvom.contrib",
    "rich",
    "sqlite3",
    "starlette",
    "textual",
)
ONE_TASK = """
import nuvom
@nuvom.task
def add(x: int, y: int) -> int:
    return x + y
"""
HELP = """
from nuvom.cli.cli import main
try:
    sys.argv = ["nuvom", "--help"]
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


def loaded_by(program: str, folder: Path) -> list[str]:
    """Return the modules that a program loads in a fresh interpreter, beyond a bare start."""
    # The list goes to a file of its own: the program may print.
    out = folder / "loaded.json"
    head = "import json, sys\nbefore = set(sys.modules)\n"
    tail = f"\nopen({str(out)!r}, 'w').write(json.dumps(sorted(set(sys.modules) - before)))\n"
    subprocess.run(
        [sys.executable, "-c", head + program + tail],
        check=True,
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )
    names: list[str] = json.loads(out.read_text())
    out.unlink()
    return names


def import_cost(
    names: Iterable[str], forbidden: Iterable[str], *, most: int | None = None
) -> Iterator[Finding]:
    """Modules that may not be loaded, and more modules than allowed."""
    loaded = list(names)
    for name in forbidden:
        if name in loaded:
            yield Finding("import-cost", name, 1, "is loaded and must not be")
    if most is not None and len(loaded) > most:
        text = f"{len(loaded)} modules, at most {most}: {', '.join(loaded)}"
        yield Finding("import-cost", "import nuvom", 1, text)
