"""The worker loop: claims for the lanes, settles what they end with, and strands nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nuvom.core.record import JobStatus
from nuvom.events import (
    BackendCalled,
    BackendFailed,
    JobsClaimed,
    JobStarted,
    JobSucceeded,
    WorkerAsked,
    WorkerStopped,
)
from nuvom.execution import capacity, worker_loop
from nuvom.execution.attempts import OpenAttempt
from nuvom.execution.job_runner import JobRunner
from nuvom.job import Job
from nuvom.testing import make_settlement
from nuvom.worker import Worker
from tests.engine import (
    LIMIT_SECS,
    Engine,
    claim_ahead,
    make_runtime,
    wait_until,
    with_backends,
)
from tests.troubled import DOWN, Trouble, TroubledQueue

SETTLED_BY: list[str] = []


class NotingQueue(TroubledQueue):
    """A queue that notes which threads settle."""

    def settle(self, settlements: Any) -> list[bool]:
        SETTLED_BY.append(threading.current_thread().name)
        return super().settle(settlements)


@pytest.fixture
def trouble() -> Trouble:
    SETTLED_BY.clear()
    return Trouble()


@pytest.fixture
def engine(project: Path, trouble: Trouble) -> Iterator[Engine]:
    """Use an engine whose queue fails when ``trouble`` says so."""
    queue = NotingQueue()
    queue.trouble = trouble
    with Engine(with_backends(make_runtime(project), queue)) as engine:
        assert engine.runtime.is_shared
        yield engine


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let waits that only guard against what never happens be short."""
    monkeypatch.setattr(worker_loop, "_RETRY_SECS", (0.001, 0.005))
    monkeypatch.setattr(worker_loop, "_IDLE_SECS", 0.05)


def add(x: int, y: int) -> int:
    return x + y


class Gate:
    """Code of a job that says that it runs, and goes on when it is let."""

    def __init__(self, engine: Engine, **options: Any) -> None:
        self.runs = threading.Semaphore(0)
        self.go = threading.Event()
        self.ended = threading.Event()
        self.task = engine.task(self._wait, name="tests.gated", **options)

    def _wait(self) -> str:
        self.runs.release()
        try:
            while not self.go.wait(0.001):
                pass
        finally:
            self.ended.set()
        return "done"

    def is_running(self) -> None:
        assert self.runs.acquire(timeout=LIMIT_SECS)

    def let_all_end(self) -> None:
        """Let code end whose worker has gone; it is not to meet what the next test replaces."""
        self.go.set()
        for thread in threading.enumerate():
            if thread.name == "nuvom-slot":
                thread.join(LIMIT_SECS)


def statuses(jobs: Any) -> list[str]:
    return [str(job.status) for job in jobs]


def ops(engine: Engine) -> set[str]:
    return {event.op for event in engine.events(BackendFailed)}


def test_worker_that_has_its_fill_wakes_the_next(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_loop, "_IDLE_SECS", 10 * LIMIT_SECS)
    runtime = make_runtime(project, queue_backend="sqlite", result_backend="sqlite")
    with Engine(runtime) as engine:
        gate = Gate(engine)
        with engine.worker(threads=1) as one, engine.worker(threads=1) as two:
            wait_until(lambda: one._loop._slots_settle and two._loop._slots_settle)
            gate.task.map([()] * 2)
            gate.is_running()
            gate.is_running()
            gate.go.set()


# ---- when it ends ---------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 3, 10, 700])
def test_worker_of_so_many_jobs_runs_just_so_many(engine: Engine, most: int) -> None:
    jobs = engine.task(add).map([(number, 1) for number in range(most + 500)])
    assert "max-jobs" == engine.work(burst=False, max_jobs=most)
    assert most == statuses(jobs).count("SUCCESS")
    assert {0} == {job.attempt for job in jobs if job.status == "PENDING"}
    assert 500 == engine.runtime.queue.qsize()


async def eight() -> int:
    return 8


