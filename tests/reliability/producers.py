"""Forks short-lived producers and kills them at random: ``python -m`` with orders.

A process without threads that has imported everything but opened no store: a fork of it is a
new process as good as any, in a hundredth of the time.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from nuvom.config.sources import load
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.ids import new_id
from nuvom.runtime import build_runtime, use_runtime
from nuvom.testing.history import HistoryLog
from tests.reliability import tasks

MAP_SIZE = 50
NOT_AWAITED = 5  # one of so many is killed without waiting for its first job


def main(orders: dict[str, Any]) -> None:
    rng = random.Random(orders["seed"])
    for number in range(orders["kills"]):
        is_up, tells = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                produce(Path(orders["root"]), Path(orders["told"]), tells)
            finally:
                os._exit(1)
        os.close(tells)
        if number % NOT_AWAITED:
            os.read(is_up, 1)
        os.close(is_up)
        SYSTEM_CLOCK.sleep(rng.uniform(0.0, 0.03))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL, f"a producer ended by itself: {status}"


def produce(root: Path, told: Path, is_up: int) -> None:
    """Enqueue one job and a map in turn, and tell of each as soon as it is accepted."""
    use_runtime(build_runtime(load(root, environ={})))
    log, parent = HistoryLog(told), os.getppid()
    while os.getppid() == parent:
        log.write("told", jobs=[tasks.plain.delay(1).id])
        os.write(is_up, b"!")
        key = new_id()
        items = [(number,) for number in range(MAP_SIZE)]
        log.write("told", map=key, jobs=tasks.plain.options(metadata={"map": key}).map(items).ids)


if __name__ == "__main__":
    assert threading.active_count() == 1
    main(json.loads(sys.argv[1]))
