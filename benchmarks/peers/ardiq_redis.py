"""ardiq (Rust core) on Redis."""

from __future__ import annotations

import asyncio
import platform
from typing import Any

import body
from ardiq import Ardiq

from peers.base import Adapter, program
from peers.redis_store import DURABILITY, JOBS_URL, RedisStore

app = Ardiq(redis_url=JOBS_URL, queue_name="bench", concurrency=200)


@app.task
async def noop(number: int) -> int:
    """Return the argument."""
    return number


@app.task
async def mark(place: int, pause_secs: float) -> int:
    """Write down the time."""
    if pause_secs:
        await asyncio.sleep(pause_secs)
    return body.mark(place)


class adapter(Adapter):  # noqa: N801  # the name that probe.py looks for
    """Everything is asynchronous: single calls are awaited one after the other.

    Of a concurrency of 16, 50, 100, 200 and 500, 200 was the fastest.
    """

    packages = ("ardiq", "redis", "hiredis")
    durability = DURABILITY
    worker_text = "ardiq run, concurrency 200"
    has_bulk = True

    def open(self) -> None:
        self.store = RedisStore()
        self.loop = asyncio.new_event_loop()

    def clear(self) -> None:
        self.store.clear()

    def close(self) -> None:
        self.store.clear()

    def worker(self) -> list[str]:
        return [program("ardiq"), "run", "peers.ardiq_redis:app", "--quiet"]

    def call(self, number: int) -> Any:  # noqa: ANN401  # its handle
        return self.loop.run_until_complete(noop.enqueue(number))

    def calls(self, count: int) -> None:
        async def all_of_them() -> None:
            for number in range(count):
                await noop.enqueue(number)

        self.loop.run_until_complete(all_of_them())

    def bulk(self, count: int) -> None:
        many = app.enqueue_many(noop.prepare(number) for number in range(count))
        self.loop.run_until_complete(many)

    def mark(self, place: int, pause_secs: float = 0.0) -> Any:  # noqa: ANN401  # its handle
        return self.loop.run_until_complete(mark.enqueue(place, pause_secs))

    def wait(self, handle: Any, limit_secs: float) -> Any:  # noqa: ANN401  # its handle
        return self.loop.run_until_complete(handle.result(timeout=limit_secs)).value

    def finished(self) -> int:
        return int(self.store.jobs.zcard("ardiq:bench:index:results"))

    def versions(self) -> dict[str, str]:
        return {**super().versions(), "python": platform.python_version()}
