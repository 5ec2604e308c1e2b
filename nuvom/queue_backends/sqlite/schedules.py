"""The schedules of the SQLite store: a table beside the jobs, so that a fire is one transaction."""

from __future__ import annotations

import json
from itertools import compress
from typing import TYPE_CHECKING

from nuvom.host.crashpoint import crashpoint
from nuvom.scheduler.record import ScheduleRecord, admitted, readable
from nuvom.scheduler.store import BaseScheduleStore

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from nuvom.queue_backends.sqlite.hot import Inserter
    from nuvom.queue_backends.sqlite.store import SQLiteStore
    from nuvom.scheduler.record import ScheduleChange
    from nuvom.scheduler.store import ScheduleWaiter

_REVISIONS = """SELECT name, revision FROM schedules
    WHERE name IN (SELECT value FROM json_each(?1))"""
_PUT = "INSERT OR REPLACE INTO schedules (name, revision, due_at, record) VALUES (?1, ?2, ?3, ?4)"
_DELETE = "DELETE FROM schedules WHERE name = ?1"
_GET = "SELECT record FROM schedules WHERE name = ?1"
_PAGE = "SELECT record FROM schedules WHERE name > ?1 ORDER BY name LIMIT ?2"
_DUE = "SELECT record FROM schedules WHERE due_at <= ?1 ORDER BY due_at LIMIT ?2"
_FIRST = "SELECT min(due_at) FROM schedules WHERE due_at IS NOT NULL"


class SQLiteSchedules(BaseScheduleStore):
    """Schedules in the file of a queue."""

    inserts_jobs = True

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
        names = json.dumps([one.name for one in changes])
        written = admitted(changes, dict(connection.execute(_REVISIONS, (names,))))
        (before,) = connection.execute(_FIRST).fetchone()
        last = {one.name: one.after for one in compress(changes, written)}
        kept = [one for one in last.values() if one is not None]
        gone = [(name,) for name, after in last.items() if after is None]
        connection.executemany(_DELETE, gone)
        connection.executemany(
            _PUT, [(one.name, one.revision, one.due_at, one.encode()) for one in kept]
        )
        (after,) = connection.execute(_FIRST).fetchone()
        crashpoint("sqlite.schedules.before_jobs")
        jobs = [job for one in compress(changes, written) for job in one.jobs]
        self._inserter.insert_children(connection, jobs)
        return written, after is not None and (before is None or after < before)

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
        return readable(record for (record,) in self._store.db.read(_DUE, (now, limit)))

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
