"""Nuvom: background tasks for Python without a broker.

``@task`` makes a function a task, ``.delay()`` stores a job, a worker runs it, and the result
can be read from anywhere. Only the decorator, the errors and the signals (``Retry``, ``Snooze``,
``Discard`` and others) are loaded with the package; every other name is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuvom import errors
from nuvom._version import __version__
from nuvom.core.signals import Discard, JobStopping, Retry, Snooze, SoftTimeout
from nuvom.errors import *  # noqa: F403  # all errors, and nothing else
from nuvom.task import task

if TYPE_CHECKING:
    from nuvom import events, sdk
    from nuvom.contrib import asgi, dashboard
    from nuvom.core.record import JobRecord, JobStatus, StoredError
    from nuvom.execution.attempts import current_job
    from nuvom.hooks import (
        after_each_job,
        before_each_job,
        on_each_error,
        on_worker_start,
        on_worker_stop,
    )
    from nuvom.job import Job, JobList
    from nuvom.runtime import configure, notify
    from nuvom.scheduler.schedule import Schedule, schedules
    from nuvom.sdk import enqueue, task_by_name
    from nuvom.task import AsyncTask, Task
    from nuvom.worker import local_worker

_HOMES = {
    "AsyncTask": "nuvom.task",
    "Job": "nuvom.job",
    "JobList": "nuvom.job",
    "JobRecord": "nuvom.core.record",
    "JobStatus": "nuvom.core.record",
    "StoredError": "nuvom.core.record",
    "Task": "nuvom.task",
    "after_each_job": "nuvom.hooks",
    "before_each_job": "nuvom.hooks",
    "configure": "nuvom.runtime",
    "current_job": "nuvom.execution.attempts",
    "enqueue": "nuvom.sdk",
    "local_worker": "nuvom.worker",
    "Schedule": "nuvom.scheduler.schedule",
    "notify": "nuvom.runtime",
    "on_each_error": "nuvom.hooks",
    "on_worker_start": "nuvom.hooks",
    "on_worker_stop": "nuvom.hooks",
    "schedules": "nuvom.scheduler.schedule",
    "task_by_name": "nuvom.sdk",
}
_MODULES = {
    "asgi": "nuvom.contrib.asgi",
    "dashboard": "nuvom.contrib.dashboard",
    "events": "nuvom.events",
    "sdk": "nuvom.sdk",
}

__all__ = [
    "AsyncTask",
    "Discard",
    "Job",
    "JobList",
    "JobRecord",
    "JobStatus",
    "JobStopping",
    "Retry",
    "Schedule",
    "Snooze",
    "SoftTimeout",
    "StoredError",
    "Task",
    "__version__",
    "after_each_job",
    "asgi",
    "before_each_job",
    "configure",
    "current_job",
    "dashboard",
    "enqueue",
    "errors",
    "events",
    "local_worker",
    "notify",
    "on_each_error",
    "on_worker_start",
    "on_worker_stop",
    "schedules",
    "sdk",
    "task",
    "task_by_name",
]
__all__ += errors.__all__  # a form that type checkers understand


def __getattr__(name: str) -> Any:
    from importlib import import_module  # noqa: PLC0415  # only when a lazy name is first used

    if name in _MODULES:
        return import_module(_MODULES[name])
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
