"""The dict form of a stored job, which all built-in result backends return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuvom.core.record import JobSnapshot, StoredError

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


def as_stored_error(error: StoredError | BaseException | str) -> StoredError:
    """Return ``error`` as three texts; a text alone is the message of an ``Error``."""
    if isinstance(error, StoredError):
        return error
    if isinstance(error, BaseException):
        return StoredError(type(error).__name__, str(error))
    return StoredError("Error", error)
