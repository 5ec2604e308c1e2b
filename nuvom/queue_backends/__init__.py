"""Queue backends and the names their authors need. Each is imported on first access."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nuvom.core.record import JobRecord, JobStatus
    from nuvom.queue_backends.base import BaseJobQueue, Capability
    from nuvom.queue_backends.file import FileJobQueue
    from nuvom.queue_backends.leased import LeasedJobQueue
    from nuvom.queue_backends.memory import MemoryJobQueue
    from nuvom.queue_backends.sqlite.queue import SQLiteJobQueue
    from nuvom.queue_backends.store import StoreQueue

_HOMES = {
    "BaseJobQueue": "nuvom.queue_backends.base",
    "Capability": "nuvom.queue_backends.base",
    "LeasedJobQueue": "nuvom.queue_backends.leased",
    "MemoryJobQueue": "nuvom.queue_backends.memory",
    "FileJobQueue": "nuvom.queue_backends.file",
    "SQLiteJobQueue": "nuvom.queue_backends.sqlite.queue",
    "StoreQueue": "nuvom.queue_backends.store",
    "JobRecord": "nuvom.core.record",
    "JobStatus": "nuvom.core.record",
}

__all__ = [
    "BaseJobQueue",
    "Capability",
    "FileJobQueue",
    "JobRecord",
    "JobStatus",
    "LeasedJobQueue",
    "MemoryJobQueue",
    "SQLiteJobQueue",
    "StoreQueue",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
