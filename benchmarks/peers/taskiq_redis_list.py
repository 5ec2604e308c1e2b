"""Taskiq with its list broker and its result backend, both on Redis."""

from __future__ import annotations

import asyncio
from typing import Any

import body
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from peers.base import Adapter, program
from peers.redis_store import DURABILITY, JOBS_URL, RESULTS_URL, RedisStore

broker = ListQueueBroker(JOBS_URL).with_result_backend(RedisAsyncResultBackend(RESULTS_URL))


@broker.task
async def noop(number: int) -> int:
    """Return the argument."""
    return number


@broker.task
async def mark(place: int, pause_secs: float) -> int:
    """Write down the time."""
    if pause_secs:
        await asyncio.sleep(pause_secs)
    return body.mark(place)


class adapter(Adapter):  # noqa: N801  # the name that probe.py looks for
    """Everything is asynchronous: single calls are awaited one after the other."""

    packages = ("taskiq", "taskiq-redis", "redis", "hiredis")
    durability = DURABILITY
    worker_text = "taskiq worker --workers 1 --no-parse --max-prefetch 100"

    def open(self) -> None:
        self.store = RedisStore()
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(broker.startup())

    def clear(self) -> None:
        self.store.clear()

    def close(self) -> None:
        self.loop.run_until_complete(broker.shutdown())
        self.store.clear()

    def worker(self) -> list[str]:
        fixed = ["--workers", "1", "--no-parse", "--max-prefetch", "100", "--log-level", "ERROR"]
        return [program("taskiq"), "worker", "peers.taskiq_redis_list:broker", *fixed]

    def call(self, number: int) -> Any:  # noqa: ANN401  # a task
        return self.loop.run_until_complete(noop.kiq(number))

    def calls(self, count: int) -> None:
        async def all_of_them() -> None:
            for number in range(count):
                await noop.kiq(number)

        self.loop.run_until_complete(all_of_them())

    def mark(self, place: int, pause_secs: float = 0.0) -> Any:  # noqa: ANN401  # a task
        return self.loop.run_until_complete(mark.kiq(place, pause_secs))

    def wait(self, handle: Any, limit_secs: float) -> Any:  # noqa: ANN401  # a task
        waiting = handle.wait_result(check_interval=0.001, timeout=limit_secs)
        return self.loop.run_until_complete(waiting).return_value

    def finished(self) -> int:
        return self.store.result_keys()
