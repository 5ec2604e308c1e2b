"""Processes of ``test_interrupted_workers.py``: ``python -m`` with orders, as ``program.py``."""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from nuvom.config.sources import load
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.log import configure_logging
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.runtime import Runtime, build_runtime, current_runtime, use_runtime
from tests.reliability.interrupted_tasks import Caller

HANGS_AFTER_SECS = 25  # then its stacks go to the log of its errors
PAGE = bytes(4096)
MOST_SECS = 0.01  # from the arming of an interruption until it comes
AT_ONCE = 4  # connections, at most, of a program that uses its store in one thread


def main(orders: dict[str, Any]) -> None:
    root = Path(orders["root"])
    use_runtime(build_runtime(load(root, environ={})))
    PARTS[orders["part"]](root, orders)


# ---- a producer beside workers ------------------------------------------------------------


def produce(root: Path, orders: dict[str, Any]) -> None:
    """Enqueue until asked to stop; write down how long each call and each control flush took."""
    stopping = asked_to_stop()
    caller = Caller(orders["told"], Random())
    enqueues = [caller.one] * 8 + [caller.many, caller.keyed]
    with open(orders["waits"], "ab", buffering=0) as waits, open(root / "control", "wb", 0) as disk:
        print("up", flush=True)
        while not stopping.is_set():
            enqueue = caller.rng.choice(enqueues)
            faulthandler.dump_traceback_later(HANGS_AFTER_SECS)
            began = SYSTEM_CLOCK.monotonic()
            enqueue()
            called = SYSTEM_CLOCK.monotonic()
            disk.write(PAGE)
            os.fsync(disk.fileno())
            flushed = SYSTEM_CLOCK.monotonic()
            waits.write(f"{called - began:.6f} {flushed - called:.6f}\n".encode())


# ---- a program that is interrupted, and goes on -------------------------------------------


class Interrupted:
    """Calls the engine in the main thread while another process sends it SIGINT.

    Each signal is asked for, so that at most one is on its way: it finds the loop inside its
    ``try``.

    Attributes:
        swallowed: How often the interpreter itself dropped what the signal raised, as it does
            with exceptions in a ``__del__``.
    """

    def __init__(self, orders: dict[str, Any]) -> None:
        self._rng = Random(orders["seed"])
        self._ask = self._start_sender(self._rng.random())
        self._caller = Caller(orders["told"], self._rng)
        self._is_armed = False
        self.swallowed = 0
        signal.signal(signal.SIGINT, self._interrupt)

    def run(self, times: int) -> None:
        """Call the engine until interrupted so many times."""
        count = 0
        while count < times:
            try:
                self._is_armed = True
                os.write(self._ask, b"!")
                while self._is_armed:
                    self._caller.call()
                self.swallowed += 1
            except KeyboardInterrupt:
                count += 1
                faulthandler.dump_traceback_later(HANGS_AFTER_SECS)

    def call_all(self) -> None:
        """Make each call once, uninterrupted."""
        self._caller.has_long_waits = False
        for way in self._caller.ways:
            way()

    def close(self) -> None:
        os.close(self._ask)
        os.wait()

    def _interrupt(self, *_: object) -> None:
        if self._is_armed:
            self._is_armed = False
            raise KeyboardInterrupt

    @staticmethod
    def _start_sender(seed: float) -> int:
        """Start a process that sends a SIGINT for each byte that is written to what is returned."""
        asked, ask = os.pipe()
        if os.fork():
            os.close(asked)
            return ask
        try:
            os.close(ask)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            rng, parent = Random(seed), os.getppid()
            while os.read(asked, 1) and os.getppid() == parent:
                SYSTEM_CLOCK.sleep(rng.uniform(0.0, MOST_SECS))
                os.kill(parent, signal.SIGINT)
        finally:
            os._exit(0)


def be_interrupted(root: Path, orders: dict[str, Any]) -> None:
    """Be interrupted, tell what is left of it, and stay there until asked to stop."""
    stopping = asked_to_stop()
    faulthandler.dump_traceback_later(HANGS_AFTER_SECS)
    program = Interrupted(orders)  # it forks: nothing is open yet
    with open(root / "program.log", "w", encoding="utf-8") as log:
        configure_logging(fmt="plain", stream=log)
        program.call_all()
        open_what_opens_late(current_runtime())
        before = open_files()
        program.run(orders["times"])
        program.call_all()
        faulthandler.cancel_dump_traceback_later()
        gc.collect()
        found = {"swallowed": program.swallowed, "before": before, "after": open_files()}
        tell(root / "interrupted.json", found)
        stopping.wait()
        program.close()
        current_runtime().stop()


def open_what_opens_late(runtime: Runtime) -> None:
    """Have the files opened that a SQLite store opens once its log has grown, or a call waits.

    SQLite closes a connection's file only when no other connection of the process holds a lock on
    it, and hands it to the next one until then: so many as were ever open at once stay open.
    """
    if isinstance(runtime.queue, SQLiteJobQueue):
        db = runtime.queue.store.db
        db.checkpointer.look(trigger_bytes=0)
        for connection in [db.connect() for _ in range(AT_ONCE)]:
            connection.close()


# ---- what they share ----------------------------------------------------------------------


def asked_to_stop() -> threading.Event:
    """Return an event that SIGTERM sets."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    return stopping


def open_files() -> list[str]:
    """Return what each open file of this process is, but for the one that lists them."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found.append(re.sub(r"\d{3,}", "N", os.readlink(f"/proc/self/fd/{number}")))
    return sorted(found)


def tell(path: Path, found: dict[str, Any]) -> None:
    """Write a file that is whole as soon as it is there."""
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(found), encoding="utf-8")
    draft.rename(path)


PARTS: dict[str, Callable[[Path, dict[str, Any]], None]] = {
    "produce": produce,
    "be_interrupted": be_interrupted,
}

if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
