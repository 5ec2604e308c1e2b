"""PgQueuer on PostgreSQL, by asyncpg; ``BENCH_VARIANT`` is the size of its batches."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

import asyncpg
import body
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

from peers.base import SCHEMA, AsyncAdapter
from peers.postgres_schema import PostgresAdapter, address

BATCH = os.environ.get("BENCH_VARIANT", "10")


async def connect() -> AsyncpgDriver:
    """Return a connection whose tables are those of the schema."""
    return AsyncpgDriver(await asyncpg.connect(address(search_path=SCHEMA)))


async def work() -> None:
    """Run jobs until stopped by a signal."""
    app = PgQueuer(await connect())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, app.shutdown.set)

    @app.entrypoint("noop")
    async def noop(job: Any) -> int:  # noqa: ANN401  # a job
        return body.noop(int(job.payload or 0))

    @app.entrypoint("mark")
    async def mark(job: Any) -> int:  # noqa: ANN401  # a job
        place, pause_secs = (job.payload or b"").split()
        return await body.mark_async(int(place), float(pause_secs))

    await app.run(batch_size=int(BATCH))


class adapter(AsyncAdapter, PostgresAdapter):  # noqa: N801  # the name that probe.py looks for
    """It removes a job that ended well, and keeps a line in its log, but not what was returned.

    As its guide advises: autovacuum as it sets it, asyncpg, its fastest driver, and one connection.
    Its command is not used: it does not start with the release of Typer that is current.
    """

    packages = ("pgqueuer", "asyncpg", "uvloop")
    worker_text = f"PgQueuer.run(batch_size={BATCH}), asyncpg, uvloop"
    keeps_results = False
    has_bulk = True
    new_loop = staticmethod(uvloop.new_event_loop)

    def open(self) -> None:
        super().open()
        self.queries = Queries(self.run(connect()))
        self.run(self.queries.install())
        self.run(self.queries.optimize_autovacuum())

    def clear(self) -> None:
        self.truncate("pgqueuer", "pgqueuer_log", "pgqueuer_statistics")
        self.sent = 0

    def worker(self) -> list[str]:
        return [sys.executable, "-m", "peers.pgqueuer_pg"]

    def send(self, number: int) -> Any:  # noqa: ANN401  # a coroutine
        return self.queries.enqueue("noop", str(number).encode())

    def bulk(self, count: int) -> None:
        payloads = [str(number).encode() for number in range(count)]
        self.run(self.queries.enqueue(["noop"] * count, payloads, [0] * count))
        self.sent += count

    def mark(self, place: int, pause_secs: float = 0.0) -> Any:  # noqa: ANN401  # a job's id
        self.sent += 1
        return self.run(self.queries.enqueue("mark", f"{place} {pause_secs}".encode()))

    def finished(self) -> int:
        return self.sent - self.count("pgqueuer")


if __name__ == "__main__":
    uvloop.run(work())
