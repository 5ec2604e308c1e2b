"""Huey on Redis, SQLite or files, by ``BENCH_VARIANT``."""

from __future__ import annotations

import os
import shutil
import signal
from typing import Any

import body
from huey import FileHuey, RedisHuey, SqliteHuey

from peers.base import FOLDER, Adapter, program

VARIANT = os.environ.get("BENCH_VARIANT", "redis")
# Polling as often as this costs a few per cent of a core; Redis wakes its worker instead.
POLL = ["-d", "0.005", "-m", "0.005"]

if VARIANT == "redis":
    from peers.redis_store import DURABILITY, JOBS_URL, RedisStore

    app = RedisHuey("bench", url=JOBS_URL)
elif VARIANT == "sqlite":
    app = SqliteHuey("bench", filename=str(FOLDER / "huey.db"), fsync=False)
elif VARIANT == "sqlite-fsync":
    app = SqliteHuey("bench", filename=str(FOLDER / "huey.db"), fsync=True)
else:
    app = FileHuey("bench", path=str(FOLDER / "huey"), use_thread_lock=False)

noop = app.task()(body.noop)
mark = app.task()(body.mark)


class HueyAdapter(Adapter):
    """Calls store; results are polled every millisecond, which is faster than being notified."""

    packages: tuple[str, ...] = ("huey",)
    worker_text = "huey_consumer -k thread -w 1"
    stop_signal = signal.SIGINT
    workers = "1"

    def worker(self) -> list[str]:
        fixed = ["-k", "thread", "-w", self.workers, "-n", "-q", "-C"]
        return [program("huey_consumer"), "peers.huey_app.app", *fixed, *self.polling()]

    def polling(self) -> list[str]:
        """Return how the worker looks for jobs."""
        return POLL

    def clear(self) -> None:
        app.flush()

    def call(self, number: int) -> Any:  # noqa: ANN401  # Huey's handle
        return noop(number)

    def mark(self, place: int, pause_secs: float = 0.0) -> Any:  # noqa: ANN401  # Huey's handle
        return mark(place, pause_secs)

    def wait(self, handle: Any, limit_secs: float) -> Any:  # noqa: ANN401  # Huey's handle
        return handle.get(blocking=True, timeout=limit_secs, max_delay=0.001)

    def finished(self) -> int:
        return int(app.result_count())


class RedisAdapter(HueyAdapter):
    """A blocking pop wakes the worker. Four threads were faster than one; elsewhere one was."""

    packages = ("huey", "redis", "hiredis")
    worker_text = "huey_consumer -k thread -w 4"
    workers = "4"

    def open(self) -> None:
        self.durability = DURABILITY
        self.store = RedisStore()

    def polling(self) -> list[str]:
        return []

    def clear(self) -> None:
        self.store.clear()

    def close(self) -> None:
        self.store.clear()


class SqliteAdapter(HueyAdapter):
    """One file, in WAL mode."""

    durability = "survives the death of a process; a power cut may damage it (fsync=False)"
    worker_text = "huey_consumer -k thread -w 1 -d 0.005 -m 0.005"

    def open(self) -> None:
        if VARIANT == "sqlite-fsync":
            self.durability = "survives a power cut (fsync=True, as is its default)"


class FileAdapter(HueyAdapter):
    """One file for each job."""

    durability = "survives the death of a process, not a power cut"
    worker_text = "huey_consumer -k thread -w 1 -d 0.005 -m 0.005"

    def clear(self) -> None:
        app.flush()
        shutil.rmtree(FOLDER / "huey" / "results", ignore_errors=True)
        os.makedirs(FOLDER / "huey" / "results", exist_ok=True)

    def finished(self) -> int:
        files = sum(len(names) for _, _, names in os.walk(FOLDER / "huey" / "results"))
        return files - (FOLDER / "huey" / "results" / ".lock").exists()


ADAPTERS = {
    "redis": RedisAdapter,
    "sqlite": SqliteAdapter,
    "sqlite-fsync": SqliteAdapter,
    "file": FileAdapter,
}
adapter = ADAPTERS[VARIANT]
