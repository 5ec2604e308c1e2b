"""What is recorded for power cuts, and what of it a store shows: ``python -m`` with orders."""

from __future__ import annotations

import json
import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nuvom import _durable, project
from nuvom._file import log as file_log
from nuvom._file.log import Log
from nuvom._sqlite.database import Database
from nuvom.config import Settings
from nuvom.queue_backends.file import FileJobQueue
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.record import JobRecord, JobStatus
from nuvom.testing.builders import make_job, make_settlement
from nuvom.testing.iofaults import Faults

Queue = FileJobQueue | SQLiteJobQueue

WORKER = "w"
FAR = 9e9
SIZES = (0, 10, 300, 900, 3000)  # of arguments, in bytes; SQLite keeps large records apart


def open_queue(backend: str, root: Path, durability: str = "full") -> Queue:
    settings = Settings(root=root, durability=durability)
    return FileJobQueue(settings) if backend == "file" else SQLiteJobQueue(settings)


def seen(queue: Queue) -> str:
    """Return all that readers can tell of a store, but leases: they end at a power cut."""
    lines = []
    for job_id in sorted(one.record.id for one in queue.page(limit=1000)):
        one = queue.get(job_id)
        assert one is not None
        record = one.record
        lines.append(
            (
                *(job_id, one.status, record.attempt, record.deliveries, record.lease_epoch),
                *(record.run_at, len(record.args), (one.result or b"").hex()),
                *(one.error and one.error.type, len(queue.attempts(job_id))),
            )
        )
    paused = [(one.queue, one.paused_by) for one in queue.stats() if one.paused_by]
    return json.dumps([lines, paused])


class Story:
    """A random life of a queue in steps, each of which is one commit."""

    def __init__(self, orders: dict[str, Any], faults: Faults) -> None:
        self.faults = faults
        self.orders = orders
        self.rng = random.Random(orders["seed"])
        self.queue = self.opened()
        self.held: list[JobRecord] = []
        self.count = 0
        self.state = ""

    def opened(self) -> Queue:
        return open_queue(self.orders["backend"], Path(self.orders["root"]), self.orders["mode"])

    def tell(self) -> None:
        choices: list[tuple[Callable[[], object], bool, int]] = [
            (self.enqueue, True, 6),
            (self.enqueue_many, True, 2),
            (self.claim, False, 5),
            (self.succeed, True, 3),
            (self.fail, True, 2),
            (self.release, True, 1),
            (self.cancel, True, 2),
            (self.retry, True, 1),
            (self.pause, True, 1),
            (self.extend, False, 1),
            (self.prune, True, 1),
            (self.reopen, False, 1),
            (self.tidy, False, 2),
        ]
        weights = [weight for *_, weight in choices]
        for _ in range(self.orders["steps"]):
            action, is_durable, _ = self.rng.choices(choices, weights)[0]
            self.step(action, is_durable=is_durable)

    def step(self, action: Callable[[], object], *, is_durable: bool) -> None:
        self.count += 1
        self.faults.mark(json.dumps({"begins": self.count}))
        action()
        before, self.state = self.state, seen(self.queue)
        # What changed nothing has flushed nothing.
        is_durable = is_durable and self.state != before
        told = {"ended": self.count, "durable": is_durable, "state": self.state}
        self.faults.mark(json.dumps(told))

    def job(self, **fields: Any) -> JobRecord:
        args = "x" * self.rng.choice(SIZES)
        return make_job("m.f", args, priority=self.rng.randint(1, 9), **fields)

    def enqueue(self) -> None:
        key = self.rng.choice((None, None, "one", "two"))
        self.queue.enqueue(self.job(unique_key=key))

    def enqueue_many(self) -> None:
        self.queue.enqueue_many([self.job() for _ in range(self.rng.randint(2, 25))])

    def claim(self) -> None:
        self.held += self.queue.claim(self.rng.randint(1, 6), WORKER)

    def some_held(self) -> list[JobRecord]:
        cut = self.rng.randint(0, len(self.held))
        taken, self.held = self.held[:cut], self.held[cut:]
        return taken

    def succeed(self) -> None:
        self.queue.settle(
            [make_settlement(one, value=[self.count] * 20) for one in self.some_held()]
        )

    def fail(self) -> None:
        settled = []
        for one in self.some_held():
            status = self.rng.choice((JobStatus.FAILED, JobStatus.PENDING))
            children = (self.job(),) if self.rng.random() < 0.3 else ()
            run_at = FAR if status is JobStatus.PENDING else 0.0
            settled.append(make_settlement(one, status, run_at=run_at, children=children))
        if settled:
            self.queue.settle(settled)

    def release(self) -> None:
        self.queue.release(self.some_held())

    def any_id(self) -> str:
        return self.rng.choice([one.record.id for one in self.queue.page(limit=1000)] or ["none"])

    def cancel(self) -> None:
        self.queue.cancel(self.any_id())

    def retry(self) -> None:
        self.queue.retry(self.any_id())

    def pause(self) -> None:
        self.queue.pause("mail", f"me {self.count}")

    def extend(self) -> None:
        self.queue.extend(WORKER)

    def prune(self) -> None:
        self.queue.prune(success_before=FAR, failed_before=0, limit=3)

    def reopen(self) -> None:
        """Close all; the log of SQLite ends with its last connection."""
        self.queue.stop()
        self.queue = self.opened()
        self.held = []

    def tidy(self) -> None:
        """Move SQLite's log into the database, which nothing but its length leads to otherwise."""
        if isinstance(self.queue, SQLiteJobQueue):
            self.queue.store.db.checkpointer.look(trigger_bytes=0)


def tell(orders: dict[str, Any], faults: Faults) -> None:
    Story(orders, faults).tell()


def crowd(orders: dict[str, Any], faults: Faults) -> None:
    """Threads that enqueue while another one works; each says what was accepted or settled."""
    queue = open_queue(orders["backend"], Path(orders["root"]), orders["mode"])
    rng = random.Random(orders["seed"])
    sizes = [[rng.choice(SIZES) for _ in range(orders["steps"])] for _ in range(3)]

    def produce(own: list[int]) -> None:
        for size in own:
            job = make_job("m.f", "x" * size)
            queue.enqueue(job)
            faults.mark(json.dumps({"accepted": job.id}))

    threads = [threading.Thread(target=produce, args=(own,)) for own in sizes]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        claimed = queue.claim(rng.randint(1, 8), orders["worker"])
        settled = queue.settle([make_settlement(one, value=one.id) for one in claimed])
        for one, is_mine in zip(claimed, settled, strict=True):
            if is_mine:
                faults.mark(json.dumps({"settled": one.id}))
        queue.extend(orders["worker"])


def without_flushes() -> None:
    """What the mutation check removes: no flush of data is asked for."""
    Database._set_flush = lambda *_, **__: None  # type: ignore[method-assign]
    real = Database.connect

    def connect(self: Database) -> Any:
        connection = real(self)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    Database.connect = connect  # type: ignore[method-assign]
    setattr(file_log, "sync_data", lambda _: None)  # noqa: B010  # not exported


def without_folder_flushes() -> None:
    """What the mutation check removes: no flush of names is asked for."""
    for module in (file_log, _durable, project):
        setattr(module, "sync_directory", lambda _: None)  # noqa: B010  # imported there


BREAKS: dict[str, Callable[[], None]] = {
    "data": without_flushes,
    "names": without_folder_flushes,
    "": lambda: None,
}

if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    BREAKS[given.get("breaks", "")]()
    Log.segment_bytes = 6000  # so that a short life of a file queue has several
    {"tell": tell, "crowd": crowd}[given["part"]](given, Faults())
