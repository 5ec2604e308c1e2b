"""The schedules of the PostgreSQL store: beside the jobs, so that a fire is one transaction."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import msgspec

from nuvom.contrib.postgres.arrays import byteas, floats, int8s
from nuvom.contrib.postgres.database import key_number
from nuvom.contrib.postgres.migration import qualified
from nuvom.contrib.postgres.protocol import RawCall, unpacked
from nuvom.contrib.postgres.rows import job_values
from nuvom.core.ids import new_id
from nuvom.scheduler.record import ScheduleRecord, readable
from nuvom.scheduler.store import BaseScheduleStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from nuvom.contrib.postgres.database import PostgresDatabase
    from nuvom.scheduler.record import ScheduleChange
    from nuvom.scheduler.store import ScheduleWaiter

_CALL = "CALL nuvom.change_schedules_now($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, NULL)"
_TYPES = "text bytea[] int8[] int8[] float8[] bytea[] text bytea[] int8[] float8 text"
_RECORD_AT = 9  # among the values of a job


class PostgresSchedules(BaseScheduleStore):
    """Schedules in the schema of a queue.

    Args:
        waiter: Lends what a scheduler sleeps on.
        stop: Closes the queue.
    """

    inserts_jobs = True

    def __init__(
        self,
        database: PostgresDatabase,
        waiter: Callable[[], AbstractContextManager[ScheduleWaiter]],
        stop: Callable[[], None],
    ) -> None:
        self.clock = database.clock
        self._db = database
        self._waiter = waiter
        self._stop = stop
        self._change = RawCall("nuvom_schedules", qualified(_CALL, database.schema), _TYPES)

    def apply(self, changes: Sequence[ScheduleChange]) -> list[bool]:
        """Write changes in one transaction; see the contract."""
        if not changes:
            return []
        kept = [change.after for change in changes]
        pairs = [(place, job) for place, one in enumerate(changes, 1) for job in one.jobs]
        jobs = [(place, *job_values(job, None, None)[: _RECORD_AT + 1]) for place, job in pairs]
        result = self._db.run(
            self._change,
            new_id(),  # by which the server knows the call if it comes again
            byteas([change.name.encode() for change in changes]),
            int8s([change.revision for change in changes]),
            int8s([0 if after is None else after.revision for after in kept]),
            floats([inf if one is None or one.due_at is None else one.due_at for one in kept]),
            byteas([None if after is None else after.encode() for after in kept]),
            msgspec.json.encode([values[:-1] for values in jobs]).decode(),
            byteas([values[-1] for values in jobs]),
            int8s(sorted({key_number(job) for _, job in pairs if job.unique_key is not None})),
            self._db.test_now,
            self._db.commit_of_call,
        )
        return unpacked(result.get_value(0, 0) or b"", "?")

    def get(self, name: str) -> ScheduleRecord | None:
        """Return a schedule, or None."""
        found = self._read("schedule", name.encode())
        return found[0] if found else None

    def page(self, after: str | None = None, limit: int = 100) -> list[ScheduleRecord]:
        """Return schedules by name; see the contract."""
        return self._read("schedules_after", (after or "").encode(), limit)

    def due(self, now: float, limit: int) -> list[ScheduleRecord]:
        """Return the first schedules that are due; see the contract."""
        return readable(record for (record,) in self._db.rows("due_schedules", now, limit))

    def _read(self, function: str, *values: object) -> list[ScheduleRecord]:
        return [ScheduleRecord.decode(record) for (record,) in self._db.rows(function, *values)]

    def next_due_at(self) -> float | None:
        """Return the earliest ``due_at``, and look at the server's clock; see the contract."""
        ((due_at, now),) = self._db.rows("next_schedule")
        self._db.saw_time(now)
        return None if due_at is None else float(due_at)

    def waiter(self) -> AbstractContextManager[ScheduleWaiter]:
        """Lend something to sleep on; see the contract."""
        return self._waiter()

    def stop(self) -> None:
        """Close the queue."""
        self._stop()
