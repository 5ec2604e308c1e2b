"""The contract of a result backend: six methods, and defaults for the rest.

A result backend stores the outcomes of attempts. If it shares a store with the queue, the queue's
``settle`` writes both at once. Otherwise the engine calls ``set_result`` or ``set_error`` first and
settles afterwards.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuvom.core.clock import Waitable
    from nuvom.core.record import JobRecord, JobStatus, StoredError
    from nuvom.core.views import Migration
    from nuvom.queue_backends.base import BaseJobQueue


class BaseResultBackend(ABC):
    """Stores results and errors by job id. Built as ``cls(settings)`` or ``cls()``.

    All methods may be called from any thread. An unknown id gives None, never an error.
    """

    name: ClassVar[str] = ""

    @abstractmethod
    def set_result(self, job_id: str, result: Any, *, record: JobRecord | None = None) -> bool:
        """Store what the task returned; durable when this returns.

        Args:
            result: A storable value.
            record: The claimed record. It makes the write conditional: refused if a final
                outcome of the same or a later ``lease_epoch`` is already stored.
        Returns: whether the result was stored.
        """

    @abstractmethod
    def get_result(self, job_id: str) -> Any:
        """Return what the task returned, or None if there is nothing (yet)."""

    @abstractmethod
    def set_error(
        self,
        job_id: str,
        error: StoredError | BaseException | str,
        *,
        record: JobRecord | None = None,
        status: JobStatus | None = None,
    ) -> bool:
        """Store why the job ended without a result, under the same rules as ``set_result``.

        Args:
            status: FAILED by default; or DEAD or CANCELLED.
        """

    @abstractmethod
    def get_error(self, job_id: str) -> StoredError | None:
        """Return why the job failed, or None."""

    @abstractmethod
    def get_full(self, job_id: str) -> dict[str, Any] | None:
        """Return everything stored about a job, or None.

        Keys: ``id, func_name, status, queue, priority, attempt, max_retries, args, kwargs,
        result, error, created_at, run_at, started_at, finished_at, worker, tags, metadata``;
        ``error`` is None or a dict with ``type, message, traceback``; times are seconds since
        the epoch or None.
        """

    @abstractmethod
    def list_jobs(self) -> list[dict[str, Any]]:
        """Return ``get_full`` of every stored job, newest first."""

    def set_record(self, record: JobRecord) -> None:
        """Store a job before it has an outcome, so that its status can be read.

        The engine calls it for queues that cannot be inspected. Never touches an outcome.
        """

    def forget(self, job_id: str) -> bool:
        """Remove everything stored about a job; False if there was nothing."""
        raise NotImplementedError(f"{type(self).__name__} cannot forget {job_id}")

    def joins(self, queue: BaseJobQueue) -> bool:
        """Share ``queue``'s store if possible, and return whether it is shared.

        The runtime calls this once. True promises that ``queue.settle`` atomically stores what
        this backend reads.
        """
        del queue
        return False

    @contextmanager
    def waiter(self) -> Iterator[Waitable | None]:
        """Yield an object to wait on that is set when some result may have arrived.

        None tells the caller to poll. A result that arrives after entering the ``with`` is never
        missed.
        """
        yield None

    def migrate(self, *, dry_run: bool = False) -> Migration | None:
        """Bring the store to the version that this code works with; as for a queue."""
        del dry_run
        return None

    def start(self) -> None:
        """Prepare for use; called once by a worker."""

    def stop(self) -> None:
        """Release connections. Safe to call twice, or before ``start``."""
