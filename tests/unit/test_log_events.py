"""What the engine does, as lines of the log."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
import pytest

from nuvom import events
from nuvom.core.clock import Clock, Waitable
from nuvom.core.record import JobRecord, StoredError
from nuvom.events import Event, EventBus
from nuvom.logs.events import subscribe_logging

from .logging_cases import FORMATS, WORKER, Collector, make_job

NOW = 1_785_587_696.0
ERROR = StoredError(
    "ValueError", "bad", "Traceback (most recent call last):\nValueError: bad", "ab12"
)
JOB = make_job(created_at=NOW - 4)
ALL: list[Event] = [
    events.JobEnqueued(JOB),
    events.JobsClaimed((JOB,), WORKER),
    events.JobStarted(JOB, WORKER, "async"),
    events.JobSucceeded(JOB, 0.5, WORKER),
    events.JobFailed(JOB, ERROR, 2.5, WORKER),
    events.JobRetrying(JOB, ERROR, NOW + 5, 0.1, WORKER),
    events.JobTimedOut(JOB, ERROR, WORKER),
    events.JobDead(JOB),
    events.JobCancelled(JOB.id),
    events.JobParked(JOB, "no such task"),
    events.JobReaped(JOB),
    events.JobFenced(JOB, WORKER),
    events.HookFailed(JOB, "after_job", ERROR),
    events.WorkerStarted(WORKER),
    events.WorkerStopped(WORKER),
    events.BackendFailed("claim", ERROR),
]


class Still(Clock):
    """A clock that stands still; its waits end when what is waited for happens."""

    def __init__(self) -> None:
        self.secs = 0.0

    def now(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return self.secs

    def wait(self, event: Waitable, secs: float | None = None) -> bool:
        return event.wait()


class Log:
    """A bus whose events are logged, and the records that came of it."""

    def __init__(self, level: str | int, fmt: str = "plain") -> None:
        self.bus = EventBus()
        self.clock = Still()
        self.logger = logging.Logger("nuvom.worker", logging.DEBUG)  # noqa: LOG001  # outside the tree
        self.records: list[logging.LogRecord] = []
        self.collector = Collector(self.logger, fmt, clock=self.clock)
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

    def of(self, event: Event) -> tuple[str, str, str]:
        """Return level, event and text of the one record that ``event`` gives."""
        (record,) = self.emit(event)
        return record.levelname, vars(record)["event"], record.getMessage()


LogAt = Callable[..., Log]


@pytest.fixture
def log_at(request: pytest.FixtureRequest) -> LogAt:
    def make(level: str | int = "DEBUG", fmt: str = "plain") -> Log:
        log = Log(level, fmt)
        request.addfinalizer(log.end)
        return log

    return make


@pytest.mark.parametrize(
    ("event", "level", "name", "text"),
    [
        (events.JobEnqueued(JOB), "DEBUG", "job.enqueued", "tasks.add enqueued on default"),
        (events.JobStarted(JOB, WORKER), "DEBUG", "job.started", "tasks.add started, attempt 1"),
        (
            events.JobSucceeded(JOB, 0.5, WORKER),
            "INFO",
            "job.finished",
            "tasks.add succeeded in 500 ms",
        ),
        (
            events.JobFailed(JOB, ERROR, 2.5, WORKER),
            *("ERROR", "job.finished", "tasks.add failed after 2.5 s: ValueError: bad"),
        ),
        (
            events.JobRetrying(JOB, ERROR, NOW + 5, 0.1, WORKER),
            *("WARNING", "job.retry", "tasks.add will be retried in 5 s: ValueError: bad"),
        ),
        (
            events.JobRetrying(JOB, None, NOW - 5, 0.1, WORKER),
            *("WARNING", "job.retry", "tasks.add will be retried in 0 ms"),
        ),
        (
            events.JobDead(JOB.replace(deliveries=3)),
            *("ERROR", "job.finished", "tasks.add is DEAD: workers died under it 3 times"),
        ),
        (events.JobDead(JOB), "ERROR", "job.finished", "tasks.add is DEAD: parked too long"),
        (events.JobCancelled("7"), "INFO", "job.finished", "job 7 was cancelled"),
        (
            events.JobParked(JOB, "no such task"),
            *(
                "WARNING",
                "job.parked",
                "tasks.add cannot run here, its jobs are PARKED until a worker can: no such task",
            ),
        ),
        (
            events.JobReaped(JOB),
            *("WARNING", "job.lost", "tasks.add was taken back: its worker died or went silent"),
        ),
        (
            events.JobFenced(JOB, WORKER),
            *(
                "WARNING",
                "job.stale_settle",
                "tasks.add lost its lease to another worker: this outcome was dropped",
            ),
        ),
        (
            events.HookFailed(JOB, "after_job", ERROR),
            *("WARNING", "hook.error", "the hook after_job of tasks.add failed: ValueError: bad"),
        ),
        (events.WorkerStarted("w1"), "INFO", "worker.started", "worker w1 started"),
        (events.WorkerStopped("w1", "stopped"), "INFO", "worker.stopped", "worker w1 stopped"),
        (events.WorkerStopped("w1"), "INFO", "worker.stopped", "worker w1 stopped"),
        (
            events.WorkerStopped("w1", "signal"),
            *("INFO", "worker.stopped", "worker w1 stopped: signal"),
        ),
        (
            events.BackendFailed("claim", StoredError("OSError", "")),
            *("ERROR", "backend.error", "the store failed at claim: OSError"),
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Event) else "",
)
def test_each_event_has_its_level_name_and_text(
    log_at: LogAt, event: Event, level: str, name: str, text: str
) -> None:
    assert (level, name, text) == log_at().of(event)


@pytest.mark.parametrize(
    ("secs", "shown"),
    [
        (0.0, "0 ms"),
        (0.000_051, "<0.1 ms"),
        (0.000_674, "0.7 ms"),
        (0.0158, "15.8 ms"),
        (0.523, "523 ms"),
        (1.961, "2 s"),
        (12.34, "12.3 s"),
        (12_345.6, "12346 s"),
    ],
)
def test_durations_have_no_more_digits_than_anybody_needs(
    log_at: LogAt, secs: float, shown: str
) -> None:
    _, _, text = log_at().of(events.JobSucceeded(JOB, secs, WORKER))
    assert f"tasks.add succeeded in {shown}" == text


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("DEBUG", {events.JobEnqueued, events.JobStarted}),
        (
            "INFO",
            {events.JobSucceeded, events.JobCancelled, events.WorkerStarted, events.WorkerStopped},
        ),
        (
            "WARNING",
            {events.JobRetrying, events.JobFenced, events.JobParked, events.JobReaped}
            | {events.HookFailed},
        ),
        (
            logging.ERROR,
            {events.JobTimedOut, events.JobFailed, events.JobDead, events.BackendFailed},
        ),
        ("CRITICAL", set()),
    ],
)
def test_events_below_the_level_are_not_subscribed_to(
    log_at: LogAt, level: str | int, expected: set[type[Event]]
) -> None:
    """A worker at WARNING makes no event for a job that succeeds."""
    levels: list[str | int] = ["DEBUG", "INFO", "WARNING", logging.ERROR, "CRITICAL"]
    more = levels[levels.index(level) + 1 :]
    above = log_at(more[0]).bus.active if more else set()

    assert expected == log_at(level).bus.active - above
    assert above < log_at(level).bus.active or not above


def test_ended_log_writes_nothing_and_can_be_ended_again(log_at: LogAt) -> None:
    log = log_at()
    log.end()
    log.end()

    assert set() == log.bus.active
    assert [] == log.emit(events.WorkerStarted(WORKER))


def test_finished_job_has_figures_and_not_only_text(log_at: LogAt) -> None:
    (record,) = log_at("INFO").emit(events.JobSucceeded(JOB, 0.5, WORKER))

    values = vars(record)
    assert ("success", 0.5, 3.5) == (values["outcome"], values["duration_s"], values["wait_s"])
    assert (JOB.id, 1, 3) == (values["job_id"], values["attempt"], values["lease_epoch"])


def test_wait_is_counted_from_when_the_job_was_due_and_is_never_negative(log_at: LogAt) -> None:
    log = log_at("INFO")
    (due,) = log.emit(events.JobSucceeded(JOB.replace(run_at=NOW - 2), 0.5, WORKER))
    (early,) = log.emit(events.JobSucceeded(JOB.replace(run_at=NOW + 9), 0.5, WORKER))

    assert (1.5, 0.0) == (vars(due)["wait_s"], vars(early)["wait_s"])


def test_failed_job_has_one_traceback_and_its_fingerprint(log_at: LogAt) -> None:
    log = log_at("WARNING")
    log.emit(events.JobRetrying(JOB, ERROR, NOW, 0.1, WORKER))  # has none
    (record,) = log.emit(events.JobFailed(JOB, ERROR, 2.5, WORKER))

    assert ("failure", "ValueError", "ab12") == (
        vars(record)["outcome"],
        vars(record)["error_type"],
        vars(record)["error_fp"],
    )
    assert 1 == log.collector.text.count("Traceback (most recent call last):")


def test_deadline_is_told_by_the_outcome_that_follows_and_only_there(log_at: LogAt) -> None:
    log = log_at("INFO")
    assert [] == log.emit(events.JobTimedOut(JOB, ERROR, WORKER))
    (failed,) = log.emit(events.JobFailed(JOB, ERROR, 1.0, WORKER))
    (later,) = log.emit(events.JobFailed(JOB, ERROR, 1.0, WORKER))

    assert ["timeout", "failure"] == [vars(one)["outcome"] for one in (failed, later)]


def test_ignored_deadline_is_no_plain_success(log_at: LogAt) -> None:
    log = log_at("INFO")
    log.emit(events.JobTimedOut(JOB, ERROR, WORKER))
    (ignored,) = log.emit(events.JobSucceeded(JOB, 0.5, WORKER))

    assert "timeout" == vars(ignored)["outcome"]
    assert "tasks.add timed out after 500 ms, which its policy ignores" == ignored.getMessage()


def test_retry_after_a_deadline_starts_afresh(log_at: LogAt) -> None:
    log = log_at("INFO")
    log.emit(events.JobTimedOut(JOB, ERROR, WORKER))
    log.emit(events.JobRetrying(JOB, ERROR, NOW, 0.1, WORKER))
    (record,) = log.emit(events.JobSucceeded(JOB, 0.5, WORKER))

    assert "success" == vars(record)["outcome"]


def test_deadlines_that_no_line_follows_take_no_memory(log_at: LogAt) -> None:
    log = log_at("ERROR")
    for number in range(1500):
        log.emit(events.JobTimedOut(make_job(f"job-{number}"), ERROR, WORKER))
    (record,) = log.emit(events.JobFailed(make_job("job-1499"), ERROR, 1.0, WORKER))
    (forgotten,) = log.emit(events.JobFailed(make_job("job-1"), ERROR, 1.0, WORKER))

    assert ["timeout", "failure"] == [vars(one)["outcome"] for one in (record, forgotten)]


def test_task_that_is_parked_is_named_once(log_at: LogAt) -> None:
    log = log_at("WARNING")
    log.emit(events.JobParked(JOB, "x"), times=3)
    log.emit(events.JobParked(make_job(func_name="tasks.other"), "x"))

    assert 2 == len(log.records)


# ---- many at once ---------------------------------------------------------------------------


def test_of_many_successes_some_have_lines_and_the_rest_is_counted(log_at: LogAt) -> None:
    log = log_at("INFO")
    written = log.emit(events.JobSucceeded(JOB, 0.001, WORKER), times=12_365)
    log.end()

    assert 20 == len(written)
    summary = log.records[-1]
    assert "... and 12,345 more jobs finished in the last second" == summary.getMessage()
    assert ("INFO", "job.finished", 12_345) == (
        summary.levelname,
        vars(summary)["event"],
        vars(summary)["jobs"],
    )


@pytest.mark.parametrize(
    ("event", "word", "level"),
    [
        (events.JobFailed(JOB, ERROR, 1.0, WORKER), "failed", "ERROR"),
        (events.JobDead(JOB), "DEAD", "ERROR"),
        (events.JobRetrying(JOB, ERROR, NOW, 1.0, WORKER), "retried", "WARNING"),
        (events.JobReaped(JOB), "taken back", "WARNING"),
    ],
)
def test_of_many_failures_none_passes_without_a_trace(
    log_at: LogAt, event: Event, word: str, level: str
) -> None:
    log = log_at("WARNING")
    written = log.emit(event, times=101)
    log.end()

    assert 100 == len(written)
    assert f"... and 1 more job {word} in the last second" == log.records[-1].getMessage()
    assert level == log.records[-1].levelname


def test_at_debug_every_success_has_its_line(log_at: LogAt) -> None:
    assert 50 == len(log_at("DEBUG").emit(events.JobSucceeded(JOB, 0.001, WORKER), times=50))


def test_store_that_keeps_failing_has_ten_lines_a_minute_and_then_a_count(log_at: LogAt) -> None:
    """The log may be on the very disk that is full."""
    log = log_at("ERROR")
    full = StoredError("StorageFull", "no room")
    log.emit(events.BackendFailed("settle", full), times=40)
    assert 10 == len(log.collector.lines)
    log.collector.handler.flush()

    assert "StorageFull: no room (and 30 more times)" in log.collector.lines[-1]


def test_hook_that_always_fails_is_limited_by_its_task(log_at: LogAt) -> None:
    log = log_at("WARNING")
    (record,) = log.emit(events.HookFailed(JOB, "after_job", ERROR))

    assert "tasks.add after_job" == vars(record)["rate_key"]


# ---- subscribers that fail ------------------------------------------------------------------


class Mute(Exception):  # noqa: N818  # a user's own
    def __str__(self) -> str:
        raise ValueError


def fail(event: Event) -> None:
    raise Mute


def test_failing_subscriber_is_named_and_its_repetition_counted(log_at: LogAt) -> None:
    log = log_at("CRITICAL")
    log.bus.subscribe(events.WorkerStarted, fail)

    *_, record = log.emit(events.WorkerStarted(WORKER), times=15)
    log.collector.handler.flush()

    assert ("the subscriber fail failed: Mute", "WARNING", "plugin.error", "fail", 15) == (
        record.getMessage(),
        record.levelname,
        vars(record)["event"],
        vars(record)["plugin"],
        vars(record)["failures"],
    )
    assert "    | " in log.collector.text
    assert "(and 5 more times)" in log.collector.text


class Broken(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("full")


def test_handler_of_the_users_that_fails_does_not_reach_the_engine(
    log_at: LogAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log = log_at("DEBUG")
    log.logger.addHandler(Broken())
    for event in ALL:
        log.bus.emit(event)

    assert {} == log.bus.failures


# ---- secrets --------------------------------------------------------------------------------


def with_canary(event: Event) -> Event:
    """Put a canary wherever a job holds what a caller gave."""
    canary = msgspec.Raw(msgspec.msgpack.encode(["CANARY"]))
    fields = msgspec.structs.asdict(event)

    def hide(job: JobRecord) -> JobRecord:
        return job.replace(
            args=canary,
            kwargs=msgspec.Raw(msgspec.msgpack.encode({"password": "CANARY"})),
            metadata={"note": "CANARY"},
            headers={"baggage": "CANARY"},
            tags=("CANARY",),
            unique_key="CANARY",
        )

    if "job" in fields:
        fields["job"] = hide(fields["job"])
    if "jobs" in fields:
        fields["jobs"] = tuple(hide(job) for job in fields["jobs"])
    if isinstance(fields.get("error"), StoredError):
        text = "login failed: password=CANARY"
        fields["error"] = StoredError("ValueError", text, f"Traceback\nValueError: {text}", "ab12")
    return type(event)(**fields)


@pytest.mark.parametrize("fmt", FORMATS)
def test_nothing_that_a_caller_gave_is_in_the_log(log_at: LogAt, fmt: str) -> None:
    log = log_at("DEBUG", fmt)
    for event in ALL:
        log.bus.emit(with_canary(event))
    log.end()

    assert len(ALL) - 2 == len(log.records)  # claims and deadlines have no line of their own
    assert "CANARY" not in log.collector.text
    assert "***" in log.collector.text


# Figures for exporters, many a second: made only where somebody has subscribed to them.
FOR_EXPORTERS = {events.WorkerAsked, events.BackendCalled}


def test_every_event_of_the_engine_is_looked_at() -> None:
    """A new event needs a line of its own, or a place among those without."""
    known = {one for one in vars(events).values() if isinstance(one, type)}
    assert {type(event) for event in ALL} | FOR_EXPORTERS == {
        one for one in known if issubclass(one, Event) and one is not Event
    }
