"""Metrics of real workers: as users switch them on, under kills, in a real Prometheus."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nuvom.core.views import QueueStats
from nuvom.inspection import Inspector
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.runtime import Runtime
from nuvom.worker import Worker
from tests.engine import Engine, make_runtime, wait_until
from tests.unit.contrib.metrics import samples, start, text, value

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
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="Prometheus is NOT INSTALLED, so no real one scraped: apt-get install prometheus",
)


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


# ---- slow: kills, and a real Prometheus ---------------------------------------------------------

JOBS = 5_000
KILLS = 12
LONG_SECS = 150.0


@pytest.mark.slow
@pytest.mark.timeout(400)
@needs_prometheus
def test_figures_equal_the_ledger_after_kills_and_prometheus_has_them(place: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    port = free_port()
    runtime = make_runtime(place, queue_backend="sqlite", result_backend="sqlite")
    with (
        Engine(runtime, listens=False) as engine,
        real_prometheus(place, port) as query,
        crew(place, port) as workers,
    ):
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
        wait_long(lambda: ended(runtime) == JOBS)
        compare(runtime, port)
        wait_long(lambda: query("sum(nuvom_jobs_finished_total)") == JOBS)
        assert JOBS == query("sum(nuvom_jobs_enqueued_total)")
        assert 0 < query("histogram_quantile(0.5, nuvom_job_duration_seconds_bucket)") < 0.1


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


@contextmanager
def real_prometheus(place: Path, port: int) -> Iterator[Callable[[str], float]]:
    """Run a Prometheus that scrapes ``port`` each second; give a function that asks it."""
    file, own = place / "prometheus.json", free_port()
    scraped = {"job_name": "nuvom", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    file.write_text(  # JSON is YAML
        json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [scraped]})
    )
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={file}",
            f"--storage.tsdb.path={place / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{own}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def query(expression: str) -> float:
        address = f"http://127.0.0.1:{own}/api/v1/query?"
        call = address + urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(call, timeout=10) as answer:
                found = json.load(answer)["data"]["result"]
        except OSError:  # it is just starting
            return -1
        return float(found[0]["value"][1]) if found else -1

    try:
        yield query
    finally:
        process.terminate()
        process.wait(timeout=60)


def stats_of(runtime: Runtime) -> QueueStats:
    (found,) = Inspector(runtime).stats()
    return found


def ended(runtime: Runtime) -> int:
    found = stats_of(runtime)
    return found.success + found.failed + found.dead


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


# ---- slow: the price ----------------------------------------------------------------------------

DRAINED = 10_000
ROUNDS = 25


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(300)
def test_metrics_cost_a_tenth_of_the_jobs_at_most(project: Path) -> None:
    """Measured in jobs for each second of the processor, pair by pair of short rounds.

    The two rounds of a pair follow each other, so that what else the machine does, and how fast
    it lets its processors run just then, is mostly the same for both.
    """
    clocks = {"processor": time.process_time, "wall clock": time.perf_counter}
    rates: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    for number in range(ROUNDS):
        for measured in (False, True) if number % 2 else (True, False):
            rates[measured].append(
                drain(project, f"{number}-{measured}.db", clocks, measured=measured)
            )
    ratios = {}
    for name in clocks:
        plain, with_metrics = ([one[name] for one in rates[which]] for which in (False, True))
        pairs = zip(plain, with_metrics, strict=True)
        ratios[name] = statistics.median(counted / bare for bare, counted in pairs)
        told = (
            f"{statistics.median(plain):,.0f} without, {statistics.median(with_metrics):,.0f} with"
        )
        print(f"jobs per second by {name}, medians: {told}; pair by pair {ratios[name]:.3f}")
    assert ratios["processor"] >= 0.9


def drain(
    project: Path, file: str, clocks: dict[str, Callable[[], float]], *, measured: bool
) -> dict[str, float]:
    """Return how many jobs a worker runs a second, by each clock.

    A scrape reads the store, here much more often than each 15 s as Prometheus does: it is apart.
    """
    runtime = make_runtime(
        project,
        queue_backend="sqlite",
        result_backend="sqlite",
        sqlite_path=file,
        prometheus_port=0,
    )
    with Engine(runtime, listens=False) as engine:
        plugin = start(runtime) if measured else None
        task = engine.task(work, name="app_tasks.work")
        task.map([(number,) for number in range(DRAINED)])
        worker = Worker(runtime, burst=True)
        began = {name: clock() for name, clock in clocks.items()}
        worker.run()
        took = {name: clock() - began[name] for name, clock in clocks.items()}
        if plugin is not None:
            began_at = time.perf_counter()
            text(plugin)
            print(
                f"a scrape of a store with {DRAINED:,} jobs: {time.perf_counter() - began_at:.3f} s"
            )
            plugin.stop()
    return {name: DRAINED / secs for name, secs in took.items()}
