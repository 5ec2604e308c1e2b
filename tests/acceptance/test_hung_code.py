"""Code that hangs in a thread or on the event loop of a worker: closed in time, no slot lost."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nuvom.cli.processes import own_command
from nuvom.job import Job
from nuvom.sdk import wait
from tests.acceptance import hung_tasks
from tests.acceptance.hung_tasks import TIMEOUT_SECS
from tests.cli.test_worker import states, until
from tests.engine import LIMIT_SECS, Engine, make_runtime

SLOTS = 4
HUNG = 100
posix = pytest.mark.skipif(sys.platform == "win32", reason="the worker is stopped by SIGTERM")


class Site(NamedTuple):
    """A project with a worker of ``SLOTS`` slots in a process of its own."""

    root: Path
    engine: Engine
    pid: int

    def call(self, name: str, *args: object, count: int = 1) -> list[Job[Any]]:
        """Enqueue jobs of a task."""
        ends = name.startswith("meet") or name == "ignore_the_end"
        options = {} if ends else {"timeout_secs": TIMEOUT_SECS}
        func: Callable[..., Any] = getattr(hung_tasks, name).func
        task = self.engine.task(func, name=f"hung.{name}", **options)
        return list(task.map([args] * count))

    def late_secs(self, job: Job[Any]) -> float:
        """Return how long after its deadline an attempt was closed, by what the store says."""
        snapshot = self.engine.runtime.queue.get(job.id)  # type: ignore[attr-defined]  # a leased queue
        return float(snapshot.finished_at - snapshot.started_at - TIMEOUT_SECS)

    def all_slots_work(self, name: str) -> None:
        """Have as many jobs run side by side as there are slots."""
        folder = self.root / f"met-{name}-{len(list(self.root.glob('met-*')))}"
        folder.mkdir()
        met = self.call(name, str(folder), SLOTS, count=SLOTS)
        assert {self.pid} == {job.get(LIMIT_SECS) for job in met}


@pytest.fixture
def site(project: Path) -> Iterator[Site]:
    shutil.copy(hung_tasks.__file__, project / "hung.py")
    (project / "nuvom.toml").write_text(f"max_stuck_threads = {2 * HUNG}\n")
    runtime = make_runtime(project, queue_backend="sqlite", result_backend="sqlite")
    slots = str(SLOTS)
    with Engine(runtime) as engine:
        command = own_command("runworker", "--threads", slots, "--async-slots", slots, "--quiet")
        with open("log", "wb") as log:  # no pipe: it would be full after some failures
            worker = subprocess.Popen(command, stderr=log)
        until(lambda: states() == ["alive"])
        yield Site(project, engine, worker.pid)
        worker.kill()
        worker.wait()


@posix
@pytest.mark.parametrize(
    ("name", "meeting", "place"),
    [
        ("spin", "meet", "in spin"),
        ("block", "meet", "in block"),
        ("catch_all", "meet", "in catch_all"),
        ("spin_on_the_loop", "meet_on_the_loop", "in spin_on_the_loop"),
        ("block_the_loop", "meet_on_the_loop", "in block_the_loop"),
        ("catch_all_on_the_loop", "meet_on_the_loop", "in catch_all_on_the_loop"),
    ],
)
def test_attempt_is_closed_at_its_deadline_and_every_slot_works_again(
    site: Site, name: str, meeting: str, place: str
) -> None:
    (job,) = site.call(name)
    until(lambda: str(job.refresh().status) == "FAILED")
    error = job.error
    assert error is not None
    assert ("TimeoutError", "timed out after 0.5 s") == (error.type, error.message)
    assert place in str(error.traceback)
    assert 0 <= site.late_secs(job)  # how late at most: the slow tier measures it
    site.all_slots_work(meeting)
    site.all_slots_work("meet")


@posix
@pytest.mark.parametrize("name", ["hold_the_gil", "hold_the_gil_on_the_loop"])
def test_code_that_holds_the_gil_is_closed_as_soon_as_it_lets_go(site: Site, name: str) -> None:
    (job,) = site.call(name)
    until(lambda: str(job.refresh().status) == "FAILED")
    error = job.error
    assert error is not None
    assert "timed out after 0.5 s" == error.message
    assert 0 <= site.late_secs(job)
    site.all_slots_work("meet_on_the_loop" if name.endswith("loop") else "meet")


@posix
def test_code_in_a_thread_cannot_make_a_worker_deaf(site: Site) -> None:
    (job,) = site.call("ignore_the_end")
    until(lambda: str(job.refresh().status) == "FAILED")
    assert job.error is not None
    assert "ValueError" == job.error.type  # signals are the main thread's affair
    site.all_slots_work("meet")


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(600)
@posix
@pytest.mark.parametrize(
    ("name", "count", "meeting"),
    [
        ("block", HUNG, "meet"),
        ("catch_all_on_the_loop", HUNG, "meet_on_the_loop"),
        ("spin_on_the_loop", HUNG, "meet_on_the_loop"),
        ("block_the_loop", HUNG, "meet_on_the_loop"),
    ],
)
def test_hung_jobs_are_closed_within_a_second_and_every_slot_works_again(
    site: Site, name: str, count: int, meeting: str
) -> None:
    hung = site.call(name, count=count)
    wait(hung, timeout=400)
    assert {"FAILED"} == {str(job.refresh().status) for job in hung}
    late = [site.late_secs(job) for job in hung]
    print(f"{count} jobs of {name}: closed at most {max(late):.2f} s late")
    assert max(late) < 1.0
    site.all_slots_work(meeting)
    site.all_slots_work("meet")
