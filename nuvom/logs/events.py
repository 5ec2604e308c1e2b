"""Writes what happens in the engine to the log; a subscriber like any other.

Events below the level are not subscribed to, so that they are never made. Of jobs that succeed
or fail by the thousand only some get a line of their own; ``nuvom.logs.bursts`` counts the rest.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from nuvom import events
from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.log import log_event
from nuvom.logs.bursts import Bursts, Quiet

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.core.record import JobRecord, StoredError

_LEAST_MILLIS = 0.1
_NO_TENTHS_FROM = 100
_SUCCESS_LINES = 20
_FAILURE_LINES = 100
_MOST_OVERDUE = 1000
_STORE_QUIET_SECS = 10.0
_PLUGIN_QUIET_SECS = 60.0


def subscribe_logging(
    bus: events.EventBus,
    logger: logging.Logger,
    level: str | int,
    *,
    clock: Clock = SYSTEM_CLOCK,
) -> Callable[[], None]:
    """Have the engine's events written to ``logger``, those of at least ``level``.

    Returns: a function that ends it and writes what was held back; calling it twice is fine.
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
        self._overdue: set[str] = set()  # timed out; the event that says what follows comes next
        # A full disk or a lost server fails every call, and the log may be on the same disk.
        self._store_quiet = Quiet(clock, _STORE_QUIET_SECS)
        self._plugin_quiet = Quiet(clock, _PLUGIN_QUIET_SECS)
        self._bursts = Bursts(clock, self._summarise)

    def subscribe(self, bus: events.EventBus) -> Callable[[], None]:
        """Subscribe to what the level shows; return a function that undoes it."""
        wanted: list[tuple[int, type[events.Event], Callable[[Any], None]]] = [
            (logging.DEBUG, events.JobEnqueued, self._enqueued),
            (logging.DEBUG, events.JobStarted, self._started),
            (logging.INFO, events.JobSucceeded, self._succeeded),
            (logging.INFO, events.JobCancelled, self._cancelled),
            (logging.INFO, events.WorkerStarted, self._worker_started),
            (logging.INFO, events.WorkerStopped, self._worker_stopped),
            (logging.WARNING, events.JobRetrying, self._retrying),
            (logging.WARNING, events.JobFenced, self._fenced),
            (logging.WARNING, events.JobParked, self._is_parked),
            (logging.WARNING, events.JobReaped, self._reaped),
            (logging.WARNING, events.HookFailed, self._hook_failed),
            (logging.ERROR, events.JobTimedOut, self._timed_out),
            (logging.ERROR, events.JobFailed, self._failed),
            (logging.ERROR, events.JobDead, self._dead),
            (logging.ERROR, events.BackendFailed, self._backend_failed),
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
            self._bursts.stop()
            self._write_held()

        return unsubscribe

    # ---- jobs -----------------------------------------------------------------------------

    def _enqueued(self, event: events.JobEnqueued) -> None:
        job = event.job
        text = f"{job.func_name} enqueued on {job.queue}"
        self._write(logging.DEBUG, "job.enqueued", text, _job(job))

    def _started(self, event: events.JobStarted) -> None:
        fields = {**_job(event.job, event.worker), "lane": event.lane}
        text = f"{event.job.func_name} started, attempt {event.job.attempt}"
        self._write(logging.DEBUG, "job.started", text, fields)

    def _succeeded(self, event: events.JobSucceeded) -> None:
        if self._level > logging.DEBUG and not self._bursts.admit("finished", _SUCCESS_LINES):
            return
        outcome = self._outcome(event.job, "success")
        fields = self._finished(event.job, event.worker, event.duration_secs, outcome)
        took = _took(event.duration_secs)
        text = f"{event.job.func_name} succeeded in {took}"
        if outcome == "timeout":
            text = f"{event.job.func_name} timed out after {took}, which its policy ignores"
        self._write(logging.INFO, "job.finished", text, fields)

    def _timed_out(self, event: events.JobTimedOut) -> None:
        if len(self._overdue) >= _MOST_OVERDUE:  # of events that this level does not show
            self._overdue.clear()
        self._overdue.add(event.job.id)

    def _outcome(self, job: JobRecord, outcome: str) -> str:
        if job.id not in self._overdue:
            return outcome
        self._overdue.discard(job.id)
        return "timeout"

    def _failed(self, event: events.JobFailed) -> None:
        if not self._bursts.admit("failed", _FAILURE_LINES):
            return
        outcome = self._outcome(event.job, "failure")
        fields = self._finished(event.job, event.worker, event.duration_secs, outcome)
        text = (
            f"{event.job.func_name} failed after {_took(event.duration_secs)}: {_what(event.error)}"
        )
        fields.update(_error(event.error), traceback=event.error.traceback)
        self._write(logging.ERROR, "job.finished", text, fields)

    def _retrying(self, event: events.JobRetrying) -> None:
        self._overdue.discard(event.job.id)
        if not self._bursts.admit("retried", _FAILURE_LINES):
            return
        in_secs = max(0.0, event.run_at - self._clock.now())
        why = "" if event.error is None else f": {_what(event.error)}"
        text = f"{event.job.func_name} is tried again in {_took(in_secs)}{why}"
        fields = {
            **_job(event.job, event.worker),
            "outcome": "retry",
            "duration_s": event.duration_secs,
            **_error(event.error),
        }
        self._write(logging.WARNING, "job.retry", text, fields)

    def _dead(self, event: events.JobDead) -> None:
        if not self._bursts.admit("DEAD", _FAILURE_LINES):
            return
        job = event.job
        why = (
            f"workers died under it {job.deliveries} times" if job.deliveries else "parked too long"
        )
        fields = {**_job(job), "outcome": "dead", "error_type": "lost"}
        self._write(logging.ERROR, "job.finished", f"{job.func_name} is DEAD: {why}", fields)

    def _cancelled(self, event: events.JobCancelled) -> None:
        fields: dict[str, object] = {"job_id": event.job_id, "outcome": "cancelled"}
        self._write(logging.INFO, "job.finished", f"job {event.job_id} was cancelled", fields)

    def _fenced(self, event: events.JobFenced) -> None:
        text = f"{event.job.func_name}: the outcome was dropped, its lease had passed to another"
        fields = {**_job(event.job, event.worker), "outcome": "stale"}
        self._write(logging.WARNING, "job.stale_settle", text, fields)

    def _is_parked(self, event: events.JobParked) -> None:
        if event.job.func_name in self._parked:
            return
        self._parked.add(event.job.func_name)
        name = event.job.func_name
        text = f"{name} cannot run here, its jobs are PARKED until a worker can: {event.reason}"
        self._write(logging.WARNING, "job.parked", text, _job(event.job))

    def _reaped(self, event: events.JobReaped) -> None:
        if not self._bursts.admit("taken back", _FAILURE_LINES):
            return
        text = f"{event.job.func_name} was taken back: its worker died or went silent"
        self._write(logging.WARNING, "job.lost", text, {**_job(event.job), "outcome": "lost"})

    def _hook_failed(self, event: events.HookFailed) -> None:
        text = f"the hook {event.hook} of {event.job.func_name} failed: {_what(event.error)}"
        fields = {**_job(event.job), **_error(event.error), "hook": event.hook}
        # Per task: a hook that always fails would have a line for each job.
        fields.update(
            traceback=event.error.traceback, rate_key=f"{event.job.func_name} {event.hook}"
        )
        self._write(logging.WARNING, "hook.error", text, fields)

    # ---- workers, stores, plugins ---------------------------------------------------------

    def _worker_started(self, event: events.WorkerStarted) -> None:
        text = f"worker {event.worker} started"
        self._write(logging.INFO, "worker.started", text, {"worker": event.worker})

    def _worker_stopped(self, event: events.WorkerStopped) -> None:
        # "stopped" is the reason where somebody just asked for it: a signal, a command.
        why = f": {event.reason}" if event.reason not in ("", "stopped") else ""
        text = f"worker {event.worker} stopped{why}"
        self._write(logging.INFO, "worker.stopped", text, {"worker": event.worker})

    def _backend_failed(self, event: events.BackendFailed) -> None:
        held = self._store_quiet.admit(event.error.type)
        if held is None:
            return
        text = f"the store failed at {event.op}: {_what(event.error)}{_more(held)}"
        fields = {"op": event.op, **_error(event.error), "rate_key": False}
        self._write(logging.ERROR, "backend.error", text, fields)

    def _callback_failed(self, name: str, error: BaseException, count: int) -> None:
        held = self._plugin_quiet.admit(name)
        if held is None:
            return
        # Not the exception's own text: reading it may fail, and the traceback has it anyhow.
        text = f"the subscriber {name} failed: {type(error).__name__}{_more(held)}"
        fields = {"plugin": name, "failures": count, "rate_key": False}
        log_event(self._logger, logging.WARNING, "plugin.error", text, fields=fields, error=error)

    def _write_held(self) -> None:
        for error_type, held in self._store_quiet.drain().items():
            text = f"the store failed {held} more times: {error_type}"
            fields: dict[str, object] = {"error_type": error_type, "rate_key": False}
            self._write(logging.ERROR, "backend.error", text, fields)
        for name, held in self._plugin_quiet.drain().items():
            text = f"the subscriber {name} failed {held} more times"
            self._write(logging.WARNING, "plugin.error", text, {"plugin": name, "rate_key": False})

    # ---- lines ----------------------------------------------------------------------------

    def _finished(
        self, job: JobRecord, worker: str, duration_secs: float, outcome: str
    ) -> dict[str, object]:
        began = self._clock.now() - duration_secs
        return {
            **_job(job, worker),
            "outcome": outcome,
            "duration_s": round(duration_secs, 6),
            "wait_s": round(max(0.0, began - max(job.created_at, job.run_at)), 3),
        }

    def _write(self, level: int, event: str, text: str, fields: dict[str, object]) -> None:
        log_event(self._logger, level, event, text, fields=fields)

    def _summarise(self, word: str, held: int) -> None:
        """Say how many jobs had no line of their own in the last second."""
        level, event = _SUMMARIES[word]
        text = f"... and {held:,} more {'job' if held == 1 else 'jobs'} {word} in the last second"
        self._write(level, event, text, {"jobs": held, "rate_key": False})


_SUMMARIES = {
    "finished": (logging.INFO, "job.finished"),
    "failed": (logging.ERROR, "job.finished"),
    "DEAD": (logging.ERROR, "job.finished"),
    "retried": (logging.WARNING, "job.retry"),
    "taken back": (logging.WARNING, "job.lost"),
}


def _job(job: JobRecord, worker: str | None = None) -> dict[str, object]:
    return {
        "job_id": job.id,
        "task": job.func_name,
        "queue": job.queue,
        "attempt": job.attempt,
        "lease_epoch": job.lease_epoch,
        "worker": worker,
    }


def _error(error: StoredError | None) -> dict[str, object]:
    if error is None:
        return {}
    return {"error_type": error.type, "error_fp": error.fingerprint}


def _what(error: StoredError) -> str:
    return f"{error.type}: {error.message}" if error.message else error.type


def _more(held: int) -> str:
    return f" (and {held} more times before)" if held else ""


def _took(secs: float) -> str:
    millis = secs * 1000
    if 0 < millis < _LEAST_MILLIS:
        return f"<{_LEAST_MILLIS} ms"
    return f"{_short(millis)} ms" if secs < 1 else f"{_short(secs)} s"


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= _NO_TENTHS_FROM else f"{number:.1f}".removesuffix(".0")
