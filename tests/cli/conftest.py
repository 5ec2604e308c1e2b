"""Projects for tests of the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.shell import TASKS, call, end_spawned


@pytest.fixture
def tasks(project: Path) -> Path:
    """Make the working directory a project with a few tasks."""
    (project / "tasks.py").write_text(TASKS, encoding="utf-8")
    return project


@pytest.fixture
def drain(tasks: Path) -> Callable[[], None]:
    """Give a function that runs a worker until nothing is left to do."""

    def run() -> None:
        answer = call("runworker", "--burst", "--quiet", cwd=tasks)
        assert answer.code == 0, answer.err

    return run


@pytest.fixture(autouse=True)
def no_editor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test open an editor or look like CI by accident."""
    for name in ("VISUAL", "EDITOR", "TERM"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Leave no process of this test alive, also when it failed."""
    yield
    end_spawned()
