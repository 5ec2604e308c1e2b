"""What is left of an attempt that was closed at its deadline: an outcome, and a free thread."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

import pytest

from nuvom import JobFailed
from nuvom.core.guard import AttemptClosed, engine_call, is_closed_here
from nuvom.core.outcome import Settlement
from nuvom.events import HookFailed
from nuvom.events import JobFailed as Ended
from nuvom.worker import Worker
from tests.engine import LIMIT_SECS, Engine, wait_until

LIMIT_SECS_OF_TASK = 0.6  # longer than the watchdog sleeps: it is noticed in time


def nothing(number: int = 0) -> int:
    return number


def wait_for_a_job(engine: Engine) -> Callable[[], None]:
    task = engine.task(nothing, queue="elsewhere")
    return lambda: task.delay().get(timeout=60)


def enqueue_for_ever(engine: Engine) -> Callable[[], None]:
    task = engine.task(nothing, queue="elsewhere")
    return lambda: task.map((number,) for number in count())


def run_in_one_slot(engine: Engine, worker: Worker) -> None:
    """Check that the slot, and no thread more than that, is there for other jobs."""
    assert 5 == engine.task(nothing, name="tests.next").delay(5).get(timeout=LIMIT_SECS)
    wait_until(lambda: worker.stuck == 0)


@pytest.mark.parametrize(("kind", "stored"), [(wait_for_a_job, 1), (enqueue_for_ever, 0)])
def test_attempt_inside_a_call_is_closed_at_its_deadline_and_its_thread_comes_free(
    engine: Engine, kind: Callable[[Engine], Callable[[], None]], stored: int
) -> None:
    call, has_ended = kind(engine), threading.Event()

    def endless() -> None:
        try:
            call()
        finally:
            has_ended.set()

    job = engine.task(endless, timeout_secs=LIMIT_SECS_OF_TASK).delay()
    with engine.worker(threads=1, queues=["default"]) as worker:
        with pytest.raises(JobFailed, match="timed out"):
            job.get(timeout=LIMIT_SECS)
        assert has_ended.wait(LIMIT_SECS)
        run_in_one_slot(engine, worker)
    assert [job.id] == [one.job.id for one in engine.events(Ended)]
    queue: Any = engine.runtime.queue
    assert stored == len([one for one in queue.page() if one.record.queue == "elsewhere"])


@engine_call
def wait_until_closed(event: threading.Event) -> None:
    """Wait inside the engine as ``job.get()`` does."""
    while not is_closed_here():
        event.wait(0.001)
    raise AttemptClosed


class Ending:
    """How a task's code ends once its attempt was closed: not before it is let."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self._never = threading.Event()

    def _run_until_told(self) -> None:
        try:
            while True:
                self._never.wait(0.001)
        finally:
            self.may_end.wait(LIMIT_SECS)

    def is_told(self) -> int:
        self._run_until_told()
        return 1

    def returns(self) -> int:
        with suppress(AttemptClosed):
            self._run_until_told()
        return 1

    def fails(self) -> int:
        try:
            self._run_until_told()
        except AttemptClosed:
            raise ValueError("of the task") from None
        return 1

    def waits_inside(self) -> None:
        try:
            wait_until_closed(self._never)
        finally:
            self.may_end.wait(LIMIT_SECS)


def let_code_end_before_its_outcome_is_settled(
    engine: Engine, worker: Worker, ending: Ending
) -> None:
    """What the code ends with comes last, after the timeout was made its outcome."""
    queue: Any = engine.runtime.queue
    settle = queue.settle

    def late(settlements: list[Settlement]) -> list[bool]:
        ending.may_end.set()
        wait_until(lambda: worker.stuck == 0)
        accepted: list[bool] = settle(settlements)
        return accepted

    queue.settle = late


@pytest.mark.parametrize("end", ["is_told", "returns", "fails", "waits_inside"])
def test_on_error_gets_a_timeout_error_however_the_code_ends(engine: Engine, end: str) -> None:
    ending, called = Ending(), threading.Event()
    errors: list[BaseException] = []

    def on_error(error: BaseException) -> None:
        errors.append(error)
        called.set()

    function = getattr(ending, end)
    options = {"timeout_secs": LIMIT_SECS_OF_TASK, "on_error": on_error}
    job = engine.task(function, name="tests.ends", **options).delay()
    worker = Worker(engine.runtime, threads=2)
    let_code_end_before_its_outcome_is_settled(engine, worker, ending)
    worker.start()
    assert called.wait(LIMIT_SECS)
    worker.end()
    assert ["timed out after 0.6 s"] == [str(one) for one in errors]
    assert [TimeoutError] == [type(one) for one in errors]
    assert [] == engine.events(HookFailed)
    with pytest.raises(JobFailed, match="timed out"):
        job.get(timeout=0)


def test_stack_of_a_closed_attempt_can_be_read_while_its_thread_goes_on() -> None:
    path = os.pathsep.join(one for one in sys.path if one)
    child = subprocess.run(
        [sys.executable, "-m", "tests.unit.walked"],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        timeout=LIMIT_SECS * 2,
    )
    assert (0, "sound\n") == (child.returncode, child.stdout), child.stderr
