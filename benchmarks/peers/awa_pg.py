"""awa (Rust core) on PostgreSQL, in a database of its own: the name of its schema is fixed."""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import dataclass
from typing import Any

import awa
import body
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from peers.base import POSTGRES, SCHEMA
from peers.postgres_schema import PostgresAdapter, address

DATABASE = SCHEMA
QUEUE, WORKERS, BATCH = "bench", 1000, 512
_COMPLETED = "SELECT coalesce(sum(completed_count), 0) FROM awa.receipt_completion_batches"


@dataclass
class Noop:
    """The arguments of a no-op job."""

    number: int


@dataclass
class Mark:
    """The arguments of a marking job."""

    place: int
    pause_secs: float


class adapter(PostgresAdapter):  # noqa: N801  # the name that probe.py looks for
    """It keeps a job's end but not what the task returned.

    Its storage is that which new installations use: with rings of partitions ("queue storage").
    """

    packages = ("awa-pg",)
    worker_text = f"AsyncClient.start, max_workers {WORKERS}, claim_batch_size {BATCH}"
    keeps_results = False
    has_bulk = True
    base = 0

    def open(self) -> None:
        super().open()
        self._drop()
        self.direct.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        self.inside: Any = psycopg.connect(
            make_conninfo(POSTGRES, dbname=DATABASE), autocommit=True
        )
        self.client = awa.Client(address(DATABASE))
        self.client.migrate()
        self.client.install_queue_storage()

    def clear(self) -> None:
        """Cancel what waits; what has ended stays, and is not counted again."""
        self.client.drain_queue(QUEUE)
        self.base += self.finished()

    def close(self) -> None:
        self.client.close()
        self.inside.close()
        self._drop()
        super().close()

    def worker(self) -> list[str]:
        return [sys.executable, "-m", "peers.awa_pg"]

    def call(self, number: int) -> Any:  # noqa: ANN401  # a job
        return self.client.insert(Noop(number), queue=QUEUE)

    def bulk(self, count: int) -> None:
        self.client.enqueue_many_copy([Noop(number) for number in range(count)], queue=QUEUE)

    def mark(self, place: int, pause_secs: float = 0.0) -> Any:  # noqa: ANN401  # a job
        return self.client.insert(Mark(place, pause_secs), queue=QUEUE)

    def finished(self) -> int:
        return int(self.inside.execute(_COMPLETED).fetchone()[0]) - self.base

    def _drop(self) -> None:
        query = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        self.direct.execute(query.format(sql.Identifier(DATABASE)))


async def work() -> None:
    """Run jobs until stopped by a signal."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    client = awa.AsyncClient(address(DATABASE))

    @client.task(Noop, queue=QUEUE)
    async def noop(job: Any) -> int:  # noqa: ANN401  # a job
        return body.noop(job.args.number)

    @client.task(Mark, queue=QUEUE)
    async def mark(job: Any) -> int:  # noqa: ANN401  # a job
        return await body.mark_async(job.args.place, job.args.pause_secs)

    await client.start([{"name": QUEUE, "max_workers": WORKERS, "claim_batch_size": BATCH}])
    await stopped.wait()
    await client.shutdown()


if __name__ == "__main__":
    asyncio.run(work())
