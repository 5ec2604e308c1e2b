"""What the engine does, as lines of the log."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
import pytest

from nuvom import events
from nuvom.core.clock import Clock
from nuvom.core.record import JobRecord, StoredError
from nuvom.events import Event, EventBus
from nuvom.logs.events import subscribe_logging

from .logging_cases import FORMATS, WORKER, Collector, make_job

NOW = 1_785_587_696.0
ERROR = StoredError(
    "ValueError", "bad", "Traceback (most recent call last):\nValueError: bad", "ab12"
)
JOB = make_job(created_at=NOW - 4)
SUCCEEDED = events.JobSucceeded(JOB, 0.5, WORKER)
FAILED = events.JobFailed(JOB, ERROR, 2.5, WORKER)
TIMED_OUT = events.JobTimedOut(JOB, ERROR, WORKER)
RETRYING = events.JobRetrying(JOB, ERROR, NOW + 5, 0.1, WORKER)


class Still(Clock):
    """A clock moved by hand."""

    secs = 0.0

    def now(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return self.secs


class Log:
    """A bus whose events are logged, and the records that came of it."""

    def __init__(self, level: str | int, fmt: str = "plain") -> None:
        self.bus = EventBus()
        self.clock = Still()
        self.logger = logging.Logger("nuvom.worker", logging.DEBUG)  # noqa: LOG001  # outside the tree
        self.records: list[logging.LogRecord] = []
        self.collector = Collector(self.logger, fmt)
        self.collector.handler.addFilter(self.note)
        self.end = subscribe_logging(self.bus, self.logger, level, clock=self.clock)

    def note(self, record: logging.LogRecord) -> bool:
        self.records.append(record)
        return True

    def emit(self, event: Event, times: int = 1) -> list[logging.LogRecord]:
        before = len(self.records)
        for _ in range(times):
            self.bus.emit(event)
        return self.records[before:]


LogAt = Callable[..., Log]


@pytest.fixture
def log_at(request: pytest.FixtureRequest) -> LogAt:
    def make(level: str | int = "DEBUG", fmt: str = "plain") -> Log:
        log = Log(level, fmt)
        request.addfinalizer(log.end)
        return log

    return make


EVENTS: list[tuple[Event, str]] = [
    (events.JobEnqueued(JOB), "DEBUG job.enqueued"),
    (events.JobStarted(JOB, WORKER), "DEBUG job.started"),
    (SUCCEEDED, "INFO job.finished"),
    (FAILED, "ERROR job.finished"),
    (RETRYING, "WARNING job.retry"),
    (events.JobDead(JOB), "ERROR job.finished"),
    (events.JobCancelled("7"), "INFO job.finished"),
    (events.JobParked(JOB, "no such task"), "WARNING job.parked"),
    (events.JobReaped(JOB), "WARNING job.lost"),
    (events.JobFenced(JOB, WORKER), "WARNING job.stale_settle"),
    (events.JobFenced(JOB, WORKER, was_cancelled=True), "INFO job.finished"),
    (events.HookFailed(JOB, "after_job", ERROR), "WARNING hook.error"),
    (events.ScheduleFired("nightly", JOB, 5.0, 0.1), "DEBUG schedule.fired"),
    (events.ScheduleMissed("nightly", 3, 0), "WARNING schedule.missed"),
    (events.SchedulesReconciled(added=("nightly",)), "INFO schedule.reconciled"),
    (events.SchedulesReconciled(problems=("One is unclear.",)), "WARNING schedule.problem"),
    (events.WorkerStarted("w1"), "INFO worker.started"),
    (events.WorkerStopped("w1", "signal"), "INFO worker.stopped"),
    (events.BackendFailed("claim", ERROR), "ERROR backend.error"),
]


def test_every_event_of_the_engine_has_one_line_or_needs_none(log_at: LogAt) -> None:
    log = log_at()
    for event, line in EVENTS:
        (record,) = log.emit(event)
        assert line == f"{record.levelname} {vars(record)['event']}"
    silent = {events.JobsClaimed, events.JobTimedOut, events.WorkerAsked, events.BackendCalled}
    assert {type(event) for event, _ in EVENTS} | silent == set(Event.__subclasses__())
    assert "tasks.add failed after 2.5 s: ValueError: bad" in log.collector.text


def test_events_below_the_level_are_not_subscribed_to(log_at: LogAt) -> None:
    """A worker at WARNING makes no event for a job that succeeds."""
    log = log_at("WARNING")
    assert events.JobFailed in log.bus.active
    assert events.JobRetrying in log.bus.active
    assert events.JobSucceeded not in log.bus.active
    log.end()
    log.end()
    assert set() == log.bus.active


def test_a_finished_job_has_figures(log_at: LogAt) -> None:
    """The wait counts from when the job was due."""
    log = log_at("INFO")
    values = vars(log.emit(SUCCEEDED)[0])
    assert ("success", 0.5, 3.5) == (values["outcome"], values["duration_s"], values["wait_s"])
    assert (JOB.id, 1, 3) == (values["job_id"], values["attempt"], values["lease_epoch"])
    for run_at, wait in ((NOW - 2, 1.5), (NOW + 9, 0.0)):
        (record,) = log.emit(events.JobSucceeded(JOB.replace(run_at=run_at), 0.5, WORKER))
        assert wait == vars(record)["wait_s"]


def test_a_timeout_is_told_by_the_outcome_that_follows(log_at: LogAt) -> None:
    log = log_at("INFO")
    assert [] == log.emit(TIMED_OUT)
    records = log.emit(FAILED, times=2)
    log.emit(TIMED_OUT)
    records += log.emit(SUCCEEDED)  # its policy ignores the timeout
    log.emit(TIMED_OUT)
    log.emit(RETRYING)
    records += log.emit(SUCCEEDED)
    outcomes = [vars(record)["outcome"] for record in records]
    assert ["timeout", "failure", "timeout", "success"] == outcomes
    assert "tasks.add timed out after 500 ms, which its policy ignores" == records[2].getMessage()


def test_a_parked_task_is_named_once(log_at: LogAt) -> None:
    log = log_at("WARNING")
    log.emit(events.JobParked(JOB, "x"), times=3)
    log.emit(events.JobParked(make_job(func_name="tasks.other"), "x"))
    assert 2 == len(log.records)


# ---- many at once ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "least", "word", "level"),
    [
        (SUCCEEDED, 20, "finished", "INFO"),
        (FAILED, 100, "failed", "ERROR"),
        (events.JobDead(JOB), 100, "DEAD", "ERROR"),
        (RETRYING, 100, "retried", "WARNING"),
        (events.JobReaped(JOB), 100, "taken back", "WARNING"),
    ],
)
def test_of_many_equal_events_the_first_of_a_second_have_lines_and_the_rest_is_counted(
    log_at: LogAt, event: Event, least: int, word: str, level: str
) -> None:
    log = log_at("INFO")
    assert least == len(log.emit(event, times=least + 1200))
    log.clock.secs += 1
    (count,) = log.emit(events.WorkerAsked(WORKER, 0, 0))  # at once, though no event follows
    assert (f"... and 1,200 more jobs {word}", level, 1200) == (
        count.getMessage(),
        count.levelname,
        vars(count)["jobs"],
    )
    assert 1 == len(log.emit(event))
    log.emit(event, times=least)
    log.end()
    assert f"... and 1 more job {word}" == log.records[-1].getMessage()


def test_a_store_or_hook_that_keeps_failing_is_limited_and_counted(log_at: LogAt) -> None:
    """The log may be on the very disk that is full."""
    log = log_at("WARNING")
    for number in range(40):
        full = StoredError("StorageFull", f"no room for {number}")
        log.emit(events.BackendFailed("settle", full))
        log.emit(events.HookFailed(JOB, "after_job", StoredError("ValueError", f"bad {number}")))
    assert 20 == len(log.records)
    log.clock.secs += 60
    store, hook = log.emit(events.WorkerAsked(WORKER, 0, 0))
    assert "the store failed at settle: StorageFull (30 more times)" == store.getMessage()
    assert "the hook after_job of tasks.add failed (30 more times)" == hook.getMessage()
    assert (30, "ERROR") == (vars(store)["repeats"], store.levelname)


# ---- failures -------------------------------------------------------------------------------


def test_a_failing_subscriber_is_named(log_at: LogAt) -> None:
    log = log_at("CRITICAL")

    def fail(event: Event) -> None:
        raise ValueError

    log.bus.subscribe(events.WorkerStarted, fail)
    (record,) = log.emit(events.WorkerStarted(WORKER))
    assert f"the subscriber {fail.__qualname__} failed: ValueError" == record.getMessage()


def with_canary(event: Event) -> Event:
    """Put a canary wherever a job holds what a caller gave."""
    canary = msgspec.Raw(msgspec.msgpack.encode(["CANARY"]))
    fields = msgspec.structs.asdict(event)
    if isinstance(fields.get("job"), JobRecord):
        fields["job"] = fields["job"].replace(
            args=canary,
            kwargs=msgspec.Raw(msgspec.msgpack.encode({"password": "CANARY"})),
            metadata={"note": "CANARY"},
            headers={"baggage": "CANARY"},
            tags=("CANARY",),
            unique_key="CANARY",
        )
    if isinstance(fields.get("error"), StoredError):
        text = "login failed: password=CANARY"
        fields["error"] = StoredError("ValueError", text, f"Traceback\nValueError: {text}", "ab12")
    return type(event)(**fields)


@pytest.mark.parametrize("fmt", FORMATS)
def test_nothing_that_a_caller_gave_is_in_the_log(log_at: LogAt, fmt: str) -> None:
    log = log_at("DEBUG", fmt)
    for event, _ in EVENTS:
        log.bus.emit(with_canary(event))
    assert "CANARY" not in log.collector.text
    assert "***" in log.collector.text
