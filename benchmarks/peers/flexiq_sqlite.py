"""flexiq (Rust core, called taskito before its release 1.0) on SQLite."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import body
from flexiq import Queue

from peers.base import FOLDER, Adapter, program, survives

os.environ.setdefault("FLEXIQ_LOG_LEVEL", "WARNING")  # else two lines for each job
app = Queue(
    db_path=str(FOLDER / "flexiq.db"),
    workers=4,
    scheduler_poll_interval_ms=1,
    scheduler_batch_size=100,
    push_dispatch=False,
)
noop = app.task(name="noop")(body.noop)
mark = app.task(name="mark")(body.mark)


class adapter(Adapter):  # noqa: N801  # the name that probe.py looks for
    """Jobs and results are polled every millisecond: on SQLite, its ``push_dispatch`` hears of a
    job from another process only after seconds. Of 1, 2, 4, 8 and 16 threads, and of batches of
    1, 100 and 500, these were the fastest.
    """

    packages = ("flexiq",)
    durability = survives("WAL, synchronous=NORMAL; it has no setting", power_cut=False)
    worker_text = "flexiq worker, 4 threads, poll 1 ms, batch 100"
    has_bulk = True

    def clear(self) -> None:
        with contextlib.suppress(Exception):  # nothing was ever stored
            app.purge("default")
        app.purge_completed(0)
        self.base = int(app.stats().get("completed", 0))

    def worker(self) -> list[str]:
        return [program("flexiq"), "worker", "--app", "peers.flexiq_sqlite:app"]

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
