"""Oban for Python on PostgreSQL, in a schema of its own."""

from __future__ import annotations

import asyncio
import platform
import signal
import sys
import time
from typing import Any

import body
import orjson
import uvloop
from oban import Oban, Record, job
from oban.schema import install
from psycopg.types.json import set_json_dumps, set_json_loads

from peers.base import POSTGRES, SCHEMA, AsyncAdapter
from peers.postgres_schema import PostgresAdapter

LIMIT = 2000
set_json_dumps(orjson.dumps)  # as its command does
set_json_loads(orjson.loads)


@job(queue="bench")
async def noop(number: int) -> Record:
    """Return the argument."""
    return Record(number)


@job(queue="bench")
async def mark(place: int, pause_secs: float) -> Record:
    """Write down the time."""
    return Record(await body.mark_async(place, pause_secs))


class adapter(AsyncAdapter, PostgresAdapter):  # noqa: N801  # the name that probe.py looks for
    """Its parts are started as its command starts them, without a log line for each job."""

    packages = ("oban", "psycopg", "uvloop")
    worker_text = f"Oban, limit {LIMIT}, uvloop, results by Record"
    has_bulk = True
    new_loop = staticmethod(uvloop.new_event_loop)

    def open(self) -> None:
        super().open()
        pool = self.run(Oban.create_pool(POSTGRES))
        self.run(install(pool, prefix=SCHEMA))
        self.app = Oban(pool=pool, prefix=SCHEMA)

    def clear(self) -> None:
        self.truncate("oban_jobs")

    def worker(self) -> list[str]:
        return [sys.executable, "-m", "peers.oban_pg"]

    def send(self, number: int) -> Any:  # noqa: ANN401  # a coroutine
        return self.app.enqueue(_new(noop, number=number))

    def bulk(self, count: int) -> None:
        self.run(self.app.enqueue_many([_new(noop, number=number) for number in range(count)]))

    def mark(self, place: int, pause_secs: float = 0.0) -> Any:  # noqa: ANN401  # a job
        return self.run(self.app.enqueue(_new(mark, place=place, pause_secs=pause_secs)))

    def wait(self, handle: Any, limit_secs: float) -> Any:  # noqa: ANN401  # a job
        """Look every millisecond; return the result as stored, which no public call decodes."""
        ends_at = time.perf_counter() + limit_secs
        while (found := self.run(self.app.get_job(handle.id))).state != "completed":
            if time.perf_counter() > ends_at:
                raise TimeoutError(f"job {handle.id} is {found.state}")
            time.sleep(0.001)
        return found.meta["return"]

    def finished(self) -> int:
        return self.count("oban_jobs WHERE state = 'completed'")

    def versions(self) -> dict[str, str]:
        return {**super().versions(), "python": platform.python_version()}


def _new(task: Any, **arguments: Any) -> Any:  # noqa: ANN401  # a job
    return task.new(**arguments)


async def work() -> None:
    """Run jobs until stopped by a signal."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    pool = await Oban.create_pool(POSTGRES)
    async with Oban(pool=pool, prefix=SCHEMA, queues={"bench": LIMIT}):
        await stopped.wait()
    await pool.close()


if __name__ == "__main__":
    uvloop.run(work())
