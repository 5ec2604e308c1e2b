"""The contract of a queue backend.

``BaseJobQueue`` asks for five methods; a class with just these is a whole backend that
delivers at most once. Everything else is a capability with a default here, and the engine
asks for the capability, never for a backend's name. Backends with leases derive from
``nuvom.queue_backends.leased.LeasedJobQueue``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from nuvom.errors import CapabilityMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nuvom.core.record import JobRecord


class Capability(StrEnum):
    """Something optional that a backend can do; declared in ``capabilities``."""

    BULK = "bulk"  # enqueue_many is all or nothing
    SCHEDULED = "scheduled"  # a job with a future run_at is kept back until then
    PRIORITY = "priority"  # lower numbers first, then the order of enqueueing
    UNIQUE = "unique"  # unique_key is one atomic insert-or-return-existing
    LEASES = "leases"  # claim, settle, release, extend, reap with fencing
    ATOMIC_FINISH = "atomic_finish"  # settle stores status, result, retry and children in one step
    WAKE_UP = "wake_up"  # wait_for_work returns when another process enqueues
    INSPECTION = "inspection"  # jobs, counts, attempts and workers can be read
    CONTROL = "control"  # cancel, retry, pause, purge, prune
    TOTALS = "totals"  # keep_totals, totals: counts that pruning does not touch


class BaseJobQueue(ABC):
    """Keeps jobs until a worker takes them.

    Build it as ``cls(settings)``, or ``cls()`` when its constructor takes no argument; a
    subclass need not call ``super().__init__()``. All methods may be called from any thread.
    """

    name: ClassVar[str] = ""
    capabilities: ClassVar[frozenset[Capability]] = frozenset()

    @abstractmethod
    def enqueue(self, job: JobRecord) -> str | None:
        """Store ``job``; it is committed when this returns. Twice with the same id is once.

        Returns: None, or, with ``Capability.UNIQUE``, the id of the live job that already has
        the same ``func_name`` and ``unique_key``; then nothing was stored.
        Raises: QueueFull, StorageFull, BackendUnavailable; InvalidId: the job's id or queue is no
            valid name. Nothing was stored then.
        """

    @abstractmethod
    def dequeue(self, timeout: float | None = None) -> JobRecord | None:
        """Hand out one job, or None when there is none within ``timeout`` seconds.

        ``None`` and ``0`` do not wait.
        """

    @abstractmethod
    def pop_batch(self, batch_size: int) -> list[JobRecord]:
        """Hand out at most ``batch_size`` jobs without waiting."""

    @abstractmethod
    def qsize(self) -> int:
        """Return how many jobs wait (PENDING, due or not)."""

    @abstractmethod
    def clear(self) -> None:
        """Remove all jobs that wait. Jobs that run, and results, stay."""

    def enqueue_many(self, jobs: Iterable[JobRecord]) -> dict[str, str]:
        """Store ``jobs``; with ``Capability.BULK`` all or nothing, else one after the other.

        Returns: for each job refused by its ``unique_key``, its id and that of the existing job.
        Raises: as ``enqueue``.
        """
        refused = {}
        for job in jobs:
            existing = self.enqueue(job)
            if existing is not None:
                refused[job.id] = existing
        return refused

    def wait_for_work(self, timeout: float, recheck: Callable[[], bool] | None = None) -> bool:
        """Block until there may be work, at most ``timeout`` seconds.

        Args:
            recheck: Called once after this process has asked to be woken and before it
                sleeps; True ends the wait. The default looks for any job that is ready.
        Without ``Capability.WAKE_UP`` this is not called: the worker polls.
        """
        del recheck
        raise self._lacks(Capability.WAKE_UP, f"cannot wait {timeout:g} s for work")

    def notify(self) -> None:
        """Wake a worker that waits for work, in any process; harmless when none does."""

    def interrupt(self) -> None:
        """End a ``wait_for_work`` of this instance that runs in another thread."""

    def start(self) -> None:
        """Get ready; called once by a worker. Opening lazily at the first call is fine too."""

    def stop(self) -> None:
        """Give back connections and threads; twice, or before ``start``, is fine."""

    def _lacks(self, capability: Capability, reason: str) -> CapabilityMissing:
        return CapabilityMissing(self.name or type(self).__name__, str(capability), reason)
