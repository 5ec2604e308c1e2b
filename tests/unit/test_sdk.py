"""The SDK: what programs ask of stored jobs, in a project with a worker inside the test."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import nuvom
from nuvom import JobStatus, sdk
from nuvom.core.job_context import current
from nuvom.discovery.manifest import write_manifest
from nuvom.discovery.scan import scan
from nuvom.errors import InvalidArguments, JobNotFound, TaskNotFound, WaitInsideTask
from nuvom.registry.registry import default_registry


@nuvom.task(name="sdk.add")
def add(x: int, y: int) -> int:
    return x + y


@nuvom.task(name="sdk.fail", queue="mail")
def fail() -> None:
    raise ValueError("no paper")


@pytest.fixture(autouse=True)
def runtime(project: object) -> Iterator[None]:
    """Start from a store in memory, and leave nothing to the next test."""
    from nuvom.runtime import reset

    reset()
    for task in (add, fail):
        default_registry().register(task, force=True)
    nuvom.configure(queue_backend="memory", result_backend="memory")
    yield
    reset()


def test_the_status_of_a_waiting_job() -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    job = add.options(delay=3600).delay(2, 3)
    told = sdk.get_job_status(job.id)
    fixed = {name: value for name, value in told.items() if not name.endswith("_at")}
    assert fixed == {
        "id": job.id,
        "func_name": "sdk.add",
        "status": JobStatus.PENDING,
        "attempt": 0,
        "queue": "default",
        "error": None,
    }
    assert before < told["created_at"] <= datetime.now(UTC)
    assert told["run_at"] - told["created_at"] == pytest.approx(
        timedelta(hours=1), abs=timedelta(seconds=1)
    )
    assert sdk.get_job_status(add.delay(1, 2).id)["run_at"] is None


@pytest.mark.parametrize("ask", [sdk.get_job_status, sdk.retry_job, sdk.cancel_job])
def test_a_job_that_never_was_is_a_key_error(ask: object) -> None:
    assert callable(ask)
    with pytest.raises(KeyError):
        ask("01990000-0000-7000-8000-000000000000")
    with pytest.raises(JobNotFound):
        ask("01990000-0000-7000-8000-000000000000")


def test_a_failed_job_says_why_runs_again_under_its_id_and_is_cancelled_once() -> None:
    with nuvom.local_worker():
        job = fail.delay()
        sdk.wait([job], timeout=30)
    told = sdk.get_job_status(job.id)
    assert (told["status"], told["attempt"]) == ("FAILED", 1)
    assert (told["error"]["type"], told["error"]["message"]) == ("ValueError", "no paper")
    assert "raise ValueError" in told["error"]["traceback"]
    assert sdk.retry_job(job.id) == job.id
    assert sdk.get_job_status(job.id)["status"] == "PENDING"
    assert sdk.retry_job(job.id) is None
    assert [sdk.cancel_job(job.id), sdk.cancel_job(job.id)] == [True, False]


def test_waiting_for_ever_inside_a_task_is_refused() -> None:
    job = add.delay(1, 2)
    token = current.set(object())  # type: ignore[arg-type]  # only that there is one
    try:
        with pytest.raises(WaitInsideTask):
            sdk.wait([job])
    finally:
        current.reset(token)


def test_jobs_are_listed_newest_first_by_status_queue_and_task() -> None:
    jobs = [add.delay(1, n) for n in range(5)]
    mail = fail.delay()
    sdk.cancel_job(jobs[0].id)
    assert [job.id for job in sdk.list_jobs()] == [mail.id, *(job.id for job in jobs[::-1])]
    assert [job.id for job in sdk.list_jobs(limit=2)] == [mail.id, jobs[4].id]
    assert [job.id for job in sdk.list_jobs(status="CANCELLED")] == [jobs[0].id]
    assert len(sdk.list_jobs(status=[JobStatus.CANCELLED, "pending"])) == 6
    assert [job.id for job in sdk.list_jobs(queue="mail")] == [mail.id]
    assert len(sdk.list_jobs(task="sdk.add")) == 5


def test_the_limit_is_not_clamped() -> None:
    add.map([(1, 2)] * 1203)
    assert len(sdk.list_jobs(limit=1200)) == 1200
    assert len(sdk.list_jobs(limit=10_000)) == 1203
    assert len(sdk.list_jobs()) == 100


def test_what_makes_no_sense_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r'"LOST".*There are: PENDING, RUNNING'):
        sdk.list_jobs(status="LOST")
    with pytest.raises(ValueError, match=r'"FAILD".*Did you mean "FAILED"'):
        sdk.list_jobs(status="FAILD")
    with pytest.raises(ValueError, match="limit"):
        sdk.list_jobs(limit=-1)


def test_queues_workers_and_errors_are_counted() -> None:
    with nuvom.local_worker() as worker:
        sdk.wait([fail.delay(), fail.delay()], timeout=30)
        assert [one.id for one in sdk.workers()] == [worker.id]
    (stats,) = [one for one in sdk.queue_stats() if one.queue == "mail"]
    assert stats.failed == 2
    (group,) = sdk.errors()
    assert (group.func_name, group.type, group.count) == ("sdk.fail", "ValueError", 2)


MANIFESTED = """\
from nuvom import task


@task(queue="mail", retries=2)
def send(to: str, *, body: str = "hi") -> str:
    raise AssertionError("it was imported")


raise AssertionError("it was imported")
"""


def test_a_task_is_enqueued_by_its_name_without_being_imported(project: Path) -> None:
    (project / "letters.py").write_text(MANIFESTED)
    found = scan(project, use_cache=False)
    write_manifest(project / ".nuvom" / "manifest.json", found.tasks, root=project)
    job = nuvom.enqueue("letters.send", "ann", body="ho", options={"delay": 60})
    assert (job.queue, job.args, job.kwargs) == ("mail", ("ann",), {"body": "ho"})
    assert job.snapshot().record.max_retries == 2
    with pytest.raises(InvalidArguments, match="to"):
        nuvom.enqueue("letters.send")
    with pytest.raises(TaskNotFound, match=r'Did you mean "letters\.send"'):
        nuvom.enqueue("letters.sent", "ann")
    with pytest.raises(TypeError):
        nuvom.task_by_name("letters.send")("ann")


def test_without_a_manifest_any_name_may_be_enqueued() -> None:
    job = nuvom.enqueue("elsewhere.send", 1, two=2)
    assert (job.func_name, job.args, job.kwargs) == ("elsewhere.send", (1,), {"two": 2})
    assert nuvom.enqueue("sdk.add", 1, 2).func_name == "sdk.add"
