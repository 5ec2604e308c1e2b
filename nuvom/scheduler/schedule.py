"""``Schedule``: the handle that ``.schedule()`` returns, and how schedules are made and found."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any

from msgspec import msgpack

from nuvom.core.guard import engine_call
from nuvom.core.ids import new_id
from nuvom.core.options import check_task_name
from nuvom.errors import (
    CapabilityMissing,
    InvalidSchedule,
    InvalidTaskOption,
    ScheduleNotFound,
)
from nuvom.job import Job
from nuvom.runtime import Runtime, current_runtime
from nuvom.scheduler import planner
from nuvom.scheduler.record import ScheduleChange, ScheduleRecord, ScheduleRule
from nuvom.scheduler.store import all_records, find_record
from nuvom.scheduler.trigger import checked_rule, describe, fires_after

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from nuvom.core.options import CallOptions
    from nuvom.core.record import JobRecord
    from nuvom.dispatcher import Dispatcher
    from nuvom.registry.registry import TaskDefinition
    from nuvom.scheduler.store import BaseScheduleStore

_MOST_NAME_CHARS = 200
_OF_THE_FIRE = ("delay", "run_at", "connection")


class Schedule:
    """A handle for one schedule. Equal to any other handle with the same name.

    Attributes:
        name: Its identity.
        record: The schedule as stored when this handle was made or last used.
    """

    __slots__ = ("_runtime", "name", "record")

    def __init__(self, record: ScheduleRecord, runtime: Runtime) -> None:
        self.name = record.name
        self.record = record
        self._runtime = runtime

    def __repr__(self) -> str:
        return f"<schedule {self.name}: {self.task} {self.description}, {self.state}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    # ---- what it is ---------------------------------------------------------------------

    @property
    def task(self) -> str:
        """Full name of the task."""
        return self.record.task

    @property
    def rule(self) -> ScheduleRule:
        """When it fires; see ``nuvom.scheduler.record.ScheduleRule``."""
        return self.record.rule

    @property
    def description(self) -> str:
        """When it fires, in plain English."""
        return describe(self.record.rule)

    @property
    def state(self) -> str:
        """``active``, ``paused``, ``disabled`` or ``ended``."""
        return self.record.state

    @property
    def next_at(self) -> datetime | None:
        """The next fire time in UTC as of the last ``refresh``; None if there is none."""
        return _utc(self.record.next_at) if self.state == "active" else None

    @property
    def last_at(self) -> datetime | None:
        """The latest fire time that is done, in UTC."""
        return _utc(self.record.last_at)

    @property
    def jobs(self) -> list[Job[Any]]:
        """Its latest jobs, oldest first, at most ten."""
        return [Job(job_id, self._runtime) for job_id in self.record.recent]

    @engine_call
    def next(self, count: int = 1) -> list[datetime]:
        """Return at most ``count`` of its next fire times in UTC; none if it is not active."""
        record = self._refreshed()
        if record.state != "active" or record.next_at is None:
            return []
        later = fires_after(record.rule, record.created_at, record.next_at)
        times = [record.next_at, *islice(later, max(count - 1, 0))][:count]
        return [datetime.fromtimestamp(at, UTC) for at in times]

    @engine_call
    def refresh(self) -> Schedule:
        """Read the schedule again; return this handle. Raises: ScheduleNotFound."""
        self._refreshed()
        return self

    # ---- what can be done with it -------------------------------------------------------

    @engine_call
    def pause(self, by: str = "program") -> None:
        """Stop it from firing until ``resume``, which does not make up for fires in between."""
        self._change(lambda seen, now: planner.paused(seen, by, now))

    @engine_call
    def resume(self) -> None:
        """Let it fire again after ``pause``."""
        self._change(planner.resumed)

    @engine_call
    def run_now(self) -> Job[Any]:
        """Enqueue a job now, whatever its state; its fire times stay the same."""
        store = store_of(self._runtime)
        job_id = new_id()  # once, so that there is one job however often the change is refused
        while True:
            seen = self._refreshed()
            change = planner.fired_now(seen, job_id, store.clock.now())
            (job,) = self._runtime.dispatcher.accompanied(change.jobs)
            jobs = jobs_with(store, self._runtime.dispatcher, (job,))
            if store.apply([change._replace(jobs=jobs)])[0]:
                self._runtime.dispatcher.tell_enqueued((job,))
                return Job(job.id, self._runtime, job)

    @engine_call
    def update(self, **options: Any) -> None:
        """Change options of ``Task.schedule``, except ``name``; those not given stay.

        Raises: InvalidSchedule; ScheduleNotFound.
        """

        def change(seen: ScheduleRecord, now: float) -> ScheduleChange:
            rule = checked_rule(options, now, seen.rule)
            return planner.updated(seen, rule=rule, now=now)

        self._change(change)

    @engine_call
    def delete(self) -> bool:
        """Remove it; its jobs stay. Returns: False if it had been removed already."""
        try:
            self._change(lambda seen, _: ScheduleChange(seen.name, seen.revision, None))
        except ScheduleNotFound:
            return False
        return True

    def _refreshed(self) -> ScheduleRecord:
        self.record = find_record(store_of(self._runtime), self.name)
        return self.record

    def _change(self, decide: Callable[[ScheduleRecord, float], ScheduleChange]) -> None:
        """Write a change, deciding again if the schedule has changed meanwhile."""
        store = store_of(self._runtime)
        while True:
            change = decide(self._refreshed(), store.clock.now())
            if store.apply([change])[0]:
                self.record = change.after or self.record
                return


def _utc(moment: float | None) -> datetime | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC)


# ---- making and finding --------------------------------------------------------------------


def store_of(runtime: Runtime) -> BaseScheduleStore:
    """Return where schedules are kept.

    Raises: CapabilityMissing: the queue keeps none, and ``scheduler_backend`` names nothing else.
    """
    if runtime.schedule_store is None:
        name = runtime.queue.name or type(runtime.queue).__name__
        raise CapabilityMissing(
            name,
            "schedules",
            "it keeps jobs only; the setting scheduler_backend can name a store for schedules, and "
            "memory, file, sqlite, postgres and redis keep them, too",
        )
    return runtime.schedule_store


def jobs_with(
    store: BaseScheduleStore, dispatcher: Dispatcher, jobs: Iterable[JobRecord]
) -> tuple[JobRecord, ...]:
    """Return the jobs that a change brings along: all of them if they go to the store of schedules.

    If not, they are enqueued here. Should the change never be written, the fire is made again, and
    enqueues jobs with the same ids.
    """
    if store.inserts_jobs:
        return tuple(jobs)
    for job in jobs:
        dispatcher.store(job)
    return ()


@engine_call
def create(
    definition: TaskDefinition,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    call: CallOptions,
    *,
    options: Mapping[str, Any],
    name: str | None,
) -> Schedule:
    """Store the schedule of a call; see ``Task.schedule``."""
    runtime = current_runtime()
    store = store_of(runtime)
    now = store.clock.now()
    rule = checked_rule(options, now)
    job = runtime.dispatcher.make_record(definition, args, kwargs, call)
    return Schedule(put(store, wanted_record(job, call, rule, name)), runtime)


def wanted_record(
    job: JobRecord, call: CallOptions, rule: ScheduleRule, name: str | None
) -> ScheduleRecord:
    """Return the schedule of a call as it is to be, without what a store knows of it.

    Args:
        job: The record of the call, as ``.delay()`` would store it now.
    Raises: InvalidSchedule: the name, or an option of the call, cannot be that of a schedule.
    """
    for option in _OF_THE_FIRE:
        if option in call:
            given = call.get(option)
            raise InvalidSchedule(option, given, "no such option: a fire decides when a job starts")
    if isinstance(call.get("expires"), datetime):
        expected = "seconds or a timedelta after each fire"
        raise InvalidSchedule("expires", call["expires"], expected)
    expires_secs = job.expires_at and job.expires_at - job.created_at
    if name is None:
        seed = msgpack.encode((job.args, job.kwargs, rule.trigger))
        name = f"{job.func_name}-{blake2b(seed, digest_size=4).hexdigest()}"
    fired = job.replace(id="", created_at=0.0, run_at=0.0, expires_at=None)
    return ScheduleRecord(checked_name(name), new_id(), rule, fired, expires_secs=expires_secs)


def checked_name(name: object) -> str:
    """Return a name that a schedule may have. Raises: InvalidSchedule."""
    try:
        check_task_name(name)
    except InvalidTaskOption:
        name = None
    if not isinstance(name, str) or len(name) > _MOST_NAME_CHARS:
        expected = f"a text of 1 to {_MOST_NAME_CHARS} characters without line breaks"
        raise InvalidSchedule("name", name, expected)
    return name


def put(store: BaseScheduleStore, wanted: ScheduleRecord) -> ScheduleRecord:
    """Store a schedule under its name, or update the one that has it; return it as stored.

    Raises: InvalidSchedule: code or settings declare the one that has it.
    """
    while True:
        seen, now = store.get(wanted.name), store.clock.now()
        if seen is None:
            change = planner.created(wanted, now)
        elif seen.is_declared and seen.disabled is None:
            expected = f"another name, since a schedule of this name is declared in {seen.origin}"
            raise InvalidSchedule("name", wanted.name, expected)
        elif not planner.differs(seen, wanted):
            return seen
        else:
            change = planner.adjusted(seen, wanted, now)
        if store.apply([change])[0] and change.after is not None:
            return change.after


@engine_call
def schedules() -> list[Schedule]:
    """Return all schedules of the current project, by name.

    Raises: CapabilityMissing: its store keeps none; BackendUnavailable.
    """
    runtime = current_runtime()
    return [Schedule(record, runtime) for record in all_records(store_of(runtime))]


@engine_call
def find(name: str) -> Schedule:
    """Return a schedule of the current project. Raises: ScheduleNotFound."""
    runtime = current_runtime()
    return Schedule(find_record(store_of(runtime), name), runtime)
