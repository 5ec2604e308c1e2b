"""What can be read of the memory queue: jobs, attempts, counts, groups of failures.

The list of all jobs is copied under the lock and searched without it, so that a reader of a
million jobs does not hold up the workers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from nuvom._memory.core import MemoryCore
from nuvom.core.record import JobSnapshot, JobStatus
from nuvom.core.tally import Tally
from nuvom.core.views import ErrorGroup, QueueStats, failure_group

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from nuvom._memory.shelf import QueueState, Row
    from nuvom.core.record import Attempt
    from nuvom.core.views import Total


class MemoryReading(MemoryCore):
    """The part of the memory queue that inspection reads."""

    def keep_totals(self) -> None:
        with self.store.lock:
            self.store.tally = self.store.tally or Tally()

    def totals(self) -> list[Total]:
        with self.store.lock:
            return [] if self.store.tally is None else self.store.tally.totals()

    def get(self, job_id: str) -> JobSnapshot | None:
        with self.store.lock:
            row = self.store.rows.get(job_id)
            return None if row is None else snapshot(row)

    def find_ids(self, suffix: str, limit: int = 6) -> list[str]:
        ids = (row.record.id for row in reversed(self._rows()))
        return list(islice((job_id for job_id in ids if job_id.endswith(suffix)), limit))

    def page(
        self,
        *,
        statuses: Iterable[JobStatus] = (),
        queue: str | None = None,
        task: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[JobSnapshot]:
        wanted = frozenset(statuses)

        def fits(row: Row) -> bool:
            record = row.record
            return (
                (not wanted or record.status in wanted)
                and queue in (None, record.queue)
                and task in (None, record.func_name)
            )

        found = list(islice(filter(fits, self._older_than(before)), limit))
        with self.store.lock:
            return [snapshot(row) for row in found if fits(row)]

    def attempts(self, job_id: str) -> list[Attempt]:
        with self.store.lock:
            row = self.store.rows.get(job_id)
            return [] if row is None else list(row.attempts)

    def stats(self) -> list[QueueStats]:
        with self.store.lock:
            self.store.promote()
            scheduled: Counter[str] = Counter()
            retrying: Counter[str] = Counter()
            for row in self.store.scheduled:
                (retrying if row.record.attempt else scheduled)[row.record.queue] += 1
            return [
                _stats(queue, scheduled=scheduled[name], retrying=retrying[name])
                for name, queue in sorted(self.store.queues.items())
            ]

    def error_groups(self, limit: int = 50) -> list[ErrorGroup]:
        groups: dict[str, list[Row]] = {}
        with self.store.lock:
            self.store.ensure_sound()
            for row in self.store.failures.values():
                groups.setdefault(_fingerprint(row), []).append(row)
            found = [_group(fingerprint, rows) for fingerprint, rows in groups.items()]
        return sorted(found, key=lambda group: group.last_at, reverse=True)[:limit]

    def failed_ids(self, fingerprint: str) -> list[str]:
        with self.store.lock:
            self.store.ensure_sound()
            rows = [r for r in self.store.failures.values() if _fingerprint(r) == fingerprint]
        return [row.record.id for row in sorted(rows, key=_seq, reverse=True)]

    @property
    def parked_tasks(self) -> Mapping[str, int]:
        with self.store.lock:
            self.store.ensure_sound()
            return Counter(row.record.func_name for row in self.store.parked)

    def _rows(self) -> list[Row]:
        with self.store.lock:
            self.store.ensure_sound()
            return list(self.store.rows.values())

    def _older_than(self, before: str | None) -> Iterator[Row]:
        rows = self._rows()
        if before is None:
            return reversed(rows)
        row = self.store.rows.get(before)
        if row is None:
            # It was pruned since; ids of this package sort by the time they were made.
            return (row for row in reversed(rows) if row.record.id < before)
        return reversed(rows[: bisect_left(rows, row.seq, key=_seq)])


def snapshot(row: Row) -> JobSnapshot:
    """Return a copy of all that is known of a job."""
    return JobSnapshot(
        record=row.record,
        result=row.result,
        error=row.error,
        worker=row.worker,
        started_at=row.started_at,
        finished_at=row.finished_at,
        progress=row.progress,
    )


def _seq(row: Row) -> int:
    return row.seq


def _stats(queue: QueueState, *, scheduled: int, retrying: int) -> QueueStats:
    counts = queue.counts
    shelves = (*queue.ready.values(), *queue.suspects.values())
    records = (row.record for shelf in shelves for row in shelf)
    return QueueStats(
        queue=queue.name,
        ready=counts[JobStatus.PENDING] - scheduled - retrying,
        scheduled=scheduled,
        retrying=retrying,
        running=counts[JobStatus.RUNNING],
        parked=counts[JobStatus.PARKED],
        success=counts[JobStatus.SUCCESS],
        failed=counts[JobStatus.FAILED],
        dead=counts[JobStatus.DEAD],
        cancelled=counts[JobStatus.CANCELLED],
        oldest_ready_at=min((max(r.created_at, r.run_at) for r in records), default=None),
        paused_by=queue.paused_by,
    )


def _fingerprint(row: Row) -> str:
    return failure_group(row.record.status, row.record.func_name, row.error)


def _group(fingerprint: str, rows: list[Row]) -> ErrorGroup:
    newest = max(rows, key=_seq)
    times = [row.finished_at or 0.0 for row in rows]
    return ErrorGroup(
        fingerprint=fingerprint,
        func_name=newest.record.func_name,
        type=newest.error.type if newest.error else str(newest.record.status),
        message=newest.error.message if newest.error else "",
        count=len(rows),
        first_at=min(times),
        last_at=max(times),
        example_id=newest.record.id,
    )
