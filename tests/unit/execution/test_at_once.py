"""Settling in the thread of a slot, and what is left to the pump all the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nuvom import current_job
from nuvom.events import BackendFailed, JobFailed, JobSucceeded
from nuvom.execution import announcing, sleeper
from nuvom.execution import at_once as at_once_module
from nuvom.execution.at_once import AtOnce
from nuvom.job import Job
from nuvom.worker import Worker
from tests.engine import LIMIT_SECS, Engine, make_runtime, wait_until, with_backends
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
    queue = NotingQueue()
    queue.trouble = trouble
    with Engine(with_backends(make_runtime(project), queue)) as engine:
        yield engine


class Unhurried:
    """A job that ends when the pump sleeps on the queue, or when it is told.

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

    def end(self, worker: Worker, job: Job[Any]) -> None:
        """Let ``job`` run, and end once the pump has gone back to sleep."""
        wait_until(lambda: str(job.status) == "RUNNING")
        wait_until(lambda: has_gone_back_to_sleep(worker))
        self.go.set()


def has_gone_back_to_sleep(worker: Worker) -> bool:
    """Whether the pump sleeps, and not in the sleep in which it has claimed what runs."""
    sleeper = worker._pump._sleeper
    has_submitted = bool(worker._in_hand.open)  # before the next line: it follows the claim
    return has_submitted and at_once(worker).is_open and sleeper.has_taken_all is None


def at_once(worker: Worker) -> AtOnce:
    return worker._pump.at_once


def test_outcome_of_a_worker_that_sleeps_is_settled_by_its_slot(engine: Engine) -> None:
    unhurried = Unhurried(engine)
    with engine.worker(threads=2) as worker:
        job = unhurried.task.delay()
        unhurried.end(worker, job)
        assert "done" == job.get(LIMIT_SECS)
        wait_until(lambda: not worker._in_hand.open)
        assert ["nuvom-slot"] == SETTLED_BY
        assert (1, 1) == (worker.finished_jobs, len(engine.events(JobSucceeded)))


