"""Dramatiq on Redis, results included."""

from __future__ import annotations

import sys
from typing import Any

import body
import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends.redis import RedisBackend

from peers.redis_store import CLIENT, JOBS_URL, RESULTS_URL, RedisAdapter

broker = RedisBroker(url=JOBS_URL)
broker.add_middleware(Results(backend=RedisBackend(url=RESULTS_URL)))
dramatiq.set_broker(broker)

noop = dramatiq.actor(store_results=True)(body.noop)
mark = dramatiq.actor(store_results=True)(body.mark)


class adapter(RedisAdapter):  # noqa: N801  # the name that probe.py looks for
    """One process; of 1, 2, 8 and 16 threads, 16 were the fastest."""

    packages = ("dramatiq", *CLIENT)
    worker_text = "dramatiq --processes 1 --threads 16"

    def worker(self) -> list[str]:
        command = [sys.executable, "-m", "dramatiq", "peers.dramatiq_redis"]
        return [*command, "--processes", "1", "--threads", "16", "--skip-logging"]

    def call(self, number: int) -> Any:  # noqa: ANN401  # a message
        return noop.send(number)

    def mark(self, place: int, pause_secs: float = 0.0) -> Any:  # noqa: ANN401  # a message
        return mark.send(place, pause_secs)

    def wait(self, handle: Any, limit_secs: float) -> Any:  # noqa: ANN401  # a message
        return handle.get_result(block=True, timeout=int(limit_secs * 1000))
