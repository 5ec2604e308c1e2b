"""Projects on disk for the tests of discovery, and a clock that runs ahead of their files."""

from __future__ import annotations

import textwrap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.discovery.entries import Problem, TaskEntry
from nuvom.discovery.scan import scan

TASK = "from nuvom import task\n\n@task\ndef add(x: int, y: int) -> int:\n    return x + y\n"


class LaterClock(Clock):
    """A minute ahead: all files are old enough to be remembered."""

    def now(self) -> float:
        return SYSTEM_CLOCK.now() + 60


LATER = LaterClock()


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    """Write files given by their relative paths; text is dedented."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else textwrap.dedent(content).encode()
        path.write_bytes(data)
    return root


class Parsed(NamedTuple):
    """What a module of its own defines."""

    tasks: tuple[TaskEntry, ...]
    problems: tuple[Problem, ...]


def parse(source: bytes) -> Parsed:
    """Return the tasks and problems of one module, which is all there is of its project."""
    with TemporaryDirectory() as folder:
        Path(folder, "only.py").write_bytes(source)
        found = scan(folder, use_cache=False)
    return Parsed(found.tasks, found.problems)
