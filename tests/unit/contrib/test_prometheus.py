"""The Prometheus plugin: right figures, small label sets, and no harm to a worker."""

from __future__ import annotations

import logging
import re
import socket
import sqlite3
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from msgspec.structs import replace

from nuvom.contrib.prometheus import plugin as plugin_module
from nuvom.core.record import StoredError
from nuvom.errors import BackendUnavailable
from nuvom.events import BackendFailed, JobFenced
from nuvom.plugins.registry import register_metrics_provider
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.result_backends.memory import MemoryResultBackend
from nuvom.scheduler.record import ScheduleChange
from nuvom.scheduler.service import Scheduler
from nuvom.testing import make_job
from tests.engine import LIMIT_SECS, Engine, ToyQueue, make_runtime, wait_until, with_backends
from tests.unit.contrib.metrics import exported, samples, start, text, value

CANARY = "canary-7f3a"


def test_figures_are_those_of_the_jobs(project: Path) -> None:
    with exported(project) as (engine, plugin):

        def work(number: int) -> int:
            return 100 // number

        task = engine.task(work)
        task.map([(number,) for number in range(4)])
        task.options(delay=3600).delay(1)
        with engine.worker(threads=2) as worker:
            wait_until(lambda: worker.finished_jobs == 4)
            engine.runtime.control.pause("mail", "me")
            found = samples(text(plugin))
    name = "tests.work"
    assert 5 == value(found, "nuvom_jobs_enqueued_total", queue="default", task=name)
    assert 4 == value(found, "nuvom_jobs_started_total", queue="default", task=name)
    assert 3 == value(found, "nuvom_jobs_finished_total", task=name, outcome="success")
    assert 1 == value(found, "nuvom_jobs_finished_total", task=name, outcome="failure")
    assert 0 == value(found, "nuvom_jobs_finished_total", task=name, outcome="dead")
    assert 0 == value(found, "nuvom_job_retries_total", task=name)
    assert 4 == value(found, "nuvom_job_duration_seconds_count", task=name)
    assert 4 == value(found, "nuvom_job_wait_seconds_count", queue="default")
    assert 1 == value(found, "nuvom_queue_jobs", queue="default", state="scheduled")
    assert 1 == value(found, "nuvom_queue_paused", queue="mail")
    assert 0 == value(found, "nuvom_queue_paused", queue="default")
    assert 1 == value(found, "nuvom_workers", state="alive")
    assert 2 == value(found, "nuvom_worker_slots", worker=worker.id[-8:], state="idle")
    assert 1 <= value(found, "nuvom_backend_op_duration_seconds_count", op="claim")
    assert 0 == value(found, "nuvom_scrape_partial")
    assert 1 == value(found, "nuvom_build_info", backend="sqlite")
    assert 0 < value(found, "nuvom_store_bytes") < value(found, "nuvom_store_disk_bytes")
    if sys.platform == "linux":
        assert 2**20 < value(found, "nuvom_worker_rss_bytes")


def test_schedules_count_for_any_number_of_processes(project: Path) -> None:
    with exported(project, sqlite_path="metrics.db") as (engine, plugin):
        task = engine.task(lambda: None, name="noop")
        task.schedule(in_=3600, name="once")
        task.schedule(interval=60, name="paused").pause()
        often = task.schedule(interval=60, misfire="skip", name="often")
        store = engine.runtime.schedule_store
        assert store is not None
        seen, due_at = often.record, often.record.created_at - 940.0
        late = replace(seen, created_at=due_at - 60.0, next_at=due_at, due_at=due_at, revision=9)
        assert store.apply([ScheduleChange("often", seen.revision, late)]) == [True]
        assert 900 < value(samples(text(plugin)), "nuvom_schedule_overdue_seconds") < 1000
        Scheduler(engine.runtime).step()
        often.run_now()
        plugin.stop()
        again = start(engine.runtime)
        found = samples(text(again))
        again.stop()
    missed = value(found, "nuvom_schedule_missed_total", schedule="often")
    assert missed == often.refresh().record.missed > 10
    assert 1 == value(found, "nuvom_schedule_fires_total", schedule="often", outcome="enqueued")
    assert 0 == value(found, "nuvom_schedule_fires_total", schedule="often", outcome="skipped")
    assert 2 == value(found, "nuvom_schedules", state="active")
    assert 1 == value(found, "nuvom_schedules", state="paused")
    assert 0 == value(found, "nuvom_schedules", state="ended")
    assert 0 == value(found, "nuvom_schedule_overdue_seconds")
    assert "once" not in {dict(one)["schedule"] for one in found["nuvom_schedule_missed_total"]}


