"""A worker or producer of a kill storm in its own process: ``python -m`` with orders."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

from nuvom import events
from nuvom.config.sources import load
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.runtime import build_runtime, current_runtime, use_runtime
from nuvom.testing import history, torture_tasks
from nuvom.worker import Worker

_BULK = 10  # one in this many enqueues is a map
_BULK_SIZE = 20
_PAUSE_SECS = 0.004


def main(orders: dict[str, Any]) -> None:
    """Follow ``orders`` until asked to stop."""
    root = Path(orders["root"])
    os.environ[torture_tasks.HISTORY_VARIABLE] = str(root / "history.ndjson")
    use_runtime(build_runtime(load(root, environ={})))
    if orders["kind"] == "worker":
        _work(orders)
    else:
        _produce(orders)


def _work(orders: dict[str, Any]) -> None:
    log = torture_tasks.log()
    for kind, word in (
        (events.JobSucceeded, history.FINISH_OK),
        (events.JobFailed, history.FINISH_OK),
        (events.JobDead, history.FINISH_OK),
        (events.JobFenced, history.FENCED),
        (events.JobRetrying, history.RETRYING),
    ):
        events.subscribe(kind, lambda event, word=word: _note(log, word, event))  # type: ignore[misc]  # bound now
    worker = Worker(current_runtime(), threads=orders["threads"])
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    worker.run()


def _note(log: history.HistoryLog, word: str, event: events.JobSucceeded) -> None:
    log.write(word, job=event.job.id, epoch=event.job.lease_epoch)


def _produce(orders: dict[str, Any]) -> None:
    stopping: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    log, rng = torture_tasks.log(), random.Random(orders["seed"])  # noqa: S311  # to be replayed
    task = getattr(torture_tasks, orders["task"])
    accepted = 0
    while not stopping and (orders["jobs"] is None or accepted < orders["jobs"]):
        count = _BULK_SIZE if rng.randrange(_BULK) == 0 else 1
        items = [
            (rng.randrange(10**9), round(rng.uniform(0, orders["job_secs"]), 4))
            for _ in range(count)
        ]
        log.write(history.ENQUEUE_INVOKE, keys=[number for number, _ in items])
        ids = [task.delay(*items[0]).id] if count == 1 else task.map(items).ids
        for job_id in ids:
            log.write(history.ENQUEUE_OK, job=job_id)
        accepted += count
        SYSTEM_CLOCK.sleep(_PAUSE_SECS * count)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
