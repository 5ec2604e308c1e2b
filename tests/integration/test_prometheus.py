"""Metrics of real workers: as users switch them on, and under kills."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nuvom.core.views import QueueStats
from nuvom.inspection import Inspector
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.runtime import Runtime
from tests.engine import Engine, make_runtime, wait_until
from tests.unit.contrib.metrics import samples, value

PLUGIN_FILE = """
[plugins]
monitoring = ["nuvom.contrib.prometheus:PrometheusPlugin"]
"""
TASKS = """
import time
import nuvom

@nuvom.task(retries=1)
def work(number: int) -> int:
    time.sleep(number % 10 / 1000)
    if number % 50 == 0:
        raise ValueError(number)
    return number
"""


@pytest.fixture
def place(project: Path) -> Path:
    """Return a project with tasks, whose workers load the plugin."""
    (project / "app_tasks.py").write_text(TASKS)
    plugin_file = project / ".nuvom_plugins.toml"
    plugin_file.write_text(PLUGIN_FILE)
    plugin_file.chmod(0o600)
    project.chmod(0o700)
    return project


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def runworker(
    place: Path, port: int, *options: str, output: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "nuvom", "runworker", *options],
        cwd=place,
        env={**os.environ, "NUVOM_PROMETHEUS_PORT": str(port), "NUVOM_LEASE_SECS": "2"},
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
    )


def scrape(port: int) -> str:
    """Return what is served at ``port``, or nothing while nobody serves."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def test_a_worker_serves_metrics_when_the_plugin_file_says_so(place: Path) -> None:
    port = free_port()
    worker = runworker(place, port)
    try:
        wait_until(lambda: 'nuvom_workers{state="alive"} 1.0' in scrape(port))
    finally:
        worker.terminate()
        printed, _ = worker.communicate(timeout=60)
    assert "prometheus" in printed
    assert f"http://127.0.0.1:{port}/metrics" in printed
    assert "" == scrape(port)


# ---- slow: kills --------------------------------------------------------------------------------

JOBS = 5_000
KILLS = 12
LONG_SECS = 150.0


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_figures_equal_the_ledger_after_kills(place: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    port = free_port()
    runtime = make_runtime(place, queue_backend="sqlite", result_backend="sqlite")
    with Engine(runtime, listens=False) as engine, crew(place, port) as workers:
        wait_long(lambda: "nuvom_workers" in scrape(port))  # from here on the store counts
        engine.task(work, name="app_tasks.work", retries=1, retry_delay_secs=0.0).map(
            [(number,) for number in range(JOBS)]
        )
        seen = 0.0
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.2, 0.8))
            found = scrape(port)
            if "nuvom_jobs_finished_total" in found:
                before, seen = seen, value(samples(found), "nuvom_jobs_finished_total")
                assert seen >= before, "a counter went back"
            victim = chance.randrange(len(workers))
            workers[victim].kill()
            workers[victim].communicate()
            workers[victim] = crew_member(place, port)
        wait_long(lambda: stats_of(runtime).waiting + stats_of(runtime).running == 0)
        compare(runtime, port)


def work(number: int) -> int:
    """Stand for the task of the project, which only its workers run."""
    return number


def crew_member(place: Path, port: int) -> subprocess.Popen[str]:
    # Nobody reads what it says, and a full pipe would stop it.
    return runworker(place, port, "--threads", "2", output=subprocess.DEVNULL)


@contextmanager
def crew(place: Path, port: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Run two workers; whoever is in the list at the end is stopped."""
    workers = [crew_member(place, port) for _ in range(2)]
    try:
        yield workers
    finally:
        for one in workers:
            one.terminate()
        for one in workers:
            one.communicate(timeout=60)


def stats_of(runtime: Runtime) -> QueueStats:
    (found,) = Inspector(runtime).stats()
    return found


def compare(runtime: Runtime, port: int) -> None:
    """Compare what is served with the rows of all jobs and attempts, which nobody has pruned."""
    wait_long(lambda: "nuvom_jobs_finished_total" in scrape(port))
    time.sleep(1.1)  # what was read while jobs still ran is no longer given
    found, ledger = samples(scrape(port)), stats_of(runtime)
    queue = runtime.queue
    assert isinstance(queue, SQLiteJobQueue)
    attempts = dict(queue.store.db.read("SELECT outcome, count(*) FROM attempts GROUP BY outcome"))
    assert JOBS == value(found, "nuvom_jobs_enqueued_total")
    for outcome, count in (
        ("success", ledger.success),
        ("failure", ledger.failed),
        ("dead", ledger.dead),
    ):
        assert count == value(found, "nuvom_jobs_finished_total", outcome=outcome), outcome
    lost = attempts.get("lost", 0)
    assert lost > 0, "no kill has hit a job"
    assert lost == value(found, "nuvom_jobs_lost_total")
    failures = attempts.get("failure", 0)
    assert failures - ledger.failed == value(found, "nuvom_job_retries_total")
    started = ledger.success + failures + lost
    assert started == value(found, "nuvom_jobs_started_total")
    print(f"{ledger.success} succeeded, {ledger.failed} failed, {lost} attempts lost")


def wait_long(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG_SECS
    while not is_so():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.1)
