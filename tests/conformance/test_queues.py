"""Holds every queue that comes with Nuvom, and a toy, to the laws of queues."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from nuvom.clock import SYSTEM_CLOCK, Clock
from nuvom.config import Settings
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.testing.conformance import QueueConformance
from tests.conformance.list_queue import ListQueue
from tests.conformance.stores import StoredQueueConformance


def at_length(cls: type) -> type:
    """Leave a class to the slow tier, and its random histories the time they need."""
    return pytest.mark.slow(pytest.mark.timeout(900)(cls))


class TestMemory(QueueConformance):
    def make(self, tmp_path: Path, clock: Clock = SYSTEM_CLOCK, **settings: Any) -> MemoryJobQueue:
        return MemoryJobQueue(Settings(root=tmp_path, **settings), clock=clock)


class TestFile(StoredQueueConformance):
    backend: ClassVar[str] = "file"


class TestSQLite(StoredQueueConformance):
    backend: ClassVar[str] = "sqlite"


class TestFiveMethods(QueueConformance):
    def make(self, tmp_path: Path, **settings: Any) -> ListQueue:
        return ListQueue()


@at_length
class TestMemoryAtLength(TestMemory):
    examples = 1000
    steps = 50
    race_jobs = 10_000


@at_length
class TestFileAtLength(TestFile):
    examples = 1000
    steps = 50
    race_jobs = 10_000


@at_length
class TestSQLiteAtLength(TestSQLite):
    examples = 1000
    steps = 50
    race_jobs = 10_000


@pytest.mark.slow  # each lease that ends takes half a second
class TestMemoryInRealTime(QueueConformance):
    """The same without a clock to move, as a backend is tested whose time is a server's."""

    def make(self, tmp_path: Path, **settings: Any) -> MemoryJobQueue:
        return MemoryJobQueue(Settings(root=tmp_path, **settings))
