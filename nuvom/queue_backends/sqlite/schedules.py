"""The schedules of the SQLite store: a table beside the jobs, so that a fire is one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from nuvom.host.crashpoint import crashpoint
from nuvom.scheduler.record import ScheduleRecord
from nuvom.scheduler.store import BaseScheduleStore

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from nuvom.queue_backends.sqlite.hot import Inserter
    from nuvom.queue_backends.sqlite.store import SQLiteStore
    from nuvom.scheduler.record import ScheduleChange
    from nuvom.scheduler.store import ScheduleWaiter

_INSERT = """INSERT INTO schedules (name, revision, due_at, record) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT DO NOTHING"""
_UPDATE = """UPDATE schedules SET revision = ?2, due_at = ?3, record = ?4
    WHERE name = ?1 AND revision = ?5"""
_DELETE = "DELETE FROM schedules WHERE name = ?1 AND revision = ?2"
_GET = "SELECT record FROM schedules WHERE name = ?1"
_PAGE = "SELECT record FROM schedules WHERE name > ?1 ORDER BY name LIMIT ?2"
_DUE = "SELECT record FROM schedules WHERE due_at <= ?1 ORDER BY due_at LIMIT ?2"
_FIRST = "SELECT min(due_at) FROM schedules WHERE due_at IS NOT NULL"


class SQLiteSchedules(BaseScheduleStore):
    """Schedules in the file of a queue."""

    inserts_jobs: ClassVar[bool] = True

    def __init__(self, store: SQLiteStore, inserter: Inserter) -> None:
        self.clock = store.clock
        self._store = store
        self._inserter = inserter

    def apply(self, changes: Sequence[ScheduleChange]) -> list[bool]:
        """Write changes in one transaction; see the contract."""
        wakeup = self._store.wakeup  # before the commit: a call that fails must not store anything
        crashpoint("sqlite.schedules.before_commit")
        written, is_earlier = self._store.db.transaction(
            lambda connection: self._write_all(connection, changes)
        )
        crashpoint("sqlite.schedules.after_commit")
        if is_earlier:
            wakeup.notify_all("schedule")
        if any(one.jobs for one, is_written in zip(changes, written, strict=True) if is_written):
            wakeup.notify_one("work")
        return written

    def _write_all(
        self, connection: sqlite3.Connection, changes: Sequence[ScheduleChange]
    ) -> tuple[list[bool], bool]:
        (before,) = connection.execute(_FIRST).fetchone()
        written = [self._write(connection, one) for one in changes]
        (after,) = connection.execute(_FIRST).fetchone()
        return written, after is not None and (before is None or after < before)

    def _write(self, connection: sqlite3.Connection, change: ScheduleChange) -> bool:
        name, revision, after, jobs = change
        if after is None:
            cursor = connection.execute(_DELETE, (name, revision))
        else:
            row = (name, after.revision, after.due_at, after.encode())
            statement = (_UPDATE, (*row, revision)) if revision else (_INSERT, row)
            cursor = connection.execute(*statement)
        if not cursor.rowcount:
            return False
        crashpoint("sqlite.schedules.before_jobs")
        self._inserter.insert_children(connection, jobs)
        return True

    def get(self, name: str) -> ScheduleRecord | None:
        """Return a schedule, or None."""
        row = self._store.db.read_one(_GET, (name,))
        return None if row is None else ScheduleRecord.decode(row[0])

    def page(self, after: str | None = None, limit: int = 100) -> list[ScheduleRecord]:
        """Return schedules by name; see the contract."""
        rows = self._store.db.read(_PAGE, (after or "", limit))
        return [ScheduleRecord.decode(record) for (record,) in rows]

    def due(self, now: float, limit: int) -> list[ScheduleRecord]:
        """Return the first schedules that are due; see the contract."""
        rows = self._store.db.read(_DUE, (now, limit))
        return [ScheduleRecord.decode(record) for (record,) in rows]

    def next_due_at(self) -> float | None:
        """Return the earliest ``due_at``; see the contract."""
        ((first,),) = self._store.db.read(_FIRST)
        return None if first is None else float(first)

    def waiter(self) -> AbstractContextManager[ScheduleWaiter]:
        """Lend something to sleep on; see the contract."""
        return self._store.wakeup.schedule_waiter()

    def stop(self) -> None:
        """Close the file."""
        self._store.close()
