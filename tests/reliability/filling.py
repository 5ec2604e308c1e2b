"""A program that goes on while its disk is full: ``python -m`` with orders."""

from __future__ import annotations

import errno
import json
import logging
import resource
import sys
from collections import Counter
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

from nuvom.config.sources import load
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.record import JobStatus
from nuvom.errors import StorageFull
from nuvom.events import BackendFailed
from nuvom.inspection.inspector import Inspector
from nuvom.log import LogHandler
from nuvom.logs.events import subscribe_logging
from nuvom.runtime import build_runtime, use_runtime
from nuvom.worker import Worker
from tests.lab.iofaults import WRITES, Faults
from tests.reliability.filling_tasks import PADDING, held, may_end, plain, started

_LIMIT_SECS = 30.0
_LOOK_SECS = 0.002
RUNNING = 2  # jobs that run when the disk fills up


class Calls:
    """Every call that needs room fails."""

    def __init__(self, root: Path) -> None:
        self._faults = Faults()

    def fill(self) -> None:
        self._faults.fail(errno.ENOSPC, WRITES)

    def empty(self) -> None:
        self._faults.mend()


class FileSize:
    """No file may grow."""

    def __init__(self, root: Path) -> None:
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, self._before[1]))

    def empty(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


class Lines(LogHandler):
    """Counts what a worker would write to its log."""

    def __init__(self) -> None:
        self._written = StringIO()
        super().__init__(self._written, logging.Formatter())

    @property
    def count(self) -> int:
        return len(self._written.getvalue().splitlines())


WAYS: dict[str, Callable[[Path], Any]] = {"calls": Calls, "size": FileSize}


class Program:
    """Threads of one process that enqueue and work, and what they notice of a full disk."""

    def __init__(self, orders: dict[str, Any]) -> None:
        root = Path(orders["root"])
        backends = {"queue_backend": orders["backend"], "result_backend": orders["backend"]}
        self.disk = WAYS[orders["way"]](root)
        self.runtime = build_runtime(load(root, environ={}, overrides=backends))
        use_runtime(self.runtime)
        self.troubles: Counter[str] = Counter()
        self.runtime.bus.subscribe(BackendFailed, lambda event: self.troubles.update([event.op]))
        self.log = Lines()
        logging.getLogger("full").addHandler(self.log)
        subscribe_logging(self.runtime.bus, logging.getLogger("full"), logging.WARNING)
        self.worker = Worker(self.runtime, threads=RUNNING)

    def run(self, troubles: int) -> dict[str, Any]:
        """Fill the disk until ``troubles`` settles have failed, then go on until all is done."""
        self.worker.start()
        plain.map([(number,) for number in range(5)])
        running = [held.delay() for _ in range(RUNNING)]
        for _ in range(RUNNING):
            started.acquire()
        plain.map([(number,) for number in range(5)])  # these wait behind them
        full = self.be_full(troubles)
        self.disk.empty()
        emptied_at = SYSTEM_CLOCK.monotonic()
        wait(lambda: {JobStatus.SUCCESS} == set(self.stored().values()))
        resumed_secs = SYSTEM_CLOCK.monotonic() - emptied_at
        assert [job.get(timeout=_LIMIT_SECS) for job in running] == [PADDING] * RUNNING
        assert plain.delay(41).get(timeout=_LIMIT_SECS) == 42
        lines = self.log.count
        self.worker.stop()
        assert self.worker.join(_LIMIT_SECS)
        self.runtime.stop()
        return {**full, "resumed_secs": resumed_secs, "lines": lines}

    def be_full(self, troubles: int) -> dict[str, Any]:
        self.disk.fill()
        filled_at = SYSTEM_CLOCK.monotonic()
        before = self.stored()
        refused = [
            is_refused(lambda: plain.delay(1, PADDING)),
            is_refused(lambda: plain.map([(1,)] * 500)),
        ]
        may_end.set()  # two results that nothing can be done with
        wait(lambda: self.troubles["settle"] >= troubles)
        assert self.stored().keys() == before.keys(), "something was refused and stored"
        assert not self.worker.join(0), "the worker has ended"
        return {
            "accepted": len(before),
            "refused": refused,
            "troubles": sum(self.troubles.values()),
            "full_secs": SYSTEM_CLOCK.monotonic() - filled_at,
        }

    def stored(self) -> dict[str, JobStatus]:
        return {one.record.id: one.status for one in Inspector(self.runtime).page(limit=1000)}


def is_refused(call: Callable[[], object]) -> bool:
    try:
        call()
    except StorageFull:
        return True
    return False


def wait(is_so: Callable[[], bool]) -> None:
    deadline = SYSTEM_CLOCK.monotonic() + _LIMIT_SECS
    while not is_so():
        assert SYSTEM_CLOCK.monotonic() < deadline
        SYSTEM_CLOCK.sleep(_LOOK_SECS)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(json.dumps(Program(given).run(given["troubles"])), flush=True)
