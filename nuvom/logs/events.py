"""Logs the engine's events; a subscriber like any other.

It does not subscribe to events below the level, so the engine never creates them. When thousands
of jobs succeed or fail in a second, only the first get their own line; the rest is counted. A
worker that finishes a hundred thousand jobs per second must neither flood its log nor be slowed
down by it, and no failure may go unreported.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from nuvom import events
from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.errors import plural
from nuvom.log import RateLimit, log_event
from nuvom.logs.formats import job_fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.core.record import JobRecord, StoredError

_NO_TENTHS_FROM = 100
_SUCCESS_LINES = 20
_FAILURE_LINES = 100
_MOST_OVERDUE = 1000
_REPEATS_A_MINUTE = 10
_SECOND = 1.0
_MINUTE = 60.0


def subscribe_logging(
    bus: events.EventBus, logger: logging.Logger, level: str | int, *, clock: Clock = SYSTEM_CLOCK
) -> Callable[[], None]:
    """Log the engine's events of at least ``level`` to ``logger``.

    Returns: a function that unsubscribes and logs what was held back; safe to call twice.
    """
    least = logging.getLevelNamesMapping()[level] if isinstance(level, str) else level
    return EventLog(logger, least, clock).subscribe(bus)


class EventLog:
    """Turns events into log records."""

    def __init__(self, logger: logging.Logger, level: int, clock: Clock = SYSTEM_CLOCK) -> None:
        self._logger = logger
        self._level = level
        self._clock = clock
        self._parked: set[str] = set()
        self._overdue: set[str] = set()  # timed out, but the outcome event is still to come
        self._limit = RateLimit[str](_SECOND, clock)  # of lines about jobs, by word
        self._repeats = RateLimit[tuple[int, str, str]](_MINUTE, clock)  # of lasting failures
        self._lock = threading.Lock()

    def subscribe(self, bus: events.EventBus) -> Callable[[], None]:
        """Subscribe to the events that the level shows; return a function that undoes it."""
        wanted: list[tuple[int, type[events.Event], Callable[[Any], None]]] = [
            (logging.DEBUG, events.JobEnqueued, self._enqueued),
            (logging.DEBUG, events.JobStarted, self._started),
            (logging.DEBUG, events.ScheduleFired, self._fired),
            (logging.INFO, events.JobSucceeded, self._succeeded),
            (logging.INFO, events.JobCancelled, self._cancelled),
            (logging.INFO, events.WorkerStarted, self._worker_started),
            (logging.INFO, events.WorkerStopped, self._worker_stopped),
            (logging.WARNING, events.JobRetrying, self._retrying),
            (logging.WARNING, events.JobFenced, self._fenced),
            (logging.WARNING, events.JobParked, self._is_parked),
            (logging.WARNING, events.JobReaped, self._reaped),
            (logging.WARNING, events.HookFailed, self._hook_failed),
            (logging.WARNING, events.ScheduleMissed, self._missed),
            (logging.WARNING, events.SchedulesReconciled, self._reconciled),
            (logging.ERROR, events.JobTimedOut, self._timed_out),
            (logging.ERROR, events.JobFailed, self._failed),
            (logging.ERROR, events.JobDead, self._dead),
            (logging.ERROR, events.BackendFailed, self._backend_failed),
            (logging.ERROR, events.WorkerAsked, self._worker_asked),
        ]
        ends = [
            bus.subscribe(event, callback)
            for level, event, callback in wanted
            if level >= self._level
        ]
        bus.on_failure(self._callback_failed)

        def unsubscribe() -> None:
            if ends:
                bus.on_failure(None)
            while ends:
                ends.pop()()
            self._write_counts(at_once=True)

        return unsubscribe

    # ---- jobs -----------------------------------------------------------------------------

    def _enqueued(self, event: events.JobEnqueued) -> None:
        self._write_job(logging.DEBUG, "job.enqueued", event.job, f"enqueued on {event.job.queue}")

    def _started(self, event: events.JobStarted) -> None:
        said = f"started, attempt {event.job.attempt}"
        where = {"worker": event.worker, "lane": event.lane}
        self._write_job(logging.DEBUG, "job.started", event.job, said, **where)

    def _succeeded(self, event: events.JobSucceeded) -> None:
        if self._level > logging.DEBUG and not self._admit("finished", _SUCCESS_LINES):
            return
        fields = self._finished(event, "success")
        said = f"succeeded in {_took(event.duration_secs)}"
        if fields["outcome"] == "timeout":
            said = f"timed out after {_took(event.duration_secs)}, which its policy ignores"
        self._write_job(logging.INFO, "job.finished", event.job, said, **fields)

    def _timed_out(self, event: events.JobTimedOut) -> None:
        if len(self._overdue) >= _MOST_OVERDUE:  # their outcomes are below this level
            self._overdue.clear()
        self._overdue.add(event.job.id)

    def _failed(self, event: events.JobFailed) -> None:
        if not self._admit("failed", _FAILURE_LINES):
            return
        said = f"failed after {_took(event.duration_secs)}: {_what(event.error)}"
        fields = {**self._finished(event, "failure"), **_error(event.error)}
        fields["traceback"] = event.error.traceback
        self._write_job(logging.ERROR, "job.finished", event.job, said, **fields)

    def _retrying(self, event: events.JobRetrying) -> None:
        self._overdue.discard(event.job.id)
        if not self._admit("retried", _FAILURE_LINES):
            return
        why = "" if event.error is None else f": {_what(event.error)}"
        said = f"will be retried in {_took(max(0.0, event.run_at - self._clock.now()))}{why}"
        fields = {
            "worker": event.worker,
            "outcome": "retry",
            "duration_s": event.duration_secs,
            **_error(event.error),
        }
        self._write_job(logging.WARNING, "job.retry", event.job, said, **fields)

    def _dead(self, event: events.JobDead) -> None:
        if not self._admit("DEAD", _FAILURE_LINES):
            return
        deaths = event.job.deliveries
        why = (
            f"{plural(deaths, 'worker')} died while running it"
            if deaths
            else "it was PARKED for too long"
        )
        fields = {"outcome": "dead", "error_type": "lost"}
        self._write_job(logging.ERROR, "job.finished", event.job, f"is DEAD: {why}", **fields)

    def _cancelled(self, event: events.JobCancelled) -> None:
        fields: dict[str, object] = {"job_id": event.job_id, "outcome": "cancelled"}
        self._write(logging.INFO, "job.finished", f"job {event.job_id} was cancelled", fields)

    def _fenced(self, event: events.JobFenced) -> None:
        if event.was_cancelled:
            if self._level <= logging.INFO:
                fields = {"worker": event.worker, "outcome": "cancelled"}
                said = "was cancelled while it ran"
                self._write_job(logging.INFO, "job.finished", event.job, said, **fields)
            return
        said = "lost its lease to another worker; this outcome was dropped"
        fields = {"worker": event.worker, "outcome": "stale"}
        self._write_job(logging.WARNING, "job.stale_settle", event.job, said, **fields)

    def _is_parked(self, event: events.JobParked) -> None:
        if event.job.func_name in self._parked:
            return
        self._parked.add(event.job.func_name)
        said = f"cannot run here ({event.reason}); its jobs are PARKED until a worker can run them"
        self._write_job(logging.WARNING, "job.parked", event.job, said)

    def _reaped(self, event: events.JobReaped) -> None:
        if self._admit("taken back", _FAILURE_LINES):
            said = "was taken back: its worker died or went silent"
            self._write_job(logging.WARNING, "job.lost", event.job, said, outcome="lost")

    def _hook_failed(self, event: events.HookFailed) -> None:
        job, error = event.job, event.error
        what = f"the hook {event.hook} of {job.func_name} failed"
        if self._admit_repeat(logging.WARNING, "hook.error", what):
            fields = {**job_fields(job), **_error(error), "hook": event.hook}
            fields["traceback"] = error.traceback
            self._write(logging.WARNING, "hook.error", f"{what}: {_what(error)}", fields)

    # ---- schedules ------------------------------------------------------------------------

    def _fired(self, event: events.ScheduleFired) -> None:
        fields = {**job_fields(event.job), "schedule": event.schedule, "lag_s": event.lag_secs}
        text = f"schedule {event.schedule} fired {event.job.func_name}"
        self._write(logging.DEBUG, "schedule.fired", text, fields)

    def _missed(self, event: events.ScheduleMissed) -> None:
        text = f"schedule {event.schedule} missed {plural(event.missed, 'fire')}"
        if event.skipped:
            text = f"schedule {event.schedule} skipped {plural(event.skipped, 'fire')}: a job runs"
        if self._admit_repeat(logging.WARNING, "schedule.missed", text):
            fields = {"schedule": event.schedule, "missed": event.missed, "skipped": event.skipped}
            self._write(logging.WARNING, "schedule.missed", text, fields)

    def _reconciled(self, event: events.SchedulesReconciled) -> None:
        for text in event.problems:
            self._write(logging.WARNING, "schedule.problem", text, {})
        parts = {part: getattr(event, part) for part in ("added", "changed", "enabled", "disabled")}
        said = [f"{word} {', '.join(names)}" for word, names in parts.items() if names]
        if said and self._level <= logging.INFO:
            text = f"declared schedules: {'; '.join(said)}"
            self._write(logging.INFO, "schedule.reconciled", text, dict[str, object](parts))

    # ---- workers, stores, plugins ---------------------------------------------------------

    def _worker_started(self, event: events.WorkerStarted) -> None:
        text = f"worker {event.worker} started"
        self._write(logging.INFO, "worker.started", text, {"worker": event.worker})

    def _worker_stopped(self, event: events.WorkerStopped) -> None:
        # "stopped" is the reason for a plain request: a signal or a command.
        why = f": {event.reason}" if event.reason not in ("", "stopped") else ""
        text = f"worker {event.worker} stopped{why}"
        self._write(logging.INFO, "worker.stopped", text, {"worker": event.worker})

    def _backend_failed(self, event: events.BackendFailed) -> None:
        what = f"the store failed at {event.op}: {event.error.type}"
        if self._admit_repeat(logging.ERROR, "backend.error", what):
            text = f"the store failed at {event.op}: {_what(event.error)}"
            fields = {"op": event.op, **_error(event.error)}
            self._write(logging.ERROR, "backend.error", text, fields)

    def _callback_failed(self, name: str, error: BaseException, count: int) -> None:
        # Not the exception's own text: reading it may fail, and the traceback has it anyway.
        text = f"the subscriber {name} failed: {type(error).__name__}"
        if self._admit_repeat(logging.WARNING, "plugin.error", text):
            level, fields = logging.WARNING, {"plugin": name, "failures": count}
            log_event(self._logger, level, "plugin.error", text, fields=fields, error=error)

    # ---- lines ----------------------------------------------------------------------------

    def _finished(
        self, event: events.JobSucceeded | events.JobFailed, outcome: str
    ) -> dict[str, object]:
        """Return the fields of an attempt that has ended."""
        job, duration_secs = event.job, event.duration_secs
        if job.id in self._overdue:
            self._overdue.discard(job.id)
            outcome = "timeout"
        waited = self._clock.now() - duration_secs - max(job.created_at, job.run_at)
        return {
            "worker": event.worker,
            "outcome": outcome,
            "duration_s": round(duration_secs, 6),
            "wait_s": round(max(0.0, waited), 3),
        }

    def _write_job(
        self, level: int, event: str, job: JobRecord, said: str, **fields: object
    ) -> None:
        """Write a line about a job, starting with its task's name."""
        self._write(level, event, f"{job.func_name} {said}", {**job_fields(job), **fields})

    def _write(self, level: int, event: str, text: str, fields: dict[str, object]) -> None:
        log_event(self._logger, level, event, text, fields=fields)

    # ---- limits -----------------------------------------------------------------------------

    def _admit(self, word: str, most: int) -> bool:
        """Return whether an event called ``word`` is one of the first ``most`` of its second."""
        self._write_counts()
        with self._lock:
            return self._limit.admit(word, most)

    def _admit_repeat(self, level: int, event: str, what: str) -> bool:
        """Return whether ``what`` is one of the first failures of its kind in a minute.

        A full disk or a hook that always fails would otherwise log a line for each job.
        """
        self._write_counts()
        with self._lock:
            return self._repeats.admit((level, event, what), _REPEATS_A_MINUTE)

    def _worker_asked(self, _event: events.WorkerAsked) -> None:
        self._write_counts()

    def _write_counts(self, *, at_once: bool = False) -> None:
        """Log how often something got no line of its own in the windows that have ended."""
        with self._lock:
            jobs = self._limit.ended(at_once=at_once)
            failures = self._repeats.ended(at_once=at_once)
        for word, held in jobs:
            level, event = _SUMMARIES[word]
            text = f"... and {plural(held, 'more job')} {word}"
            self._write(level, event, text, {"jobs": held})
        for (level, event, what), held in failures:
            text = f"{what} ({plural(held, 'more time')})"
            self._write(level, event, text, {"repeats": held})


_SUMMARIES = {
    "finished": (logging.INFO, "job.finished"),
    "failed": (logging.ERROR, "job.finished"),
    "DEAD": (logging.ERROR, "job.finished"),
    "retried": (logging.WARNING, "job.retry"),
    "taken back": (logging.WARNING, "job.lost"),
}


def _error(error: StoredError | None) -> dict[str, object]:
    if error is None:
        return {}
    return {"error_type": error.type, "error_fp": error.fingerprint}


def _what(error: StoredError) -> str:
    return f"{error.type}: {error.message}" if error.message else error.type


def _took(secs: float) -> str:
    return f"{_short(secs * 1000)} ms" if secs < 1 else f"{_short(secs)} s"


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= _NO_TENTHS_FROM else f"{number:.1f}".removesuffix(".0")
