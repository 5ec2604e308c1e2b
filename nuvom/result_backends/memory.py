"""Results that live in this process and end with it.

Beside a memory queue this backend joins the queue's store: what ``settle`` put there is read
here. Alone it has a store of its own. Values are kept encoded, so that nobody can change them
afterwards and nothing is kept that other backends would refuse.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from nuvom._memory.reading import snapshot
from nuvom._memory.store import MemoryStore
from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.core.record import JobRecord, JobSnapshot, JobStatus, StoredError
from nuvom.result_backends.base import BaseResultBackend
from nuvom.result_backends.full import as_full, as_stored_error
from nuvom.serialization.msgpack_codec import MsgpackCodec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuvom.core.clock import Waitable
    from nuvom.queue_backends.base import BaseJobQueue


class MemoryResultBackend(BaseResultBackend):
    """Results in memory. Built as ``cls(settings)`` or ``cls()``; no setting matters."""

    name: ClassVar[str] = "memory"

    def __init__(self, settings: object = None, *, clock: Clock = SYSTEM_CLOCK) -> None:
        del settings
        self._clock = clock
        self._codec = MsgpackCodec()
        self._store = MemoryStore(clock, None)

    def joins(self, queue: BaseJobQueue) -> bool:
        store = getattr(queue, "store", None)
        if not isinstance(store, MemoryStore):
            return False
        self._store = store
        return True

    def set_result(self, job_id: str, result: Any, *, record: JobRecord | None = None) -> bool:
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
        stored = as_stored_error(error)
        return self._keep(job_id, record, status or JobStatus.FAILED, error=stored)

    def get_result(self, job_id: str) -> Any:
        found = self._find(job_id)
        if found is None or found.result is None:
            return None
        return self._codec.decode_value(found.result, shaped=True)

    def get_error(self, job_id: str) -> StoredError | None:
        found = self._find(job_id)
        return None if found is None else found.error

    def get_full(self, job_id: str) -> dict[str, Any] | None:
        found = self._find(job_id)
        return None if found is None else as_full(found, self._codec)

    def list_jobs(self) -> list[dict[str, Any]]:
        with self._store.lock:
            # One place for each job: that of its row in the queue, else when it was first kept.
            ids = list(dict.fromkeys((*self._store.rows, *self._store.kept)))
        found = (self._find(job_id) for job_id in reversed(ids))
        return [as_full(one, self._codec) for one in found if one is not None]

    def set_record(self, record: JobRecord) -> None:
        with self._store.lock:
            found = self._found(record.id)
            if found is None or not found.status.is_final:
                self._store.kept[record.id] = JobSnapshot(record=record)

    def forget(self, job_id: str) -> bool:
        with self._store.lock:
            self._store.ensure_sound()
            found = self._found(job_id)
            row = self._store.rows.get(job_id)
            if row is not None and row.record.status.is_final:
                self._store.remove([row])  # and what was kept
            else:
                self._store.kept.pop(job_id, None)
            return found is not None

    @contextmanager
    def waiter(self) -> Iterator[Waitable | None]:
        yield _Waiter(self._store, self._clock)

    def _find(self, job_id: str) -> JobSnapshot | None:
        with self._store.lock:
            return self._found(job_id)

    def _found(self, job_id: str) -> JobSnapshot | None:
        """Return what is known of a job: what its latest delivery ended with, else its record."""
        kept: JobSnapshot | None = self._store.kept.get(job_id)
        row = self._store.rows.get(job_id)
        if row is None:
            return kept
        if kept is None or not _is_settled(kept, row.record.lease_epoch):
            return snapshot(row)
        return kept

    def _keep(
        self,
        job_id: str,
        record: JobRecord | None,
        status: JobStatus,
        *,
        result: bytes | None = None,
        error: StoredError | None = None,
    ) -> bool:
        with self._store.lock:
            found = self._found(job_id)
            if record is None:
                record = JobRecord(job_id, "") if found is None else found.record
            elif found is not None and _is_settled(found, record.lease_epoch):
                return False
            self._store.tell_readers()  # who get the lock after the change; see ``store.py``
            self._store.kept[job_id] = JobSnapshot(
                record=record.replace(id=job_id, status=status),
                result=result,
                error=error,
                worker=None if found is None else found.worker,
                started_at=None if found is None else found.started_at,
                finished_at=self._clock.now(),
            )
            return True


def _is_settled(kept: JobSnapshot, lease_epoch: int) -> bool:
    """Tell whether this is a final outcome of that delivery or a later one."""
    return kept.status.is_final and kept.record.lease_epoch >= lease_epoch


class _Waiter:
    """Set whenever a job ended since the last look; nothing is missed in between."""

    def __init__(self, store: MemoryStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._seen = store.endings

    def wait(self, timeout: float | None = None) -> bool:
        with self._store.lock:
            if self._seen == self._store.endings:
                self._clock.wait(self._store.outcomes, timeout)
            has_news = self._seen != self._store.endings
            self._seen = self._store.endings
            return has_news
