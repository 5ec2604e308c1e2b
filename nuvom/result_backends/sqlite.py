"""The SQLite results: read from the queue's own table, or stored in a separate file.

In the queue's file a job's row holds its result, written by the queue's ``settle``; this backend
then only reads. In a separate file it keeps rows of the same shape.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from nuvom.config.settings import Settings
from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.core.record import JobRecord, JobSnapshot, JobStatus, StoredError
from nuvom.queue_backends.sqlite.reads import read_job
from nuvom.queue_backends.sqlite.rows import remove
from nuvom.queue_backends.sqlite.schema import (
    CODES,
    NEXT_SEQ,
    SNAPSHOT_WITH_RESULT,
    encode_error,
    snapshot,
)
from nuvom.queue_backends.sqlite.store import SQLiteStore
from nuvom.result_backends.full import SnapshotResults
from nuvom.serialization.msgpack_codec import MsgpackCodec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuvom.core.clock import Waitable
    from nuvom.queue_backends.base import BaseJobQueue

# An outcome replaces the stored one unless that is final and of the same or a later delivery.
_INSERT = f"""INSERT INTO jobs (seq, id, status, queue, priority, task, created_at, run_at,
        attempt, lease_epoch, keep_secs, record, result, error, finished_at)
    VALUES ({NEXT_SEQ}, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
    ON CONFLICT (id) DO UPDATE SET status = ?2,"""
_KEEP = f"""{_INSERT} attempt = max(attempt, ?8), lease_epoch = max(lease_epoch, ?9),
        result = ?12, error = ?13, finished_at = ?14
    WHERE ?15 OR jobs.status NOT IN (2, 3, 4, 5) OR jobs.lease_epoch < ?9"""
_RECORD = f"{_INSERT} run_at = ?7, attempt = ?8 WHERE jobs.status NOT IN (2, 3, 4, 5)"
_ALL = f"{SNAPSHOT_WITH_RESULT} ORDER BY j.seq DESC"


class SQLiteResultBackend(SnapshotResults):
    """Results in a SQLite file, by default the queue's."""

    name: ClassVar[str] = "sqlite"

    def __init__(self, settings: Settings | None = None, *, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(MsgpackCodec())
        settings = settings or Settings()
        setting = "sqlite_result_path" if settings.sqlite_result_path else "sqlite_path"
        self.store = SQLiteStore(settings.result_db_path, settings, clock, setting=setting)
        self._is_guest = False

    def joins(self, queue: BaseJobQueue) -> bool:
        """Share the queue's store when it is the same file; see the contract."""
        store = getattr(queue, "store", None)
        if isinstance(store, SQLiteStore) and store.db.path == self.store.db.path:
            self.store = store
            self._is_guest = True
        return self._is_guest

    def find(self, job_id: str) -> JobSnapshot | None:
        """Return what is known about a job; see the contract."""
        return read_job(self.store.db, job_id)

    def find_all(self) -> list[JobSnapshot]:
        """Return what is known about every job, newest first."""
        return [snapshot(row) for row in self.store.db.read(_ALL)]

    def set_record(self, record: JobRecord) -> None:
        """Store a job that has no outcome yet; see the contract."""
        row = (*_row(record.id, record, record.status), None, None, None)
        self.store.db.execute(_RECORD, row, flush=False)

    def forget(self, job_id: str) -> bool:
        """Remove everything stored about a job; False if there was nothing."""
        # In the queue's file a job that has not ended is not a result, and stays.
        where = "id = ?1 AND status IN (2, 3, 4, 5)" if self._is_guest else "id = ?1"
        return self.store.db.transaction(lambda one: remove(one, where, (job_id,)) > 0)

    @contextmanager
    def waiter(self) -> Iterator[Waitable | None]:
        """Yield something that is set when results arrive; see the contract."""
        with self.store.wakeup.waiter() as waiter:
            yield waiter

    def start(self) -> None:
        """Open the file."""
        self.store.db.open()

    def stop(self) -> None:
        """Close the file, unless it is the queue's."""
        if not self._is_guest:
            self.store.close()

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
        known = None if record is not None else self.find(job_id)
        given = record or (JobRecord(job_id, "") if known is None else known.record)
        row = (
            *_row(job_id, given, status),
            result,
            encode_error(error),
            self.store.clock.now(),
            record is None,
        )
        was_kept = self.store.db.execute(_KEEP, row) > 0
        self.store.wakeup.notify_all("result")
        return was_kept


def _row(job_id: str, record: JobRecord, status: JobStatus) -> tuple[Any, ...]:
    return (
        job_id,
        CODES[status][0],
        record.queue,
        record.priority,
        record.func_name,
        record.created_at,
        record.run_at,
        record.attempt,
        record.lease_epoch,
        record.result_ttl_secs,
        record.replace(id=job_id).encode(),
    )
