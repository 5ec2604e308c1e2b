"""Tells of attempts: events of settled ones, their hooks, and where the running ones are."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from nuvom.core.record import JobStatus, StoredError
from nuvom.events import (
    Event,
    EventBus,
    JobCancelled,
    JobFailed,
    JobFenced,
    JobParked,
    JobRetrying,
    JobSucceeded,
    JobTimedOut,
)
from nuvom.log import get_logger, log_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from nuvom.core.outcome import Settlement
    from nuvom.execution.job_runner import JobRunner
    from nuvom.execution.lanes import Lane
    from nuvom.execution.running import RunningJob
    from nuvom.execution.station import Station

_LOG = get_logger("nuvom.worker")
# Looked up before the event is made: one that nobody subscribed to costs nothing.
_EVENTS: dict[JobStatus, type[Event]] = {
    JobStatus.SUCCESS: JobSucceeded,
    JobStatus.PENDING: JobRetrying,
    JobStatus.PARKED: JobParked,
    JobStatus.CANCELLED: JobCancelled,
}
_NO_ERROR = StoredError("Unknown", "no report is kept")


_TOLD = frozenset((*_EVENTS.values(), JobFailed, JobTimedOut))


class OpenHooks:
    """The hooks that were given to a lane and have not ended: a worker that stops waits for them.

    Args:
        ended: Called after each.
    """

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended
        self._calls: set[Callable[[], None]] = set()

    def add(self, hook: Callable[[], Any]) -> Callable[[], None]:
        """Return what to run in place of ``hook``."""

        def call() -> None:
            try:
                hook()
            finally:
                self._calls.discard(call)
                self._ended()

        self._calls.add(call)
        return call

    def __len__(self) -> int:
        return len(self._calls)


def announce(
    station: Station,
    lanes: Mapping[str, Lane],
    settled: Iterable[tuple[RunningJob, bool]],
    open_hooks: OpenHooks,
) -> None:
    """Tell of attempts and whether their settlement was accepted."""
    bus, runner = station.bus, station.runner
    is_wanted = not _TOLD.isdisjoint(bus.active)
    if not runner.has_hooks and JobSucceeded not in bus.active:
        success = JobStatus.SUCCESS
        settled = [one for one in settled if not one[1] or one[0].settlement.status is not success]
    for running, was_accepted in settled:
        prepared, settlement = running.prepared, running.settlement
        if not was_accepted:
            if JobFenced in bus.active:
                bus.emit(JobFenced(running.record, station.owner))
            continue
        if prepared is not None and prepared.has_hooks:
            hook = partial(runner.after_settled, running, settlement.status)
            lanes[running.lane].run_hook(open_hooks.add(hook))
        if is_wanted:
            _emit(bus, settlement, runner, station.owner)


def log_stacks(lanes: Iterable[Lane]) -> None:
    """Write where each running job is into the log."""
    for lane in lanes:
        for job_id, stack in lane.stacks().items():
            fields = {"job_id": job_id, "traceback": stack}
            log_event(_LOG, logging.INFO, "worker.stacks", "where a job is", fields=fields)


def _emit(bus: EventBus, settlement: Settlement, runner: JobRunner, worker: str) -> None:
    record = settlement.record
    if settlement.outcome == "timeout" and JobTimedOut in bus.active:
        bus.emit(JobTimedOut(record, settlement.error or _NO_ERROR, worker))
    if _EVENTS.get(settlement.status, JobFailed) in bus.active:
        bus.emit(_event_of(settlement, runner, worker))


def _event_of(settlement: Settlement, runner: JobRunner, worker: str) -> Event:
    record, status = settlement.record, settlement.status
    secs = max(0.0, settlement.finished_at - settlement.started_at)
    if status is JobStatus.SUCCESS:
        return JobSucceeded(record, secs, worker)
    if status is JobStatus.PENDING:
        return JobRetrying(record, settlement.error, settlement.run_at, secs, worker)
    if status is JobStatus.PARKED:
        return JobParked(record, runner.refused.get(record.func_name, ""))
    if status is JobStatus.CANCELLED:
        return JobCancelled(record.id)
    return JobFailed(record, settlement.error or _NO_ERROR, secs, worker)
