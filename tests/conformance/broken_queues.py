"""Queues with one fault each, to show that the law meant for it finds it."""

from __future__ import annotations

import os
import sqlite3
from collections import deque
from contextlib import closing
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec.structs import replace

from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.core.record import JobRecord, JobStatus
from nuvom.queue_backends.base import BaseJobQueue, Capability
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.queue_backends.rows import Row
from nuvom.queue_backends.table_schedules import TableSchedules
from nuvom.scheduler.record import ScheduleChange
from tests.conformance.list_queue import ListQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nuvom.config.settings import Settings
    from nuvom.core.outcome import Settlement
    from nuvom.core.transitions import Change
    from nuvom.queue_backends.rows import Operation
    from nuvom.queue_backends.table import Table


# ---- five methods -------------------------------------------------------------------------


class KeepsKeysOutsideTheLock(ListQueue):
    """Looks a key up, and stores the job in a second step."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.UNIQUE})

    def enqueue(self, job: JobRecord) -> str | None:
        key = (job.func_name, job.unique_key)
        for one in list(self.jobs):
            if job.unique_key is not None and (one.func_name, one.unique_key) == key:
                return one.id
        SYSTEM_CLOCK.sleep(0.001)
        return super().enqueue(job)


class LooksBeforeItTakes(ListQueue):
    """Hands out the first job, and removes it in a second step."""

    def pop_batch(self, batch_size: int) -> list[JobRecord]:
        with self.changed:
            taken = list(self.jobs)[:batch_size]
        SYSTEM_CLOCK.sleep(0.001)
        with self.changed:
            self.jobs = deque(job for job in self.jobs if job not in taken)
        return taken


class StoresTwice(ListQueue):
    def enqueue(self, job: JobRecord) -> str | None:
        with self.changed:
            self.jobs.append(job)
            self.changed.notify()
        return None


class WritesWhereTheNameSays(ListQueue):
    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._folder = settings.root / "jobs"
        self._folder.mkdir(exist_ok=True)

    def enqueue(self, job: JobRecord) -> str | None:
        path = f"{self._folder}{os.sep}{job.id[:200]}"
        if os.path.isdir(os.path.dirname(path)) and "\0" not in path:
            with open(path, "wb") as stream:
                stream.write(b"x")
        return super().enqueue(job)


# ---- in a file, for several processes -----------------------------------------------------


class FiledQueue(BaseJobQueue):
    """Five methods over a table; a fault lies in ``pop_batch`` or ``enqueue`` of a subclass."""

    def __init__(self, settings: Settings) -> None:
        self._path = str(settings.root / "jobs.db")
        with self._connected() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS jobs (id TEXT UNIQUE, record BLOB)")

    def _connected(self) -> closing[sqlite3.Connection]:
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=30.0)
        connection.execute("PRAGMA synchronous = OFF")  # no law here cuts the power
        return closing(connection)

    def enqueue(self, job: JobRecord) -> str | None:
        with self._connected() as connection:
            connection.execute("INSERT OR IGNORE INTO jobs VALUES (?, ?)", (job.id, job.encode()))
        return None

    def dequeue(self, timeout: float | None = None) -> JobRecord | None:
        deadline = SYSTEM_CLOCK.monotonic() + (timeout or 0)
        while True:
            jobs = self.pop_batch(1)
            if jobs or SYSTEM_CLOCK.monotonic() >= deadline:
                return jobs[0] if jobs else None
            SYSTEM_CLOCK.sleep(0.005)

    def pop_batch(self, batch_size: int) -> list[JobRecord]:
        with self._connected() as connection:
            rows = connection.execute(
                "DELETE FROM jobs WHERE rowid IN (SELECT rowid FROM jobs ORDER BY rowid LIMIT ?)"
                " RETURNING record",
                (batch_size,),
            ).fetchall()
        return [JobRecord.decode(data) for (data,) in rows]

    def qsize(self) -> int:
        with self._connected() as connection:
            return int(connection.execute("SELECT count(*) FROM jobs").fetchone()[0])

    def clear(self) -> None:
        with self._connected() as connection:
            connection.execute("DELETE FROM jobs")


class SelectsThenDeletes(FiledQueue):
    """Two processes that select at the same moment get the same job."""

    def pop_batch(self, batch_size: int) -> list[JobRecord]:
        with self._connected() as connection:
            rows = connection.execute(
                "SELECT rowid, record FROM jobs ORDER BY rowid LIMIT ?", (batch_size,)
            ).fetchall()
            for rowid, _ in rows:
                connection.execute("DELETE FROM jobs WHERE rowid = ?", (rowid,))
        return [JobRecord.decode(data) for _, data in rows]


class AcceptsBeforeItStores(FiledQueue):
    """Stores jobs a thousand at a time, and when it stops; a kill loses what was accepted."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._accepted: list[JobRecord] = []

    def enqueue(self, job: JobRecord) -> str | None:
        self._accepted.append(job)
        if len(self._accepted) >= 1000:
            self._store()
        return None

    def _store(self) -> None:
        accepted, self._accepted = self._accepted, []
        for job in accepted:
            super().enqueue(job)

    def stop(self) -> None:
        self._store()


