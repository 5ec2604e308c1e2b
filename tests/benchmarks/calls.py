"""Counts how many Python functions are called for each job; prints it as JSON.

    python -m tests.benchmarks.calls PROJECT_FOLDER

A process of its own, where no other test's threads are counted. A thread stops counting by
itself, at its next event after the figures were taken: nobody else can make it.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from nuvom.worker import Worker
from tests.engine import Engine, make_runtime, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

JOBS = 1_000
WARM = 50
WORKERS = 5  # a machine that is busy with others makes batches smaller, never larger


class Counter:
    """Counts calls in this thread, and in those that are started, while its block runs."""

    def __init__(self) -> None:
        self._take = itertools.count().__next__  # atomic, whichever thread takes
        self._is_over = False
        self.calls = 0

    def __enter__(self) -> Self:
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)
        self.calls = self._take()
        self._is_over = True
        threading.setprofile(None)

    def _note(self, frame: Any, event: str, arg: Any) -> None:
        del frame, arg
        if self._is_over:
            sys.setprofile(None)
        elif event == "call":
            self._take()


def counted(action: Callable[[], object]) -> float:
    """Return how many functions ``action`` calls for each of ``JOBS`` jobs."""
    with Counter() as counter:
        action()
    return counter.calls / JOBS


def main(folder: str) -> dict[str, float]:
    """Return the figures of a worker, of single calls and of one call for many."""
    root = Path(folder)
    (root / "nuvom.toml").touch()
    os.chdir(root)
    runtime = make_runtime(root, queue_backend="sqlite", result_backend="sqlite")
    with Engine(runtime, listens=False) as engine:

        @engine.task
        def noop(number: int) -> int:
            return number

        def delay_all() -> None:
            for number in range(JOBS):
                noop.delay(number)

        def work() -> None:
            worker.start()
            # Not counted: how often this thread looks is a matter of time.
            sys.setprofile(None)
            wait_until(lambda: worker.finished_jobs >= JOBS)

        for number in range(WARM):
            noop.delay(number)
        found = {"delay": counted(delay_all)}
        runtime.queue.clear()
        found["map"] = counted(lambda: noop.map((number,) for number in range(JOBS)))
        costs = []
        for _ in range(WORKERS):
            worker = Worker(runtime)
            costs.append(counted(work))
            worker.abort()
            worker.join()
            noop.map((number,) for number in range(JOBS))
        found["worker"] = min(costs)
    return found


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
