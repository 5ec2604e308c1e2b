"""What real task code needs from its worker, in threads, on the event loop and in children."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nuvom import HooksFailed, JobFailed
from nuvom.core.record import JobStatus
from nuvom.hooks import default_hooks, load_hooks, on_worker_start
from nuvom.registry.registry import default_registry
from nuvom.worker import Worker
from tests.acceptance import task_needs
from tests.engine import LIMIT_SECS, Engine, make_runtime, untraced, wait_until

HOOKS = "tests.acceptance.needed_hooks"
waiting = pytest.mark.parametrize("task", task_needs.WAITING, ids=lambda task: task.__name__)
ending = pytest.mark.parametrize("task", task_needs.ENDING, ids=lambda task: task.__name__)


@contextmanager
def engine_of(root: Path, **settings: Any) -> Iterator[Engine]:
    given: dict[str, Any] = {"queue_backend": "sqlite", "result_backend": "sqlite", **settings}
    runtime = make_runtime(root, durability="normal", **given)
    with Engine(replace(runtime, registry=default_registry())) as engine:
        yield engine


@pytest.fixture
def engine(project: Path) -> Iterator[Engine]:
    with engine_of(project) as engine:
        yield engine


@pytest.fixture
def notes(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the file that the hooks write to, and register none when the test begins and ends."""
    path = project / "notes"
    path.touch()
    monkeypatch.setenv(task_needs.HOOKS_WRITE_TO, str(path))
    default_hooks.clear()
    sys.modules.pop(HOOKS, None)
    try:
        yield path
    finally:
        default_hooks.clear()
        sys.modules.pop(HOOKS, None)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


# ---- signals from the worker ----------------------------------------------------------


@untraced
@waiting
def test_a_soft_time_limit_lets_the_task_return(engine: Engine, project: Path, task: Any) -> None:
    limited = task.options(soft_timeout_secs=0.1, timeout_secs=LIMIT_SECS)
    with engine.worker(threads=2):
        job = limited.delay(str(project / "notes"))
        assert job.get(LIMIT_SECS) == "SoftTimeout, stopping: False"
        failing = limited.delay(str(project / "notes"), lets_through=True)
        with pytest.raises(
            JobFailed, match="SoftTimeout: the task's soft_timeout_secs have passed"
        ):
            failing.get(LIMIT_SECS)


@untraced
@waiting
def test_a_stopping_worker_tells_the_task(engine: Engine, project: Path, task: Any) -> None:
    notes = project / "notes"
    with engine.worker(threads=2) as worker:
        kept = task.delay(str(notes))
        handed_back = task.delay(str(notes), lets_through=True)
        wait_until(lambda: notes.exists() and len(lines(notes)) == 2)
        worker.stop()
        assert worker.join(LIMIT_SECS)
    assert kept.result == "JobStopping, stopping: True"
    assert (handed_back.status, handed_back.attempt) == (JobStatus.PENDING, 0)


# ---- hooks ----------------------------------------------------------------------------


@ending
def test_hooks_surround_each_job_where_its_code_runs(project: Path, notes: Path, task: Any) -> None:
    with engine_of(project, hooks=HOOKS) as engine, engine.worker(threads=1):
        assert task.delay(str(notes), "returns").get(LIMIT_SECS) == "returns"
        with pytest.raises(JobFailed, match="ValueError: raises"):
            task.delay(str(notes), "raises").get(LIMIT_SECS)
    started, before, *rest = lines(notes)
    name = task.name
    assert started == f"start {os.getpid()}"
    assert (before == f"before {os.getpid()}") == (task.isolation == "thread")
    assert rest == [
        f"returns for {name}",
        f"after returns for {name}",
        before,
        f"raises for {name}",
        f"error ValueError('raises') for {name}",
        "stop",
    ]


@untraced
def test_an_attempt_that_timed_out_is_an_error_of_its_hooks(project: Path, notes: Path) -> None:
    with engine_of(project, hooks=HOOKS) as engine, engine.worker(threads=1):
        with pytest.raises(JobFailed, match="timed out"):
            task_needs.hang.delay(str(notes)).get(LIMIT_SECS)
        name = task_needs.hang.name
        expected = f"error TimeoutError('timed out after 0.2 s') for {name}"
        wait_until(lambda: expected in lines(notes))


def test_a_worker_without_its_hooks_does_not_start(project: Path, notes: Path) -> None:
    with engine_of(project, hooks="tests.acceptance.no_such_hooks") as engine:
        worker = Worker(engine.runtime)
        with pytest.raises(HooksFailed, match="no_such_hooks: ModuleNotFoundError"):
            worker.start()
    load_hooks(None)

    @on_worker_start
    def refuse() -> None:
        raise ValueError("no database")

    with engine_of(project) as engine:
        with pytest.raises(HooksFailed, match=r"refuse: ValueError: no database"):
            Worker(engine.runtime).start()
        default_hooks.clear()
    assert lines(notes) == []


def test_a_hook_is_a_plain_function(notes: Path) -> None:
    del notes

    async def start() -> None: ...

    with pytest.raises(TypeError, match="plain function"):
        on_worker_start(start)
