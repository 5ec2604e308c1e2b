"""Schedules on their way from one store to another, or into a file and back.

They go the way of jobs, and for the same reason: no schedule may fire from two stores. See
``nuvom.scheduler.planner`` for the steps. Whoever is killed in between leaves held copies, with
which the next transfer goes on.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict

from nuvom.core.record import JobRecord
from nuvom.errors import InvalidSchedule, PayloadError
from nuvom.queue_backends.base import Capability
from nuvom.queue_backends.transfer import Comparison
from nuvom.scheduler import planner
from nuvom.scheduler.record import ScheduleChange, ScheduleRecord
from nuvom.scheduler.store import PAGE, all_records
from nuvom.scheduler.trigger import stored_rule

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from nuvom.queue_backends.base import BaseJobQueue
    from nuvom.queue_backends.transfer import Place, TransferReport
    from nuvom.scheduler.store import BaseScheduleStore

_TAKEN = "the store has another schedule of this name, of the task {task}"


def schedules_in(queue: BaseJobQueue) -> BaseScheduleStore | None:
    """Return where a store keeps schedules; None if it keeps none."""
    return queue.schedules() if Capability.SCHEDULES in queue.capabilities else None


# ---- from store to store -------------------------------------------------------------------


class ScheduleTransfer:
    """Moves schedules from one store to another while both are in use.

    Args:
        report: Where to note what has become of them.
        queues: Names of the queues that their jobs go to; empty means all.
    """

    def __init__(
        self,
        source: Place,
        target: Place,
        report: TransferReport,
        *,
        queues: Collection[str] = (),
    ) -> None:
        self._source, self._home = schedules_in(source.queue), source.name
        self._target, self._goal = schedules_in(target.queue), target.name
        self.report = report
        self._queues = queues

    def run(self) -> None:
        """Move all schedules; finish first what an earlier call began."""
        source, target = self._source, self._target
        if source is None:
            return
        if target is None:
            for one in self._wanted(source):
                self._refuse(one, f"{self._goal} keeps no schedules")
            return
        mover = _Mover(source, target, self._home, self._goal)
        mover.finish(one for one in all_records(target) if planner.source_of(one) == self._home)
        for page in _parts(self._wanted(source)):
            mover.move(page)
        self.report.schedules += mover.moved
        self.report.refused.update(mover.refused)

    def plan(self) -> None:
        """Note how many schedules ``run`` would find, without writing anything."""
        if self._source is not None:
            self.report.schedules += sum(1 for _ in self._wanted(self._source))

    def compare(self) -> Comparison:
        """Look at each schedule of the source, and whether only one store fires it."""
        equal, wrong = 0, dict[str, str]()
        for one in () if self._source is None else all_records(self._source):
            there = None if self._target is None else self._target.get(one.name)
            text = self._difference(one, there)
            equal += text == ""
            if text:
                wrong[_key(one.name)] = text
        return Comparison(equal, wrong)

    def _difference(self, one: ScheduleRecord, there: ScheduleRecord | None) -> str | None:
        """Return what is wrong, "" if it was moved and is there, or None if it was not moved."""
        if planner.home_of(one) == self._goal:
            if there is None:  # one that fires once removes itself then
                return "" if one.rule.at is not None else f"{self._goal} does not have it"
            return "its copy waits for the next run" if planner.is_away(there) else ""
        is_double = not planner.is_away(one) and there is not None and not planner.is_away(there)
        return "both stores have it" if is_double else None

    def _wanted(self, source: BaseScheduleStore) -> Iterator[ScheduleRecord]:
        for one in all_records(source):
            if not planner.is_away(one) and (not self._queues or one.job.queue in self._queues):
                yield one

    def _refuse(self, one: ScheduleRecord, reason: str) -> None:
        self.report.refused[_key(one.name)] = reason


class _Mover:
    """The steps of a transfer, each of which may be repeated."""

    def __init__(
        self, source: BaseScheduleStore, target: BaseScheduleStore, home: str, goal: str
    ) -> None:
        self._source, self._home = source, home
        self._target, self._goal = target, goal
        self.moved = 0
        self.refused = dict[str, str]()

    def move(self, page: Sequence[ScheduleRecord]) -> None:
        """Move schedules that the source has. One that changes meanwhile is copied again."""
        while page:
            held = self._hold(page)
            mine = [one for one in page if one.name in held]
            now = self._source.clock.now()
            changes = [planner.left_to(self._goal, one, now) for one in mine]
            self._source.apply(changes)
            page = self._release(held)

    def finish(self, held: Iterable[ScheduleRecord]) -> None:
        """Deal with held copies of an earlier transfer; one still at home is moved later."""
        for part in _parts(held):
            self._release({one.name: one for one in part})

    def _hold(self, page: Sequence[ScheduleRecord]) -> dict[str, ScheduleRecord]:
        """Store held copies; return what the target then has, without what is refused."""
        found = dict[str, ScheduleRecord]()
        there = dict[str, ScheduleRecord | None]()
        while page:
            now = self._target.clock.now()
            changes = [planner.held(one, self._home, there.get(one.name), now) for one in page]
            answers = self._target.apply(changes)
            rest = []
            for one, change, is_held in zip(page, changes, answers, strict=True):
                if is_held and change.after is not None:
                    found[one.name] = change.after
                    continue
                other = there[one.name] = self._target.get(one.name)
                if other is None or planner.is_away(other):
                    rest.append(one)
                elif other.task == one.task:  # declared or made there, too: one is enough
                    found[one.name] = other
                else:
                    self.refused[_key(one.name)] = _TAKEN.format(task=other.task)
            page = rest
        return found

    def _release(self, held: dict[str, ScheduleRecord]) -> list[ScheduleRecord]:
        """Turn copies into the schedules that the source has given up; return those it has."""
        at_home, todo = list[ScheduleRecord](), list[tuple[ScheduleRecord, ScheduleRecord | None]]()
        for name, copy in held.items():
            left = self._source.get(name)
            if left is None:
                self._withdraw(copy)
            elif planner.home_of(left) == self._goal:
                todo.append((left, copy))
            elif planner.is_away(left):
                self.refused[_key(name)] = f"{self._home} has given it to another store"
            else:
                at_home.append(left)
        self.moved += len(todo)
        while todo := [one for one in todo if one[1] is None or planner.is_away(one[1])]:
            now = self._target.clock.now()
            answers = self._target.apply([planner.arrived(*one, now) for one in todo])
            pairs = zip(todo, answers, strict=True)
            lost = [left for (left, _), is_done in pairs if not is_done]
            todo = [(left, self._target.get(left.name)) for left in lost]
        return at_home

    def _withdraw(self, copy: ScheduleRecord) -> None:
        """Deal with a copy of a schedule that the source does not have any more."""
        at = copy.rule.at
        if planner.source_of(copy) is None:
            return
        if at is not None and at <= self._source.clock.now():  # it has fired for the only time
            self._target.apply([ScheduleChange(copy.name, copy.revision, None)])
        else:
            reason = f"held there, and {self._home} has no such schedule"
            self.refused[_key(copy.name)] = reason


def _parts(records: Iterable[ScheduleRecord]) -> Iterator[list[ScheduleRecord]]:
    left = iter(records)
    while part := list(islice(left, PAGE)):
        yield part


def _key(name: str) -> str:
    """Return what a schedule is called among jobs, which go by their ids."""
    return f"schedule {name}"


# ---- files ---------------------------------------------------------------------------------


def exported_schedules(queue: BaseJobQueue, report: TransferReport) -> Iterator[ScheduleRecord]:
    """Yield the schedules of a store, without those that are between two stores."""
    store = schedules_in(queue)
    for one in () if store is None else all_records(store):
        if not planner.is_away(one):
            report.schedules += 1
            yield one


def to_dict(schedule: ScheduleRecord) -> dict[str, Any]:
    """Return plain data that JSON can hold: a line of an export."""
    fields = asdict(schedule)
    fields |= {"rule": asdict(schedule.rule), "job": schedule.job.to_dict()}
    return {"schedule": {**fields, "recent": list(schedule.recent)}}


def from_dict(data: dict[str, Any]) -> ScheduleRecord:
    """Return the schedule that ``to_dict`` described. Raises: PayloadError."""
    try:
        fields = dict(data["schedule"])
        fields["rule"] = stored_rule(fields["rule"])
        fields["job"] = JobRecord.from_dict(fields["job"])
        fields["recent"] = tuple(fields["recent"])
        return ScheduleRecord.decode(ScheduleRecord(**fields).encode())  # checks all types
    except InvalidSchedule as error:
        raise PayloadError(error.what) from error
    except (KeyError, TypeError, ValueError) as error:
        raise PayloadError(f"it is not a schedule of an export ({error})") from error


class ScheduleLoader:
    """Stores schedules of an export. Those that are there already stay as they are."""

    def __init__(self, queue: BaseJobQueue, report: TransferReport) -> None:
        self._store = schedules_in(queue)
        self._report = report
        self._batch: list[ScheduleRecord] = []

    def add(self, schedule: ScheduleRecord) -> None:
        """Store a schedule, by the end of ``flush`` at the latest."""
        self._batch.append(schedule)
        if len(self._batch) >= PAGE:
            self.flush()

    def flush(self) -> None:
        """Store what has been added so far."""
        batch, self._batch = self._batch, []
        if self._store is None:
            reason = "the store keeps no schedules"
            self._report.refused.update({_key(one.name): reason for one in batch})
            return
        changes = [ScheduleChange(one.name, 0, one) for one in batch]
        for one, is_stored in zip(batch, self._store.apply(changes), strict=True):
            if is_stored:
                self._report.schedules += 1
            else:
                self._note(one, self._store.get(one.name))

    def _note(self, one: ScheduleRecord, there: ScheduleRecord | None) -> None:
        home = None if there is None else planner.home_of(there)
        if home is not None:
            self._report.refused[_key(one.name)] = f"it was moved from here to {home}"
        elif there is not None and there.task != one.task:
            self._report.refused[_key(one.name)] = _TAKEN.format(task=there.task)
        else:
            self._report.known += 1
