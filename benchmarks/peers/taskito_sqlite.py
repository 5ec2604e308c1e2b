"""taskito (Rust core) on SQLite, polling every millisecond and claiming in batches."""

from __future__ import annotations

import contextlib
from typing import Any

import body
from taskito import Queue

from peers.base import FOLDER, Adapter, program

app = Queue(
    db_path=str(FOLDER / "taskito.db"),
    workers=2,
    scheduler_poll_interval_ms=1,
    scheduler_batch_size=100,
    push_dispatch=True,
)
noop = app.task(name="noop")(body.noop)
mark = app.task(name="mark")(body.mark)


class adapter(Adapter):  # noqa: N801  # the name that probe.py looks for
    """Results are polled every millisecond."""

    packages = ("taskito",)
    durability = "survives the death of a process (SQLite in WAL mode; flushing is not documented)"
    worker_text = "taskito worker, 2 threads, poll 1 ms, batch 100, push dispatch"
    has_bulk = True

    def clear(self) -> None:
        with contextlib.suppress(Exception):  # nothing was ever stored
            app.purge("default")
        app.purge_completed(0)
        self.base = int(app.stats().get("completed", 0))

    def worker(self) -> list[str]:
        return [program("taskito"), "worker", "--app", "peers.taskito_sqlite:app"]

    def call(self, number: int) -> Any:  # noqa: ANN401  # its handle
        return noop.delay(number)

    def bulk(self, count: int) -> None:
        app.enqueue_many("noop", [(number,) for number in range(count)])

    def mark(self, place: int, pause_secs: float = 0.0) -> Any:  # noqa: ANN401  # its handle
        return mark.delay(place, pause_secs)

    def wait(self, handle: Any, limit_secs: float) -> Any:  # noqa: ANN401  # its handle
        return handle.result(timeout=limit_secs, poll_interval=0.001, max_poll_interval=0.001)

    def finished(self) -> int:
        return int(app.stats()["completed"]) - self.base
