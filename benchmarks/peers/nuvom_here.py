"""Nuvom from this checkout. The variant sets backend and durability by environment variables."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from measures import until_drained

from peers.base import FOLDER, Adapter, program, survives

BACKEND = os.environ.get("NUVOM_QUEUE_BACKEND", "sqlite")
DURABILITY = os.environ.get("NUVOM_DURABILITY", "full")


def make_project(folder: Path) -> None:
    """Write a project with the tasks."""
    (folder / "nuvom.toml").touch()
    tasks = Path(__file__).parents[1] / "tasks"
    shutil.copy(tasks / "nuvom_tasks.py", folder / "tasks.py")


class NuvomAdapter(Adapter):
    """A project of two files; the worker has its default settings but for the log."""

    packages: tuple[str, ...] = ("nuvom", "msgspec")
    worker_text = "nuvom -q runworker"
    worker_options: tuple[str, ...] = ()
    has_bulk = True

    def open(self) -> None:
        setting = f"durability={DURABILITY}"
        self.durability = survives(setting, power_cut=DURABILITY == "full")
        make_project(FOLDER)
        shutil.copy(Path(__file__).parents[1] / "tasks" / "reach_tasks.py", FOLDER)
        os.chdir(FOLDER)
        sys.path.insert(0, str(FOLDER))
        import tasks  # noqa: PLC0415  # of the project that was just made

        self.tasks: Any = tasks

    def clear(self) -> None:
        from nuvom import runtime  # noqa: PLC0415  # of the package under test

        runtime.current_runtime().queue.clear()
        self.base = self._ended()

    def worker(self) -> list[str]:
        return [program("nuvom"), "-q", "runworker", *self.worker_options]

    def call(self, number: int) -> Any:  # noqa: ANN401  # a Job
        return self.tasks.noop.delay(number)

    def bulk(self, count: int) -> None:
        self.tasks.noop.map((number,) for number in range(count))

    def mark(self, place: int, pause_secs: float = 0.0) -> Any:  # noqa: ANN401  # a Job
        return self.tasks.mark.delay(place, pause_secs)

    def wait(self, handle: Any, limit_secs: float) -> Any:  # noqa: ANN401  # a Job
        return handle.get(timeout=limit_secs)

    def finished(self) -> int:
        return self._ended() - self.base

    def workers(self) -> int:
        """Return how many workers are up."""
        from nuvom import sdk  # noqa: PLC0415  # of the package under test

        return len(sdk.workers())

    def _ended(self) -> int:
        from nuvom import sdk  # noqa: PLC0415  # of the package under test

        return sum(one.success for one in sdk.queue_stats())


class MemoryAdapter(NuvomAdapter):
    """The memory backend lives in one process, and so does its worker."""

    worker_text = "local_worker(threads=4)"
    in_process = True

    def open(self) -> None:
        super().open()
        self.durability = "none"

    def drain_here(self, count: int) -> float:
        from nuvom import local_worker  # noqa: PLC0415  # of the package under test

        with local_worker(threads=4):
            return until_drained(self, count)


adapter = MemoryAdapter if BACKEND == "memory" else NuvomAdapter
