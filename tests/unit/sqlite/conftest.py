"""A SQLite queue on a clock that is moved by hand, and what looks into its file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nuvom.config import Settings
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.testing import FakeClock


class Real(FakeClock):
    """A clock whose short naps pass by themselves: those between two tries at a locked file."""

    def sleep(self, secs: float) -> None:
        self.advance(secs)


@pytest.fixture
def clock() -> Real:
    return Real()


def make_queue(root: Path, clock: FakeClock, **settings: Any) -> SQLiteJobQueue:
    return SQLiteJobQueue(Settings(root=root, **settings), clock=clock)


@pytest.fixture
def queue(project: Path, clock: Real) -> Iterator[SQLiteJobQueue]:
    queue = make_queue(project, clock)
    yield queue
    queue.stop()
