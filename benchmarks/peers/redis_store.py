"""The two Redis databases that all Redis peers share, one after the other."""

from __future__ import annotations

import asyncio
from typing import Any

import redis

from peers.base import JOBS_DB, REDIS, RESULTS_DB, Adapter

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


class AsyncRedisAdapter(RedisAdapter):
    """A peer whose calls are coroutines: single calls are awaited one after the other."""

    def open(self) -> None:
        super().open()
        self.run = asyncio.new_event_loop().run_until_complete

    def send(self, number: int) -> Any:  # noqa: ANN401  # a coroutine
        """Return the call that stores one no-op job."""
        raise NotImplementedError

    def call(self, number: int) -> Any:  # noqa: ANN401  # each peer has a handle of its own
        self.sent += 1
        return self.run(self.send(number))

    def calls(self, count: int) -> None:
        async def all_of_them() -> None:
            for number in range(count):
                await self.send(number)

        self.sent += count
        self.run(all_of_them())
