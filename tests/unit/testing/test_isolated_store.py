"""The fixtures at work: what each runs and when, and what tests can say about jobs."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import threading
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

import pytest

import nuvom as package
from nuvom import Retry, Snooze, current_job
from nuvom.core.record import JobStatus
from nuvom.errors import (
    InvalidArguments,
    JobFailed,
    LeaseLost,
    NoCurrentJob,
    NotStorable,
)
from nuvom.registry.registry import default_registry
from nuvom.runtime import current_runtime
from nuvom.testing import (
    IsolatedStore,
    StoreTime,
    StoreWorker,
    assert_enqueued,
    job_context,
    perform,
    refute_enqueued,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

on_both = pytest.mark.parametrize(
    "backend",
    [
        pytest.param("memory", marks=pytest.mark.nuvom),
        pytest.param("sqlite", marks=pytest.mark.nuvom(backend="sqlite")),
    ],
)


@dataclass
class Parcel:
    grams: int


def add(x: int, y: int = 0) -> int:
    return x + y


def weigh(parcel: Parcel) -> int:
    assert isinstance(parcel, Parcel)
    return parcel.grams


async def wait(secs: float) -> float:
    await asyncio.sleep(0)
    return secs


async def enqueue_and_look() -> int:
    tasks.add.delay(5)
    return len(events.ended)


def third_time() -> int:
    if current_job().attempt < 3:
        raise ValueError("not yet")
    return current_job().attempt


def never() -> None:
    raise Snooze(0)


def fan_out(count: int) -> str:
    tasks.add.delay(count)
    return current_job().enqueue(tasks.add, 1, y=count)


def fan_out_and_fail() -> None:
    current_job().enqueue(tasks.add, 1)
    raise ValueError("no children")


def hold() -> None:
    events.started.set()
    events.freed.wait(30)


tasks: Any = SimpleNamespace()
events: Any = SimpleNamespace()


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """Make tasks for one test: other tests expect none in the registry that all share."""
    known = set(default_registry().names())
    events.ended = []
    options: dict[Any, dict[str, Any]] = {
        add: {"after_job": events.ended.append},
        third_time: {"retries": 5, "retry_delay_secs": 60, "jitter": False, "backoff": "constant"},
    }
    for func in (
        add,
        weigh,
        wait,
        enqueue_and_look,
        third_time,
        never,
        fan_out,
        fan_out_and_fail,
        hold,
    ):
        setattr(tasks, func.__name__, package.task(**options.get(func, {}))(func))
    yield
    for name in set(default_registry().names()) - known:
        default_registry().unregister(name)


# ---- nuvom ----------------------------------------------------------------------------------


@on_both
def test_jobs_are_stored_and_nothing_runs_them(nuvom: IsolatedStore, backend: str) -> None:
    jobs = [tasks.add.delay(1, 2), *tasks.add.map([(3,), {"x": 4}])]
    assert backend == nuvom.queue.name
    assert jobs == nuvom.jobs
    assert {JobStatus.PENDING} == {job.status for job in jobs}


@on_both
def test_a_wrong_call_is_refused_as_anywhere(nuvom: IsolatedStore, backend: str) -> None:
    with pytest.raises(InvalidArguments):
        tasks.add.delay()
    with pytest.raises(NotStorable):
        tasks.add.delay(object())
    assert [] == nuvom.jobs


@pytest.mark.parametrize("number", [1, 2])
def test_each_test_has_a_store_of_its_own(nuvom: IsolatedStore, number: int) -> None:
    assert [] == nuvom.jobs
    tasks.add.delay(number)


@pytest.mark.nuvom(backend="sqlite")
def test_sqlite_is_a_file_in_the_folder_of_the_test(
    nuvom: IsolatedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks.add.delay(1)
    assert tmp_path / "nuvom.db" == nuvom.runtime.settings.db_path
    assert (tmp_path / "nuvom.db").exists()
    assert not (tmp_path / ".nuvom").exists()


@pytest.mark.nuvom(backend="sqlite")
def test_a_rollback_takes_the_job_with_it(nuvom_inline: IsolatedStore, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "nuvom.db", isolation_level=None)
    nuvom_inline.queue.start()
    for end in ("ROLLBACK", "COMMIT"):
        connection.execute("BEGIN IMMEDIATE")
        tasks.add.options(connection=connection).delay(1)
        tasks.add.options(connection=connection).map([(2,)])
        connection.execute(end)
        if end == "ROLLBACK":
            refute_enqueued(tasks.add)
    assert 2 == len(nuvom_inline.jobs)
    connection.close()


def test_the_settings_of_the_project_apply_but_for_its_store(
    project: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "nuvom.toml").write_text('max_payload_bytes = 100\nqueue_backend = "file"\n')
    monkeypatch.setenv("NUVOM_SQLITE_QUEUE_PATH", "elsewhere.db")
    store = request.getfixturevalue("nuvom")
    assert 100 == store.runtime.settings.max_payload_bytes
    assert current_runtime() is store.runtime
    assert "test" == store.runtime.settings.environment
    with pytest.raises(package.PayloadTooLarge):
        tasks.add.delay("x" * 100)


# ---- nuvom_inline ---------------------------------------------------------------------------


@on_both
def test_inline_runs_through_codec_hooks_and_lanes_of_all_kinds(
    nuvom_inline: IsolatedStore, backend: str
) -> None:
    assert 3 == tasks.add.delay(1, 2).get()
    assert [3] == events.ended
    assert 5 == tasks.weigh.delay(Parcel(5)).get()
    assert [1, 2] == tasks.add.map([(1,), (2,)]).get()
    assert 0.5 == tasks.wait.delay(0.5).get()


async def _in_a_loop() -> tuple[Any, Any]:
    return tasks.wait.delay(1.5).get(), (await tasks.add.adelay(1)).get()


def test_inline_works_inside_a_running_event_loop(nuvom_inline: IsolatedStore) -> None:
    assert (1.5, 1) == asyncio.run(_in_a_loop())


def test_inline_runs_what_a_job_enqueues_once_it_has_ended(nuvom_inline: IsolatedStore) -> None:
    child = tasks.fan_out.delay(7).get()
    assert [7, 8] == sorted(events.ended)
    assert 8 == package.Job.load(child).get()
    events.ended.clear()
    assert 0 == tasks.enqueue_and_look.delay().get()
    assert [5] == events.ended


def test_inline_leaves_a_failure_with_the_job(nuvom_inline: IsolatedStore) -> None:
    job = tasks.fan_out_and_fail.delay()
    with pytest.raises(JobFailed, match="no children"):
        job.get()
    assert [job] == nuvom_inline.jobs


def test_inline_passes_on_what_ends_a_test(nuvom_inline: IsolatedStore) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        package.task(interrupted).delay()
    assert JobStatus.FAILED is nuvom_inline.jobs[0].status


def test_inline_ends_what_would_never_end(nuvom_inline: IsolatedStore) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"10,000 attempts ran, the last of .*never"):
        tasks.never.delay()


def test_two_things_cannot_run_the_jobs(
    nuvom_inline: IsolatedStore, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(ValueError, match="nuvom_inline and nuvom_worker"):
        request.getfixturevalue("nuvom_worker")


# ---- nuvom_worker ---------------------------------------------------------------------------


@on_both
def test_drain_waits_for_jobs_their_children_and_hooks(
    nuvom: IsolatedStore, nuvom_worker: StoreWorker, backend: str
) -> None:
    tasks.fan_out.delay(7)
    nuvom_worker.drain(timeout=30)
    assert [7, 8] == sorted(events.ended)
    tasks.wait.delay(1)
    nuvom_worker.drain(timeout=30)
    assert {JobStatus.SUCCESS} == {job.status for job in nuvom.jobs}


def test_the_worker_serves_code_that_waits_for_a_result(nuvom_worker: StoreWorker) -> None:
    assert 3 == tasks.add.delay(1, 2).get(timeout=30)


def test_drain_says_what_does_not_end(nuvom_worker: StoreWorker) -> None:
    events.started, events.freed = threading.Event(), threading.Event()
    tasks.hold.delay()
    assert events.started.wait(30)
    with pytest.raises(pytest.fail.Exception, match=r'hold\(\) on queue "default", RUNNING'):
        nuvom_worker.drain(timeout=0)
    events.freed.set()


# ---- nuvom_clock ----------------------------------------------------------------------------


@on_both
@pytest.mark.parametrize("runs", ["nuvom_inline", "nuvom_worker"])
def test_retries_run_at_their_times(
    nuvom_clock: StoreTime, request: pytest.FixtureRequest, runs: str, backend: str
) -> None:
    runner = request.getfixturevalue(runs)
    began = nuvom_clock.now()
    job = tasks.third_time.delay()
    if runs == "nuvom_worker":
        runner.drain(timeout=30)
    attempts = []
    for secs in (59, 1, 59.5, 0.5):
        nuvom_clock.advance(secs)
        attempts.append(job.attempt)
    assert [1, 2, 2, 3] == attempts
    assert 3 == job.get()
    assert began + timedelta(seconds=120) == nuvom_clock.now()


def test_one_long_step_runs_all_that_comes_due(
    nuvom_inline: IsolatedStore, nuvom_clock: StoreTime
) -> None:
    job = tasks.third_time.delay()
    later = tasks.add.options(run_at=nuvom_clock.now() + timedelta(hours=1)).delay(1)
    nuvom_clock.advance(timedelta(minutes=59))
    assert (3, "PENDING") == (job.get(), later.status)
    nuvom_clock.advance(timedelta(minutes=1))
    assert 1 == later.get()


def test_short_steps_add_up(nuvom_inline: IsolatedStore, nuvom_clock: StoreTime) -> None:
    for number in range(20):
        began = nuvom_clock.now()
        delayed = tasks.add.options(delay=1).delay(number)
        dated = tasks.add.options(run_at=began + timedelta(seconds=1)).delay(number)
        for _ in range(9):
            nuvom_clock.advance(0.1)
        assert {"PENDING"} == {delayed.status, dated.status}
        nuvom_clock.advance(0.1)
        assert {"SUCCESS"} == {delayed.status, dated.status}
        assert began + timedelta(seconds=1) == nuvom_clock.now()


@on_both
@pytest.mark.parametrize("runs", ["nuvom_inline", "nuvom_worker"])
def test_schedules_fire_at_their_times_as_time_passes(
    nuvom_clock: StoreTime, request: pytest.FixtureRequest, runs: str, backend: str
) -> None:
    request.getfixturevalue(runs)
    store, began = request.getfixturevalue("nuvom"), nuvom_clock.now()
    tasks.add.schedule(1, interval=60, name="minutely")
    tasks.add.schedule(2, at=began + timedelta(seconds=90), name="once")
    nuvom_clock.advance(59)
    assert [] == store.jobs
    nuvom_clock.advance(timedelta(minutes=2))
    assert [
        ("minutely", began + timedelta(seconds=60), 1),
        ("once", began + timedelta(seconds=90), 2),
        ("minutely", began + timedelta(seconds=120), 1),
    ] == [(job.schedule, job.scheduled_for, job.get(timeout=5)) for job in store.jobs]
    assert [began + timedelta(seconds=secs) for secs in (60, 90, 120)] == [
        job.created_at for job in store.jobs
    ]
    assert ["minutely"] == [one.name for one in package.schedules()]


def test_a_schedule_may_fire_more_often_than_jobs_may_follow_from_one_another(
    nuvom: IsolatedStore, nuvom_clock: StoreTime
) -> None:
    tasks.add.schedule(1, interval=1, name="each second")
    nuvom_clock.advance(timedelta(hours=3))
    (schedule,) = package.schedules()
    assert 10_800 == schedule.record.fired


def test_time_does_not_pass_backwards(nuvom_clock: StoreTime) -> None:
    with pytest.raises(ValueError, match="backwards"):
        nuvom_clock.advance(-1)


def test_retries_without_end_fail_the_test(
    nuvom_inline: IsolatedStore, nuvom_clock: StoreTime
) -> None:
    def again() -> None:
        raise Retry(in_secs=1)

    package.task(retries=1_000_000)(again).delay()
    with pytest.raises(pytest.fail.Exception, match="10,000 attempts ran"):
        nuvom_clock.advance(timedelta(days=1))


# ---- assertions -----------------------------------------------------------------------------


def test_arguments_match_in_either_form_and_after_the_codec(nuvom: IsolatedStore) -> None:
    first, second = tasks.add.delay(1, 2), tasks.weigh.delay(parcel=Parcel(5))
    assert first == assert_enqueued(tasks.add, kwargs={"x": 1, "y": 2})
    assert first == assert_enqueued(tasks.add, [1], {"y": 2})
    assert first == assert_enqueued(tasks.add, (1, ANY))
    assert second == assert_enqueued(tasks.weigh, (Parcel(5),))
    assert tasks.add.delay(1) == assert_enqueued(tasks.add, (1, 0))  # the default
    with pytest.raises(InvalidArguments):
        assert_enqueued(tasks.add, (1, 2, 3))


def test_times_match_from_the_call_and_by_the_clock(
    nuvom: IsolatedStore, nuvom_clock: StoreTime
) -> None:
    tasks.add.options(delay=60).delay(1)
    nuvom_clock.advance(10)
    assert_enqueued(tasks.add, at=timedelta(seconds=60))
    assert_enqueued(tasks.add, at=nuvom_clock.now() + timedelta(seconds=50))
    refute_enqueued(tasks.add, at=timedelta(0))
    tasks.add.delay(1)
    assert_enqueued(tasks.add, at=timedelta(0))
    assert tasks.add.delay(1) == assert_enqueued(tasks.add)  # the latest


def test_near_misses_say_what_is_different(nuvom: IsolatedStore) -> None:
    tasks.add.delay(1, 2)
    tasks.wait.delay(3)
    with pytest.raises(AssertionError) as caught:
        assert_enqueued(tasks.add, (1, 3), queue="mail")
    name = tasks.add.name
    differences = 'y is 2, not 3; the queue is "default", not "mail"'
    assert str(caught.value).splitlines() == [
        f'No job of {name}(x=1, y=3) on queue "mail" was enqueued.',
        "Near misses:",
        f'  {name}(1, 2) on queue "default", PENDING: {differences}',
        "Jobs of other tasks:",
        f'  {tasks.wait.name}(3) on queue "default", PENDING',
    ]


def test_a_direct_call_is_named_where_a_job_is_missing(nuvom: IsolatedStore) -> None:
    assert 1 == tasks.add(1)
    with pytest.raises(AssertionError, match=r"called directly once: .*\n.*no job at all"):
        assert_enqueued(tasks.add)


def test_refute_lists_what_there_is(nuvom: IsolatedStore) -> None:
    tasks.add.map([(number,) for number in range(7)])
    refute_enqueued(tasks.add, (7,))
    with pytest.raises(AssertionError, match=r"7 jobs of [^\0]*\n  and 2 more$"):
        refute_enqueued(tasks.add)


# ---- perform, job_context -------------------------------------------------------------------


def test_perform_runs_one_job_without_retries(nuvom: IsolatedStore) -> None:
    assert 3 == perform(tasks.add, 1, y=2).get()
    failed = perform(tasks.third_time)
    assert (JobStatus.FAILED, "not yet") == (failed.status, failed.error and failed.error.message)
    assert JobStatus.PENDING is perform(tasks.never).status
    assert 1 == perform(tasks.add.options(delay=60), 1).get()
    with pytest.raises(NotStorable):
        perform(tasks.add, object())
    assert [] == nuvom.jobs


def test_jobs_of_a_performed_job_are_the_tests(nuvom: IsolatedStore) -> None:
    job = perform(tasks.fan_out, 7)
    assert_enqueued(tasks.add, (7, 0))
    assert job.get() == assert_enqueued(tasks.add, (1, 7)).id
    perform(tasks.fan_out_and_fail)
    assert 2 == len(nuvom.jobs)


def test_a_task_that_asks_for_its_job_can_be_called(nuvom: IsolatedStore) -> None:
    with job_context(attempt=3, metadata={"for": "ann"}) as job:
        assert 3 == tasks.third_time()
        assert {"for": "ann"} == current_job().metadata
        job.progress(1, 2)
        tasks.fan_out(7)
        refute_enqueued(tasks.add, (1, 7))
    assert_enqueued(tasks.add, (1, 7))
    with pytest.raises(NoCurrentJob):
        current_job()


def test_a_job_context_may_be_cancelled_or_fail(nuvom: IsolatedStore) -> None:
    with job_context(cancelled=True) as job, pytest.raises(LeaseLost):
        job.progress(1)
    with pytest.raises(ValueError, match="no children"), job_context():
        tasks.fan_out_and_fail()
    assert [] == nuvom.jobs


def test_the_marker_and_the_page_of_settings_are_known_to_pytest(pytestconfig: Any) -> None:
    assert any(re.match(r"nuvom\(backend", line) for line in pytestconfig.getini("markers"))
