"""Shows a stored job as Django's ``TaskResult``. It reads nothing and imports no name of a job."""

from __future__ import annotations

import builtins
import re
from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.tasks.base import TaskError, TaskResult, TaskResultStatus
from django.utils import timezone

from nuvom import errors
from nuvom.core.record import JobStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nuvom.core.record import Attempt, JobRecord, JobSnapshot, StoredError

METADATA = "django"
"""The key of a job's metadata that holds the alias of its backend, and its ``run_after``."""

_STATUS = {
    JobStatus.PENDING: TaskResultStatus.READY,
    JobStatus.PARKED: TaskResultStatus.READY,
    JobStatus.RUNNING: TaskResultStatus.RUNNING,
    JobStatus.SUCCESS: TaskResultStatus.SUCCESSFUL,
    JobStatus.FAILED: TaskResultStatus.FAILED,
    JobStatus.DEAD: TaskResultStatus.FAILED,
    JobStatus.CANCELLED: TaskResultStatus.FAILED,
}
_DEAD = "nuvom.contrib.django.JobDead"
_ENDS = {
    JobStatus.DEAD: (_DEAD, "the job is DEAD"),
    JobStatus.CANCELLED: ("nuvom.contrib.django.JobCancelled", "the job was cancelled"),
}
_NOT_RUN = frozenset({"released", "cancelled"})  # outcomes of attempts whose code may not have run
_WORKER_DIED = "WorkerDied"
_SIGNALS = frozenset({"Retry", "Discard"})
_FAILED = frozenset({"failure", "timeout", "retry", "lost"})


class JobDead(Exception):  # noqa: N818  # named after what happened, as all of Nuvom's errors are
    """Named by errors of attempts whose worker died, and of a job that is DEAD. Never raised."""


def task_result(
    task: Any,
    snapshot: JobSnapshot,
    attempts: Sequence[Attempt],
    *,
    alias: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    value: Any = None,
) -> Any:
    """Return a job as a ``TaskResult``.

    Args:
        task: The Django task that it calls.
        attempts: Those that have ended, oldest first.
        alias: Of the backend.
        value: What the task returned, if it did.
    """
    record, status = snapshot.record, snapshot.status
    ran = [one for one in attempts if one.worker is not None and one.outcome not in _NOT_RUN]
    workers = [one.worker for one in ran]
    starts = [one.started_at for one in ran if one.started_at]
    if status is JobStatus.RUNNING:
        workers.append(snapshot.worker)
        starts += [snapshot.started_at] if snapshot.started_at else []
    result = TaskResult(
        task=task_of(task, record, alias),
        id=record.id,
        status=_STATUS[status],
        enqueued_at=moment(record.created_at),
        started_at=moment(starts[0]) if starts else None,
        finished_at=moment(snapshot.finished_at) if status.is_final else None,
        last_attempted_at=moment(starts[-1]) if starts else None,
        args=list(args),
        kwargs=dict(kwargs),
        backend=alias,
        errors=_errors(snapshot, attempts),
        worker_ids=workers,
    )
    if status is JobStatus.SUCCESS:
        object.__setattr__(result, "_return_value", value)
    return result


def task_of(task: Any, record: JobRecord, alias: str) -> Any:
    """Return the task as it was when the job was enqueued, with what ``using()`` had changed.

    It is not validated again: a queue may have been removed from the settings since.
    """
    run_after = details(record).get("run_after")
    changes = {
        "priority": -record.priority,
        "queue_name": record.queue,
        "backend": alias,
        "run_after": None if run_after is None else moment(run_after),
    }
    found = object.__new__(type(task))
    for field in fields(task):
        value = changes.get(field.name, getattr(task, field.name))
        object.__setattr__(found, field.name, value)
    return found


def details(record: JobRecord) -> Mapping[str, Any]:
    """Return what the backend has noted in the metadata of its job; empty for any other job."""
    noted = (record.metadata or {}).get(METADATA)
    return noted if isinstance(noted, dict) else {}


def moment(secs: float | None) -> datetime | None:
    """Return a time as Django shows it: aware if ``USE_TZ`` is set, else naive and local."""
    if secs is None:
        return None
    found = datetime.fromtimestamp(secs, UTC)
    return found if settings.USE_TZ else timezone.make_naive(found, timezone.get_default_timezone())


# ---- errors -----------------------------------------------------------------------------


def _errors(snapshot: JobSnapshot, attempts: Sequence[Attempt]) -> list[Any]:
    found = [_task_error(one.error) for one in attempts if one.error and one.outcome in _FAILED]
    if snapshot.status in _ENDS:
        path, text = _ENDS[snapshot.status]
        stored = snapshot.error
        message = text if stored is None else stored.message
        found.append(TaskError(exception_class_path=path, traceback=f"{path}: {message}\n"))
    return found


def _task_error(error: StoredError) -> Any:
    path = _class_path(error)
    return TaskError(
        exception_class_path=path, traceback=error.traceback or f"{path}: {error.message}\n"
    )


def _class_path(error: StoredError) -> str:
    """Return the dotted name of the class of a stored error.

    A job's error holds the bare name; its traceback ends with the full one and the message. The
    message is matched as a whole, so no text in it can be taken for the name.
    """
    if isinstance(getattr(builtins, error.type, None), type):
        return f"builtins.{error.type}"
    name, message = re.escape(error.type), re.escape(error.message)
    pattern = rf"^(?:  [+|] )?((?:\w+\.)+{name})(?:: {message}|$)"
    found = re.findall(pattern, error.traceback or "", re.MULTILINE)
    if found:
        return str(found[-1])
    if error.type in _SIGNALS:
        return f"nuvom.{error.type}"
    if error.type == _WORKER_DIED:
        return _DEAD
    return f"nuvom.errors.{error.type}" if error.type in errors.__all__ else error.type
