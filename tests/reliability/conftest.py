"""What the proofs of the delivery promises share: seeds to replay, and figures to show.

The figures of a run are printed at its end, also when everything passed: a promise is proved by
what was counted, not by a green dot.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine import Engine, make_runtime

_FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return what keeps a line for the end of the run."""
    lines = request.config.stash.setdefault(_FIGURES, [])

    def keep(line: str) -> None:
        lines.append(f"{request.node.name}: {line}")
        print(line)

    return keep


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Return another seed in each run, and say how to run this test with the same one again."""
    given = os.environ.get("TEST_SEED")
    seed = int(given) if given else int.from_bytes(os.urandom(3), "big")
    print(f"to replay: TEST_SEED={seed} python3 dev.py test '{request.node.nodeid}'")
    return seed


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    lines = config.stash.get(_FIGURES, [])
    if lines:
        terminalreporter.section("figures of the delivery promises")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def engine(project: Path) -> Iterator[Engine]:
    """Use an engine on one SQLite file."""
    with Engine(make_runtime(project, queue_backend="sqlite", result_backend="sqlite")) as engine:
        yield engine


@pytest.fixture(params=["memory", "file", "sqlite"])
def any_engine(project: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Use an engine on each built-in backend in turn."""
    runtime = make_runtime(project, queue_backend=request.param, result_backend=request.param)
    with Engine(runtime) as engine:
        yield engine
