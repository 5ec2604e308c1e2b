"""An engine whose schedules follow a clock that tests move, and what proofs share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.testing.clock import FakeClock
from tests.engine import Engine, make_runtime, with_backends
from tests.reliability.conftest import figures, seed

__all__ = ["figures", "seed"]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def timed(project: Path, clock: FakeClock) -> Iterator[Engine]:
    """Use an engine in memory whose time is ``clock``."""
    runtime = make_runtime(project, clock=clock)
    with Engine(with_backends(runtime, MemoryJobQueue(clock=clock))) as engine:
        yield engine


@pytest.fixture
def add(timed: Engine) -> Any:
    @timed.task
    def add(x: int, y: int) -> int:
        return x + y

    return add
