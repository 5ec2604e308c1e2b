"""Taskiq with its list broker and its result backend, both on Redis."""

from __future__ import annotations

from typing import Any

import body
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from peers.base import program
from peers.redis_store import CLIENT, JOBS_URL, RESULTS_URL, AsyncRedisAdapter

broker = ListQueueBroker(JOBS_URL).with_result_backend(RedisAsyncResultBackend(RESULTS_URL))
noop = broker.task(task_name="noop")(body.noop_async)
mark = broker.task(task_name="mark")(body.mark_async)


class adapter(AsyncRedisAdapter):  # noqa: N801  # the name that probe.py looks for
    """Results are polled every millisecond."""

    packages = ("taskiq", "taskiq-redis", *CLIENT)
    worker_text = "taskiq worker --workers 1 --no-parse --max-prefetch 100"

    def open(self) -> None:
        super().open()
        self.run(broker.startup())

    def close(self) -> None:
        self.run(broker.shutdown())
        super().close()

    def worker(self) -> list[str]:
        fixed = ["--workers", "1", "--no-parse", "--max-prefetch", "100", "--log-level", "ERROR"]
        return [program("taskiq"), "worker", "peers.taskiq_redis_list:broker", *fixed]

    def send(self, number: int) -> Any:  # noqa: ANN401  # a coroutine
        return noop.kiq(number)

    def mark(self, place: int, pause_secs: float = 0.0) -> Any:  # noqa: ANN401  # a task
        return self.run(mark.kiq(place, pause_secs))

    def wait(self, handle: Any, limit_secs: float) -> Any:  # noqa: ANN401  # a task
        return self.run(handle.wait_result(check_interval=0.001, timeout=limit_secs)).return_value
