"""chancy on PostgreSQL, in a schema of its own."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

from chancy import Chancy, Job, Queue, Worker
from chancy.plugins.leadership import Leadership
from chancy.plugins.pruner import Pruner
from chancy.plugins.recovery import Recovery

from peers.postgres_schema import PLACE, PostgresAdapter

CONCURRENCY = 2000
SEND_SECS = 0.1  # between two times that its worker stores which jobs have ended
QUEUE = Queue(
    "default",
    concurrency=CONCURRENCY,
    executor=Chancy.Executor.Async,
    polling_interval=1,
    eager_polling=True,
)


def new_app() -> Chancy:
    """Return the application: without a line for each job, and with what a worker needs."""
    plugins = [Leadership(), Recovery(), Pruner()]
    quiet = logging.getLogger("chancy")
    quiet.setLevel(logging.WARNING)
    return Chancy(PLACE, plugins=plugins, no_default_plugins=True, log=quiet)


class adapter(PostgresAdapter):  # noqa: N801  # the name that probe.py looks for
    """It keeps a job's end but not what the task returned."""

    packages = ("chancy", "psycopg")
    worker_text = (
        f"Worker in asyncio, concurrency {CONCURRENCY}, eager polling, ends stored every "
        f"{SEND_SECS:g} s, plugins Leadership, Recovery, Pruner"
    )
    keeps_results = False
    has_bulk = True

    def open(self) -> None:
        super().open()
        asyncio.run(prepare())
        self.app = new_app()
        self.app.sync_pool.open()

    def clear(self) -> None:
        self.truncate("chancy_jobs")

    def close(self) -> None:
        self.app.sync_pool.close()
        super().close()

    def worker(self) -> list[str]:
        return [sys.executable, "-m", "peers.chancy_pg"]

    def call(self, number: int) -> Any:  # noqa: ANN401  # a reference
        return self.app.sync_push(Job(func="body.noop_async", kwargs={"number": number}))

    def bulk(self, count: int) -> None:
        jobs = [Job(func="body.noop_async", kwargs={"number": number}) for number in range(count)]
        for _ in self.app.sync_push_many(jobs):
            pass

    def mark(self, place: int, pause_secs: float = 0.0) -> Any:  # noqa: ANN401  # a reference
        kwargs = {"place": place, "pause_secs": pause_secs}
        return self.app.sync_push(Job(func="body.mark_async", kwargs=kwargs))

    def finished(self) -> int:
        return self.count("chancy_jobs WHERE state = 'succeeded'")


async def prepare() -> None:
    """Make the tables and the queue."""
    async with new_app() as app:
        await app.migrate()
        await app.declare(QUEUE, upsert=True)


async def work() -> None:
    """Run jobs until stopped by a signal."""
    async with new_app() as app:
        worker = Worker(app)
        worker.send_outgoing_interval = SEND_SECS
        async with worker:
            await worker.wait_for_shutdown()


if __name__ == "__main__":
    asyncio.run(work())
