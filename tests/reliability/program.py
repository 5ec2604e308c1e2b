"""What children of fault tests do: ``python -m`` with orders, of which one is the part to play."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from nuvom.config.sources import load
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.record import FINAL, JobStatus
from nuvom.events import BackendFailed
from nuvom.execution import maintenance
from nuvom.host import crashpoint
from nuvom.inspection.inspector import Inspector
from nuvom.job import Job
from nuvom.queue_backends.file import FileJobQueue
from nuvom.queue_backends.file_log import Log
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.runtime import Runtime, build_runtime, use_runtime
from nuvom.scheduler import service
from nuvom.scheduler.service import Scheduler
from nuvom.testing import history
from nuvom.testing.builders import make_job
from nuvom.testing.history import HistoryLog
from nuvom.testing.torture_child import note_events
from nuvom.worker import Worker
from tests.lab import clocks, crashing
from tests.reliability import poison, soak, tasks

assert poison
assert soak  # their tasks are known to workers from now on

_HANGS_AFTER_SECS = 100  # then its stacks go to the log of its errors; the test ends it
_ENOUGH_SECS = 8.0
_LOOK_SECS = 0.01


def main(orders: dict[str, Any]) -> None:
    faulthandler.dump_traceback_later(_HANGS_AFTER_SECS)
    log = HistoryLog(os.environ[tasks.HISTORY_VARIABLE])
    crashing.arm_from(os.environ, reached=lambda name: log.write("reached", name=name))
    if orders.get("traced"):
        _trace(orders["traced"])
    runtime = build_runtime(load(Path(orders["root"]), environ={}))
    use_runtime(runtime)
    note_events(log, runtime.bus)
    PARTS[orders["part"]](runtime, log, orders)


def _trace(path: str) -> None:
    """Write the name of each crash point that is passed, instead of ending there."""
    trace = HistoryLog(path)
    seen: set[str] = set()

    def note(name: str) -> None:
        if name not in seen:
            seen.add(name)
            trace.write("passed", name=name)

    crashpoint.arm(note)


# ---- parts ------------------------------------------------------------------------------


def work(runtime: Runtime, log: HistoryLog, orders: dict[str, Any]) -> None:
    """Be a worker until asked to stop; say ``up`` once it is there. Note failures of the store."""
    runtime.bus.subscribe(
        BackendFailed, lambda event: log.write("store-failed", error=event.error.message)
    )
    worker = Worker(runtime, threads=orders.get("threads", 2))
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    worker.start()
    print("up", flush=True)
    while not worker.join(0.05):
        pass


def soak_long(runtime: Runtime, log: HistoryLog, orders: dict[str, Any]) -> None:
    """Be a worker that prunes more often than others do."""
    maintenance._PRUNE_SECS = orders["prune_secs"]
    faulthandler.cancel_dump_traceback_later()
    work(runtime, log, orders)


def found(runtime: Runtime, log: HistoryLog, orders: dict[str, Any]) -> None:
    """Make a store, put jobs into it, and die while one of them runs."""
    del orders
    produce(log, runtime)
    enqueue(log, lambda: [tasks.deadly.delay(0, os.getpid()).id])
    Worker(runtime, threads=2).run()


def live(runtime: Runtime, log: HistoryLog, orders: dict[str, Any]) -> None:
    """Do everything at a store that can be interrupted: enqueue, work, cancel, stop, and more."""
    if orders.get("spare_bytes"):
        Log.spare_bytes = orders["spare_bytes"]
    worker = Worker(runtime, threads=2)
    worker.start()
    produce(log, runtime)
    scheduler = Scheduler(runtime)
    scheduler.start()
    tasks.plain.schedule(30, in_=0)
    later = enqueue(log, lambda: [tasks.plain.options(delay=3600).delay(1).id])
    stubborn = enqueue(log, lambda: [tasks.stubborn.delay(1, os.getpid()).id])
    runtime.control.cancel(later[0])
    renamed = make_job(tasks.FORMER_NAME, 2)
    enqueue(log, lambda: [runtime.dispatcher.enqueue(renamed) or renamed.id])
    _wait(worker, lambda: Job.load(renamed.id).status is JobStatus.PARKED)
    runtime.control.retry_as(renamed.id, tasks.plain.name)
    if orders.get("spare_bytes"):
        tasks.plain.options(delay=3600, queue="waste").map([(number,) for number in range(150)])
        runtime.control.purge("waste")
        _wait(worker, lambda: not _has_first_log(runtime))
    else:
        _wait(worker, lambda: _checkpoints(runtime))
    _wait(worker, lambda: _open_ids(runtime) <= set(stubborn))
    scheduler.stop()
    worker.stop()
    worker.join(_ENOUGH_SECS)
    runtime.stop()


def fork(runtime: Runtime, log: HistoryLog, orders: dict[str, Any]) -> None:
    """Fork again and again while threads enqueue and a worker works; all children enqueue too."""
    # Loads what the first job loads. Python cannot fork while another thread imports: the child
    # would wait forever for the lock of the module.
    enqueue(log, lambda: [tasks.plain.delay(1).id])
    worker = Worker(runtime, threads=2)
    worker.start()
    stopping = threading.Event()

    def keep_enqueueing() -> None:
        while not stopping.wait(0.002):
            enqueue(log, lambda: [tasks.plain.delay(1).id])

    threads = [threading.Thread(target=keep_enqueueing) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(orders["forks"]):
            pid = os.fork()
            if not pid:
                _play_child(log)
            _, status = os.waitpid(pid, 0)
            assert status == 0, f"a child ended with {status}"
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
        worker.stop()
        worker.join(_ENOUGH_SECS)


def _play_child(log: HistoryLog) -> None:
    faulthandler.register(signal.SIGALRM, chain=True)  # it tells where it was, and is ended
    signal.alarm(10)
    code = 1
    try:
        enqueue(log, lambda: [tasks.plain.delay(2).id])
        enqueue(log, lambda: tasks.plain.map([(3,), (4,)]).ids)
        code = 0
    finally:
        os._exit(code)


def supply(runtime: Runtime, log: HistoryLog, orders: dict[str, Any]) -> None:
    """Enqueue from several threads until asked to stop; note what ``.delay()`` raises."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    runtime.queue.start()
    print("up", flush=True)

    def keep_enqueueing() -> None:
        while not stopping.wait(0.02):
            try:
                enqueue(log, lambda: [tasks.slow.delay(1, 0.01).id])
            except Exception as error:  # noqa: BLE001  # none is expected
                log.write("raised", error=repr(error))

    threads = [threading.Thread(target=keep_enqueueing) for _ in range(orders["threads"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def enqueue_unique(runtime: Runtime, log: HistoryLog, orders: dict[str, Any]) -> None:
    """Enqueue a job with a key that is always the same, and print its id."""
    del runtime, log, orders
    print(tasks.plain.options(unique_key="same").delay(1).id)


def delay(runtime: Runtime, log: HistoryLog, orders: dict[str, Any]) -> None:
    """Enqueue a job that is due in ``secs``, and print its id."""
    del runtime, log
    print(tasks.plain.options(delay=orders["secs"]).delay(1).id)


def schedule(runtime: Runtime, log: HistoryLog, orders: dict[str, Any]) -> None:
    """Be a scheduler until asked to stop; say ``up`` once it is there.

    Each SIGUSR1 sets its wall clock, if that can be wrong, to the next of ``clock_secs``.
    """
    clock_secs, stopping = iter(orders.get("clock_secs", ())), threading.Event()

    def set_clock(*_: object) -> None:
        os.environ[clocks.VARIABLE] = str(next(clock_secs))

    service.LOOK_SECS = orders.get("look_secs", service.LOOK_SECS)
    scheduler = _Watched(runtime, log) if orders.get("tells_looks") else Scheduler(runtime)
    signal.signal(signal.SIGUSR1, set_clock)
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    scheduler.start()
    print("up", flush=True)
    while not stopping.wait(0.05):
        pass
    scheduler.stop()


class _Watched(Scheduler):
    """Notes each look, and when it was by the wall clock."""

    def __init__(self, runtime: Runtime, log: HistoryLog) -> None:
        super().__init__(runtime)
        self._log = log

    def step(self) -> float:
        began_at = time.time()
        wait_secs = super().step()
        self._log.write("look", wall=began_at)
        return wait_secs


PARTS: dict[str, Callable[[Runtime, HistoryLog, dict[str, Any]], None]] = {
    "work": work,
    "soak": soak_long,
    "found": found,
    "live": live,
    "fork": fork,
    "supply": supply,
    "enqueue_unique": enqueue_unique,
    "delay": delay,
    "schedule": schedule,
}


# ---- what they are made of --------------------------------------------------------------


def enqueue(log: HistoryLog, call: Callable[[], list[str]]) -> list[str]:
    """Enqueue and note it; return the ids."""
    log.write(history.ENQUEUE_INVOKE)
    ids = call()
    for job_id in ids:
        log.write(history.ENQUEUE_OK, job=job_id)
    return ids


def produce(log: HistoryLog, runtime: Runtime) -> None:
    """Enqueue jobs of every kind."""
    del runtime
    for number in range(3):
        enqueue(log, lambda number=number: [tasks.plain.delay(number).id])  # type: ignore[misc]  # bound now
    enqueue(log, lambda: tasks.plain.map([(number,) for number in range(10, 16)]).ids)
    enqueue(log, lambda: [tasks.parent.delay(20).id])
    enqueue(log, lambda: [tasks.flaky.delay(21).id])
    enqueue(log, lambda: [tasks.failing.delay(22).id])
    enqueue(log, lambda: [tasks.plain.options(unique_key="one").delay(23).id])


def _open_ids(runtime: Runtime) -> set[str]:
    page = Inspector(runtime).page(limit=1000)
    return {one.record.id for one in page if one.status not in FINAL}


def _has_first_log(runtime: Runtime) -> bool:
    """Whether a file queue still has the log that a rewrite is to replace."""
    queue = runtime.queue
    assert isinstance(queue, FileJobQueue)
    return (queue.directory / "log" / "0000000001.log").exists()


def _checkpoints(runtime: Runtime) -> bool:
    queue = runtime.queue
    assert isinstance(queue, SQLiteJobQueue)
    return queue.store.db.checkpointer.look(trigger_bytes=0)


def _wait(worker: Worker, is_so: Callable[[], bool]) -> None:
    ends_at = SYSTEM_CLOCK.monotonic() + _ENOUGH_SECS
    while SYSTEM_CLOCK.monotonic() < ends_at and not worker.join(0):
        with suppress(crashing.CrashPointReached):
            if is_so():
                return
        SYSTEM_CLOCK.sleep(_LOOK_SECS)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
