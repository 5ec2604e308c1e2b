"""What is recorded for power cuts, and what of it a store shows: ``python -m`` with orders."""

from __future__ import annotations

import errno
import gc
import itertools
import json
import random
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from nuvom.config.settings import Settings
from nuvom.core.outcome import Settlement
from nuvom.core.record import JobRecord, JobStatus
from nuvom.errors import NuvomError, StorageFull
from nuvom.queue_backends.file import FileJobQueue
from nuvom.queue_backends.file_log import Log
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.testing.builders import make_job, make_settlement
from tests.lab.iofaults import EVERY, FLUSHES, Faults

T = TypeVar("T")
Queue = FileJobQueue | SQLiteJobQueue

WORKER = "w"
FAR = 9e9
SIZES = (0, 10, 300, 900, 3000)  # of arguments, in bytes; SQLite keeps large records apart


def open_queue(backend: str, root: Path, durability: str = "full") -> Queue:
    settings = Settings(root=root, durability="full" if durability == "full" else "normal")
    return FileJobQueue(settings) if backend == "file" else SQLiteJobQueue(settings)


def seen(queue: Queue) -> str:
    """Return all that readers can see of a store, but leases: they end at a power cut."""
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


class OperationSequence:
    """Random operations on a queue, each of which is one commit.

    Attributes:
        errors: The types of what calls have raised, in order. Each call was made once more.
    """

    def __init__(self, root: Path, orders: dict[str, Any], faults: Faults) -> None:
        self.root = root
        self.faults = faults
        self.orders = orders
        self.rng = random.Random(orders["seed"])
        self.queue = self.opened()
        self.held: list[JobRecord] = []
        self.count = 0
        self.errors: list[str] = []
        self.state = self.again(lambda: seen(self.queue))

    def opened(self) -> Queue:
        return open_queue(self.orders["backend"], self.root, self.orders["mode"])

    def run(self) -> None:
        """Take all steps; what fails is tried once more, as a worker does."""
        for _ in range(self.orders["steps"]):
            make, is_durable, _ = self.rng.choices(CHOICES, WEIGHTS)[0]
            self.step(make(self), is_durable=is_durable)
        self.again(self.queue.stop)

    def step(self, call: Callable[[], object], *, is_durable: bool) -> None:
        self.count += 1
        self.faults.mark(json.dumps({"begins": self.count}))
        self.again(call)
        before, self.state = self.state, self.again(lambda: seen(self.queue))
        # What changed nothing has flushed nothing.
        is_durable = is_durable and self.state != before
        told = {"ended": self.count, "durable": is_durable, "state": self.state}
        self.faults.mark(json.dumps(told))

    def again(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except NuvomError as error:
            # Not the error itself: it would keep statements, and so connections, alive.
            self.errors.append(type(error).__name__)
            if self.orders.get("lasts"):  # until somebody has seen it
                self.faults.mend()
            return call()

    # ---- steps: each draws what it needs, and returns what can be called twice ------------

    def job(self, **fields: Any) -> JobRecord:
        args = "x" * self.rng.choice(SIZES)
        return make_job("m.f", args, priority=self.rng.randint(1, 9), **fields)

    def enqueue(self) -> Callable[[], object]:
        job = self.job(unique_key=self.rng.choice((None, None, "one", "two")))
        return lambda: self.takes_all_or_nothing(lambda: self.queue.enqueue(job))

    def enqueue_many(self) -> Callable[[], object]:
        jobs = [self.job() for _ in range(self.rng.randint(2, 25))]
        return lambda: self.takes_all_or_nothing(lambda: self.queue.enqueue_many(jobs))

    def takes_all_or_nothing(self, call: Callable[[], object]) -> None:
        try:
            call()
        except StorageFull:
            self.faults.mend()
            assert seen(self.queue) == self.state, "it was refused and is stored"
            raise

    def claim(self) -> Callable[[], object]:
        most = self.rng.randint(1, 6)
        return lambda: self.held.extend(self.queue.claim(most, WORKER))

    def some_held(self) -> list[JobRecord]:
        cut = self.rng.randint(0, len(self.held))
        taken, self.held = self.held[:cut], self.held[cut:]
        return taken

    def succeed(self) -> Callable[[], object]:
        settled = [make_settlement(one, value=[self.count] * 20) for one in self.some_held()]
        return lambda: self.settle(settled)

    def fail(self) -> Callable[[], object]:
        settled = []
        for one in self.some_held():
            status = self.rng.choice((JobStatus.FAILED, JobStatus.PENDING))
            children = (self.job(),) if self.rng.random() < 0.3 else ()
            run_at = FAR if status is JobStatus.PENDING else 0.0
            settled.append(make_settlement(one, status, run_at=run_at, children=children))
        return lambda: self.settle(settled)

    def settle(self, settled: list[Settlement]) -> None:
        if settled:
            accepted = self.queue.settle(settled)
            assert all(accepted), "an attempt whose lease holds was not settled"

    def release(self) -> Callable[[], object]:
        jobs = self.some_held()
        return lambda: self.queue.release(jobs)

    def any_id(self) -> str:
        ids = self.again(lambda: [one.record.id for one in self.queue.page(limit=1000)])
        return self.rng.choice(ids or ["none"])

    def cancel(self) -> Callable[[], object]:
        job_id = self.any_id()
        self.held = [one for one in self.held if one.id != job_id]
        return lambda: self.queue.cancel(job_id)

    def retry(self) -> Callable[[], object]:
        job_id = self.any_id()
        return lambda: self.queue.retry(job_id)

    def pause(self) -> Callable[[], object]:
        by = f"me {self.count}"
        return lambda: self.queue.pause("mail", by)

    def extend(self) -> Callable[[], object]:
        return lambda: self.queue.extend(WORKER)

    def prune(self) -> Callable[[], object]:
        return lambda: self.queue.prune(success_before=FAR, failed_before=0, limit=3)

    def reopen(self) -> Callable[[], object]:
        """Close all; the log of SQLite ends with its last connection."""

        def call() -> None:
            self.held = []
            self.queue.stop()
            self.queue = self.opened()

        return call

    def tidy(self) -> Callable[[], object]:
        """Move SQLite's log into the database, which nothing but its length leads to otherwise."""
        if not isinstance(self.queue, SQLiteJobQueue):
            return lambda: None
        checkpointer = self.queue.store.db.checkpointer

        def call() -> None:
            with suppress(sqlite3.Error):  # as after a commit: the next one reports it
                checkpointer.look(trigger_bytes=0)

        return call


# What may come next; whether it survives a power cut once it has returned; how often.
CHOICES: list[tuple[Callable[[OperationSequence], Callable[[], object]], bool, int]] = [
    (OperationSequence.enqueue, True, 6),
    (OperationSequence.enqueue_many, True, 2),
    (OperationSequence.claim, False, 5),
    (OperationSequence.succeed, True, 3),
    (OperationSequence.fail, True, 2),
    (OperationSequence.release, True, 1),
    (OperationSequence.cancel, True, 2),
    (OperationSequence.retry, True, 1),
    (OperationSequence.pause, True, 1),
    (OperationSequence.extend, False, 1),
    (OperationSequence.prune, True, 1),
    (OperationSequence.reopen, False, 1),
    (OperationSequence.tidy, False, 2),
]
WEIGHTS = [weight for *_, weight in CHOICES]


def run_sequence(orders: dict[str, Any], faults: Faults) -> None:
    OperationSequence(Path(orders["root"]), orders, faults).run()


def fail_in_turn(orders: dict[str, Any], faults: Faults) -> None:
    """Run the same operations again and again; each time another call fails, until none is left."""
    errors: Counter[str] = Counter()
    for number in itertools.count(1, orders["every"]):
        root = Path(orders["root"]) / str(number)
        root.mkdir()
        faults.mark(json.dumps({"run": number}))
        calls = fail_once(root, number, orders, faults, errors=errors)
        # An error's traceback may keep a connection alive; it must not write in the next run.
        gc.collect()
        if calls < number:
            break
    faults.mark(json.dumps({"calls": calls, "errors": errors}))


def fail_once(
    root: Path, number: int, orders: dict[str, Any], faults: Faults, *, errors: Counter[str]
) -> int:
    """Let one call of a sequence fail; return how many calls there were."""
    last = EVERY if orders["lasts"] else number
    faults.fail(orders["error"], orders["kinds"], number, last)
    sequence = OperationSequence(root, orders, faults)
    sequence.run()
    faults.mend()
    errors.update(sequence.errors)
    queue = sequence.opened()
    assert seen(queue) == sequence.state, "it reads differently when opened anew"
    if isinstance(queue, SQLiteJobQueue):
        found = queue.store.db.read("PRAGMA integrity_check")
        # A few operations may all find nothing to do; then nobody has made a file.
        assert found == ([("ok",)] if queue.store.db.path.exists() else [])
    queue.stop()
    return faults.calls


def fail_after_claim(orders: dict[str, Any], faults: Faults) -> None:
    """Claim, which flushes nothing, and settle, of which the flush fails and is made again."""
    sequence = OperationSequence(Path(orders["root"]), orders, faults)
    sequence.queue.enqueue_many([make_job("m.f") for _ in range(2)])
    for error in (0, errno.EIO):  # a claim flushes until something was settled since the boot
        claimed = sequence.queue.claim(1, WORKER)
        if error:
            # The file backend writes again at once what could not be flushed.
            faults.fail(error, FLUSHES, 1, 2 if orders["backend"] == "file" else 1)
        settled = [make_settlement(one) for one in claimed]
        sequence.step(lambda settled=settled: sequence.queue.settle(settled), is_durable=True)  # type: ignore[misc]  # bound now
    assert sequence.errors == ["BackendUnavailable"]


def share_commits(orders: dict[str, Any], faults: Faults) -> None:
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


PARTS: dict[str, Callable[[dict[str, Any], Faults], None]] = {
    "sequence": run_sequence,
    "share_commits": share_commits,
    "fail": fail_in_turn,
    "fail_after_claim": fail_after_claim,
}

if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    Log.spare_bytes = 6000  # so that a short sequence has its log rewritten
    PARTS[given["part"]](given, Faults())
