"""streaQ on Redis."""

from __future__ import annotations

import sys
from typing import Any

import body
import coredis
import uvloop
from streaq import Worker

from peers.redis_store import JOBS_URL, AsyncRedisAdapter

CONCURRENCY = 100
coredis.Config.optimized = True  # as its own benchmark sets it
app = Worker(
    JOBS_URL, concurrency=CONCURRENCY, queue_name="bench", anyio_kwargs={"use_uvloop": True}
)
noop = app.task(name="noop")(body.noop_async)
mark = app.task(name="mark")(body.mark_async)


class adapter(AsyncRedisAdapter):  # noqa: N801  # the name that probe.py looks for
    """Its command would log each job. Calls need the connections of ``app``, which stay open."""

    packages = ("streaq", "coredis", "uvloop")
    worker_text = f"Worker.run_sync, concurrency {CONCURRENCY}, uvloop"
    has_bulk = True
    new_loop = staticmethod(uvloop.new_event_loop)

    def open(self) -> None:
        super().open()
        self.run(app.__aenter__())

    def worker(self) -> list[str]:
        return [sys.executable, "-m", "peers.streaq_redis"]

    async def send(self, number: int) -> Any:  # noqa: ANN401  # its handle
        return await noop.enqueue(number)

    def bulk(self, count: int) -> None:
        self.run(app.enqueue_many([noop.enqueue(number) for number in range(count)]))

    def mark(self, place: int, pause_secs: float = 0.0) -> Any:  # noqa: ANN401  # its handle
        async def one() -> Any:  # noqa: ANN401  # likewise
            return await mark.enqueue(place, pause_secs)

        return self.run(one())

    def wait(self, handle: Any, limit_secs: float) -> Any:  # noqa: ANN401  # its handle
        return self.run(handle.result(timeout=int(limit_secs))).result

    def finished(self) -> int:
        return int(self.jobs.zcard("streaq:bench:index:results"))


if __name__ == "__main__":
    app.run_sync()
