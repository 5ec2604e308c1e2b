"""Jobs from call to result, through a real worker, on each store."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nuvom import Discard, JobExpired, JobFailed, LeaseLost, Retry, Snooze, current_job
from nuvom.core.record import JobStatus
from nuvom.events import (
    JobCancelled,
    JobFenced,
    JobRetrying,
    JobStarted,
    JobSucceeded,
    JobTimedOut,
)
from nuvom.job import Job
from tests.engine import LIMIT_SECS, Engine, claim_ahead, make_runtime, untraced, wait_until

STORES = ["memory", "file", "sqlite"]


@pytest.fixture(params=STORES)
def engine(request: pytest.FixtureRequest, project: Path) -> Iterator[Engine]:
    runtime = make_runtime(project, queue_backend=request.param, result_backend=request.param)
    with Engine(runtime) as engine:
        yield engine


@pytest.fixture
def sqlite(project: Path) -> Iterator[Engine]:
    with Engine(make_runtime(project, queue_backend="sqlite", result_backend="sqlite")) as engine:
        yield engine


def history(engine: Engine, job: Job[Any]) -> list[tuple[int, str]]:
    queue: Any = engine.runtime.queue
    return [(one.number, one.outcome) for one in queue.attempts(job.id)]


# ---- attempts -------------------------------------------------------------------------------


def test_flaky_job_succeeds_within_its_retries(engine: Engine) -> None:
    @engine.task(retries=3, retry_delay_secs=0.01, jitter=False)
    def flaky() -> int:
        if current_job().attempt < 3:
            raise OSError("not yet")
        return current_job().attempt

    job = flaky.delay()
    with engine.worker():
        assert 3 == job.get(LIMIT_SECS)
    assert [(1, "failure"), (2, "failure"), (3, "success")] == history(engine, job)
    assert 2 == len(engine.events(JobRetrying))


def test_signals_steer_a_job(engine: Engine) -> None:
    seen: list[int] = []

    @engine.task(retries=1)
    def steered() -> None:
        seen.append(current_job().attempt)
        if len(seen) <= 2:
            raise Snooze(0)
        if len(seen) == 3:
            raise Retry(in_secs=0)
        raise Discard("enough")

    job = steered.delay()
    with engine.worker(), pytest.raises(JobFailed, match="Discard: enough"):
        job.get(LIMIT_SECS)
    assert [1, 1, 1, 2] == seen
    assert [(1, "snoozed"), (1, "snoozed"), (1, "retry"), (2, "failure")] == history(engine, job)


# ---- deadlines ------------------------------------------------------------------------------


def hang() -> str:
    go = threading.Event()
    while not go.wait(0.001):
        pass
    return "never"


async def hang_async() -> str:
    await asyncio.Event().wait()
    return "never"


@pytest.mark.parametrize("func", [hang, hang_async])
@pytest.mark.parametrize(
    ("policy", "status", "attempts"),
    [("fail", "FAILED", 1), ("ignore", "SUCCESS", 1), ("retry", "FAILED", 2)],
)
def test_attempt_is_closed_at_its_deadline(
    sqlite: Engine, func: Any, policy: str, status: str, attempts: int
) -> None:
    task = sqlite.task(func, timeout_secs=0.1, timeout_policy=policy, retries=1, retry_delay_secs=0)
    job = task.delay()
    with sqlite.worker():
        wait_until(lambda: job.status.is_final)
    assert (status, attempts) == (job.status, job.attempt)
    assert attempts == len(sqlite.events(JobTimedOut))
    assert job.result is None
    assert ["timeout"] * attempts == [
        outcome for _, outcome in history(sqlite, job) if outcome != "success"
    ] or policy == "ignore"
    if status == "FAILED":
        assert job.error is not None
        assert "timed out after 0.1 s" == job.error.message
        assert f"in {func.__name__}" in str(job.error.traceback)


def test_a_job_that_has_not_started_in_time_is_cancelled(engine: Engine) -> None:
    @engine.task
    def late() -> str:
        return "late"

    job, now = late.options(expires=0.01).delay(), engine.runtime.clock.now
    wait_until(lambda: now() > job.record.expires_at)
    with engine.worker():
        with pytest.raises(JobExpired, match=r"expired: it had not started within 0.01 s"):
            job.get(LIMIT_SECS)
        assert ("CANCELLED", []) == (job.status, history(engine, job))
        wait_until(lambda: [job.id] == [event.job_id for event in engine.events(JobCancelled)])
        assert job.retry()
        assert "late" == job.get(LIMIT_SECS)


# ---- cancel ---------------------------------------------------------------------------------


@untraced
@pytest.mark.parametrize("kind", ["thread", "async"])
def test_running_job_is_cancelled_at_once_and_its_code_told(engine: Engine, kind: str) -> None:
    started, told = threading.Event(), list[str]()

    def task() -> None:
        job = current_job()
        started.set()
        try:
            while not job.cancelled:
                pass
            job.progress(1)
        except LeaseLost:
            told.append("lost")
        except BaseException as error:
            told.append(type(error).__name__)
            raise

    async def coroutine() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.append("cancelled")
            raise

    job = engine.task(task if kind == "thread" else coroutine, name="tests.busy").delay()
    together = threading.Barrier(2)
    meet = engine.task(lambda: together.wait(LIMIT_SECS) >= 0, name="tests.meet")
    with engine.worker(threads=2):
        assert started.wait(LIMIT_SECS)
        assert job.cancel()
        assert JobStatus.CANCELLED is job.status
        engine.wait_for(JobFenced)
        assert [True] == [event.was_cancelled for event in engine.events(JobFenced)]
        wait_until(lambda: bool(told))
        assert [True, True] == meet.map([(), ()]).get(LIMIT_SECS)  # both slots can be used
    assert JobStatus.CANCELLED is job.status
    assert [(1, "cancelled")] == history(engine, job)


def test_job_cancelled_while_it_waits_for_a_slot_never_runs(engine: Engine) -> None:
    started, go = threading.Event(), threading.Event()
    ran: list[int] = []

    def task() -> None:
        started.set()
        go.wait(LIMIT_SECS)

    with engine.worker(threads=1) as worker:
        engine.task(task, name="tests.busy").delay()
        assert started.wait(LIMIT_SECS)
        claim_ahead(worker)
        job = engine.task(ran.append, name="tests.note").delay(1)
        worker._loop.wake()
        wait_until(lambda: job.status is JobStatus.RUNNING)
        assert job.cancel()
        engine.wait_for(JobFenced)
        go.set()
        last = engine.task(lambda: "last", name="tests.last").delay()
        assert "last" == last.get(LIMIT_SECS)
    assert [] == ran
    assert JobStatus.CANCELLED is job.status


# ---- hooks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["thread", "async"])
def test_hooks_run_once_each_and_after_the_commit(engine: Engine, kind: str) -> None:
    calls: list[tuple[str, Any]] = []

    def after(value: Any) -> None:
        job: Job[Any] = Job.load(current_job().id)
        calls.append(("after", (value, str(job.status))))

    def failed(error: BaseException) -> None:
        calls.append(("error", str(error)))

    hooks: dict[str, Any] = {
        "before_job": lambda: calls.append(("before", current_job().attempt)),
        "after_job": after,
        "on_error": failed,
        "retries": 1,
        "retry_delay_secs": 0,
    }

    def work() -> int:
        if current_job().attempt == 1:
            raise ValueError("once")
        return 8

    async def work_async() -> int:
        return work()

    engine.task(work if kind == "thread" else work_async, name="tests.hooked", **hooks).delay()
    engine.work()
    first = [("before", 1), ("error", "once")]
    second = [("before", 2), ("after", (8, "SUCCESS"))]
    # What follows the commit of the first attempt may run beside the second.
    assert len(first + second) == len(calls), calls
    for attempt in (first, second):
        assert attempt == [one for one in calls if one in attempt]


# ---- stopping -------------------------------------------------------------------------------


def test_stopped_worker_leaves_the_rest_to_another(engine: Engine) -> None:
    started = threading.Semaphore(0)
    go = threading.Event()

    def task(number: int) -> int:
        started.release()
        go.wait(LIMIT_SECS)
        return number

    jobs = engine.task(task).map([(number,) for number in range(20)])
    with engine.worker(threads=2) as worker:
        for _ in range(2):
            assert started.acquire(timeout=LIMIT_SECS)
        worker.stop()
        go.set()
        assert worker.join(LIMIT_SECS)
    ended = [job.status for job in jobs].count(JobStatus.SUCCESS)
    assert 2 <= ended < 20
    assert {0} == {job.attempt for job in jobs if job.status is JobStatus.PENDING}
    engine.work()
    assert list(range(20)) == jobs.get(0)
    assert 20 == len(engine.events(JobSucceeded)) == len(engine.events(JobStarted))


PROGRAM = """
import time
from pathlib import Path
import nuvom
from nuvom.worker import start_worker_pool

