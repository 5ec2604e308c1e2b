"""Which job the running code belongs to, as a context variable.

The execution layer sets ``current`` once for each attempt, in the context that the task and
its hooks run in; logging and ``current_job()`` read it. It sits below everything else, so that
every layer can.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol


class RunningRecord(Protocol):
    """The readable part of a running job's record; ``nuvom.core.record.JobRecord`` provides it."""

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
        """The attempt number, from 1."""
        ...

    @property
    def lease_epoch(self) -> int:
        """The epoch of the claim under which this attempt runs."""
        ...


class JobContext(Protocol):
    """One attempt running in this process."""

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
