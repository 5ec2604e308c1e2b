"""What the benchmarks ask of a peer. An adapter subclasses ``Adapter`` and says what is its own.

The module of a peer is imported twice, in the producer and in the worker. It makes its
application at import time, from ``FOLDER`` and the addresses below.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from catalogue import Peer

FOLDER = Path(os.environ.get("BENCH_FOLDER", "."))
REDIS = os.environ.get("BENCH_REDIS", "redis://127.0.0.1:6379")
JOBS_DB, RESULTS_DB = 9, 10  # of Redis: nothing else may be in them
POSTGRES = os.environ.get("BENCH_POSTGRES", "host=127.0.0.1")
SCHEMA = "nuvom_bench"  # of PostgreSQL


class Adapter:
    """One peer, seen by the producer.

    Attributes:
        packages: Distributions whose versions belong to the figures.
        durability: What a stored job survives, with the settings used here.
        worker_text: The settings of its worker, for the report.
        keeps_results: ``wait`` returns what the task returned.
        has_bulk: It can store many jobs in one call.
        in_process: Its worker runs in the producer's process, inside ``drain_here``.
        stop_signal: What ends its worker in good order.
        sent: How many jobs were stored since ``clear``.
        peer: Its entry in the catalogue.
    """

    peer: Peer

    packages: tuple[str, ...] = ()
    durability = ""
    worker_text = ""
    keeps_results = True
    has_bulk = False
    in_process = False
    stop_signal = signal.SIGTERM
    sent = 0

    def open(self) -> None:
        """Connect, make what is needed."""

    def clear(self) -> None:
        """Remove all jobs and results."""
        raise NotImplementedError

    def close(self) -> None:
        """Leave nothing behind on servers."""

    def worker(self) -> list[str]:
        """Return the command of its worker."""
        raise NotImplementedError

    def worker_folder(self) -> Path:
        """Return the folder to start the worker in."""
        return FOLDER

    def worker_variables(self) -> dict[str, str]:
        """Return the environment variables of the worker."""
        return dict(os.environ)

    def call(self, number: int) -> Any:  # noqa: ANN401  # each peer has a handle of its own
        """Store one no-op job; return its handle."""
        raise NotImplementedError

    def calls(self, count: int) -> None:
        """Store ``count`` no-op jobs, one call each; what single calls are timed by."""
        call = self.call
        for number in range(count):
            call(number)

    def bulk(self, count: int) -> None:
        """Store ``count`` no-op jobs the fastest way there is."""
        self.calls(count)

    def mark(self, place: int, pause_secs: float = 0.0) -> Any:  # noqa: ANN401  # likewise
        """Store one marking job; return its handle."""
        raise NotImplementedError

    def wait(self, handle: Any, limit_secs: float) -> Any:  # noqa: ANN401  # likewise
        """Return a job's result as soon as it is there."""
        raise NotImplementedError

    def drain_here(self, count: int) -> float:
        """Run what ``fill`` has stored in this process; return how many seconds it took."""
        raise NotImplementedError

    def finished(self) -> int:
        """Return how many jobs have their result stored, at little cost."""
        raise NotImplementedError

    def versions(self) -> dict[str, str]:
        """Return the versions of ``packages``."""
        return {name: version(name) for name in self.packages}


class AsyncAdapter(Adapter):
    """A peer whose calls are coroutines: single calls are awaited one after the other."""

    def open(self) -> None:
        super().open()
        self.run = self.new_loop().run_until_complete

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop that the producer runs in."""
        return asyncio.new_event_loop()

    def send(self, number: int) -> Any:  # noqa: ANN401  # a coroutine
        """Return the call that stores one no-op job."""
        raise NotImplementedError

    def call(self, number: int) -> Any:  # noqa: ANN401  # each peer has a handle of its own
        self.sent += 1
        return self.run(self.send(number))

    def calls(self, count: int) -> None:
        async def all_of_them() -> None:
            for number in range(count):
                await self.send(number)

        self.sent += count
        self.run(all_of_them())


def survives(what: str, *, power_cut: bool) -> str:
    """Return what a stored job survives, with the setting that says so."""
    lives = "a power cut" if power_cut else "the death of a process, not a power cut"
    return f"survives {lives} ({what})"


def program(name: str) -> str:
    """Return the path of a command of this environment."""
    return str(Path(sys.executable).with_name(name + (".exe" if os.name == "nt" else "")))
