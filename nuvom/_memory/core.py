"""What every part of the memory queue builds on: its state, and how one job changes hands.

``reading.py`` and ``control.py`` add their methods to it, ``queue_backends/memory.py`` the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom._memory.store import MemoryStore
from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.core.record import Attempt, JobStatus
from nuvom.queue_backends.leased import LeasedJobQueue

if TYPE_CHECKING:
    from nuvom._memory.shelf import Row
    from nuvom.core.record import JobRecord, StoredError
    from nuvom.core.tally import Ran

_PENDING = JobStatus.PENDING
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

    def _change(
        self,
        row: Row,
        record: JobRecord,
        *,
        finished_at: float | None = None,
        error: StoredError | None = None,
        attempts: tuple[Attempt, ...] | None = None,
    ) -> None:
        """Give a row its new record, and take it out of its holder's hands.

        Args:
            finished_at, error, attempts: The row's new ones; with None they stay.
        """
        store, before, holder = self.store, row.record, row.holder
        if finished_at is None:
            finished_at = row.finished_at
        if record.status is _PENDING:
            store.tell_workers()
        store.unfinished += 1
        row.record = record
        row.holder = None
        row.finished_at = finished_at
        row.error = error or row.error
        row.progress = None
        row.attempts = attempts or row.attempts
        store.moved(row, before, holder)
        store.unfinished -= 1

    def _end(
        self,
        row: Row,
        record: JobRecord,
        *,
        error: StoredError | None = None,
        attempts: tuple[Attempt, ...] | None = None,
    ) -> None:
        """End a job without a settlement."""
        self.store.tell_readers()
        now = self._clock.now()
        self._change(row, record, finished_at=now, error=error, attempts=attempts)
        self._count(row, record.status)

    def _count(self, row: Row, status: JobStatus, word: str = "", ran: Ran | None = None) -> None:
        """Count a job's step to ``status``, where somebody wants that."""
        tally, record = self.store.tally, row.record
        if tally is not None:
            has_error = row.error is not None
            tally.moved(
                record.queue, record.func_name, status, word=word, ran=ran, has_error=has_error
            )


def with_closed(
    row: Row,
    outcome: str,
    started_at: float | None,
    finished_at: float,
    *,
    error: StoredError | None = None,
) -> tuple[Attempt, ...]:
    """Return the job's history with the attempt that is running, once it is closed."""
    record = row.record
    attempt = Attempt(
        number=record.attempt,
        outcome=outcome,
        lease_epoch=record.lease_epoch,
        worker=row.worker,
        started_at=started_at,
        finished_at=finished_at,
        error=error,
    )
    return (*row.attempts[1 - _ATTEMPTS_KEPT :], attempt)