def make_outcomes_slowly(
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[threading.Event, threading.Event]:
    """Return what is set when a success is being made, and what lets that end."""
    making, go = threading.Event(), threading.Event()
    succeeded = JobRunner.succeeded

    def slowly(*args: Any) -> Any:
        making.set()
        go.wait(LIMIT_SECS)
        return succeeded(*args)

    monkeypatch.setattr(JobRunner, "succeeded", slowly)
    return making, go


@pytest.mark.parametrize("limits", [{"burst": True}, {"max_jobs": 1}, {}])
def test_outcome_that_is_still_being_made_is_waited_for(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, limits: dict[str, Any]
) -> None:
    making, go = make_outcomes_slowly(monkeypatch)
    job = engine.task(eight).delay()
    with engine.worker(**limits) as worker:
        assert making.wait(LIMIT_SECS)
        if not limits:
            worker.stop()
        assert not worker.join(0.1)
        go.set()
        assert worker.join(LIMIT_SECS)
    assert 8 == job.get(0)


# ---- stopping in good order -----------------------------------------------------------------


def test_running_jobs_finish_and_waiting_ones_go_back_uncharged(engine: Engine) -> None:
    gate = Gate(engine)
    jobs = [gate.task.delay() for _ in range(5)]
    with engine.worker(threads=2) as worker:
        gate.is_running()
        gate.is_running()
        claim_ahead(worker)
        worker._loop.wake()
        engine.wait_until(lambda: worker.open_attempts == 5)
        worker.stop()
        engine.wait_until(lambda: engine.runtime.queue.qsize() == 3)
        gate.go.set()
        assert worker.join(LIMIT_SECS)
    assert ["SUCCESS"] * 2 + ["PENDING"] * 3 == statuses(jobs)
    assert [0, 0, 0] == [job.attempt for job in jobs[2:]]
    assert [0, 0, 0] == [job.refresh().record.deliveries for job in jobs[2:]]


def test_job_that_outlasts_its_time_goes_back_uncharged_and_is_told(project: Path) -> None:
    with Engine(make_runtime(project, shutdown_timeout_secs=0.01)) as engine:
        gate = Gate(engine)
        job = gate.task.delay()
        with engine.worker() as worker:
            gate.is_running()
            (running,) = worker._context.attempts.unclosed
            worker.stop()
            assert worker.join(LIMIT_SECS)
        assert (JobStatus.PENDING, 0) == (job.status, job.attempt)
        assert running.is_cancelled
        gate.go.set()


def test_calls_of_the_store_are_told_with_what_they_brought(engine: Engine) -> None:
    engine.task(add).map([(1, 2)] * 3)
    engine.work()
    assert {"claim", "settle"} == {event.op for event in engine.events(BackendCalled)}
    asked = engine.events(WorkerAsked)
    assert (3, {0}) == (sum(event.jobs for event in asked), {event.leaked for event in asked})


@pytest.mark.parametrize("kind", ["thread", "async"])
def test_hooks_of_the_last_job_are_waited_for(engine: Engine, kind: str) -> None:
    called: list[int] = []
    there = threading.Event()

    def after(value: int) -> None:
        there.wait(0.05)
        called.append(value)

    async def coroutine() -> int:
        return 8

    func: Callable[..., Any] = coroutine if kind == "async" else (lambda: 8)
    engine.task(func, name="tests.hooked", after_job=after).delay()
    assert "burst" == engine.work()
    assert [8] == called


def test_hook_that_hangs_is_not_waited_for_beyond_the_time_of_a_stop(project: Path) -> None:
    with Engine(make_runtime(project, shutdown_timeout_secs=0.05)) as engine:
        go = threading.Event()
        job = engine.task(lambda: 8, name="tests.hooked", after_job=lambda _: go.wait()).delay()
        assert "burst" == engine.work()
        assert JobStatus.SUCCESS is job.status
        go.set()


# ---- commands -------------------------------------------------------------------------------


def test_stacks_go_to_the_log(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "nuvom.worker")
    gate = Gate(engine)
    job = gate.task.delay()
    with engine.worker() as worker:
        gate.is_running()
        engine.runtime.control.command(worker.id, "stacks")
        wait_until(lambda: "where a job is" in caplog.text)
        gate.go.set()
    (record,) = [one for one in caplog.records if one.getMessage() == "where a job is"]
    assert job.id == record.__dict__["job_id"]
    assert "in _wait" in record.__dict__["traceback"]


# ---- trouble with the store -----------------------------------------------------------------


@pytest.mark.parametrize("method", ["claim", "settle", "next_due_secs", "wait_for_work", "extend"])
def test_worker_goes_on_after_any_trouble_with_the_queue(
    engine: Engine, trouble: Trouble, hasty: None, method: str
) -> None:
    with engine.worker():
        trouble.once(method)
        trouble.once(method)
        jobs = [engine.task(add).delay(number, 1) for number in range(20)]
        assert list(range(1, 21)) == [job.get(LIMIT_SECS) for job in jobs]
    if trouble.calls[method] > 1 and method != "extend":
        assert ops(engine) <= {"claim", "settle", "wait"}
        # Slots that could not settle leave that to the loop, which may not fail any more.
        assert ops(engine) or method == "settle"
    assert 20 == len(engine.events(JobSucceeded))


def test_nothing_is_claimed_while_outcomes_cannot_be_stored(
    engine: Engine, trouble: Trouble, hasty: None
) -> None:
    trouble.always("settle")
    jobs = engine.task(add).map([(1, 2)] * 500)
    with engine.worker(threads=2):
        engine.wait_until(lambda: trouble.calls["settle"] > 20)
        claimed = sum(len(event.jobs) for event in engine.events(JobsClaimed))
        assert claimed <= 4
        assert "settle" in ops(engine)
        trouble.ends()
        assert [3] * 500 == jobs.get(LIMIT_SECS)
    assert 500 == len(engine.events(JobStarted))


def test_release_that_fails_is_tried_again(engine: Engine, trouble: Trouble, hasty: None) -> None:
    gate = Gate(engine)
    job = gate.task.delay()
    trouble.once("release")
    with engine.worker() as worker:
        gate.is_running()
        worker.abort()
        assert worker.join(LIMIT_SECS)
    gate.go.set()
    if job.status is JobStatus.RUNNING:  # nobody could be told: its lease tells
        assert 1 == worker._loop.stranded
        assert 0 == trouble.calls["retire"]
    assert {"release"} == ops(engine)


def test_store_that_stays_away_does_not_hold_up_a_stop(project: Path, hasty: None) -> None:
    queue = TroubledQueue()
    runtime = with_backends(make_runtime(project, shutdown_timeout_secs=0.05), queue)
    with Engine(runtime) as engine:
        job = engine.task(add).delay(1, 2)
        queue.trouble.always("settle")
        with engine.worker() as worker:
            engine.wait_until(lambda: queue.trouble.calls["settle"] > 2)
            for method in ("announce", "retire", "release"):
                queue.trouble.always(method)
            worker.stop()
            assert worker.join(LIMIT_SECS)
        assert 1 == worker._loop.stranded
        assert 0 == queue.trouble.calls["retire"]
        queue.trouble.ends()
        assert JobStatus.RUNNING is job.status
        assert {"settle", "announce"} <= ops(engine)


# ---- faults ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["claim", "settle", "next_due_secs"])
def test_fault_hands_back_what_is_in_hand_and_is_raised(
    engine: Engine, trouble: Trouble, method: str
) -> None:
    gate = Gate(engine)
    gated = gate.task.delay()
    worker = Worker(engine.runtime, threads=2)
    thread_error: list[BaseException] = []

    def run() -> None:
        try:
            worker.run()
        except ZeroDivisionError as error:
            thread_error.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    gate.is_running()
    trouble.always(method, ZeroDivisionError("a fault"))
    engine.task(add).delay(1, 2)
    thread.join(LIMIT_SECS)
    assert ["a fault"] == [str(error) for error in thread_error]
    assert (JobStatus.PENDING, 0) == (gated.status, gated.attempt)
    assert {"loop"} == ops(engine)
    assert ["crashed"] == [event.reason for event in engine.events(WorkerStopped)]
    gate.let_all_end()


def test_fault_at_one_outcome_costs_no_other(engine: Engine, trouble: Trouble) -> None:
    jobs = engine.task(add).map([(number, 1) for number in range(3)])
    queue: Any = engine.runtime.queue
    settle = queue.settle

    def poisoned(settlements: Any) -> Any:
        if any(one.record.id == jobs[2].id for one in settlements):
            raise ZeroDivisionError("poison")
        return settle(settlements)

    queue.settle = poisoned
    with pytest.raises(ZeroDivisionError, match="poison"):
        engine.work(threads=1)
    # The others have ended before it: there is one slot.
    assert ["SUCCESS", "SUCCESS", "PENDING"] == statuses(jobs)


# ---- what is claimed ------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["memory", "file", "sqlite"])
def test_loop_waits_until_a_retry_is_due_and_no_longer(project: Path, backend: str) -> None:
    runtime = make_runtime(project, queue_backend=backend, result_backend=backend)
    with Engine(runtime) as engine:
        queue: Any = runtime.queue
        engine.task(add).delay(1, 2)
        (claimed,) = queue.claim(1, "somebody")
        again = make_settlement(claimed, JobStatus.PENDING, run_at=runtime.clock.now() + 0.5)
        assert [True] == queue.settle([again])
        loop = Worker(runtime)._loop
        assert 0 < loop.step() < 0.6
        queue.cancel(claimed.id)
        assert 1.0 == loop.step()


def test_suspects_run_one_at_a_time(engine: Engine) -> None:
    gate = Gate(engine)
    suspects = [gate.task.delay() for _ in range(2)]
    queue: Any = engine.runtime.queue
    records = [job.refresh().record for job in suspects]
    queue.clear()
    queue.enqueue_many([record.replace(suspect=True) for record in records])
    fresh = engine.task(add).map([(1, 2)] * 5)
    with engine.worker(threads=4):
        gate.is_running()
        assert [3] * 5 == fresh.get(LIMIT_SECS)
        assert ["PENDING", "RUNNING"] == sorted(statuses(suspects))
        gate.go.set()
        assert ["done"] * 2 == [job.get(LIMIT_SECS) for job in suspects]


def test_jobs_that_wait_behind_slow_ones_go_back(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when something ends all the time, as with jobs that are neither quick nor hang."""
    monkeypatch.setattr(capacity, "_PREFETCH_LIMIT_SECS", 3600.0)
    gate = Gate(engine)
    first = gate.task.delay()
    with engine.worker(threads=1) as worker:
        gate.is_running()
        claim_ahead(worker)
        others = engine.task(add).map([(1, 2)] * 20)
        worker._loop.wake()
        engine.wait_until(lambda: worker.open_attempts > 1)
        monkeypatch.setattr(capacity, "_PREFETCH_LIMIT_SECS", 0.05)

        def is_left_to_others() -> bool:
            worker._loop.wake()
            return worker.open_attempts == 1 and engine.runtime.queue.qsize() == 20

        engine.wait_until(is_left_to_others)
        assert {0} == {job.attempt for job in others}
        gate.go.set()
        assert [3] * 20 == others.get(LIMIT_SECS)
    assert JobStatus.SUCCESS is first.status


def test_attempt_whose_lease_has_run_out_goes_back_unrun(engine: Engine) -> None:
    gate = Gate(engine)
    queue: Any = engine.runtime.queue
    with engine.worker(threads=1) as worker:
        gate.task.delay()
        gate.is_running()
        job = engine.task(add).delay(1, 2)
        (record,) = queue.claim(1, worker.id)
        running = OpenAttempt(record, worker.id, worker, worker.runtime.clock.monotonic() - 31)
        worker._context.attempts.add([running])
        assert not worker._loop.may_start(running)
        engine.wait_until(lambda: job.status is JobStatus.PENDING)
        assert 0 == job.attempt
        gate.go.set()
        assert 3 == job.get(LIMIT_SECS)


# ---- what slots settle by themselves ---------------------------------------------------------


class Unhurried:
    """A job that ends when the loop sleeps on the queue, or when it is told.

    Args:
        does: Called at its end: what it returns or raises.
    """

    def __init__(
        self, engine: Engine, does: Callable[[], Any] = lambda: "done", **options: Any
    ) -> None:
        self.go = threading.Event()
        self._does = does
        self.task = engine.task(self._run, name="tests.unhurried", **options)

    def _run(self) -> Any:
        assert self.go.wait(LIMIT_SECS)
        return self._does()

    def run_on(self, worker: Worker) -> Job[Any]:
        """Return a job that ends once the loop has gone back to sleep."""
        job: Job[Any] = self.task.delay()
        wait_until(lambda: str(job.status) == "RUNNING")
        wait_until(lambda: has_gone_back_to_sleep(worker))
        self.go.set()
        return job


def has_gone_back_to_sleep(worker: Worker) -> bool:
    """Whether the loop waits for the queue, and not for slots to start what it has claimed."""
    loop = worker._loop
    has_submitted = bool(worker._context.attempts.open)  # first: it follows the claim
    return has_submitted and loop._slots_settle and not loop._lets_start


def test_outcome_of_a_worker_that_sleeps_is_settled_by_its_slot(engine: Engine) -> None:
    seen: list[str] = []
    unhurried = Unhurried(engine, after_job=seen.append)
    with engine.worker(threads=2) as worker:
        job = unhurried.run_on(worker)
        assert "done" == job.get(LIMIT_SECS)
        wait_until(lambda: not worker._context.attempts.open)
        assert ["nuvom-slot"] == SETTLED_BY
        assert (1, 1) == (worker.finished_jobs, len(engine.events(JobSucceeded)))
        wait_until(lambda: seen == ["done"])


def test_loop_that_lets_slots_start_goes_on_when_one_is_idle(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_loop, "_START_SECS", 10 * LIMIT_SECS)
    task = engine.task(lambda: "done", name="tests.quick")
    with engine.worker(threads=2) as worker:
        wait_until(lambda: worker._loop._slots_settle)
        assert ["done"] * 3 == [task.delay().get(LIMIT_SECS) for _ in range(3)]


def test_loop_tries_again_what_a_slot_could_not_settle(engine: Engine, trouble: Trouble) -> None:
    unhurried = Unhurried(engine)
    with engine.worker(threads=2) as worker:
        trouble.once("settle")
        trouble.once("settle")
        job = unhurried.run_on(worker)
        assert "done" == job.get(LIMIT_SECS)
        assert DOWN.what in str(engine.events(BackendFailed)[0])
    assert 1 == worker.finished_jobs


def test_fault_in_a_slot_stops_the_worker_and_loses_nothing(
    engine: Engine, trouble: Trouble
) -> None:
    unhurried = Unhurried(engine)
    worker = Worker(engine.runtime, threads=2)
    ended = threading.Event()

    def run() -> None:
        with pytest.raises(ZeroDivisionError):
            worker.run()
        ended.set()

    threading.Thread(target=run).start()
    trouble.once("settle", ZeroDivisionError())
    job = unhurried.run_on(worker)
    assert ended.wait(LIMIT_SECS)
    assert "done" == job.get(0)


def test_worker_that_stops_meanwhile_waits_for_the_slot(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    unhurried, settles, may_go = Unhurried(engine), threading.Event(), threading.Event()
    worker = Worker(engine.runtime, threads=2)
    settle = worker._context.stores.settle

    def slowly(settlements: Any) -> list[bool]:
        settles.set()
        assert may_go.wait(LIMIT_SECS)
        return settle(settlements)

    monkeypatch.setattr(worker._context.stores, "settle", slowly)
    worker.start()
    job = unhurried.run_on(worker)
    assert settles.wait(LIMIT_SECS)
    worker.stop()
    wait_until(lambda: not worker._loop._slots_settle)
    may_go.set()
    assert worker.join(LIMIT_SECS)
    assert ("done", 0, 1) == (job.get(0), worker._loop.stranded, worker.finished_jobs)