def test_slot_that_is_idle_then_wakes_nobody(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    unhurried, pokes = Unhurried(engine), []
    with engine.worker(threads=2) as worker:
        job = unhurried.task.delay()
        wait_until(lambda: str(job.status) == "RUNNING")
        wait_until(lambda: at_once(worker).is_open)
        monkeypatch.setattr(engine.runtime.queue, "interrupt", lambda: pokes.append(1))
        unhurried.go.set()
        assert "done" == job.get(LIMIT_SECS)
        wait_until(lambda: 2 == worker._pump._threads.free())
        assert not pokes
        monkeypatch.undo()


def test_pump_that_lets_slots_start_goes_on_when_one_is_idle(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sleeper, "_START_SECS", 10 * LIMIT_SECS)
    task = engine.task(lambda: "done", name="tests.quick")
    with engine.worker(threads=2) as worker:
        wait_until(lambda: at_once(worker).is_open)
        assert ["done"] * 3 == [task.delay().get(LIMIT_SECS) for _ in range(3)]


def test_slot_that_brings_room_wakes_the_pump(engine: Engine) -> None:
    unhurried = Unhurried(engine)
    with engine.worker(threads=1):
        first = unhurried.task.delay()
        wait_until(lambda: str(first.status) == "RUNNING")
        second = unhurried.task.delay()
        unhurried.go.set()
        assert ["done", "done"] == [job.get(LIMIT_SECS) for job in (first, second)]


def test_worker_that_ends_by_itself_leaves_all_to_its_pump(engine: Engine) -> None:
    unhurried = Unhurried(engine)
    worker = Worker(engine.runtime, threads=2, max_jobs=2)
    worker.start()
    jobs = [unhurried.task.delay() for _ in range(2)]
    unhurried.go.set()
    assert ["done"] * 2 == [job.get(LIMIT_SECS) for job in jobs]
    assert worker.join(LIMIT_SECS)
    assert {"nuvom-pump"} == set(SETTLED_BY)


def test_failure_is_left_to_the_pump(engine: Engine) -> None:
    def fail() -> None:
        raise ValueError

    unhurried = Unhurried(engine, fail)
    with engine.worker(threads=2) as worker:
        unhurried.end(worker, unhurried.task.delay())
        wait_until(lambda: bool(engine.events(JobFailed)))
        assert ["nuvom-pump"] == SETTLED_BY


def test_success_that_brings_further_jobs_is_left_to_the_pump(engine: Engine) -> None:
    @engine.task
    def child() -> int:
        return 7

    def parent() -> int:
        job = current_job()
        assert job is not None
        job.enqueue(child)
        return 1

    unhurried = Unhurried(engine, parent)
    with engine.worker(threads=2) as worker:
        job = unhurried.task.delay()
        unhurried.end(worker, job)
        assert 1 == job.get(LIMIT_SECS)
        wait_until(lambda: 2 == len(engine.events(JobSucceeded)))
        assert "nuvom-pump" == SETTLED_BY[0]


def test_pump_tries_again_what_a_slot_could_not_settle(engine: Engine, trouble: Trouble) -> None:
    unhurried = Unhurried(engine)
    with engine.worker(threads=2) as worker:
        job = unhurried.task.delay()
        trouble.once("settle")
        trouble.once("settle")
        unhurried.end(worker, job)
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
    job = unhurried.task.delay()
    trouble.once("settle", ZeroDivisionError())
    unhurried.end(worker, job)
    assert ended.wait(LIMIT_SECS)
    assert "done" == job.get(0)


def test_second_outcome_at_the_same_time_is_left_to_the_pump(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    unhurried = Unhurried(engine)
    with engine.worker(threads=2) as worker:
        at_once(worker)._turn.acquire()  # another slot settles just now
        job = unhurried.task.delay()
        unhurried.end(worker, job)
        assert "done" == job.get(LIMIT_SECS)
        assert ["nuvom-pump"] == SETTLED_BY
        at_once(worker)._turn.release()


def test_hooks_are_called_all_the_same(engine: Engine) -> None:
    seen: list[str] = []
    unhurried = Unhurried(engine, after_job=seen.append)
    with engine.worker(threads=2) as worker:
        job = unhurried.task.delay()
        unhurried.end(worker, job)
        assert "done" == job.get(LIMIT_SECS)
        wait_until(lambda: seen == ["done"])
    assert ["nuvom-slot"] == SETTLED_BY


def test_worker_that_stops_meanwhile_waits_for_the_slot(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    unhurried, settles, may_go = Unhurried(engine), threading.Event(), threading.Event()
    worker = Worker(engine.runtime, threads=2)
    settle = worker.delivery.settle

    def slowly(settlements: Any) -> list[bool]:
        settles.set()
        assert may_go.wait(LIMIT_SECS)
        return settle(settlements)

    monkeypatch.setattr(worker._station.delivery, "settle", slowly)
    worker.start()
    job = unhurried.task.delay()
    unhurried.end(worker, job)
    assert settles.wait(LIMIT_SECS)
    worker.stop()
    wait_until(lambda: not at_once(worker).is_open)
    may_go.set()
    assert worker.join(LIMIT_SECS)
    assert ("done", 0, 1) == (job.get(0), worker._pump.stranded, worker.finished_jobs)


def test_attempt_is_open_until_its_hooks_are_known(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    announce = announcing.announce

    def noting(*args: Any) -> None:
        announce(*args)
        seen.append(len(worker._in_hand.open))

    monkeypatch.setattr(at_once_module, "announce", noting)
    unhurried = Unhurried(engine)
    with engine.worker(threads=2) as worker:
        job = unhurried.task.delay()
        unhurried.end(worker, job)
        wait_until(lambda: bool(seen))
    assert [1] == seen
