"""Which job the running code belongs to, as a context variable.

The execution layer sets ``current`` once for each attempt, in the context that the task and
its hooks run in; logging and ``current_job()`` read it. It sits below everything else, so that
every layer can.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Protocol


class JobContext(Protocol):
    """One attempt running in this process.

    Attributes:
        record: The job's ``JobRecord``, as claimed.
        worker: Id of the worker.
        lane: ``thread``, ``async`` or ``process``.
    """

    record: Any  # records are above this layer
    worker: str
    lane: str


current: ContextVar[JobContext | None] = ContextVar("nuvom_job", default=None)
