"""One job, from the task's name to the settlement that closes its attempt."""

from __future__ import annotations

from typing import Any

import pytest

from nuvom import Discard, Retry, Snooze, current_job
from nuvom.core.outcome import Settlement
from nuvom.core.record import JobStatus, StoredError
from nuvom.errors import NotStorable
from nuvom.events import HookFailed, JobStarted
from nuvom.execution.attempts import EncodedValue, OpenAttempt
from nuvom.serialization.msgpack_codec import MsgpackCodec
from nuvom.testing import FakeClock, make_job
from tests.unit.execution.bench import Bench


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def bench(clock: FakeClock) -> Bench:
    return Bench(clock)


def double(x: int) -> int:
    return 2 * x


def broken() -> None:
    raise ValueError("no good")


def run(bench: Bench, work: OpenAttempt) -> Settlement:
    return bench.runner.run(work)


# ---- success --------------------------------------------------------------------------------


def test_result_that_is_not_wanted_is_not_kept_and_may_be_of_any_type(bench: Bench) -> None:
    settlement = run(bench, bench.work(object, store_result=False))
    assert (JobStatus.SUCCESS, None) == (settlement.status, settlement.result)


@pytest.mark.parametrize("retries", [0, 5])
def test_result_that_cannot_be_stored_fails_the_job_for_good(bench: Bench, retries: int) -> None:
    settlement = run(bench, bench.work(object, max_retries=retries))
    assert JobStatus.FAILED is settlement.status
    assert settlement.error is not None
    assert "NotStorable" == settlement.error.type
    assert "result: object cannot be stored" in settlement.error.message


def test_limit_of_a_result_is_exact() -> None:
    size = len(run(bench := Bench(FakeClock()), bench.work(lambda: "x" * 100)).result or b"")
    for limit, status in ((size, JobStatus.SUCCESS), (size - 1, JobStatus.FAILED)):
        bench = Bench(FakeClock(), max_result_bytes=limit)
        assert status is run(bench, bench.work(lambda: "x" * 100)).status


# ---- failure --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raises", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError(), RecursionError()]
)
def test_whatever_a_task_raises_is_a_failure(bench: Bench, raises: BaseException) -> None:
    def task() -> None:
        raise raises

    settlement = run(bench, bench.work(task))
    assert settlement.error is not None
    assert (JobStatus.FAILED, type(raises).__name__) == (settlement.status, settlement.error.type)


def test_damaged_arguments_fail_the_job_for_good(bench: Bench) -> None:
    work = bench.work(double, 4, max_retries=5)
    work.record = make_job("tests.double").replace(args=b"\x91\xc1")
    settlement = run(bench, work)
    assert settlement.error is not None
    assert (JobStatus.FAILED, "PayloadError") == (settlement.status, settlement.error.type)


# ---- steering -------------------------------------------------------------------------------


def steer(bench: Bench, signal: BaseException, **fields: Any) -> Settlement:
    def task() -> None:
        raise signal

    return run(bench, bench.work(task, **fields))


def test_retry_uses_a_retry_and_waits_as_it_says(bench: Bench, clock: FakeClock) -> None:
    settlement = steer(bench, Retry(30), max_retries=1)
    assert (JobStatus.PENDING, "retry", clock.now() + 30, True) == (
        settlement.status,
        settlement.outcome,
        settlement.run_at,
        settlement.keeps_attempt,
    )
    assert settlement.error is not None
    assert "the task asked for another attempt" == settlement.error.message
    assert JobStatus.FAILED is steer(bench, Retry(30), max_retries=0).status


def test_snooze_gives_the_attempt_back(bench: Bench, clock: FakeClock) -> None:
    settlement = steer(bench, Snooze(60))
    assert (JobStatus.PENDING, "snoozed", clock.now() + 60, False, None) == (
        settlement.status,
        settlement.outcome,
        settlement.run_at,
        settlement.keeps_attempt,
        settlement.error,
    )


@pytest.mark.parametrize("reason", ["no such user", "\ud800"])
def test_discard_is_final_and_says_why(bench: Bench, reason: str) -> None:
    settlement = steer(bench, Discard(reason), max_retries=5)
    error = settlement.error
    assert error is not None
    assert (JobStatus.FAILED, "failure", "Discard", None) == (
        settlement.status,
        settlement.outcome,
        error.type,
        error.traceback,
    )
    assert reason.encode("utf-8", "backslashreplace").decode() == error.message
    assert error.fingerprint


# ---- deadlines ------------------------------------------------------------------------------


def test_deadline_counts_from_the_start(bench: Bench, clock: FakeClock) -> None:
    work = bench.work(double, 4, timeout_secs=3.0)
    clock.advance(100)
    run(bench, work)
    assert clock.monotonic() + 3 == work.deadline
    assert float("inf") == bench.work(double, 4).deadline


@pytest.mark.parametrize(
    ("secs", "outcome"), [(3.0, "success"), (3.05, "success"), (3.5, "timeout")]
)
def test_value_that_comes_after_the_deadline_is_too_late(
    bench: Bench, clock: FakeClock, secs: float, outcome: str
) -> None:
    """Whoever should have closed the attempt may have been held up by the very code."""

    def slow() -> str:
        clock.advance(secs)
        return "done"

    settlement = run(bench, bench.work(slow, timeout_secs=3.0))
    assert outcome == settlement.outcome
    assert (settlement.error is None) == (outcome == "success")


# ---- start ----------------------------------------------------------------------------------


def test_start_is_told(bench: Bench) -> None:
    work = bench.work(double, 4)
    run(bench, work)
    (event,) = bench.events(JobStarted)
    assert (work.record, "worker", "thread") == (event.job, event.worker, event.lane)


