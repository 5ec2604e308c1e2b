"""honker (Rust core) on SQLite: its tasks, or its raw batch claim, by ``BENCH_VARIANT``."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

import body
import honker

from peers.base import FOLDER, Adapter, survives

if TYPE_CHECKING:
    from collections.abc import Callable

VARIANT = os.environ.get("BENCH_VARIANT", "tasks")
BATCH = 500
WORKER = "bench"
FUNCTIONS: dict[str, Callable[..., int]] = {"noop": body.noop, "mark": body.mark}

db = honker.open(str(FOLDER / "honker.db"))
queue = db.queue("bench")
if VARIANT == "tasks":
    noop = queue.task(name="noop")(body.noop)
    mark = queue.task(name="mark")(body.mark)


class HonkerAdapter(Adapter):
    """What both have in common: one file, flushed as honker sets it for each connection."""

    packages = ("honker",)
    has_bulk = True

    def open(self) -> None:
        with db.transaction() as transaction:
            level = transaction.query("PRAGMA synchronous")[0]["synchronous"]
        name = ("OFF", "NORMAL", "FULL")[level]
        self.durability = survives(f"WAL, synchronous={name}", power_cut=name == "FULL")

    def bulk(self, count: int) -> None:
        """Enqueue in one transaction."""
        self.sent += count
        with db.transaction() as transaction:
            for number in range(count):
                queue.enqueue(self.payload(number), tx=transaction)

    def payload(self, number: int) -> Any:  # noqa: ANN401  # JSON
        """Return what a no-op job is stored as."""
        raise NotImplementedError

    def clear(self) -> None:
        self.sent = 0
        with db.transaction() as transaction:
            for table in ("live", "dead", "results"):
                transaction.execute(f"DELETE FROM _honker_{table}")  # noqa: S608  # constants

    def _count(self, table: str) -> int:
        found = db.query(f"SELECT count(*) AS n FROM _honker_{table}")  # noqa: S608  # constants
        return int(found[0]["n"])


class TasksAdapter(HonkerAdapter):
    """Decorated functions. Results are kept for an hour; a waiting caller is woken by the store.

    Of 1, 2, 4 and 8 at once, 4 were the fastest.
    """

    worker_text = "python -m honker worker --concurrency 4"

    def worker(self) -> list[str]:
        start = [sys.executable, "-m", "honker", "worker", "peers.honker_sqlite:db"]
        return [*start, "--concurrency", "4"]

    def call(self, number: int) -> Any:  # noqa: ANN401  # its handle
        return noop(number)

    def payload(self, number: int) -> Any:  # noqa: ANN401  # JSON
        return {"__honker_task__": {"task": "noop", "args": [number], "kwargs": {}}}

    def mark(self, place: int, pause_secs: float = 0.0) -> Any:  # noqa: ANN401  # its handle
        return mark(place, pause_secs)

    def wait(self, handle: Any, limit_secs: float) -> Any:  # noqa: ANN401  # its handle
        return handle.get(timeout=limit_secs)

    def finished(self) -> int:
        return self._count("results")


class BatchAdapter(HonkerAdapter):
    """``claim_batch`` and ``ack_batch`` in a loop of one thread: no results, no retries."""

    keeps_results = False
    worker_text = f"a loop over claim_batch({BATCH}) and ack_batch"

    def worker(self) -> list[str]:
        return [sys.executable, "-m", "peers.honker_sqlite"]

    def call(self, number: int) -> Any:  # noqa: ANN401  # a job's id
        self.sent += 1
        return queue.enqueue(self.payload(number))

    def payload(self, number: int) -> Any:  # noqa: ANN401  # JSON
        return ["noop", number]

    def mark(self, place: int, pause_secs: float = 0.0) -> Any:  # noqa: ANN401  # a job's id
        self.sent += 1
        return queue.enqueue(["mark", place, pause_secs])

    def finished(self) -> int:
        return self.sent - self._count("live")


async def work() -> None:
    """Run what is there, then sleep until somebody writes to the file."""
    updates = db.update_events()
    while True:
        while jobs := queue.claim_batch(WORKER, BATCH):
            for job in jobs:
                name, *arguments = job.payload
                FUNCTIONS[name](*arguments)
            queue.ack_batch([job.id for job in jobs], WORKER)
        await anext(updates)


adapter = TasksAdapter if VARIANT == "tasks" else BatchAdapter

if __name__ == "__main__":
    asyncio.run(work())
