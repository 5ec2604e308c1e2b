"""The process lane's decisions, with children that only exist; tests/acceptance has real ones."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from nuvom import current_job
from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.core.job_context import current
from nuvom.core.outcome import Settlement
from nuvom.core.record import JobRecord, JobStatus, StoredError
from nuvom.errors import BackendUnavailable, JobFailed
from nuvom.execution import process_lane
from nuvom.execution.attempts import EncodedValue, OpenAttempt
from nuvom.execution.child_process import ChildProcess
from nuvom.execution.frames import (
    Ended,
    Progress,
    ProgressKept,
    Ready,
    Run,
    Stack,
    Started,
)
from nuvom.execution.process_lane import ProcessLane
from nuvom.host import platforms
from nuvom.log import configure_logging, reset_logging
from nuvom.testing import FakeClock
from tests.engine import wait_until
from tests.unit.execution.bench import Bench as BaseBench
from tests.unit.execution.children import LISTEN, Nest, nest


def task_function() -> None:
    """Be a task that no child ever runs."""


class Bench(BaseBench):
    """A process lane, and the children that it makes.

    Attributes:
        answer: What a worker does about the progress of running code.
    """

    answer: bool | Exception = True

    def __init__(self, slots: int = 1, *, clock: Clock = SYSTEM_CLOCK, **settings: Any) -> None:
        super().__init__(clock, **settings)
        self.lane = ProcessLane(slots, self.context, self)
        self.children: list[ChildProcess] = []
        self.lane._supervisor._make = self.make_child

    def report_progress(self, *_: Any) -> bool:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def make_child(self) -> ChildProcess:
        child = self.lane._make_child()
        self.children.append(child)
        return child

    def stop(self) -> None:
        """Stop the lane, and end what a test has only pretended to be gone."""
        self.lane.stop()
        for child in self.children:
            child.kill()
        wait_until(lambda: all(child.process.returncode is not None for child in self.children))
        assert [] == self.crashes

    def order(
        self, number: int = 1, *, timeout: float | None = None, **options: Any
    ) -> OpenAttempt:
        """Return an attempt that only children run."""
        fields = {"id": f"job-{number}", "timeout_secs": timeout, "isolation": "process"}
        return self.work(task_function, **fields, **options)

    def error(self) -> StoredError:
        """Return what the first attempt failed with."""
        error = self.finished[0].settlement.error
        assert error is not None
        return error

    def submit(self, *work: OpenAttempt) -> list[ChildProcess]:
        """Submit work and let children come up for it; return the busy ones."""
        lane = self.lane
        lane.submit(list(work))
        wait_until(lambda: lane._supervisor.missing() <= 0)
        for child in lane._supervisor.in_state("starting"):
            lane._hear(child, Ready())
        return self.busy()

    def busy(self) -> list[ChildProcess]:
        return self.lane._supervisor.in_state("busy")

    def end(self, child: ChildProcess, **outcome: Any) -> None:
        """Let a child end its attempt with success, or with another settlement."""
        given = {"status": JobStatus.SUCCESS, "result": b"\x01", "finished_at": 9.0, **outcome}
        settlement = Settlement(JobRecord("", ""), **given)
        self.lane._hear(child, Ended(child.token, settlement))


@pytest.fixture
def nursery(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nest]:
    with nest(monkeypatch) as found:
        found.program(LISTEN)
        yield found


@pytest.fixture
def bench(nursery: Nest) -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.stop()


# ---- work -----------------------------------------------------------------------------


def test_end_closes_the_attempt_with_the_workers_own_record(bench: Bench) -> None:
    work = bench.order()
    (child,) = bench.submit(work)
    wait_until(lambda: work.started_at > 0)
    bench.end(child)
    (finished,) = bench.finished
    settlement = finished.settlement
    assert finished is work
    assert settlement.record is work.record
    assert (work.started_at, 9.0) == (settlement.started_at, settlement.finished_at)
    assert (1, 1) == (bench.lane.free(), bench.idles)


def test_deadline_begins_when_the_child_has_the_task(bench: Bench) -> None:
    work = bench.order(timeout=50.0)
    (child,) = bench.submit(work)
    wait_until(lambda: work.deadline < float("inf"))
    before = work.deadline
    bench.lane._hear(child, Started(child.token))
    assert work.deadline >= before
    bench.lane._hear(child, Started(child.token + 1))  # of no attempt that there is
    assert child.has_started


def test_cancelled_work_is_not_sent(bench: Bench) -> None:
    work = bench.order()
    work.is_cancelled = True
    assert bench.lane._begin(1, work) is None
    assert not work.started_at


def test_work_is_begun_once_however_often_it_is_sent(bench: Bench) -> None:
    work = bench.order()
    order = bench.lane._begin(1, work)
    began = work.started_at
    assert isinstance(order, Run)
    assert (__name__, "task_function") == (order.module, order.qualname)
    bench.lane._begin(2, work)
    assert began == work.started_at > 0


# ---- attempts that somebody else closes -----------------------------------------------


def test_outcome_of_an_attempt_that_was_closed_meanwhile_is_dropped(bench: Bench) -> None:
    work = bench.order()
    (child,) = bench.submit(work)
    bench.attempts.close(work)
    bench.end(child)
    assert [] == bench.finished
    assert "idle" == child.state


# ---- deadlines ------------------------------------------------------------------------


def test_overdue_attempt_is_closed_with_the_stack_that_its_child_tells(bench: Bench) -> None:
    work = bench.order(timeout=60)
    (child,) = bench.submit(work)
    wait_until(lambda: work.deadline < float("inf"))
    now = work.deadline
    assert now == bench.lane._close_overdue(now - 1)
    assert now + process_lane._STACK_SECS == bench.lane._close_overdue(now)
    bench.lane._hear(child, Stack(child.token - 1, "of an earlier attempt"))
    assert child.stack is None
    bench.lane._hear(child, Stack(child.token, "in f"))
    wait_until(lambda: bool(bench.finished))
    error = bench.error()
    assert ("TimeoutError", "in f") == (error.type, error.traceback)


class HandClock(FakeClock):
    """Time that a test moves; only the end of a process is looked for in real time."""

    def sleep(self, secs: float) -> None:
        SYSTEM_CLOCK.sleep(secs)


def test_nothing_that_a_job_waits_for_waits_for_a_look(nursery: Nest) -> None:
    """The clock stands still: whoever slept until its next look would never do anything."""
    clock = HandClock()
    bench = Bench(clock=clock)
    bench.submit(bench.order(1))  # the thread that starts children had nothing to wait for
    (child,) = bench.busy()
    second, late = bench.order(2), bench.order(3, timeout=0.1)
    bench.lane.submit([second, late])
    bench.end(child)
    assert second is child.attempt
    bench.end(child)
    wait_until(lambda: late.deadline < float("inf"))
    clock.advance(0.11)
    wait_until(lambda: child.asked_at is not None)
    bench.lane._hear(child, Stack(child.token, "in f"))
    wait_until(lambda: 3 == len(bench.finished))
    assert "timeout" == bench.finished[-1].settlement.outcome
    for _ in range(20):
        clock.advance(1.0)
    bench.stop()


def test_stacks_are_told_by_the_children_that_answer_in_time(nursery: Nest) -> None:
    bench = Bench(slots=2)
    child, _ = bench.submit(bench.order(1), bench.order(2))
    asked = child.ask_stack

    def answer(asked_at: float | None) -> None:
        asked(asked_at)
        bench.lane._hear(child, Stack(child.token, "in f"))

    child.ask_stack = answer  # type: ignore[method-assign]  # the child itself says nothing
    assert [(child.attempt.record.id, "in f")] == [*bench.lane.stacks().items()]  # type: ignore[union-attr]  # it is busy
    bench.stop()


# ---- memory and wear ------------------------------------------------------------------


def test_child_that_has_grown_leaves_after_its_attempt(
    nursery: Nest, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(max_memory_per_child=1000)
    (child,) = bench.submit(bench.order())
    bench.lane._measure_at = float("inf")
    monkeypatch.setattr(platforms, "resident_bytes", lambda pid: 1001)
    bench.end(child)
    assert "leaving" == child.state
    assert JobStatus.SUCCESS == bench.finished[0].settlement.status
    bench.stop()


# ---- ends of children -----------------------------------------------------------------


def gone(bench: Bench, child: ChildProcess, how: str = "exit code 3") -> None:
    bench.lane._gone(child, how)


def test_attempt_that_a_proven_child_never_had_goes_to_another(nursery: Nest) -> None:
    bench = Bench(slots=2)
    first, second, third = (bench.order(number) for number in range(3))
    child, other = bench.submit(first, second, third)
    bench.end(child)
    assert third is child.attempt
    bench.end(other)
    gone(bench, child)
    assert third is other.attempt
    assert 2 == len(bench.finished)
    bench.stop()


def test_attempt_that_ends_a_new_child_before_it_starts_does_not_go_round(bench: Bench) -> None:
    (child,) = bench.submit(bench.order())
    gone(bench, child)
    assert 1 == len(bench.finished)
    assert 0 == len(bench.lane.ready)


def test_work_is_given_up_with_the_reason_when_no_child_comes_up(
    nursery: Nest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nuvom.execution.child_process._START_WAITS_SECS", ())
    nursery.program("raise SystemExit(9)")
    bench = Bench()
    bench.lane.submit([bench.order()])
    wait_until(lambda: bool(bench.finished))
    assert JobStatus.PARKED == bench.finished[0].settlement.status
    assert "exit code 9" in bench.runner.refused["tests.task_function"]
    bench.stop()


# ---- progress and hooks ---------------------------------------------------------------


def answers_of(child: ChildProcess) -> list[Any]:
    found: list[Any] = []
    child.post = found.append  # type: ignore[method-assign,assignment]  # what it would be sent
    return found


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (True, ProgressKept(7, is_ours=True)),
        (False, ProgressKept(7, is_ours=False)),
        (
            BackendUnavailable("here", "disk full"),
            ProgressKept(7, is_ours=False, fault="The store here cannot be used: disk full."),
        ),
    ],
)
def test_progress_is_answered_with_what_the_store_says(
    bench: Bench, answer: Any, expected: ProgressKept
) -> None:
    (child,) = bench.submit(bench.order())
    sent = answers_of(child)
    bench.answer = answer
    bench.lane._hear(child, Progress(child.token, 7, 1.0, 2.0, "half"))
    assert [expected] == sent


def test_progress_of_an_attempt_that_is_over_is_not_kept(bench: Bench) -> None:
    (child,) = bench.submit(bench.order())
    sent = answers_of(child)
    bench.lane._hear(child, Progress(child.token + 1, 7, 1.0, 2.0, "half"))
    assert [ProgressKept(7, is_ours=False)] == sent


def test_hooks_get_what_a_waiter_would_get(bench: Bench) -> None:
    works = [bench.order(number, after_job=print, on_error=print) for number in range(4)]
    (child,) = bench.submit(*works)
    bench.end(child)
    error = StoredError("ValueError", "no good", "a traceback")
    bench.end(child, status=JobStatus.FAILED, outcome="failure", error=error)
    late = StoredError("TimeoutError", "timed out after 5 s")
    bench.end(child, status=JobStatus.FAILED, outcome="timeout", error=late)
    bench.end(child, status=JobStatus.PENDING, outcome="snoozed", result=None)
    value, failure, timeout, snooze = (work.kept for work in works)
    assert EncodedValue(b"\x01") == value
    assert isinstance(failure, JobFailed)
    assert ("job-1", "ValueError", "no good", "a traceback") == (
        failure.job_id,
        failure.type,
        failure.text,
        failure.traceback,
    )
    assert ("TimeoutError", "timed out after 5 s") == (type(timeout).__name__, str(timeout))
    assert EncodedValue(None) == snooze  # neither hook is called then


def test_before_job_runs_here_once_and_may_enqueue(bench: Bench) -> None:
    calls: list[str] = []

    def before() -> None:
        calls.append(current_job().id)
        current.get().children = [JobRecord("child", "tasks.g")]  # type: ignore[union-attr]

    work = bench.order(before_job=before)
    (child,) = bench.submit(work)
    wait_until(lambda: bool(work.children))
    bench.lane._begin(child.token, work)
    bench.end(child, children=(JobRecord("other", "tasks.g"),))
    assert ["job-1"] == calls
    assert ["child", "other"] == [one.id for one in bench.finished[0].settlement.children]


# ---- children and their worker --------------------------------------------------------


@pytest.mark.parametrize("has_log", [True, False])
def test_child_logs_as_its_worker_does(bench: Bench, *, has_log: bool) -> None:
    if has_log:
        configure_logging("ERROR")
    sent: list[Any] = []
    try:
        child = bench.lane._make_child()
        while not child._outbox.empty():
            sent.append(child._outbox.get())
        child.talk()
        child.leave()
    finally:
        reset_logging()
    assert (logging.ERROR if has_log else None) == sent[-1].log_level
    wait_until(lambda: child.process.returncode is not None)
