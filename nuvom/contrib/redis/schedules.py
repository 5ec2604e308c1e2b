"""The schedules of the Redis store: keys beside those of jobs, so that a fire is one script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.contrib.redis.rows import job_values, listed, number
from nuvom.core.ids import new_id
from nuvom.scheduler.record import ScheduleRecord, readable
from nuvom.scheduler.store import BaseScheduleStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from nuvom.contrib.redis.store import RedisStore
    from nuvom.scheduler.record import ScheduleChange
    from nuvom.scheduler.store import ScheduleWaiter

_PART = 500  # changes and jobs of one script, so that it takes a few milliseconds
_REVISION_BYTES = 8


class RedisSchedules(BaseScheduleStore):
    """Schedules beside the jobs of a queue.

    Args:
        waiter: Lends what a scheduler sleeps on.
        stop: Closes the queue.
    """

    inserts_jobs = True

    def __init__(
        self,
        store: RedisStore,
        waiter: Callable[[], AbstractContextManager[ScheduleWaiter]],
        stop: Callable[[], None],
    ) -> None:
        self.clock = store.clock
        self._store = store
        self._waiter = waiter
        self._stop = stop

    def apply(self, changes: Sequence[ScheduleChange]) -> list[bool]:
        """Write changes in one script, or in several if they are many; see the contract."""
        answers = b""
        for part in _parts(changes):
            call = new_id().encode()  # by which the server knows the call if it comes again
            values = (value for change in part for value in _change_values(change))
            answers += self._store.run("change_schedules", call, *values)
        return [answer == ord("1") for answer in answers]

    def get(self, name: str) -> ScheduleRecord | None:
        """Return a schedule, or None."""
        value = self._store.command(b"HGET", self._store.tag + b"schedules", name.encode())
        return None if value is None else _record(value)

    def page(self, after: str | None = None, limit: int = 100) -> list[ScheduleRecord]:
        """Return schedules by name; see the contract."""
        first = b"-" if after is None else b"(" + after.encode()
        return [*map(_record, self._store.run("schedules_after", first, number(limit)))]

    def due(self, now: float, limit: int) -> list[ScheduleRecord]:
        """Return the first schedules that are due; see the contract."""
        found = self._store.run("due_schedules", number(now), number(limit))
        return readable(memoryview(value)[_REVISION_BYTES:] for value in found)

    def next_due_at(self) -> float | None:
        """Return the earliest ``due_at``, and look at the server's clock; see the contract."""
        due_at, *time = self._store.run("next_schedule")
        self._store.saw_time(*time)
        return float(due_at) if due_at else None

    def waiter(self) -> AbstractContextManager[ScheduleWaiter]:
        """Lend something to sleep on; see the contract."""
        return self._waiter()

    def stop(self) -> None:
        """Close the queue."""
        self._stop()


def _parts(changes: Sequence[ScheduleChange]) -> Iterator[list[ScheduleChange]]:
    part: list[ScheduleChange] = []
    size = 0
    for change in changes:
        if part and size + len(change.jobs) >= _PART:
            yield part
            part, size = [], 0
        part.append(change)
        size += 1 + len(change.jobs)
    if part:
        yield part


def _change_values(change: ScheduleChange) -> tuple[bytes, ...]:
    """Return the arguments that stand for a change and its jobs."""
    after = change.after
    jobs = listed([value for job in change.jobs for value in job_values(job)])
    name, seen = change.name.encode(), _revision(change.revision)
    if after is None:
        return name, seen, b"", b"", *jobs
    due_at = b"" if after.due_at is None else number(after.due_at)
    return name, seen, _revision(after.revision) + after.encode(), due_at, *jobs


def _revision(revision: int) -> bytes:
    return revision.to_bytes(_REVISION_BYTES, "big")


def _record(value: bytes) -> ScheduleRecord:
    return ScheduleRecord.decode(memoryview(value)[_REVISION_BYTES:])