@nuvom.task
def slow() -> str:
    print("running", flush=True)
    while not Path("go").exists():
        time.sleep(0.01)
    return "done"

if __name__ == "__main__":
    nuvom.configure(shutdown_timeout_secs=60)
    jobs = [slow.delay(), slow.delay()]
    reason = start_worker_pool(threads=1)
    print(reason, *[f"{job.status}/{job.attempt}" for job in jobs], flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no signal reaches one child alone there")
@pytest.mark.parametrize(
    ("interrupts", "last_line"),
    [(1, "stopped SUCCESS/1 PENDING/0"), (2, "stopped PENDING/0 PENDING/0")],
)
def test_interrupt_of_a_program_strands_nothing(
    project: Path, interrupts: int, last_line: str
) -> None:
    (project / "program.py").write_text(PROGRAM)
    program = subprocess.Popen(
        [sys.executable, "program.py"],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout is not None
        assert "running\n" == program.stdout.readline()
        program.send_signal(signal.SIGINT)
        wait_until(lambda: _is_stopping(project))
        if interrupts == 2:
            program.send_signal(signal.SIGINT)
        else:
            (project / "go").touch()
        out, err = program.communicate(timeout=LIMIT_SECS)
    finally:
        program.kill()
        program.wait()
    assert (last_line, 0) == (out.strip(), program.returncode), err


def _is_stopping(project: Path) -> bool:
    queue: Any = make_runtime(project, queue_backend="sqlite", result_backend="sqlite").queue
    try:
        return [worker.state for worker in queue.workers()] == ["stopping"]
    finally:
        queue.stop()
