"""SAQ on Redis."""

from __future__ import annotations

import asyncio
from typing import Any

import body
from saq import Queue

from peers.base import Adapter, program
from peers.redis_store import DURABILITY, JOBS_URL, RedisStore

queue = Queue.from_url(JOBS_URL, name="bench")


async def noop(_: Any, *, number: int) -> int:  # noqa: ANN401  # SAQ's context
    """Return the argument."""
    return number


async def mark(_: Any, *, place: int, pause_secs: float) -> int:  # noqa: ANN401  # likewise
    """Write down the time."""
    if pause_secs:
        await asyncio.sleep(pause_secs)
    return body.mark(place)


settings = {"queue": queue, "functions": [noop, mark], "concurrency": 50}


class adapter(Adapter):  # noqa: N801  # the name that probe.py looks for
    """Everything is asynchronous: single calls are awaited one after the other.

    A concurrency of 50 was faster than the default of 10.
    """

    packages = ("saq", "redis", "hiredis")
    durability = DURABILITY
    worker_text = "saq, concurrency 50"

    def open(self) -> None:
        self.store = RedisStore()
        self.loop = asyncio.new_event_loop()

    def clear(self) -> None:
        self.store.clear()
        self.sent = 0

    def close(self) -> None:
        self.loop.run_until_complete(queue.disconnect())
        self.store.clear()

    def worker(self) -> list[str]:
        return [program("saq"), "peers.saq_redis.settings", "--quiet"]

    def call(self, number: int) -> Any:  # noqa: ANN401  # a job
        self.sent += 1
        return self.loop.run_until_complete(queue.enqueue("noop", number=number))

    def calls(self, count: int) -> None:
        async def all_of_them() -> None:
            for number in range(count):
                await queue.enqueue("noop", number=number)

        self.loop.run_until_complete(all_of_them())
        self.sent += count

    def mark(self, place: int, pause_secs: float = 0.0) -> Any:  # noqa: ANN401  # a job
        self.sent += 1
        call = queue.enqueue("mark", place=place, pause_secs=pause_secs)
        return self.loop.run_until_complete(call)

    def wait(self, handle: Any, limit_secs: float) -> Any:  # noqa: ANN401  # a job
        self.loop.run_until_complete(handle.refresh(until_complete=limit_secs))
        return handle.result

    def finished(self) -> int:
        return self.sent - int(self.loop.run_until_complete(queue.count("incomplete")))