# ---- leases -------------------------------------------------------------------------------


class HandsOutTwice(MemoryJobQueue):
    """Gives whoever finds nothing what somebody else holds."""

    def claim(self, n: int, owner: str, *args: Any, **options: Any) -> list[JobRecord]:
        claimed = super().claim(n, owner, *args, **options)
        if claimed:
            return claimed
        held = [row.record for row in self.table.rows.values()]
        return [one for one in held if one.status is JobStatus.RUNNING][:n]


class AcceptsStaleSettlements(MemoryJobQueue):
    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        return super().settle([self._renewed(one) for one in settlements])

    def _renewed(self, one: Settlement) -> Settlement:
        row = self.table.rows.get(one.record.id)
        return one if row is None else replace(one, record=row.record)


class LocksBeforeItTries(MemoryJobQueue):
    """An exception that comes when it has just taken its lock leaves it taken."""

    def __init__(self, settings: Settings, *, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(settings, clock=clock)
        self._door = Lock()

    def enqueue(self, job: JobRecord) -> str | None:
        self._door.acquire()
        try:
            return super().enqueue(job)
        finally:
            self._door.release()


class LocksInTwoOrders(MemoryJobQueue):
    """Claim and cancel take the same two locks, each another one first."""

    def __init__(self, settings: Settings, *, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(settings, clock=clock)
        self._one, self._other = Lock(), Lock()

    def claim(self, n: int, owner: str, *args: Any, **options: Any) -> list[JobRecord]:
        with self._one, self._other:
            return super().claim(n, owner, *args, **options)

    def cancel(self, job_id: str) -> JobStatus | None:
        with self._other:
            before = self.table.rows.get(job_id)
            with self._one:
                return super().cancel(job_id) if before is not None else None


class ClaimsInTwoSteps(MemoryJobQueue):
    """Chooses a job that waits, and hands it out even if somebody has claimed it meanwhile."""

    def claim(self, n: int, owner: str, *args: Any, **options: Any) -> list[JobRecord]:
        with self.lock:
            waiting = [row for row in self.table.rows.values() if not _runs(row)]
        SYSTEM_CLOCK.sleep(0)
        claimed = super().claim(n, owner, *args, **options)
        return claimed or [row.record for row in waiting if _runs(row)][:n]


def _runs(row: Row) -> bool:
    return row.record.status is JobStatus.RUNNING


class DropsChildren(MemoryJobQueue):
    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        return super().settle([replace(one, children=()) for one in settlements])


class SleepsThroughWork(MemoryJobQueue):
    """Does not look once more before it sleeps."""

    def wait_for_work(self, timeout: float, recheck: Callable[[], bool] | None = None) -> bool:
        return super().wait_for_work(timeout, lambda: False)


class WakesNobody(MemoryJobQueue):
    def wait_for_work(self, timeout: float, recheck: Callable[[], bool] | None = None) -> bool:
        if recheck is not None and recheck():
            return True
        return Event().wait(min(timeout, 20.0))  # not for ever: its thread has to end some time


# ---- schedules ----------------------------------------------------------------------------


class _Renewing(TableSchedules):
    def apply(self, changes: Sequence[ScheduleChange]) -> list[bool]:
        apply = super().apply
        return [apply([self.renewed(one)])[0] for one in changes]

    def renewed(self, change: ScheduleChange) -> ScheduleChange:
        seen = self.get(change.name)
        if seen is None:
            return change
        return ScheduleChange(change.name, seen.revision, change.after, change.jobs)


class OverwritesSchedules(MemoryJobQueue):
    """Writes a change whatever has become of its schedule."""

    def schedules(self) -> TableSchedules:
        return _Renewing(self)


class _LooksThenFires(_Renewing):
    def renewed(self, change: ScheduleChange) -> ScheduleChange:
        seen = self.get(change.name)
        if seen is None or seen.revision != change.revision:
            return change
        SYSTEM_CLOCK.sleep(0.001)
        return super().renewed(change)


class FiresInTwoSteps(MemoryJobQueue):
    """Looks at the revision, and writes in a second step."""

    def schedules(self) -> TableSchedules:
        return _LooksThenFires(self)


class _Jobless(TableSchedules):
    def apply(self, changes: Sequence[ScheduleChange]) -> list[bool]:
        return super().apply([ScheduleChange(*one[:3]) for one in changes])


class FiresNothing(MemoryJobQueue):
    def schedules(self) -> TableSchedules:
        return _Jobless(self)


class WakesSchedulersForNothing(MemoryJobQueue):
    def do(self, table: Table, operation: Operation | Change) -> None:
        super().do(table, operation)
        self.tell_schedulers()


class WakesNoScheduler(MemoryJobQueue):
    def tell_schedulers(self) -> None:
        pass