def test_names_of_schedules_are_bounded(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nuvom.contrib.prometheus.series.MOST_SCHEDULES", 2)
    with exported(project) as (engine, plugin):
        task = engine.task(lambda: None, name="noop")
        for number in range(4):
            task.schedule(interval=60, name=f"s{number}").run_now()
        found = samples(text(plugin))
    assert 2 == value(found, "nuvom_schedule_fires_total", schedule="other", outcome="enqueued")
    assert 3 == len(found["nuvom_schedule_missed_total"])
    assert 2 == value(found, "nuvom_label_overflow", label="schedule")


def test_of_two_exporters_one_serves_the_store_until_it_ends(project: Path) -> None:
    with exported(project) as (engine, first):
        second = start(engine.runtime)
        engine.task(lambda: None, name="noop").delay()
        assert 1 == value(samples(text(first)), "nuvom_jobs_enqueued_total")
        other = samples(text(second))
        assert not [name for name in other if name.startswith(("nuvom_job", "nuvom_queue"))]
        assert "nuvom_backend_errors_total" in other
        first.stop()
        assert 1 == value(samples(text(second)), "nuvom_jobs_enqueued_total")
        second.stop()


def test_s14_the_endpoint_is_on_loopback_and_closed_by_stop(project: Path) -> None:
    with exported(project) as (_, plugin):
        assert "127.0.0.1" == plugin._server.server_address[0]
        port = plugin.port
        for path in ("/", "/metrics/x", "/metricsx"):
            with pytest.raises(urllib.error.HTTPError, match="404") as refusal:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20)
            assert "/metrics" in refusal.value.read().decode()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5)


