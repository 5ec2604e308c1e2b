"""Results on the table of a memory or file queue.

A backend joins the table of a queue of the same kind and reads what ``settle`` put there. What it
is given directly is stored there too, separate from the rows.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from nuvom.core.record import JobRecord, JobSnapshot, JobStatus, StoredError
from nuvom.queue_backends.rows import Kept, Removed, seen
from nuvom.result_backends.full import SnapshotResults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuvom.core.clock import Waitable
    from nuvom.queue_backends.table import Table
    from nuvom.queue_backends.table_queue import TableQueue
    from nuvom.serialization.base import Codec


class TableResults(SnapshotResults):
    """Results on a queue's table.

    Attributes:
        queue: The queue with the table; private to this backend until it joins another one.
    """

    def __init__(self, queue: TableQueue, codec: Codec) -> None:
        super().__init__(codec)
        self.queue = queue
        self._is_guest = False

    def join(self, queue: TableQueue) -> bool:
        """Use the table of another queue from now on."""
        self.queue = queue
        self._is_guest = True
        return True

    def keep(
        self,
        job_id: str,
        record: JobRecord | None,
        status: JobStatus,
        *,
        result: bytes | None = None,
        error: StoredError | None = None,
    ) -> bool:
        """Store an outcome; see the contract."""

        def keep(table: Table) -> bool:
            found = _find(table, job_id) or JobSnapshot(record=JobRecord(job_id, ""))
            if record is not None and _is_settled(found, record.lease_epoch):
                return False
            kept = replace(
                found,
                record=(record or found.record).replace(id=job_id, status=status),
                result=result,
                error=error,
                finished_at=self.queue.now(),
                progress=None,
            )
            self.queue.tell_readers()
            self.queue.do(table, Kept(job_id, kept))
            return True

        return self.queue.turn(keep, durable=True)

    def set_record(self, record: JobRecord) -> None:
        """Store a job that has no outcome yet; see the contract."""

        def keep(table: Table) -> None:
            found = _find(table, record.id)
            if found is None or not found.status.is_final:
                self.queue.do(table, Kept(record.id, JobSnapshot(record=record)))

        self.queue.turn(keep)

    def forget(self, job_id: str) -> bool:
        """Remove everything stored about a job; False if there was nothing."""

        def forget(table: Table) -> bool:
            row, was_kept = table.rows.get(job_id), job_id in table.kept
            if row is not None and row.record.status.is_final:
                self.queue.do(table, Removed([job_id]))  # with everything stored about it
                return True
            if was_kept:
                self.queue.do(table, Kept(job_id, None))
            return was_kept

        return self.queue.turn(forget, durable=True)

    def find(self, job_id: str) -> JobSnapshot | None:
        """Return what is known about a job; see the contract."""
        return self.queue.turn(lambda table: _find(table, job_id))

    def find_all(self) -> list[JobSnapshot]:
        """Return what is known about every job; see the contract."""

        def find(table: Table) -> list[JobSnapshot]:
            # Ordered by the row in the queue; without a row, by when the job was first stored.
            ids = reversed(dict.fromkeys((*table.rows, *table.kept)))
            return [one for job_id in ids if (one := _find(table, job_id)) is not None]

        return self.queue.turn(find)

    @contextmanager
    def waiter(self) -> Iterator[Waitable | None]:
        """Yield something that is set when results arrive; see the contract."""
        with self.queue.waiter() as waiter:
            yield waiter

    def stop(self) -> None:
        """Close everything, unless it is the queue's."""
        if not self._is_guest:
            self.queue.stop()


def _find(table: Table, job_id: str) -> JobSnapshot | None:
    kept, row = table.kept.get(job_id), table.rows.get(job_id)
    if row is None or (kept is not None and _is_settled(kept, row.record.lease_epoch)):
        return kept
    return seen(row)


def _is_settled(kept: JobSnapshot, lease_epoch: int) -> bool:
    """Return whether this is a final outcome of that delivery or a later one."""
    return kept.status.is_final and kept.record.lease_epoch >= lease_epoch
