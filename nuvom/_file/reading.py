"""All that readers ask of the file store: jobs, pages, attempts, counts, failures."""

from __future__ import annotations

import shutil
from bisect import bisect_left
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from nuvom._file import contents
from nuvom._file.frames import TOTALS
from nuvom._file.rows import encode_totals
from nuvom.core.record import JobStatus
from nuvom.core.views import ErrorGroup, QueueStats, StoreSize
from nuvom.errors import CorruptRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nuvom._file.places import QueueState
    from nuvom._file.rows import Row
    from nuvom._file.store import FileStore
    from nuvom._file.table import Table
    from nuvom.core.clock import Clock
    from nuvom.core.record import Attempt, JobSnapshot
    from nuvom.core.views import Total

_FAILURES = frozenset({JobStatus.FAILED, JobStatus.DEAD})


class ReadingPart:
    """The methods of the queue that only read."""

    store: FileStore
    clock: Clock

    def keep_totals(self) -> None:
        """Have the log counted from here on; see the contract."""

        def keep(table: Table) -> None:
            if table.tally is None:
                self.store.append([(TOTALS, encode_totals([]))])

        self.store.turn(keep)
        self.store.flush()

    def totals(self) -> list[Total]:
        """Return what was counted so far; see the contract."""
        return self.store.turn(lambda table: [] if table.tally is None else table.tally.totals())

    def store_size(self) -> StoreSize:
        """Return the bytes of the log, and those of the disk below it."""
        used = self.store.turn(lambda _: self.store.log.size())
        disk = shutil.disk_usage(self.store.directory)
        return StoreSize(used, disk.free, disk.total)

    def qsize(self) -> int:
        """Return how many jobs are PENDING."""

        def count(table: Table) -> int:
            return sum(queue.counts[JobStatus.PENDING] for queue in table.queues.values())

        return self.store.turn(count)

    def get(self, job_id: str) -> JobSnapshot | None:
        """Return one job with its result, or None."""

        def read(table: Table) -> JobSnapshot | None:
            row = table.rows.get(job_id)
            return None if row is None else contents.snapshot(self.store.log, row)

        return self.store.turn(read)

    def find_ids(self, suffix: str, limit: int = 6) -> list[str]:
        """Return ids that end in ``suffix``, newest first."""
        rows = self.store.turn(lambda table: table.in_order())
        return list(islice((row.id for row in reversed(rows) if row.id.endswith(suffix)), limit))

    def page(
        self,
        *,
        statuses: Iterable[JobStatus] = (),
        queue: str | None = None,
        task: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[JobSnapshot]:
        """Return jobs, newest first, without results and tracebacks; see the contract."""
        wanted = frozenset(statuses)

        def read(table: Table) -> list[JobSnapshot]:
            fitting = (
                row
                for row in _older_than(table, before)
                if (not wanted or row.state.status in wanted)
                and queue in (None, row.queue)
                and task in (None, row.task)
            )
            shown = (self._shown(row) for row in fitting)
            return list(islice((one for one in shown if one is not None), limit))

        return self.store.turn(read)

    def _shown(self, row: Row) -> JobSnapshot | None:
        try:
            return contents.snapshot(self.store.log, row, is_whole=False)
        except CorruptRecord:  # one damaged job must not hide the others
            return None

    def attempts(self, job_id: str) -> list[Attempt]:
        """Return the closed attempts that are kept, oldest first."""

        def read(table: Table) -> list[Attempt]:
            row = table.rows.get(job_id)
            return [] if row is None else contents.attempts(self.store.log, row)

        return self.store.turn(read)

    def stats(self) -> list[QueueStats]:
        """Return counts for each queue, by name."""

        def read(table: Table) -> list[QueueStats]:
            table.promote(self.clock.now())
            scheduled: Counter[str] = Counter()
            retrying: Counter[str] = Counter()
            for row in table.scheduled():
                (retrying if row.state.attempt else scheduled)[row.queue] += 1
            return [
                _stats(queue, scheduled=scheduled[name], retrying=retrying[name])
                for name, queue in sorted(table.queues.items())
            ]

        return self.store.turn(read)

    def error_groups(self, limit: int = 50) -> list[ErrorGroup]:
        """Return failures grouped by fingerprint, latest first."""
        groups: dict[str, list[Row]] = {}
        for row in self._failures():
            groups.setdefault(_fingerprint(row), []).append(row)
        found = [_group(fingerprint, rows) for fingerprint, rows in groups.items()]
        return sorted(found, key=lambda group: group.last_at, reverse=True)[:limit]

    def failed_ids(self, fingerprint: str) -> list[str]:
        """Return the FAILED and DEAD jobs of a group, newest first."""
        rows = reversed(self._failures())
        return [row.id for row in rows if _fingerprint(row) == fingerprint]

    def _failures(self) -> list[Row]:

        def read(table: Table) -> list[Row]:
            return [row for row in table.in_order() if row.state.status in _FAILURES]

        return self.store.turn(read)

    @property
    def parked_tasks(self) -> dict[str, int]:
        """Names of tasks that jobs are PARKED for, with their number."""
        return self.store.turn(_parked)

    def _has_ready(self) -> bool:

        def look(table: Table) -> bool:
            table.promote(self.clock.now())
            return table.has_ready()

        return self.store.turn(look)


def _parked(table: Table) -> dict[str, int]:
    return dict(Counter(row.task for row in table.parked.values()))


def _older_than(table: Table, before: str | None) -> Iterator[Row]:
    rows = table.in_order()
    if before is None:
        return reversed(rows)
    row = table.rows.get(before)
    if row is None:
        # It was removed since; ids of this package sort by the time they were made.
        return (row for row in reversed(rows) if row.id < before)
    return reversed(rows[: bisect_left(rows, row.seq, key=_seq)])


def _seq(row: Row) -> int:
    return row.seq


def _stats(queue: QueueState, *, scheduled: int, retrying: int) -> QueueStats:
    counts = queue.counts
    ready = [row for line in (*queue.ready.values(), *queue.suspects.values()) for row in line]
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
        oldest_ready_at=min((max(r.created_at, r.state.run_at) for r in ready), default=None),
        paused_by=queue.paused_by,
    )


def _fingerprint(row: Row) -> str:
    error = row.error
    if error is None:
        return f"{row.state.status}:{row.task}"
    return error.fingerprint or f"{error.type}:{row.task}"


def _group(fingerprint: str, rows: list[Row]) -> ErrorGroup:
    newest = rows[-1]
    times = [row.state.finished_at or 0.0 for row in rows]
    return ErrorGroup(
        fingerprint=fingerprint,
        func_name=newest.task,
        type=newest.error.type if newest.error else str(newest.state.status),
        message=newest.error.message if newest.error else "",
        count=len(rows),
        first_at=min(times),
        last_at=max(times),
        example_id=newest.id,
    )