def test_a_port_in_use_is_a_warning_and_taken_over_later(
    project: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nuvom.contrib.prometheus.plugin._TRY_AGAIN_SECS", 0.01)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        caplog.set_level(logging.WARNING, logger="nuvom.prometheus")
        with exported(project, prometheus_port=port) as (engine, plugin):
            assert plugin.port is None
            assert f"127.0.0.1:{port}" in caplog.text
            engine.task(lambda: None, name="noop").delay()
            assert "burst" == engine.work()
            taken.close()
            wait_until(lambda: plugin.port == port)
            assert 1 == value(samples(text(plugin)), "nuvom_jobs_enqueued_total")
        assert 1 == len(caplog.records)


def test_s14_neither_arguments_nor_messages_nor_ids_are_in_any_label(project: Path) -> None:
    with exported(project) as (engine, plugin):

        def leak(word: str) -> None:
            raise ValueError(word)

        job = engine.task(leak, tags=[CANARY]).options(metadata={"x": CANARY}).delay(CANARY)
        engine.work()
        engine.runtime.bus.emit(BackendFailed("claim", StoredError("OSError", CANARY)))
        found = text(plugin)
    assert CANARY not in found
    assert job.id not in found
    assert str(project) not in found
    assert socket.gethostname() not in re.sub(r"#.*", "", found)


def test_task_names_are_capped(project: Path) -> None:
    with exported(project) as (engine, plugin):
        queue = engine.runtime.queue
        queue.enqueue_many([make_job(f"tests.task_{number}") for number in range(10_000)])
        queue.enqueue_many([make_job("tests.zealous", number) for number in range(7)])
        found = samples(text(plugin))
    enqueued = found["nuvom_jobs_enqueued_total"]
    assert 501 == len(enqueued)
    assert 10_007 == sum(enqueued.values())
    assert 9_501 == value(found, "nuvom_jobs_enqueued_total", task="other")
    assert 7 == value(found, "nuvom_jobs_enqueued_total", task="tests.zealous")
    assert 9_501 == value(found, "nuvom_label_overflow", label="task")


def test_a_queue_of_five_methods_shows_its_size_only(project: Path) -> None:
    queue = ToyQueue()
    runtime = with_backends(make_runtime(project, prometheus_port=0), queue, MemoryResultBackend())
    with Engine(runtime, listens=False) as engine:
        plugin = start(runtime)
        engine.task(lambda: None, name="noop").delay()
        found = samples(text(plugin))
        plugin.stop()
    assert 1 == value(found, "nuvom_queue_size")
    assert not [name for name in found if name.startswith(("nuvom_jobs", "nuvom_queue_jobs"))]


def test_what_goes_wrong_in_this_process_is_counted(project: Path) -> None:
    with exported(project) as (engine, plugin):
        bus = engine.runtime.bus
        bus.emit(BackendFailed("claim", StoredError("OSError", "no")))
        bus.emit(JobFenced(make_job(queue="mail"), "me"))
        found = samples(text(plugin))
    assert 1 == value(found, "nuvom_backend_errors_total", op="claim")
    assert 0 == value(found, "nuvom_backend_errors_total", op="settle")
    assert 1 == value(found, "nuvom_stale_settles_total", queue="mail")


def test_figures_of_other_plugins_are_shown_and_bad_ones_reported(project: Path) -> None:
    ends = [
        register_metrics_provider("files", lambda: {"maildrop_files": 12}),
        register_metrics_provider("broken", lambda: 1 / 0),  # type: ignore[arg-type,return-value]
        register_metrics_provider("misnamed", lambda: {"no name": 1, "nuvom_workers": 9}),
    ]
    with exported(project) as (_, plugin):
        found = samples(text(plugin))
        again = samples(text(plugin))
    for end in ends:
        end()
    assert 12 == value(found, "maildrop_files")
    assert 9 != value(found, "nuvom_workers", state="alive")
    assert 1 == value(again, "nuvom_plugin_errors_total", plugin="metrics of broken")
    assert 2 == value(again, "nuvom_plugin_errors_total", plugin="metrics of misnamed")


def test_a_store_that_does_not_answer_makes_a_scrape_partial(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin_module, "_DEADLINE_SECS", 0.05)
    go = threading.Event()

    def backlog(queue: SQLiteJobQueue, most: int | None = None) -> list[object]:
        if not go.wait(LIMIT_SECS):
            raise AssertionError
        raise BackendUnavailable("here", "gone", "wait")

    with exported(project) as (_, plugin):
        monkeypatch.setattr(SQLiteJobQueue, "backlog", backlog)
        found = samples(text(plugin))
        assert 1 == value(found, "nuvom_scrape_partial")
        assert "nuvom_queue_jobs" not in found
        go.set()
        wait_until(lambda: 'nuvom_backend_errors_total{op="scrape"}' in text(plugin))


def test_a_scrape_writes_nothing_and_waits_for_no_writer(project: Path) -> None:
    with exported(project) as (engine, plugin):
        queue = engine.runtime.queue
        assert isinstance(queue, SQLiteJobQueue)
        engine.task(lambda: None, name="noop").delay()
        with sqlite3.connect(queue.store.db.path, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")  # holds the lock that a writer needs
            found = samples(text(plugin))
            other.execute("ROLLBACK")
        other.close()
    assert 0 == value(found, "nuvom_scrape_partial")
    assert 1 == value(found, "nuvom_jobs_enqueued_total")
