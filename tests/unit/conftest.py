"""What the tests of several modules share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine import Engine, make_runtime


@pytest.fixture
def engine(project: Path) -> Iterator[Engine]:
    """Use an engine that keeps everything in memory."""
    with Engine(make_runtime(project)) as engine:
        yield engine


@pytest.fixture
def sqlite_engine(project: Path) -> Iterator[Engine]:
    """Use an engine that keeps everything in one SQLite file."""
    runtime = make_runtime(project, queue_backend="sqlite", result_backend="sqlite")
    with Engine(runtime) as engine:
        yield engine


@pytest.fixture(params=["memory", "sqlite"])
def any_engine(request: pytest.FixtureRequest) -> Engine:
    """Use an engine that keeps everything in memory, and one with a SQLite file."""
    name = "engine" if request.param == "memory" else "sqlite_engine"
    engine: Engine = request.getfixturevalue(name)
    return engine
