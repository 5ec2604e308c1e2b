"""ardiq (Rust core) on Redis."""

from __future__ import annotations

import platform
from typing import Any

import body
from ardiq import Ardiq

from peers.base import program
from peers.redis_store import CLIENT, JOBS_URL, AsyncRedisAdapter

app = Ardiq(redis_url=JOBS_URL, queue_name="bench", concurrency=200)
noop = app.task(name="noop")(body.noop_async)
mark = app.task(name="mark")(body.mark_async)


class adapter(AsyncRedisAdapter):  # noqa: N801  # the name that probe.py looks for
    """Of a concurrency of 16, 50, 100, 200 and 500, 200 was the fastest."""

    packages = ("ardiq", *CLIENT)
    worker_text = "ardiq run, concurrency 200"
    has_bulk = True

    def worker(self) -> list[str]:
        return [program("ardiq"), "run", "peers.ardiq_redis:app", "--quiet"]

    def send(self, number: int) -> Any:  # noqa: ANN401  # a coroutine
        return noop.enqueue(number)

    def bulk(self, count: int) -> None:
        self.run(app.enqueue_many(noop.prepare(number) for number in range(count)))

    def mark(self, place: int, pause_secs: float = 0.0) -> Any:  # noqa: ANN401  # its handle
        return self.run(mark.enqueue(place, pause_secs))

    def wait(self, handle: Any, limit_secs: float) -> Any:  # noqa: ANN401  # its handle
        return self.run(handle.result(timeout=limit_secs)).value

    def finished(self) -> int:
        return int(self.jobs.zcard("ardiq:bench:index:results"))

    def versions(self) -> dict[str, str]:
        return {**super().versions(), "python": platform.python_version()}
