"""Counts the files and functions that one warm job enters; prints it as JSON.

    python -m tests.benchmarks.warm_job

Runs in a process and a folder of its own: a job of ``.delay()`` on SQLite goes through a worker
in another thread to its result. What one of several jobs entered least is printed, since a
heartbeat may fall into any of them.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import nuvom
from nuvom import local_worker, task

PACKAGE = str(Path(nuvom.__file__).parent) + os.sep
WARM, TRACED = 30, 10
WAIT_SECS = 60


class Trace:
    """The functions of the package that any traced thread has entered, by file and name."""

    def __init__(self) -> None:
        self.entered: set[tuple[str, str, int]] = set()

    def note(self, frame: Any, event: str, arg: Any) -> None:
        """Note a call; given to ``sys.setprofile`` and ``threading.setprofile``."""
        del arg
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE):
            self.entered.add((code.co_filename, code.co_name, code.co_firstlineno))


def main() -> None:
    """Run the jobs and print ``{"files": ..., "functions": ...}``."""
    trace = Trace()
    add = task(name="add")(lambda x, y: x + y)
    threading.setprofile(trace.note)
    counts = []
    with local_worker(threads=2):
        for number in range(WARM):
            add.delay(number, 1).get(timeout=WAIT_SECS)
        for number in range(TRACED):
            trace.entered = set()
            sys.setprofile(trace.note)
            job = add.delay(number, 1)
            job.get(timeout=WAIT_SECS)
            sys.setprofile(None)
            entered = trace.entered.copy()
            counts.append((len({file for file, *_ in entered}), len(entered)))
    files, functions = min(counts)
    print(json.dumps({"files": files, "functions": functions}))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, ".nuvom").mkdir()
        os.chdir(folder)
        main()
