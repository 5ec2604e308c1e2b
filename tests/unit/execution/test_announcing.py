"""What is told of settled attempts, and to whom."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from nuvom import Retry, Snooze
from nuvom.core.outcome import Cancelled
from nuvom.core.record import JobStatus
from nuvom.events import (
    Event,
    JobCancelled,
    JobFailed,
    JobFenced,
    JobParked,
    JobRetrying,
    JobSucceeded,
    JobTimedOut,
)
from nuvom.execution.announcing import OpenHooks, announce
from nuvom.execution.running import InHand, RunningJob
from nuvom.execution.station import Station
from tests.unit.execution.bench import Bench


class HookLane:
    """A lane that calls hooks at once."""

    def run_hook(self, hook: Any) -> None:
        hook()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def tell(bench: Bench, finished: RunningJob, *, was_accepted: bool = True) -> list[Event]:
    """Announce a settlement; return the events that came of it."""
    nothing: Any = None
    station = Station(
        "worker",
        None,
        nothing,
        nothing,
        bench.runner,
        nothing,
        bench.clock,
        bench.bus,
        InHand(),
        30,
    )
    lanes: Any = {"thread": HookLane()}
    bench.seen.clear()
    announce(station, lanes, [(finished, was_accepted)], OpenHooks(lambda: None))
    return bench.seen


def finish(bench: Bench, work: RunningJob) -> RunningJob:
    work.settlement = bench.runner.run(work)
    return work


def raising(error: BaseException) -> Any:
    def task() -> None:
        raise error

    return task


def test_success_is_told_with_its_duration(bench: Bench) -> None:
    work = bench.work(lambda: 8)
    finished = finish(bench, work)
    secs = finished.settlement.finished_at - finished.settlement.started_at
    assert [JobSucceeded(work.record, secs, "worker")] == tell(bench, finished)


def test_failure_is_told_with_its_error(bench: Bench) -> None:
    (event,) = tell(bench, finish(bench, bench.work(raising(ValueError("no good")))))
    assert isinstance(event, JobFailed)
    assert "no good" == event.error.message


@pytest.mark.parametrize(("error", "reason"), [(ValueError("x"), "x"), (Snooze(5), None)])
def test_another_attempt_is_told_with_its_time(
    bench: Bench, error: BaseException, reason: str | None
) -> None:
    finished = finish(bench, bench.work(raising(error), max_retries=1))
    (event,) = tell(bench, finished)
    assert isinstance(event, JobRetrying)
    assert finished.settlement.run_at == event.run_at
    assert reason == (event.error and event.error.message)


@pytest.mark.parametrize(
    ("policy", "follows"), [("fail", JobFailed), ("retry", JobRetrying), ("ignore", JobSucceeded)]
)
def test_timeout_is_told_before_what_follows(
    bench: Bench, policy: str, follows: type[Event]
) -> None:
    work = bench.work(lambda: 8, timeout_secs=0.5, timeout_policy=policy, max_retries=1)
    work.settlement = bench.runner.timed_out(work, None)
    events = tell(bench, work)
    assert [JobTimedOut, follows] == [type(event) for event in events]


def test_unknown_task_is_told_with_the_reason(bench: Bench) -> None:
    work = bench.work(lambda: 8)
    bench.runner.refused[work.record.func_name] = "no such task"
    work.prepared = None  # type: ignore[assignment]  # as the pump leaves it
    work.settlement = bench.runner.unknown(work)
    (event,) = tell(bench, work)
    assert JobParked(work.record, "no such task") == event


def test_cancelled_attempt_is_told(bench: Bench) -> None:
    work = bench.work(lambda: 8)
    work.settlement = bench.runner.settlement(work, Cancelled(), work.prepared.options)
    assert [JobCancelled(work.record.id)] == tell(bench, work)


def test_dropped_outcome_is_told_as_fenced_and_calls_no_hook(bench: Bench) -> None:
    called: list[Any] = []
    work = bench.work(lambda: 8, after_job=called.append)
    events = tell(bench, finish(bench, work), was_accepted=False)
    assert [JobFenced(work.record, "worker")] == events
    assert [] == called


def test_hooks_are_called_after_the_commit(bench: Bench) -> None:
    called: list[Any] = []
    work = bench.work(lambda: 8, after_job=called.append)
    finished = finish(bench, work)
    assert [] == called
    tell(bench, finished)
    assert [8] == called


def test_status_without_a_report_says_so(bench: Bench) -> None:
    work = bench.work(lambda: 8)
    settlement = finish(bench, work).settlement
    work.settlement = replace(settlement, status=JobStatus.FAILED, outcome="timeout")
    timed_out, event = tell(bench, work)
    assert isinstance(timed_out, JobTimedOut)
    assert isinstance(event, JobFailed)
    assert "no report is kept" == event.error.message == timed_out.error.message


@pytest.mark.parametrize("was_accepted", [True, False])
def test_nothing_is_made_that_nobody_wants(*, was_accepted: bool) -> None:
    bench = Bench()
    bench.bus.active.clear()
    finished = finish(bench, bench.work(lambda: 8))
    assert [] == tell(bench, finished, was_accepted=was_accepted)
    bench.bus.active.add(JobFailed)
    assert [] == tell(bench, finished, was_accepted=was_accepted)


def test_attempt_that_asked_for_another_is_told_as_such(bench: Bench) -> None:
    (event,) = tell(bench, finish(bench, bench.work(raising(Retry(5)), max_retries=1)))
    assert isinstance(event, JobRetrying)


# ---- hooks that run -------------------------------------------------------------------------


def test_hook_is_open_until_it_has_ended() -> None:
    seen: list[object] = []
    hooks = OpenHooks(lambda: seen.append("ended"))
    call = hooks.add(lambda: seen.append(len(hooks)))
    assert 1 == len(hooks)
    call()
    assert ([1, "ended"], 0) == (seen, len(hooks))


def test_hook_is_closed_even_when_its_thread_is_told_to_end() -> None:
    def told() -> None:
        raise SystemExit

    hooks = OpenHooks(lambda: None)
    with pytest.raises(SystemExit):
        hooks.add(told)()
    assert 0 == len(hooks)
