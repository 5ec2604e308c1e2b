"""RQ on Redis."""

from __future__ import annotations

from typing import Any

import body
from rq import Queue
from rq.registry import FinishedJobRegistry

from peers.base import program
from peers.redis_store import CLIENT, JOBS_URL, RedisAdapter


class adapter(RedisAdapter):  # noqa: N801  # the name that probe.py looks for
    """``SimpleWorker`` runs jobs in its own process; the default forks for each of them."""

    packages = ("rq", *CLIENT)
    worker_text = "rq worker -w rq.SimpleWorker"
    has_bulk = True

    def open(self) -> None:
        super().open()
        self.queue = Queue("bench", connection=self.jobs)
        self.key = FinishedJobRegistry("bench", connection=self.jobs).key

    def worker(self) -> list[str]:
        quiet = ["--quiet", "--disable-job-desc-logging"]
        return [program("rq"), "worker", "bench", "-u", JOBS_URL, "-w", "rq.SimpleWorker", *quiet]

    def call(self, number: int) -> Any:  # noqa: ANN401  # a job
        return self.queue.enqueue(body.noop, number)

    def bulk(self, count: int) -> None:
        prepare = Queue.prepare_data
        self.queue.enqueue_many([prepare(body.noop, args=(number,)) for number in range(count)])

    def mark(self, place: int, pause_secs: float = 0.0) -> Any:  # noqa: ANN401  # a job
        return self.queue.enqueue(body.mark, place, pause_secs)

    def wait(self, handle: Any, limit_secs: float) -> Any:  # noqa: ANN401  # a job
        result = handle.latest_result(timeout=int(limit_secs))
        return result.return_value if result else None

    def finished(self) -> int:
        return int(self.jobs.zcard(self.key))