# ---- the task's name ------------------------------------------------------------------------


def test_unknown_task_is_parked_and_remembered(bench: Bench, clock: FakeClock) -> None:
    work = bench.work(double, 4)
    work.record = make_job("tests.unknown")

    assert bench.runner.resolve(work) is None
    assert bench.runner.resolve(work) is None
    assert ["tests.unknown"] == list(bench.runner.refused)

    settlement = bench.runner.unknown(work)
    assert (JobStatus.PARKED, "released", False) == (
        settlement.status,
        settlement.outcome,
        settlement.keeps_attempt,
    )


def test_task_is_bound_once(bench: Bench) -> None:
    work = bench.work(double, 4)
    assert work.task is bench.runner.resolve(work)
    assert {"thread": ["tests.double"]} == bench.runner.known


# ---- what running code can see --------------------------------------------------------------


def test_children_come_with_a_success_only(bench: Bench) -> None:
    child = make_job()
    work = bench.work(double, 4)
    work.children = {0: child}
    assert (child,) == run(bench, work).children

    work = bench.work(broken)
    work.children = {0: child}
    assert () == run(bench, work).children


# ---- hooks ----------------------------------------------------------------------------------


class Hooks:
    """Hooks that note their calls, and raise if they are told to."""

    def __init__(self, raises: BaseException | None = None) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.raises = raises

    def options(self) -> dict[str, Any]:
        return {
            "before_job": lambda: self.note("before", current_job().id),
            "after_job": lambda value: self.note("after", value),
            "on_error": lambda error: self.note("error", error),
        }

    def note(self, hook: str, value: Any) -> None:
        self.calls.append((hook, value))
        if self.raises is not None:
            raise self.raises


def settle(bench: Bench, work: OpenAttempt) -> Settlement:
    settlement = run(bench, work)
    bench.runner.after_settled(work, settlement.status)
    return settlement


@pytest.mark.parametrize(
    ("func", "retries", "kind"),
    [(broken, 0, ValueError), (broken, 1, ValueError), (object, 0, NotStorable)],
)
def test_hooks_surround_each_failed_attempt(
    bench: Bench, func: Any, retries: int, kind: type[Exception]
) -> None:
    hooks = Hooks()
    status = settle(bench, bench.work(func, max_retries=retries, **hooks.options())).status
    assert ("PENDING" if retries else "FAILED") == status
    assert ["before", "error"] == [hook for hook, _ in hooks.calls]
    assert isinstance(hooks.calls[1][1], kind)


@pytest.mark.parametrize("policy", ["fail", "ignore"])
def test_timeout_calls_on_error_with_a_timeout_error(bench: Bench, policy: str) -> None:
    hooks = Hooks()
    work = bench.work(double, 4, timeout_secs=0.5, timeout_policy=policy, **hooks.options())
    settlement = bench.runner.timed_out(work, None)
    bench.runner.after_settled(work, settlement.status)
    ((hook, error),) = hooks.calls
    assert ("error", "timed out after 0.5 s") == (hook, str(error))
    assert isinstance(error, TimeoutError)


@pytest.mark.parametrize(
    ("signal", "hooks_called"),
    [(Snooze(5), ["before"]), (Retry(5), ["before", "error"]), (Discard("x"), ["before", "error"])],
)
def test_signal_is_a_failed_attempt_unless_it_is_a_snooze(
    bench: Bench, signal: BaseException, hooks_called: list[str]
) -> None:
    def task() -> None:
        raise signal

    hooks = Hooks()
    settle(bench, bench.work(task, max_retries=1, **hooks.options()))
    assert hooks_called == [hook for hook, _ in hooks.calls]


@pytest.mark.parametrize("raises", [ValueError("bad hook"), SystemExit(3), KeyboardInterrupt()])
@pytest.mark.parametrize(("func", "status"), [(lambda: 8, "SUCCESS"), (broken, "FAILED")])
def test_hook_that_raises_is_reported_and_changes_nothing(
    bench: Bench, raises: BaseException, func: Any, status: str
) -> None:
    hooks = Hooks(raises)
    assert status == settle(bench, bench.work(func, **hooks.options())).status
    failed = bench.events(HookFailed)
    assert ["before_job", "after_job" if status == "SUCCESS" else "on_error"] == [
        event.hook for event in failed
    ]
    assert {type(raises).__name__} == {event.error.type for event in failed}


def test_code_does_not_run_after_a_hook_in_which_the_attempt_was_closed(bench: Bench) -> None:
    ran: list[int] = []

    def closed() -> None:
        work.is_cancelled = True

    work = bench.work(lambda: ran.append(1), before_job=closed)
    run(bench, work)
    assert [] == ran


@pytest.mark.parametrize(
    ("kept", "called", "failed"),
    [
        (EncodedValue(MsgpackCodec().encode_value(16)), [("after", 16)], []),
        (EncodedValue(None), [("after", None)], []),
        (EncodedValue(b"\xc1"), [], ["PayloadError"]),
        (EncodedValue(None, StoredError("NotStorable", "no")), [], ["NotStorable"]),
    ],
)
def test_hook_gets_the_value_that_a_child_has_returned(
    bench: Bench, kept: EncodedValue, called: list[Any], failed: list[str]
) -> None:
    hooks = Hooks()
    work = bench.work(double, 4, **hooks.options())
    work.kept = kept
    bench.runner.after_settled(work, JobStatus.SUCCESS)
    assert called == hooks.calls
    assert failed == [event.error.type for event in bench.events(HookFailed)]
    assert work.kept is None
