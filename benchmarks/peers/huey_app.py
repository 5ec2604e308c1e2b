"""Huey on Redis, SQLite or files, by ``BENCH_VARIANT``."""

from __future__ import annotations

import os
import shutil
import signal
from typing import Any

import body
from huey import FileHuey, RedisHuey, SqliteHuey

from peers.base import FOLDER, JOBS_DB, REDIS, Adapter, program, survives

VARIANT = os.environ.get("BENCH_VARIANT", "redis")
RESULTS = FOLDER / "huey" / "results"
# Polling as often as this costs a few per cent of a core; Redis wakes its worker instead.
POLL = ["-d", "0.005", "-m", "0.005"]

if VARIANT == "redis":
    app = RedisHuey("bench", url=f"{REDIS}/{JOBS_DB}")
elif VARIANT == "file":
    app = FileHuey("bench", path=str(RESULTS.parent), use_thread_lock=False)
else:
    app = SqliteHuey("bench", filename=str(FOLDER / "huey.db"), fsync=VARIANT == "sqlite-fsync")

noop = app.task()(body.noop)
mark = app.task()(body.mark)


class HueyAdapter(Adapter):
    """Results are polled every millisecond, which is faster than being notified.

    On Redis four threads were faster than one; elsewhere one was.
    """

    packages = ("huey", "redis", "hiredis") if VARIANT == "redis" else ("huey",)
    options = ["-w", "4"] if VARIANT == "redis" else ["-w", "1", *POLL]
    worker_text = " ".join(["huey_consumer -k thread", *options])
    durability = {
        "redis": "none by itself: as the server is set",
        "sqlite": "survives the death of a process; a power cut may damage it (fsync=False)",
        "sqlite-fsync": survives("fsync=True, as is its default", power_cut=True),
        "file": survives("one file for each job", power_cut=False),
    }[VARIANT]
    stop_signal = signal.SIGINT

    def worker(self) -> list[str]:
        fixed = ["-k", "thread", "-n", "-q", "-C"]
        return [program("huey_consumer"), "peers.huey_app.app", *fixed, *self.options]

    def clear(self) -> None:
        app.flush()

    def close(self) -> None:
        self.clear()

    def call(self, number: int) -> Any:  # noqa: ANN401  # Huey's handle
        return noop(number)

    def mark(self, place: int, pause_secs: float = 0.0) -> Any:  # noqa: ANN401  # Huey's handle
        return mark(place, pause_secs)

    def wait(self, handle: Any, limit_secs: float) -> Any:  # noqa: ANN401  # Huey's handle
        return handle.get(blocking=True, timeout=limit_secs, max_delay=0.001)

    def finished(self) -> int:
        return int(app.result_count())


class FileAdapter(HueyAdapter):
    """One file for each job, and one for each result."""

    def clear(self) -> None:
        app.flush()
        shutil.rmtree(RESULTS, ignore_errors=True)
        RESULTS.mkdir(parents=True, exist_ok=True)

    def finished(self) -> int:
        files = sum(len(names) for _, _, names in os.walk(RESULTS))
        return files - (RESULTS / ".lock").exists()


adapter = FileAdapter if VARIANT == "file" else HueyAdapter
