"""The contract of a result backend: six methods, and defaults for the rest.

A result backend keeps what attempts ended with. When it shares a store with the queue, the
queue's ``settle`` writes both at once; otherwise the engine calls ``set_result`` or
``set_error`` first and settles afterwards.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuvom.core.clock import Waitable
    from nuvom.core.record import JobRecord, JobStatus, StoredError
    from nuvom.queue_backends.base import BaseJobQueue


class BaseResultBackend(ABC):
    """Keeps results and errors by job id. Built as ``cls(settings)`` or ``cls()``.

    All methods may be called from any thread; an unknown id is None, never an error.
    """

    name: ClassVar[str] = ""

    @abstractmethod
    def set_result(self, job_id: str, result: Any, *, record: JobRecord | None = None) -> bool:
        """Keep what the task returned; durable when this returns.

        Args:
            result: A storable value.
            record: As claimed. With it the write is conditional: it is refused when a final
                outcome of the same or a later ``lease_epoch`` is already kept.
        Returns: whether it was kept.
        """

    @abstractmethod
    def get_result(self, job_id: str) -> Any:
        """Return what the task returned, or None when there is nothing (yet)."""

    @abstractmethod
    def set_error(
        self,
        job_id: str,
        error: StoredError | BaseException | str,
        *,
        record: JobRecord | None = None,
        status: JobStatus | None = None,
    ) -> bool:
        """Keep why the job ended without a result, as ``set_result`` does.

        Args:
            status: FAILED unless said otherwise; DEAD or CANCELLED.
        """

    @abstractmethod
    def get_error(self, job_id: str) -> StoredError | None:
        """Return why the job failed, or None."""

    @abstractmethod
    def get_full(self, job_id: str) -> dict[str, Any] | None:
        """Return all that is kept of a job, or None.

        Keys: ``id, func_name, status, queue, priority, attempt, max_retries, args, kwargs,
        result, error, created_at, run_at, started_at, finished_at, worker, tags, metadata``;
        ``error`` is None or a dict with ``type, message, traceback``; times are seconds since
        the epoch or None.
        """

    @abstractmethod
    def list_jobs(self) -> list[dict[str, Any]]:
        """Return ``get_full`` of every job that is kept, newest first."""

    def set_record(self, record: JobRecord) -> None:
        """Keep a job before it has an outcome, so that its status can be read.

        The engine calls it for queues that cannot be inspected. Never touches an outcome.
        """

    def forget(self, job_id: str) -> bool:
        """Remove what is kept of a job; False when there was nothing."""
        raise NotImplementedError(f"{type(self).__name__} cannot forget {job_id}")

    def joins(self, queue: BaseJobQueue) -> bool:
        """Share ``queue``'s store where that is possible, and return whether it is.

        The runtime asks once. True promises that ``queue.settle`` stores what this backend
        reads, in one step.
        """
        del queue
        return False

    @contextmanager
    def waiter(self) -> Iterator[Waitable | None]:
        """Give something to wait on that is set when some result may have arrived.

        None tells the caller to poll. A result that arrives after the ``with`` is entered is
        never missed.
        """
        yield None

    def start(self) -> None:
        """Get ready; called once by a worker."""

    def stop(self) -> None:
        """Give back connections; twice, or before ``start``, is fine."""
