"""Nuvom 0.11.2 from the package index, in an environment of its own, seen from outside only."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from typing import Any

from peers.base import FOLDER, Adapter, program
from peers.nuvom_here import make_project


class adapter(Adapter):  # noqa: N801  # the name that probe.py looks for
    """SQLite for queue and results. Its command writes three log lines for each job."""

    packages = ("nuvom",)
    durability = "not documented"
    worker_text = "nuvom runworker, 4 workers, batch size 50"

    def open(self) -> None:
        os.environ |= {"NUVOM_MAX_WORKERS": "4", "NUVOM_BATCH_SIZE": "50"}
        logging.disable(logging.INFO)
        make_project(FOLDER)
        os.chdir(FOLDER)
        sys.path.insert(0, str(FOLDER))
        self.clear()
        import tasks  # noqa: PLC0415  # of the project that was just made

        self.tasks: Any = tasks

    def clear(self) -> None:
        """Start afresh. Its files stay where they are, since this process has them open."""
        if not (FOLDER / ".nuvom" / "manifest.json").exists():
            shutil.rmtree(FOLDER / ".nuvom", ignore_errors=True)
            subprocess.run([program("nuvom"), "discover", "tasks"], check=True, capture_output=True)
        for name, table in (("queue", "queue_jobs"), ("result", "jobs")):
            if (FOLDER / ".nuvom" / f"{name}.db").exists():
                with closing(self._connect(name)) as connection:
                    connection.execute(f"DELETE FROM {table}")  # noqa: S608  # constants
                    connection.commit()

    def worker(self) -> list[str]:
        return [program("nuvom"), "runworker"]

    def worker_variables(self) -> dict[str, str]:
        path = os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")])
        return {**os.environ, "PYTHONPATH": path}

    def call(self, number: int) -> Any:  # noqa: ANN401  # its Job
        return self.tasks.noop.delay(number)

    def mark(self, place: int, pause_secs: float = 0.0) -> Any:  # noqa: ANN401  # its Job
        return self.tasks.mark.delay(place, pause_secs)

    def wait(self, handle: Any, limit_secs: float) -> Any:  # noqa: ANN401  # its Job
        ends_at = time.perf_counter() + limit_secs
        while not self.finished(" AND job_id = ?", handle.id):
            if time.perf_counter() > ends_at:
                raise TimeoutError("no result")
            time.sleep(0.001)

    def finished(self, condition: str = "", *values: str) -> int:
        query = f"SELECT count(*) FROM jobs WHERE status = 'SUCCESS'{condition}"  # noqa: S608  # a constant
        with suppress(sqlite3.OperationalError), closing(self._connect("result")) as connection:
            return int(connection.execute(query, values).fetchone()[0])
        return 0  # the worker is about to make the table

    def _connect(self, name: str) -> sqlite3.Connection:
        return sqlite3.connect(FOLDER / ".nuvom" / f"{name}.db", timeout=30)
