"""Holds every queue that comes with Nuvom, and a toy, to the laws of queues."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from nuvom.config.settings import Settings
from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.queue_backends.memory import MemoryJobQueue
from tests.conformance.list_queue import ListQueue
from tests.conformance.stores import StoredQueueConformance
from tests.lab.stores import StoreConformance

# Some laws try hundreds of points; a busy machine may take minutes for what takes seconds.
pytestmark = pytest.mark.timeout(600)

# The laws that ``race_jobs``, ``points_step``, ``pauses_step`` and ``crowd_calls`` make longer.
OF_ANY_LENGTH = {
    "test_threads_never_share_a_job",
    "test_processes_never_share_a_job",
    "test_an_interrupted_call_leaves_nothing_behind",
    "test_calls_at_once_are_as_one_after_the_other",
    "test_calls_of_two_instances_are_as_one_after_the_other",
    "test_a_crowd_loses_and_doubles_nothing",
}


def at_length(cls: type) -> type:
    """Leave a class to the slow tier, with the laws that are longer there and time for them."""
    for name in dir(cls):
        if name.startswith("test_") and name not in OF_ANY_LENGTH:
            setattr(cls, name, None)
    return pytest.mark.slow(pytest.mark.timeout(900)(cls))


def test_laws_of_any_length_are_laws() -> None:
    assert OF_ANY_LENGTH <= {
        name for name in dir(TestMemory) if callable(getattr(TestMemory, name))
    }


class TestMemory(StoreConformance):
    crowd_calls = 2000  # it is so much faster than the others

    def make(self, tmp_path: Path, clock: Clock = SYSTEM_CLOCK, **settings: Any) -> MemoryJobQueue:
        return MemoryJobQueue(Settings(root=tmp_path, **settings), clock=clock)


class TestFile(StoredQueueConformance):
    backend: ClassVar[str] = "file"
    points_step = pauses_step = 48  # its calls have more than twice as many points


class TestSQLite(StoredQueueConformance):
    backend: ClassVar[str] = "sqlite"


class TestFiveMethods(StoreConformance):
    def make(self, tmp_path: Path, **settings: Any) -> ListQueue:
        return ListQueue()


@at_length
class TestMemoryAtLength(TestMemory):
    race_jobs = 10_000
    points_step = 1
    pauses_step = 1
    crowd_calls = 20_000


@at_length
class TestFileAtLength(TestFile):
    race_jobs = 10_000
    points_step = 3  # all of them would take longer than a quarter of an hour beside other tests
    pauses_step = 1
    crowd_calls = 5_000


@at_length
class TestSQLiteAtLength(TestSQLite):
    race_jobs = 10_000
    points_step = 1
    pauses_step = 1
    crowd_calls = 5_000


@pytest.mark.slow  # each lease that ends takes half a second
class TestMemoryInRealTime(StoreConformance):
    """The same without a clock to move, as a backend is tested whose time is a server's."""

    def make(self, tmp_path: Path, **settings: Any) -> MemoryJobQueue:
        return MemoryJobQueue(Settings(root=tmp_path, **settings))
