"""What every part of the memory queue builds on: its state, and how one job changes hands.

``reading.py`` and ``control.py`` add their methods to it, ``queue_backends/memory.py`` the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom._memory.store import MemoryStore
from nuvom.clock import SYSTEM_CLOCK, Clock
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.record import Attempt, JobStatus

if TYPE_CHECKING:
    from nuvom._memory.shelf import Row
    from nuvom.record import JobRecord, StoredError
    from nuvom.tally import Ran

_PENDING, _PARKED, _RUNNING = JobStatus.PENDING, JobStatus.PARKED, JobStatus.RUNNING
_ATTEMPTS_KEPT = 100  # of one job: a task may snooze for years


class MemoryCore(LeasedJobQueue):
    """The state of a memory queue.

    Args:
        settings: Anything with ``lease_secs``, ``max_deliveries``, ``max_queue_size`` and
            ``parked_ttl_secs``; None for the defaults.
        clock: Where time comes from.

    Attributes:
        store: The jobs; a memory result backend reads them, too.
    """

    def __init__(self, settings: object = None, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.store = MemoryStore(clock, getattr(settings, "max_queue_size", None))
        self._clock = clock
        self._lease_secs: float = getattr(settings, "lease_secs", 30.0)
        self._max_deliveries: int = getattr(settings, "max_deliveries", 3)
        self._parked_ttl_secs: float = getattr(settings, "parked_ttl_secs", 7 * 86_400.0)
        self._version = 0  # of what ``control_version`` tells

    # All that follows is called with the store's lock held.

    def _held(self, job: JobRecord) -> Row | None:
        """Return the row of a claimed job while this claim still holds."""
        row = self.store.rows.get(job.id)
        if row is None or row.holder is None or row.record.lease_epoch != job.lease_epoch:
            return None
        return row

    def _let_go(self, row: Row) -> None:
        """Take a job out of its holder's hands."""
        del row.holder.held[row.record.id]
        row.holder = None

    def _put(self, row: Row, record: JobRecord) -> None:
        """Give a row that nobody holds its new record, and lay it where its status belongs."""
        self.store.change(row, record)
        if record.status is _PENDING:
            self.store.make_waiting(row)
        elif record.status is _PARKED:
            self.store.parked.put(self._clock.monotonic() + self._parked_ttl_secs, row)
        else:
            self.store.make_final(row)

    def _end(self, row: Row, record: JobRecord, error: StoredError | None) -> None:
        """End a job that is in nobody's hands any more, without a settlement."""
        row.finished_at = self._clock.now()
        row.error = error
        self._count(row, record.status)
        self._put(row, record)
        self.store.tell_readers()

    def _count(self, row: Row, status: JobStatus, word: str = "", ran: Ran | None = None) -> None:
        """Count a job's step to ``status``, where somebody wants that."""
        tally, record = self.store.tally, row.record
        if tally is not None:
            has_error = row.error is not None
            tally.moved(
                record.queue, record.func_name, status, word=word, ran=ran, has_error=has_error
            )

    def _close_attempt(self, row: Row, outcome: str, error: StoredError | None = None) -> None:
        """Add the attempt that is running to the job's history."""
        record = row.record
        row.attempts.append(
            Attempt(
                number=record.attempt,
                outcome=outcome,
                lease_epoch=record.lease_epoch,
                worker=row.worker,
                started_at=row.started_at,
                finished_at=row.finished_at,
                error=error,
            )
        )
        if len(row.attempts) > _ATTEMPTS_KEPT:
            del row.attempts[0]
