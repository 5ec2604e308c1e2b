"""Results in a folder of plain files.

Beside a file queue in the same folder this backend joins the queue's store: what ``settle``
appended to the log is read here. Beside another queue it keeps one file for each job.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from nuvom._file.contents import snapshot
from nuvom._file.frames import REMOVED
from nuvom._file.keepsakes import Keepsakes, Kept
from nuvom._file.rows import encode
from nuvom._file.store import FileStore
from nuvom.config.settings import Settings
from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.core.record import JobRecord, JobSnapshot, JobStatus, StoredError
from nuvom.result_backends.base import BaseResultBackend
from nuvom.result_backends.full import as_full, as_stored_error
from nuvom.serialization.msgpack_codec import MsgpackCodec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nuvom._file.table import Table
    from nuvom.core.clock import Waitable
    from nuvom.queue_backends.base import BaseJobQueue

T = TypeVar("T")


class FileResultBackend(BaseResultBackend):
    """Results in files, by default in the file queue's log.

    Args:
        settings: Where the folder is, and how durable.
        clock: Replaced by tests.
    """

    name: ClassVar[str] = "file"

    def __init__(self, settings: Settings | None = None, *, clock: Clock = SYSTEM_CLOCK) -> None:
        settings = settings or Settings()
        self.store = FileStore(settings, clock)
        self._clock = clock
        self._flushes = settings.durability == "full"
        self._kept = Keepsakes(os.fspath(self.store.directory), self.store.quarantine)
        self._codec = MsgpackCodec()
        self._is_guest = False

    def joins(self, queue: BaseJobQueue) -> bool:
        """Share the queue's store when it is the same folder; see the contract."""
        store = getattr(queue, "store", None)
        if isinstance(store, FileStore) and store.directory == self.store.directory:
            self.store = store
            self._is_guest = True
        return self._is_guest

    # ---- outcomes -----------------------------------------------------------------------

    def set_result(self, job_id: str, result: Any, *, record: JobRecord | None = None) -> bool:
        """Keep what the task returned; see the contract."""
        data = self._codec.encode_value(result)
        return self._keep(job_id, record, JobStatus.SUCCESS, result=data)

    def set_error(
        self,
        job_id: str,
        error: StoredError | BaseException | str,
        *,
        record: JobRecord | None = None,
        status: JobStatus | None = None,
    ) -> bool:
        """Keep why the job ended without a result; see the contract."""
        stored = as_stored_error(error)
        return self._keep(job_id, record, status or JobStatus.FAILED, error=stored)

    def _keep(
        self,
        job_id: str,
        record: JobRecord | None,
        status: JobStatus,
        *,
        result: bytes | None = None,
        error: StoredError | None = None,
    ) -> bool:
        def keep() -> bool:
            kept = self._kept.get(job_id)
            found = self._newest(job_id, kept)
            last = record
            if last is None:
                last = JobRecord(job_id, "") if found is None else found.record
            elif found is not None and _is_settled(found, last.lease_epoch):
                return False
            seen = JobSnapshot(
                record=last.replace(id=job_id, status=status),
                result=result,
                error=error,
                worker=None if found is None else found.worker,
                started_at=None if found is None else found.started_at,
                finished_at=self._clock.now(),
            )
            self._put(job_id, kept, seen, flush=self._flushes)
            return True

        if not self._in_turn(job_id, keep):
            return False
        self.store.bell.notify_all("result")
        return True

    def set_record(self, record: JobRecord) -> None:
        """Keep a job that has no outcome yet; see the contract."""

        def keep() -> None:
            kept = self._kept.get(record.id)
            found = self._newest(record.id, kept)
            if found is None or not found.status.is_final:
                self._put(record.id, kept, JobSnapshot(record=record), flush=False)

        self._in_turn(record.id, keep)

    def forget(self, job_id: str) -> bool:
        """Remove what is kept of a job; False when there was nothing."""

        def forget() -> bool:
            was_kept = self._kept.remove(job_id)
            return self._forget_row(job_id) or was_kept

        return self._in_turn(job_id, forget)

    def _in_turn(self, job_id: str, action: Callable[[], T]) -> T:
        self.store.make_folders()
        return self._kept.turn(job_id, action)

    def _put(self, job_id: str, before: Kept | None, seen: JobSnapshot, *, flush: bool) -> None:
        since = self._clock.now() if before is None else before.since
        self._kept.put(job_id, Kept.of(since, seen), flush=flush)

    def _forget_row(self, job_id: str) -> bool:
        if not self._is_guest:
            return False

        def forget(table: Table) -> bool:
            row = table.rows.get(job_id)
            if row is None or not row.state.status.is_final:
                return False
            self.store.append([(REMOVED, encode([job_id]))])
            return True

        if not self.store.turn(forget):
            return False
        self.store.flush()
        return True

    # ---- reading ------------------------------------------------------------------------

    def get_result(self, job_id: str) -> Any:
        """Return what the task returned, or None."""
        found = self._find(job_id)
        if found is None or found.result is None:
            return None
        return self._codec.decode_value(found.result, shaped=True)

    def get_error(self, job_id: str) -> StoredError | None:
        """Return why the job failed, or None."""
        found = self._find(job_id)
        return None if found is None else found.error

    def get_full(self, job_id: str) -> dict[str, Any] | None:
        """Return all that is kept of a job, or None."""
        found = self._find(job_id)
        return None if found is None else as_full(found, self._codec)

    def list_jobs(self) -> list[dict[str, Any]]:
        """Return all jobs, newest first."""
        kept = [(one.since, one.snapshot.record.id) for one in self._kept.all()]
        ids = dict.fromkeys((*self._row_ids(), *(job_id for _, job_id in sorted(kept))))
        found = (self._find(job_id) for job_id in reversed(ids))
        return [as_full(one, self._codec) for one in found if one is not None]

    def _row_ids(self) -> list[str]:
        if not self._is_guest:
            return []
        return self.store.turn(lambda table: [row.id for row in table.in_order()])

    def _find(self, job_id: str) -> JobSnapshot | None:
        return self._newest(job_id, self._kept.get(job_id))

    def _newest(self, job_id: str, kept: Kept | None) -> JobSnapshot | None:
        """Return what is known of a job: what its latest delivery ended with, else its record."""
        own = None if kept is None else kept.snapshot
        row = self._row(job_id)
        if row is None or (own is not None and _is_settled(own, row.record.lease_epoch)):
            return own
        return row

    def _row(self, job_id: str) -> JobSnapshot | None:
        if not self._is_guest:
            return None

        def read(table: Table) -> JobSnapshot | None:
            row = table.rows.get(job_id)
            return None if row is None else snapshot(self.store.log, row)

        return self.store.turn(read)

    # ---- waiting ------------------------------------------------------------------------

    @contextmanager
    def waiter(self) -> Iterator[Waitable | None]:
        """Give a bell that rings when results arrive; see the contract."""
        with self.store.bell.waiter() as waiter:
            yield waiter

    def start(self) -> None:
        """Open the folder, so that whatever is wrong with it shows at once."""
        self.store.make_folders()

    def stop(self) -> None:
        """Close everything, unless it is the queue's."""
        if not self._is_guest:
            self.store.close()


def _is_settled(seen: JobSnapshot, lease_epoch: int) -> bool:
    """Tell whether this is a final outcome of that delivery or a later one."""
    return seen.status.is_final and seen.record.lease_epoch >= lease_epoch
