"""Tasks that fork: the child ends where the task's code ends, and the job is the parent's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.shell import call, invoke

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

TASKS = """
import asyncio, os, sys
from nuvom import task

def ending(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

@task(isolation="thread")
def returns():
    return ending(pid) if (pid := os.fork()) else "the child's"

@task
def raises():
    if pid := os.fork():
        return ending(pid)
    raise ValueError("of the child")

@task
def leaves():
    if pid := os.fork():
        return ending(pid)
    sys.exit(5)

@task
async def async_returns():
    return ending(pid) if (pid := os.fork()) else "the child's"

@task
async def async_raises():
    if pid := os.fork():
        return ending(pid)
    raise ValueError("of the child")

@task
async def async_awaits():
    if pid := os.fork():
        return ending(pid)
    await asyncio.sleep(0)
    return "the child's"

def fork_twice():
    if pid := os.fork():
        assert ending(pid) == 0

@task(before_job=fork_twice)
def hooked():
    return 7

@task(isolation="process")
def in_a_process():
    return ending(pid) if (pid := os.fork()) else "the child's"
"""
ENDS = {
    "returns": 0,
    "raises": 1,
    "leaves": 5,
    "async_returns": 0,
    "async_raises": 1,
    "async_awaits": 1,
    "hooked": 7,
    "in_a_process": 0,
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("backend", ["sqlite", "file"])
def test_a_forked_process_ends_with_the_code_of_the_task(project: Path, backend: str) -> None:
    (project / "tasks.py").write_text(TASKS)
    (project / "nuvom.toml").write_text(
        f"queue_backend = '{backend}'\nresult_backend = '{backend}'\n"
    )
    invoke("discover")
    jobs = {name: invoke("run", name, "-q").out.strip() for name in ENDS}
    answer = call("runworker", "--burst", cwd=project)
    assert answer.code == 0, answer.err
    assert ENDS == {name: result(job) for name, job in jobs.items()}
    assert answer.err.count("Worker ended (burst) after 8 jobs.") == 1
    assert answer.err.count("ValueError: of the child") == 2
    assert "cannot await" in answer.err


EMBEDDED = """
import os
from nuvom import local_worker, task

@task(name="add")
def add(x, y):
    return x + y

with local_worker():
    assert add.delay(1, 2).get(timeout=30) == 3
    if pid := os.fork():
        print("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        print(add.delay(3, 4).get(timeout=30))
"""


MADE_BEFORE = """
import os
from nuvom.runtime import current_runtime
from nuvom.worker import Worker

worker = Worker(current_runtime(), burst=True)
if pid := os.fork():
    os.waitpid(pid, 0)
else:
    print(worker.run())
"""


@pytest.mark.timeout(60)
def test_a_worker_that_was_made_before_a_fork_works_in_the_child(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MADE_BEFORE],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "burst\n", done.stderr


@pytest.mark.timeout(60)
def test_a_forked_child_leaves_the_block_of_a_local_worker(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EMBEDDED], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.stdout == "child 0\n7\n", done.stderr


def result(job: str) -> Any:
    return invoke("inspect", "job", job, "--json").json.get("result")
