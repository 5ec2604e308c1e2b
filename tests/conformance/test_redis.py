"""Holds the Redis backends to the laws of the kit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nuvom.config.settings import Settings
from nuvom.core.clock import Clock
from nuvom.testing.conformance import QueueConformance, ResultConformance
from tests.lab.servers import REDIS, drop_prefixes, need_redis, new_prefix
from tests.lab.stores import LabLaws

if TYPE_CHECKING:
    from nuvom.contrib.redis import RedisJobQueue, RedisResultBackend

pytestmark = [
    pytest.mark.timeout(600),
    # A connection that was just opened when an exception came is closed when forgotten.
    pytest.mark.filterwarnings("ignore:.*unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _server() -> None:
    need_redis()


def open_queue(root: str, settings: dict[str, Any], clock: Clock | None = None) -> RedisJobQueue:
    """Open a store; a process that a law starts calls this."""
    from nuvom.contrib.redis import RedisJobQueue  # needs redis

    return RedisJobQueue(Settings(root=Path(root), **settings), clock=clock)


class InPrefixes:
    """Makes each store under a prefix of its own, and removes them all."""

    prefixes: list[str]

    @pytest.fixture(autouse=True)
    def _prefixes(self) -> Iterator[None]:
        self.prefixes = []
        yield
        drop_prefixes(*self.prefixes)

    def new_settings(self, tmp_path: Path, settings: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        self.prefixes.append(new_prefix())
        place = {"redis_url": REDIS, "redis_prefix": self.prefixes[-1]}  # also for other processes
        return str(tmp_path), {**settings, **place}


class TestRedis(InPrefixes, QueueConformance):
    def make(self, tmp_path: Path, clock: Clock | None = None, **settings: Any) -> RedisJobQueue:
        self.opened = self.new_settings(tmp_path, settings)
        self.clock = clock
        return self.reopen()

    def reopen(self, queue: object = None) -> RedisJobQueue:
        return open_queue(*self.opened, clock=self.clock)

    def process_factory(self, queue: object) -> Callable[[], RedisJobQueue]:
        return partial(open_queue, *self.opened)


@pytest.mark.slow
class TestRedisInTheLab(LabLaws, TestRedis):
    points_step = pauses_step = 100  # its calls have more points, and each a round trip
    crowd_calls = 100


class TestRedisResults(InPrefixes, ResultConformance):
    def make(self, tmp_path: Path, **settings: Any) -> RedisResultBackend:
        self.opened = self.new_settings(tmp_path, settings)
        return self.reopen()

    def reopen(self, backend: object = None) -> RedisResultBackend:
        from nuvom.contrib.redis import RedisResultBackend  # needs redis

        root, given = self.opened
        return RedisResultBackend(Settings(root=Path(root), **given))

    def queue_beside(self, backend: object = None) -> RedisJobQueue:
        return open_queue(*self.opened)


class TestRedisBesideItsQueue(TestRedisResults):
    """The same laws for a backend that joined a queue."""

    def make(self, tmp_path: Path, **settings: Any) -> RedisResultBackend:
        backend = super().make(tmp_path)
        assert backend.joins(self.queue_beside())
        return backend
