"""Shared code of result backends that store job snapshots, as all built-in ones do."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from nuvom.core.record import JobRecord, JobSnapshot, JobStatus, StoredError
from nuvom.result_backends.base import BaseResultBackend

if TYPE_CHECKING:
    from nuvom.serialization.base import Codec


def as_full(kept: JobSnapshot, codec: Codec) -> dict[str, Any]:
    """Return what ``get_full`` promises for one job; users' classes are ``Shaped``."""
    record = kept.record
    args, kwargs = codec.decode_call(record.args, record.kwargs, shaped=True)
    error = kept.error
    return {
        "id": record.id,
        "func_name": record.func_name,
        "status": str(record.status),
        "queue": record.queue,
        "priority": record.priority,
        "attempt": record.attempt,
        "max_retries": record.max_retries,
        "args": list(args),
        "kwargs": kwargs,
        "result": None if kept.result is None else codec.decode_value(kept.result, shaped=True),
        "error": error
        and {"type": error.type, "message": error.message, "traceback": error.traceback},
        "created_at": record.created_at or None,
        "run_at": record.run_at or None,
        "started_at": kept.started_at,
        "finished_at": kept.finished_at,
        "worker": kept.worker,
        "tags": list(record.tags),
        "metadata": record.metadata,
    }


def with_outcome(found: JobSnapshot, kept: dict[str, Any]) -> JobSnapshot:
    """Return a job with the outcome that ``get_full`` gave."""
    finished_at = found.finished_at or kept.get("finished_at")
    return replace(found, error=found.error or _error_of(kept), finished_at=finished_at)


def from_full(kept: dict[str, Any], codec: Codec) -> JobSnapshot:
    """Return the job that ``get_full`` gave: the opposite of ``as_full``."""
    call = codec.encode_call(tuple(kept.get("args") or ()), kept.get("kwargs") or {})
    args, kwargs = map(msgspec.Raw, call)
    record = JobRecord(
        id=kept["id"],
        func_name=kept.get("func_name") or "",
        args=args,
        kwargs=kwargs,
        queue=kept.get("queue") or "default",
        priority=5 if kept.get("priority") is None else kept["priority"],
        created_at=kept.get("created_at") or 0.0,
        run_at=kept.get("run_at") or 0.0,
        max_retries=kept.get("max_retries") or 0,
        tags=tuple(kept.get("tags") or ()),
        metadata=kept.get("metadata"),
        status=JobStatus(kept.get("status", JobStatus.PENDING)),
        attempt=kept.get("attempt") or 0,
    )
    is_success = record.status is JobStatus.SUCCESS
    return JobSnapshot(
        record=record,
        result=codec.encode_value(kept.get("result")) if is_success else None,
        error=_error_of(kept),
        worker=kept.get("worker"),
        started_at=kept.get("started_at"),
        finished_at=kept.get("finished_at"),
    )


def _error_of(kept: dict[str, Any]) -> StoredError | None:
    error = kept.get("error")
    if not error:
        return None
    return StoredError(error["type"], error["message"], error.get("traceback"))


def as_stored_error(error: StoredError | BaseException | str) -> StoredError:
    """Return ``error`` as three strings; a plain string is the message of an ``Error``."""
    if isinstance(error, StoredError):
        return error
    if isinstance(error, BaseException):
        return StoredError(type(error).__name__, str(error))
    return StoredError("Error", error)


class SnapshotResults(BaseResultBackend):
    """Results stored, encoded, as part of a snapshot of their job.

    Args:
        codec: Encodes the results, so that a stored value can no longer change.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    @abstractmethod
    def find(self, job_id: str) -> JobSnapshot | None:
        """Return what is known about a job: its latest delivery's outcome, else its record."""

    @abstractmethod
    def keep(
        self,
        job_id: str,
        record: JobRecord | None,
        status: JobStatus,
        *,
        result: bytes | None = None,
        error: StoredError | None = None,
    ) -> bool:
        """Store an outcome; see ``BaseResultBackend.set_result``."""

    @abstractmethod
    def find_all(self) -> list[JobSnapshot]:
        """Return what is known about every job, newest first."""

    def set_result(self, job_id: str, result: Any, *, record: JobRecord | None = None) -> bool:
        """Store what the task returned; see the contract."""
        data = self._codec.encode_value(result)
        return self.keep(job_id, record, JobStatus.SUCCESS, result=data)

    def set_error(
        self,
        job_id: str,
        error: StoredError | BaseException | str,
        *,
        record: JobRecord | None = None,
        status: JobStatus | None = None,
    ) -> bool:
        """Store why the job ended without a result; see the contract."""
        stored = as_stored_error(error)
        return self.keep(job_id, record, status or JobStatus.FAILED, error=stored)

    def get_result(self, job_id: str) -> Any:
        """Return what the task returned, or None; a user's class is ``Shaped``."""
        found = self.find(job_id)
        if found is None or found.result is None:
            return None
        return self._codec.decode_value(found.result, shaped=True)

    def get_error(self, job_id: str) -> StoredError | None:
        """Return why the job failed, or None."""
        found = self.find(job_id)
        return None if found is None else found.error

    def get_full(self, job_id: str) -> dict[str, Any] | None:
        """Return everything stored about a job, or None."""
        found = self.find(job_id)
        return None if found is None else as_full(found, self._codec)

    def list_jobs(self) -> list[dict[str, Any]]:
        """Return all jobs, newest first."""
        return [as_full(one, self._codec) for one in self.find_all()]
