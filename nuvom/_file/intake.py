"""Which new jobs are taken in: names, unique keys and the size of queues are looked at here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.core.ids import valid_name
from nuvom.core.record import JobRecord, JobStatus
from nuvom.errors import QueueFull

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nuvom._file.table import Table


class Intake:
    """Looks at the jobs of one call.

    Attributes:
        refused: For each job whose unique key is taken, its id and that of the one that has it.
        ended: Jobs that end in the same turn, which the table does not show yet.
    """

    def __init__(self, max_queue_size: int | None, now: float) -> None:
        self.refused: dict[str, str] = {}
        self.ended: set[str] = set()
        self._max_queue_size = max_queue_size
        self._now = now
        self._table: Table | None = None
        self._ids: set[str] = set()
        self._keys: dict[tuple[str, str], str] = {}
        self._coming: dict[str, int] = {}

    def encoded(self, jobs: Iterable[JobRecord], table_of: Callable[[], Table]) -> Iterator[bytes]:
        """Yield the jobs that are taken in, encoded.

        Args:
            table_of: Called where it takes a look at the other jobs.
        Raises: InvalidId, QueueFull.
        """
        for job in jobs:
            valid_name("job id", job.id)
            valid_name("queue", job.queue)
            if job.unique_key is None and self._max_queue_size is None:
                yield job.encode()
                continue
            if self._table is None:
                self._table = table_of()
            if self._is_taken_in(job, self._table):
                yield job.encode()

    def _is_taken_in(self, job: JobRecord, table: Table) -> bool:
        if job.id in table.rows or job.id in self._ids:  # it was enqueued before
            return False
        if job.unique_key is not None:
            key = (job.func_name, job.unique_key)
            holder = table.key_holder(*key, self._now)
            if holder is not None and holder.id in self.ended and holder.key_until <= self._now:
                holder = None
            existing = self._keys.get(key) if holder is None else holder.id
            if existing is not None:
                if existing != job.id:
                    self.refused[job.id] = existing
                return False
            self._keys[key] = job.id
        self._count(job, table)
        self._ids.add(job.id)
        return True

    def _count(self, job: JobRecord, table: Table) -> None:
        if self._max_queue_size is None:
            return
        coming = self._coming.get(job.queue, 0)
        queue = table.queues.get(job.queue)
        size = coming + (0 if queue is None else queue.counts[JobStatus.PENDING])
        if size >= self._max_queue_size:
            raise QueueFull(job.queue, size, self._max_queue_size)
        self._coming[job.queue] = coming + 1
