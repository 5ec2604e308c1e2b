"""The two Redis databases that all Redis peers share, one after the other."""

from __future__ import annotations

from typing import Any

import redis

from peers.base import JOBS_DB, REDIS, RESULTS_DB, Adapter, AsyncAdapter

JOBS_URL = f"{REDIS}/{JOBS_DB}"
RESULTS_URL = f"{REDIS}/{RESULTS_DB}"
CLIENT = ("redis", "hiredis")


class RedisAdapter(Adapter):
    """A peer that keeps its jobs in the first database, and one key for each result in the second.

    Attributes:
        jobs, results: Clients of the two.
    """

    durability = "none by itself: as the server is set"

    def open(self) -> None:
        self.jobs: Any = redis.Redis.from_url(JOBS_URL)
        self.results: Any = redis.Redis.from_url(RESULTS_URL)

    def clear(self) -> None:
        self.jobs.flushdb()
        self.results.flushdb()
        self.sent = 0

    def close(self) -> None:
        RedisAdapter.clear(self)

    def finished(self) -> int:
        return int(self.results.dbsize())


class AsyncRedisAdapter(AsyncAdapter, RedisAdapter):
    """A peer on Redis whose calls are coroutines."""
