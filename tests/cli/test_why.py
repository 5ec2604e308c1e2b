"""``nuvom why``: one test for each reason why a job waits, said alike wherever people look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nuvom.config.sources import load
from nuvom.core.views import WorkerInfo
from nuvom.errors import JobTimeout
from nuvom.job import Job
from nuvom.runtime import Runtime, build_runtime
from nuvom.testing.builders import make_job
from tests.cli.shell import call, invoke, run, status

TOOK_NOTHING = "is ready, and a worker is about to take it"


@pytest.fixture
def runtime(tasks: Path) -> Iterator[Runtime]:
    """Open the project's store."""
    runtime = build_runtime(load(tasks))
    yield runtime
    runtime.stop()


@pytest.fixture
def worker(runtime: Runtime) -> Callable[..., None]:
    """Return what makes a worker visible that takes nothing."""

    def announce(*queues: str) -> None:
        runtime.queue.announce(WorkerInfo(id="idle", queues=queues))  # type: ignore[attr-defined]
        runtime.queue.extend("idle")  # type: ignore[attr-defined]

    return announce


def why(job: str) -> str:
    """Return the reason, which every command must tell alike."""
    told: dict[str, str] = invoke("--json", "why", job).json["reason"]
    for command in (["why", job], ["status", job], ["inspect", job]):
        answer = invoke(*command)
        shown = answer.out + answer.err
        assert told["text"].partition(" due in ")[0] in shown  # the time that is left goes by
        assert told["fix"] in shown
    return told["text"]


def test_a_job_whose_task_cannot_be_imported(tasks: Path) -> None:
    (tasks / "broken.py").write_text("from nuvom import task\nimport nosuch\n@task\ndef x(): ...\n")
    job = run("x")
    assert call("runworker", "--burst", "-q", cwd=tasks).code == 0
    assert "No module named 'nosuch'" in why(job)
    assert "No module named 'nosuch'" in invoke("doctor").out
    (tasks / "broken.py").write_text("from nuvom import task\n@task\ndef x(): ...\n")
    assert call("runworker", "--burst", "-q", cwd=tasks).code == 0
    assert status(job) == "SUCCESS"  # it took the job back before it decided that nothing is left


def test_a_job_whose_task_is_gone(tasks: Path) -> None:
    (tasks / "gone.py").write_text("from nuvom import task\n@task\ndef x(): ...\n")
    job = run("x")
    (tasks / "gone.py").unlink()
    assert call("runworker", "--burst", "-q", cwd=tasks).code == 0
    assert 'No task is named "gone.x"' in why(job)


def test_a_job_on_a_paused_queue(tasks: Path) -> None:
    job = run("add", 1, 2)
    invoke("queues", "pause", "default")
    assert 'its queue "default" is paused by ' in why(job)


def test_a_job_that_is_due_later(runtime: Runtime) -> None:
    job = make_job(run_at=runtime.clock.now() + 3630)
    runtime.queue.enqueue(job)
    assert why(job.id).startswith("it is due in 1:00:")


def test_a_job_that_waits_for_its_next_attempt(tasks: Path) -> None:
    (tasks / "fails.py").write_text(
        "from nuvom import task\n"
        "@task(retries=1, retry_delay_secs=900, jitter=False)\n"
        "def fail(): raise ValueError\n"
    )
    job = run("fail")
    assert call("runworker", "--burst", "-q", cwd=tasks).code == 0
    assert why(job).startswith("its next attempt is due in 0:1")


def test_a_job_that_no_worker_serves(runtime: Runtime, worker: Callable[..., None]) -> None:
    worker("mail")
    job = run("add", 1, 2)
    assert why(job) == 'no worker serves its queue "default"'
    with pytest.raises(JobTimeout, match=r'no worker serves its queue "default"'):
        Job(job, runtime).get(timeout=0.01)


def test_a_job_behind_others(worker: Callable[..., None]) -> None:
    worker()
    job = run("add", 1, 2)
    assert TOOK_NOTHING in why(job)
    run("add", 3, 4)
    assert why(job) == 'it waits with 1 other job on "default"'


def test_a_job_that_does_not_wait(tasks: Path, drain: Callable[[], None]) -> None:
    job = run("add", 1, 2)
    drain()
    assert invoke("why", job).out == "It does not wait: it is SUCCESS.\n"
    assert invoke("--json", "why", job).json["reason"] is None
