"""Nuvom: background tasks for Python without a broker.

``@task`` makes a function a task, ``.delay()`` stores a job, a worker runs it, and the result
can be read from anywhere. Only the decorator and the steering signals are loaded with the
package; every other name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuvom._version import __version__
from nuvom.core.signals import Discard, Retry, Snooze
from nuvom.task import task

if TYPE_CHECKING:
    from nuvom import errors, events, sdk
    from nuvom.core.record import JobRecord, JobStatus, StoredError
    from nuvom.errors import (
        AmbiguousJob,
        AmbiguousTask,
        BackendNameTaken,
        BackendUnavailable,
        CapabilityMissing,
        ConfigError,
        CorruptRecord,
        DuplicateTask,
        FailureNotFound,
        IncompatiblePlugin,
        InvalidArguments,
        InvalidConfigFile,
        InvalidId,
        InvalidManifest,
        InvalidSetting,
        InvalidTaskOption,
        JobCancelled,
        JobFailed,
        JobNotFound,
        JobTimeout,
        LeaseLost,
        MissingExtra,
        NoCurrentJob,
        NotStorable,
        NuvomError,
        PayloadError,
        PayloadTooLarge,
        PluginError,
        PluginFailed,
        PluginNotFound,
        PluginNotLoaded,
        PluginNotTrusted,
        PluginsOff,
        ProjectNotFound,
        QueueError,
        QueueFull,
        QueueNotFound,
        Refused,
        ResultError,
        ResultTooLarge,
        SerializationError,
        StorageFull,
        TaskError,
        TaskHidden,
        TaskImportFailed,
        TaskNotFound,
        TaskNotImportable,
        UnknownBackend,
        UnknownSetting,
        WaitInsideTask,
        WorkerChildDied,
        WorkerNotFound,
    )
    from nuvom.execution.current import current_job
    from nuvom.job import Job, JobList
    from nuvom.runtime import configure
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
    "configure": "nuvom.runtime",
    "current_job": "nuvom.execution.current",
    "local_worker": "nuvom.worker",
}
_MODULES = frozenset({"errors", "events", "sdk"})

__all__ = [
    "AmbiguousJob",
    "AmbiguousTask",
    "AsyncTask",
    "BackendNameTaken",
    "BackendUnavailable",
    "CapabilityMissing",
    "ConfigError",
    "CorruptRecord",
    "Discard",
    "DuplicateTask",
    "FailureNotFound",
    "IncompatiblePlugin",
    "InvalidArguments",
    "InvalidConfigFile",
    "InvalidId",
    "InvalidManifest",
    "InvalidSetting",
    "InvalidTaskOption",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobList",
    "JobNotFound",
    "JobRecord",
    "JobStatus",
    "JobTimeout",
    "LeaseLost",
    "MissingExtra",
    "NoCurrentJob",
    "NotStorable",
    "NuvomError",
    "PayloadError",
    "PayloadTooLarge",
    "PluginError",
    "PluginFailed",
    "PluginNotFound",
    "PluginNotLoaded",
    "PluginNotTrusted",
    "PluginsOff",
    "ProjectNotFound",
    "QueueError",
    "QueueFull",
    "QueueNotFound",
    "Refused",
    "ResultError",
    "ResultTooLarge",
    "Retry",
    "SerializationError",
    "Snooze",
    "StorageFull",
    "StoredError",
    "Task",
    "TaskError",
    "TaskHidden",
    "TaskImportFailed",
    "TaskNotFound",
    "TaskNotImportable",
    "UnknownBackend",
    "UnknownSetting",
    "WaitInsideTask",
    "WorkerChildDied",
    "WorkerNotFound",
    "__version__",
    "configure",
    "current_job",
    "errors",
    "events",
    "local_worker",
    "sdk",
    "task",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module  # noqa: PLC0415  # only when a lazy name is first used

    if name in _MODULES:
        return import_module(f"nuvom.{name}")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "nuvom.errors")), name)
    globals()[name] = value
    return value
