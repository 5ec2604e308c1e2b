"""Plain functions for working with stored jobs of the current project.

They are shortcuts: all reads go through ``nuvom.inspection``, all changes through
``nuvom.control``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nuvom.core.guard import engine_call
from nuvom.core.job_context import current
from nuvom.core.record import JobStatus
from nuvom.discovery.manifest import by_any_name, tasks_or_nothing
from nuvom.discovery.stub import definition_of, stand_in
from nuvom.errors import TaskNotFound, WaitInsideTask, did_you_mean
from nuvom.inspection.inspector import Inspector
from nuvom.job import Job, wait_for_final
from nuvom.registry.registry import TaskDefinition
from nuvom.runtime import current_runtime
from nuvom.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nuvom.core.record import StoredError
    from nuvom.core.views import ErrorGroup, QueueStats, WorkerInfo
    from nuvom.runtime import Runtime

_GROUPS = 1000


@engine_call
def get_job_status(job_id: str) -> dict[str, Any]:
    """Return the status of a job.

    Returns: a dict with ``id``, ``func_name``, ``status`` (a ``JobStatus``, which is a text),
        ``attempt``, ``queue``, ``created_at`` and ``run_at`` (UTC-aware ``datetime``; ``run_at``
        is None unless the job waits for a time) and ``error`` (None, or a dict with ``type``,
        ``message`` and ``traceback``).
    Raises: JobNotFound (a KeyError): there is no such job.
    """
    snapshot = Inspector(current_runtime()).snapshot(job_id)
    record, error = snapshot.record, snapshot.error
    return {
        "id": record.id,
        "func_name": record.func_name,
        "status": snapshot.status,
        "attempt": record.attempt,
        "queue": record.queue,
        "created_at": datetime.fromtimestamp(record.created_at, UTC),
        "run_at": datetime.fromtimestamp(record.run_at, UTC) if record.run_at else None,
        "error": None if error is None else _error(error),
    }


def _error(error: StoredError) -> dict[str, Any]:
    return {"type": error.type, "message": error.message, "traceback": error.traceback}


@engine_call
def task_by_name(name: str) -> Task[..., Any]:
    """Return a task of the project by its full name or an alias, without importing its module.

    Calls are checked against the signature in the manifest, and the task's literal options count.
    Without a manifest any name and any arguments are accepted; jobs of a name that no worker knows
    are PARKED. The task can be enqueued, but not called.

    Raises: TaskNotFound: it is neither in the manifest nor registered.
    """
    runtime = current_runtime()
    definition = runtime.registry.get(name) or runtime.described.get(name)
    if definition is None:
        definition = runtime.described[name] = _described(runtime, name)
    return Task(definition)


@engine_call
def enqueue(
    name: str, *args: Any, options: Mapping[str, Any] | None = None, **kwargs: Any
) -> Job[Any]:
    """Enqueue a job of the task ``name``, as ``task_by_name(name).delay(...)`` does.

    Args:
        options: As for ``.options()``, such as ``{"delay": 60}``. A parameter of the task that has
            this name can be given by place.
    Raises: TaskNotFound, and what ``Task.delay`` raises.
    """
    return task_by_name(name).options(**(options or {})).delay(*args, **kwargs)


def _described(runtime: Runtime, name: str) -> TaskDefinition:
    listed = by_any_name(tasks_or_nothing(runtime.settings.manifest_file))
    if name in listed:
        return definition_of(listed[name])
    if listed:
        raise TaskNotFound(name, sorted({*listed, *runtime.registry.names()}))
    return TaskDefinition(name, stand_in("(*args, **kwargs)"))


@engine_call
def retry_job(job_id: str) -> str | None:
    """Run a FAILED, DEAD or CANCELLED job again under the same id.

    Returns: the id; None if its status does not allow it.
    Raises: JobNotFound (a KeyError): there is no such job.
    """
    return job_id if Job(job_id, current_runtime()).retry() else None


@engine_call
def cancel_job(job_id: str) -> bool:
    """Cancel a job; return False if it had already ended.

    Raises: JobNotFound (a KeyError): there is no such job.
    """
    return Job(job_id, current_runtime()).cancel()


@engine_call
def wait(ids: Iterable[str | Job[Any]], timeout: float | None = None) -> list[Job[Any]]:
    """Wait until all jobs have ended, in any way; return their handles in order.

    Args:
        ids: Ids or handles.
        timeout: Maximum seconds for all jobs together; None waits forever.
    Raises: JobTimeout (a TimeoutError): a job did not end in time; JobNotFound;
        WaitInsideTask: called inside a task without a timeout.
    """
    runtime = current_runtime()
    deadline = None if timeout is None else runtime.clock.monotonic() + timeout
    jobs: list[Job[Any]] = []
    for one in ids:
        left = None if deadline is None else max(0.0, deadline - runtime.clock.monotonic())
        job_id = one if isinstance(one, str) else one.id
        if timeout is None and current.get() is not None:
            raise WaitInsideTask(job_id)
        snapshot = wait_for_final(runtime, job_id, left)
        jobs.append(Job(job_id, runtime=runtime, record=snapshot.record))
    return jobs


@engine_call
def list_jobs(
    *,
    status: JobStatus | str | Iterable[JobStatus | str] | None = None,
    queue: str | None = None,
    task: str | None = None,
    limit: int = 100,
) -> list[Job[Any]]:
    """Return jobs, newest first, at most ``limit``.

    Args:
        status: One status or several, case-insensitive; None means all.
        queue, task: Only jobs of this queue, and of the task with this full name.
    Raises: ValueError: a status is unknown, or ``limit`` is negative.
    """
    if limit < 0:
        raise ValueError(f"limit must be 0 or more, not {limit}")
    given = [status] if isinstance(status, str) else status or ()
    statuses = [_status(one) for one in given]
    runtime = current_runtime()
    found = Inspector(runtime).pages(statuses=statuses, queue=queue, task=task, most=limit)
    return [Job(one.record.id, runtime=runtime, record=one.record) for one in found]


def _status(word: str) -> JobStatus:
    try:
        return JobStatus(word.upper())
    except ValueError:
        known = [str(one) for one in JobStatus]
        hint = did_you_mean(word, known) or f" There are: {', '.join(known)}."
        raise ValueError(f'No status is named "{word}".{hint}') from None


@engine_call
def queue_stats() -> list[QueueStats]:
    """Return how many jobs each queue holds, by name; empty if the backend cannot tell."""
    return Inspector(current_runtime()).stats()


@engine_call
def workers() -> list[WorkerInfo]:
    """Return the workers that are not known to be dead; empty if the backend cannot tell."""
    return Inspector(current_runtime()).workers()


@engine_call
def errors() -> list[ErrorGroup]:
    """Return failures grouped by task, exception type and place, latest first."""
    return Inspector(current_runtime()).error_groups(_GROUPS)
