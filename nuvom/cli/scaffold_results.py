"""The template of a result backend; see ``scaffolds.py``."""

from __future__ import annotations

RESULT_BACKEND = '''\
"""$title: a result backend for Nuvom.

It keeps results in this process. Put your store in the place of the dict. Values are kept
encoded, so that nobody changes them afterwards.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.record import JobRecord, JobSnapshot, JobStatus, StoredError
from nuvom.result_backends import BaseResultBackend
from nuvom.result_backends.full import as_full, as_stored_error
from nuvom.serialization.msgpack_codec import MsgpackCodec

if TYPE_CHECKING:
    from nuvom.config.settings import Settings


class $cls(BaseResultBackend):
    """Results in memory, by job id."""

    name: ClassVar[str] = "$name"

    def __init__(self, settings: Settings | None = None) -> None:
        self._codec = MsgpackCodec()
        self._kept: dict[str, JobSnapshot] = {}
        self._lock = Lock()

    def set_result(self, job_id: str, result: Any, *, record: JobRecord | None = None) -> bool:
        """Keep what the task returned, unless a later delivery has ended already."""
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
        """Keep why the job failed, unless a later delivery has ended already."""
        stored = as_stored_error(error)
        return self._keep(job_id, record, status or JobStatus.FAILED, error=stored)

    def get_result(self, job_id: str) -> Any:
        """Return what the task returned, or None."""
        kept = self._kept.get(job_id)
        if kept is None or kept.result is None:
            return None
        return self._codec.decode_value(kept.result, shaped=True)

    def get_error(self, job_id: str) -> StoredError | None:
        """Return why the job failed, or None."""
        kept = self._kept.get(job_id)
        return None if kept is None else kept.error

    def get_full(self, job_id: str) -> dict[str, Any] | None:
        """Return all that is kept of a job, or None."""
        kept = self._kept.get(job_id)
        return None if kept is None else as_full(kept, self._codec)

    def list_jobs(self) -> list[dict[str, Any]]:
        """Return all jobs, newest first."""
        with self._lock:
            kept = list(self._kept.values())
        return [as_full(one, self._codec) for one in reversed(kept)]

    def set_record(self, record: JobRecord) -> None:
        """Keep a job that has no outcome yet; never touches one that has."""
        with self._lock:
            kept = self._kept.get(record.id)
            if kept is None or not kept.status.is_final:
                self._kept[record.id] = JobSnapshot(record=record)

    def forget(self, job_id: str) -> bool:
        """Remove what is kept of a job; False when there was nothing."""
        with self._lock:
            return self._kept.pop(job_id, None) is not None

    def _keep(
        self, job_id: str, record: JobRecord | None, status: JobStatus, **outcome: Any
    ) -> bool:
        with self._lock:
            kept = self._kept.get(job_id)
            if record is not None and kept is not None and kept.status.is_final:
                if kept.record.lease_epoch >= record.lease_epoch:
                    return False  # an outcome of this delivery, or of a later one, is kept
            known = record or (kept.record if kept is not None else JobRecord(job_id, ""))
            self._kept[job_id] = JobSnapshot(
                record=known.replace(status=status), finished_at=SYSTEM_CLOCK.now(), **outcome
            )
        return True
'''
