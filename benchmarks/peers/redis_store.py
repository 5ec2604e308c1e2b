"""The two Redis databases that all Redis peers share, one after the other."""

from __future__ import annotations

from typing import Any

import redis

from peers.base import JOBS_DB, REDIS, RESULTS_DB

JOBS_URL = f"{REDIS}/{JOBS_DB}"
RESULTS_URL = f"{REDIS}/{RESULTS_DB}"
DURABILITY = "none by itself: as the server is set"


class RedisStore:
    """Counts and empties them."""

    def __init__(self) -> None:
        self.jobs: Any = redis.Redis.from_url(JOBS_URL)
        self.results: Any = redis.Redis.from_url(RESULTS_URL)

    def clear(self) -> None:
        """Empty both."""
        self.jobs.flushdb()
        self.results.flushdb()

    def result_keys(self) -> int:
        """Return how many keys the database of results holds."""
        return int(self.results.dbsize())
