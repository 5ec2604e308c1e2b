"""Which job the running code belongs to, as a context variable.

The execution layer sets ``current`` once for each attempt, in the context that the task and
its hooks run in; logging and ``current_job()`` read it. Below everything, so that all can.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol


class RunningRecord(Protocol):
    """What may be said of a running job's record; ``nuvom.core.record.JobRecord`` has it."""

    @property
    def id(self) -> str:
        """The job's full id."""
        ...

    @property
    def func_name(self) -> str:
        """Full name of the task."""
        ...

    @property
    def queue(self) -> str:
        """The queue it came from."""
        ...

    @property
    def attempt(self) -> int:
        """From 1."""
        ...

    @property
    def lease_epoch(self) -> int:
        """Of the claim that this attempt runs under."""
        ...


class JobContext(Protocol):
    """One attempt that is running here."""

    @property
    def record(self) -> RunningRecord:
        """The job, as claimed."""
        ...

    @property
    def worker(self) -> str:
        """Id of the worker."""
        ...

    @property
    def lane(self) -> str:
        """``thread``, ``async`` or ``process``."""
        ...


current: ContextVar[JobContext | None] = ContextVar("nuvom_job", default=None)
