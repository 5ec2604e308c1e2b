"""A worker or producer of a kill storm in its own process: ``python -m`` with orders."""

from __future__ import annotations

import json
import random
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuvom import events
from nuvom.config.sources import load
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.runtime import build_runtime, current_runtime, use_runtime
from nuvom.testing import history
from nuvom.testing.torture import log_of_storm, step
from nuvom.worker import Worker

if TYPE_CHECKING:
    from nuvom.events import EventBus

_BULK = 10  # one in this many enqueues is a map
_BULK_SIZE = 20
_PAUSE_SECS = 0.004
_JOB_SECS = 0.05


def main(orders: dict[str, Any]) -> None:
    """Follow ``orders`` until asked to stop."""
    root = Path(orders["root"])
    use_runtime(build_runtime(load(root, environ={})))
    if orders["kind"] == "worker":
        note_events(log_of_storm(), current_runtime().bus)
        worker = Worker(current_runtime(), threads=orders["threads"])
        signal.signal(signal.SIGTERM, lambda *_: worker.stop())
        worker.run()
    else:
        _produce(random.Random(orders["seed"]))  # noqa: S311  # to be replayed


def note_events(log: history.HistoryLog, bus: EventBus) -> None:
    """Record what the engine reports of jobs."""

    def note(word: str, event: events.JobSucceeded) -> None:
        log.write(word, job=event.job.id, epoch=event.job.lease_epoch)

    for kind, word in (
        (events.JobSucceeded, history.FINISH_OK),
        (events.JobFailed, history.FINISH_OK),
        (events.JobDead, history.FINISH_OK),
        (events.JobFenced, history.FENCED),
        (events.JobRetrying, history.RETRYING),
    ):
        bus.subscribe(kind, partial(note, word))


def _produce(rng: random.Random) -> None:
    stopping: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    while not stopping:
        count = _BULK_SIZE if rng.randrange(_BULK) == 0 else 1
        items = [(rng.randrange(10**9), round(rng.uniform(0, _JOB_SECS), 4)) for _ in range(count)]
        log_of_storm().write(history.ENQUEUE_INVOKE, keys=[number for number, _ in items])
        ids = [step.delay(*items[0]).id] if count == 1 else step.map(items).ids
        for job_id in ids:
            log_of_storm().write(history.ENQUEUE_OK, job=job_id)
        SYSTEM_CLOCK.sleep(_PAUSE_SECS * count)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
