"""SAQ on Redis."""

from __future__ import annotations

from typing import Any

import body
from saq import Queue

from peers.base import program
from peers.redis_store import CLIENT, JOBS_URL, AsyncRedisAdapter

queue = Queue.from_url(JOBS_URL, name="bench")


async def noop(_: Any, *, number: int) -> int:  # noqa: ANN401  # SAQ's context
    """Return the argument."""
    return number


async def mark(_: Any, *, place: int, pause_secs: float) -> int:  # noqa: ANN401  # likewise
    """Write down the time."""
    return await body.mark_async(place, pause_secs)


settings = {"queue": queue, "functions": [noop, mark], "concurrency": 50}


class adapter(AsyncRedisAdapter):  # noqa: N801  # the name that probe.py looks for
    """A concurrency of 50 was faster than the default of 10."""

    packages = ("saq", *CLIENT)
    worker_text = "saq, concurrency 50"

    def close(self) -> None:
        self.run(queue.disconnect())
        super().close()

    def worker(self) -> list[str]:
        return [program("saq"), "peers.saq_redis.settings", "--quiet"]

    def send(self, number: int) -> Any:  # noqa: ANN401  # a coroutine
        return queue.enqueue("noop", number=number)

    def mark(self, place: int, pause_secs: float = 0.0) -> Any:  # noqa: ANN401  # a job
        self.sent += 1
        return self.run(queue.enqueue("mark", place=place, pause_secs=pause_secs))

    def wait(self, handle: Any, limit_secs: float) -> Any:  # noqa: ANN401  # a job
        self.run(handle.refresh(until_complete=limit_secs))
        return handle.result

    def finished(self) -> int:
        return self.sent - int(self.run(queue.count("incomplete")))
