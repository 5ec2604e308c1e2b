"""Celery with broker and results on Redis."""

from __future__ import annotations

import sys
from typing import Any

import body
from celery import Celery

from peers.redis_store import CLIENT, JOBS_URL, RESULTS_URL, RedisAdapter

app = Celery("bench", broker=JOBS_URL, backend=RESULTS_URL)
app.conf.update(
    worker_prefetch_multiplier=128,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)
noop = app.task(name="noop")(body.noop)
mark = app.task(name="mark")(body.mark)


class adapter(RedisAdapter):  # noqa: N801  # the name that probe.py looks for
    """A pool of 8 threads: faster than 2 threads, than solo and than prefork."""

    packages = ("celery", "kombu", *CLIENT)
    worker_text = "celery worker -P threads -c 8, prefetch 128, without gossip, mingle, heartbeat"

    def worker(self) -> list[str]:
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "ERROR"]
        start = [sys.executable, "-m", "celery", "-A", "peers.celery_redis", "worker"]
        return [*start, "-P", "threads", "-c", "8", *quiet]

    def call(self, number: int) -> Any:  # noqa: ANN401  # an AsyncResult
        return noop.delay(number)

    def mark(self, place: int, pause_secs: float = 0.0) -> Any:  # noqa: ANN401  # likewise
        return mark.delay(place, pause_secs)

    def wait(self, handle: Any, limit_secs: float) -> Any:  # noqa: ANN401  # likewise
        return handle.get(timeout=limit_secs)
