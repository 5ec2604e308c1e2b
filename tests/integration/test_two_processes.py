"""Workers that one command started, and a program that another one did, on one store."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from nuvom.job import submit_many
from nuvom.registry.registry import TaskDefinition
from nuvom.runtime import Runtime
from nuvom.testing import make_job
from tests.engine import LIMIT_SECS, in_use, make_runtime, wait_until

TASKS = """
import os
import nuvom

@nuvom.task
def mixed(number: int) -> list:
    return [number, number ** 3 % 1009, f"{number:x}", os.getpid()]
"""
WORKER = """
import sys
import nuvom
from nuvom.runtime import current_runtime
from nuvom.worker import Worker
import app_tasks

nuvom.configure(queue_backend=sys.argv[1], result_backend=sys.argv[1])
worker = Worker(current_runtime(), threads=2)
worker.start()
print(worker.id, flush=True)
sys.stdin.read()  # until the test is over
worker.stop()
worker.join()
print(worker.finished_jobs, flush=True)
"""


def expected(number: int) -> list[Any]:
    return [number, number**3 % 1009, f"{number:x}"]


@contextmanager
def workers(project: Path, store: str, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Run workers in processes of their own, until the end of the block."""
    (project / "app_tasks.py").write_text(TASKS)
    (project / "app_worker.py").write_text(WORKER)
    found = [
        subprocess.Popen(
            [sys.executable, "app_worker.py", store],
            cwd=project,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    try:
        for worker in found:
            assert worker.stdout is not None
            assert len(worker.stdout.readline()) == 37
        yield found
    finally:
        for worker in found:
            worker.kill()
            worker.communicate()


def program(project: Path, store: str) -> AbstractContextManager[Runtime]:
    """Use a runtime as a program does that runs no worker itself."""
    return in_use(make_runtime(project, queue_backend=store, result_backend=store))


def mixed(number: int) -> list[Any]:
    raise NotImplementedError


@pytest.mark.parametrize("store", ["file", "sqlite"])
def test_ten_thousand_jobs_are_exchanged_and_shared(project: Path, store: str) -> None:
    with workers(project, store, 2) as found, program(project, store) as runtime:
        runtime.dispatcher._public_name = lambda _: "app_tasks.mixed"
        task = TaskDefinition("app_tasks.mixed", mixed)
        jobs = submit_many(task, ((number,) for number in range(10_000)))
        results = jobs.get(100)
        shares = [int(worker.communicate("")[0]) for worker in found]
    assert [expected(number) for number in range(10_000)] == [one[:3] for one in results]
    assert {worker.pid for worker in found} >= {one[3] for one in results}
    assert 10_000 == sum(shares)


def test_result_wakes_a_waiter_in_another_process(project: Path) -> None:
    with workers(project, "sqlite", 1), program(project, "sqlite") as runtime:
        record = make_job("app_tasks.mixed", 7)
        with runtime.results.waiter() as waiter:
            assert waiter is not None
            threading.Timer(0.01, runtime.queue.enqueue, (record,)).start()
            assert waiter.wait(LIMIT_SECS)
        wait_until(lambda: runtime.results.get_result(record.id) is not None)
        assert expected(7) == runtime.results.get_result(record.id)[:3]
