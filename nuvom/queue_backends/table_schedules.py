"""The schedules of the memory and the file store, in the table of their jobs."""

from __future__ import annotations

from heapq import nsmallest
from itertools import compress
from typing import TYPE_CHECKING

from nuvom.host.crashpoint import crashpoint
from nuvom.queue_backends.rows import Added, ScheduleRemoved, ScheduleStored
from nuvom.scheduler.record import admitted
from nuvom.scheduler.store import BaseScheduleStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from nuvom.queue_backends.table import Table
    from nuvom.queue_backends.table_queue import TableQueue
    from nuvom.scheduler.record import ScheduleChange, ScheduleRecord
    from nuvom.scheduler.store import ScheduleWaiter


class TableSchedules(BaseScheduleStore):
    """Schedules in the table of a queue, so that a fire and its jobs are one step."""

    inserts_jobs = True

    def __init__(self, queue: TableQueue) -> None:
        self.clock = queue.clock
        self._queue = queue

    def apply(self, changes: Sequence[ScheduleChange]) -> list[bool]:
        """Write changes in one turn; see the contract."""
        queue = self._queue
        queue.tidy()  # no worker does so where schedules have a store of their own

        def write(table: Table) -> list[bool]:
            before = table.schedules.head()
            written = self._write(table, changes)
            first = table.schedules.head()
            if first is not None and (before is None or _due_at(first) < _due_at(before)):
                queue.tell_schedulers()
            return written

        return queue.turn(write, durable=True)

    def _write(self, table: Table, changes: Sequence[ScheduleChange]) -> list[bool]:
        records = table.schedules.records
        names = (one.name for one in changes)
        revisions = {name: records[name].revision for name in names if name in records}
        written = admitted(changes, revisions)
        accepted = [*compress(changes, written)]
        jobs = [job for one in accepted for job in one.jobs]
        if jobs:  # first: a fire that is cut short here is made again, with the same ids
            new, _ = table.admit(jobs, self._queue.now)
            self._queue.tell_workers()
            self._queue.do(table, Added(new))
            crashpoint("table.schedules.jobs_added")
        for name, _, after, _ in accepted:
            self._queue.do(table, ScheduleRemoved(name) if after is None else ScheduleStored(after))
        return written

    def get(self, name: str) -> ScheduleRecord | None:
        """Return a schedule, or None."""
        return self._queue.turn(lambda table: table.schedules.records.get(name))

    def page(self, after: str | None = None, limit: int = 100) -> list[ScheduleRecord]:
        """Return schedules by name; see the contract."""

        def read(table: Table) -> list[ScheduleRecord]:
            records = table.schedules.records
            names = records if after is None else (one for one in records if one > after)
            return [records[name] for name in nsmallest(limit, names)]

        return self._queue.turn(read)

    def due(self, now: float, limit: int) -> list[ScheduleRecord]:
        """Return the first schedules that are due; see the contract."""
        return self._queue.turn(lambda table: table.schedules.due(now, limit))

    def next_due_at(self) -> float | None:
        """Return the earliest ``due_at``; see the contract."""
        head = self._queue.turn(lambda table: table.schedules.head())
        return None if head is None else head.due_at

    def waiter(self) -> AbstractContextManager[ScheduleWaiter]:
        """Lend something to sleep on; see the contract."""
        return self._queue.schedule_waiter()

    def stop(self) -> None:
        """Close the queue."""
        self._queue.stop()


def _due_at(record: ScheduleRecord) -> float:
    assert record.due_at is not None  # noqa: S101  # it is in the order of due times
    return record.due_at
