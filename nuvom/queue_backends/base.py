"""The contract of a queue backend.

``BaseJobQueue`` requires five methods; a class with only these is a complete backend that
delivers at most once. Everything else is a capability with a default here. The engine checks for
the capability, never for a backend's name. Backends with leases derive from
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
    from nuvom.core.views import Migration
    from nuvom.scheduler.store import BaseScheduleStore


class Capability(StrEnum):
    """An optional feature of a backend, declared in ``capabilities``.

    Attributes:
        BULK: ``enqueue_many`` is all or nothing.
        SCHEDULED: A job with a future ``run_at`` is held until then.
        PRIORITY: Lower numbers first, then the order of enqueueing.
        UNIQUE: ``unique_key`` is one atomic insert-or-return-existing.
        LEASES: ``claim``, ``settle``, ``release``, ``extend`` and ``reap``, with fencing.
        ATOMIC_FINISH: ``settle`` stores status, result, retry and children in one step.
        WAKE_UP: ``wait_for_work`` returns when another process enqueues a job.
        INSPECTION: Jobs, counts, attempts and workers can be read.
        CONTROL: ``cancel``, ``retry``, ``pause``, ``purge`` and ``prune``.
        OVERLAP: ``settle_and_claim`` is no slower than one after the other.
        TRANSACTIONS: ``enqueue_into`` stores jobs in a transaction of the caller's.
        TOTALS: ``keep_totals`` and ``totals``: counts that survive pruning.
        SCHEDULES: ``schedules``: the store keeps schedules, too.
        HISTORY: ``rollups`` and ``audit``: what happened per minute, and what people did.
    """

    BULK = "bulk"
    SCHEDULED = "scheduled"
    PRIORITY = "priority"
    UNIQUE = "unique"
    LEASES = "leases"
    ATOMIC_FINISH = "atomic_finish"
    WAKE_UP = "wake_up"
    INSPECTION = "inspection"
    CONTROL = "control"
    OVERLAP = "overlap"
    TRANSACTIONS = "transactions"
    TOTALS = "totals"
    SCHEDULES = "schedules"
    HISTORY = "history"


class BaseJobQueue(ABC):
    """Keeps jobs until a worker takes them.

    Built as ``cls(settings)``, or ``cls()`` when the constructor takes no argument. A subclass
    need not call ``super().__init__()``. All methods may be called from any thread.
    """

    name: ClassVar[str] = ""
    capabilities: ClassVar[frozenset[Capability]] = frozenset()

    @abstractmethod
    def enqueue(self, job: JobRecord) -> str | None:
        """Store ``job``; it is committed when this returns. Storing the same id twice is a no-op.

        Returns: None, or, with ``Capability.UNIQUE``, the id of the live job that already has
        the same ``func_name`` and ``unique_key``; in that case nothing is stored.
        Raises: QueueFull, StorageFull, BackendUnavailable; InvalidId: the job's id or queue is not
            a valid name. Nothing is stored if this raises.
        """

    @abstractmethod
    def dequeue(self, timeout: float | None = None) -> JobRecord | None:
        """Return one job, or None if there is none within ``timeout`` seconds.

        ``None`` and ``0`` do not wait.
        """

    @abstractmethod
    def pop_batch(self, batch_size: int) -> list[JobRecord]:
        """Return at most ``batch_size`` jobs without waiting."""

    @abstractmethod
    def qsize(self) -> int:
        """Return the number of waiting jobs (PENDING, due or not)."""

    @abstractmethod
    def clear(self) -> None:
        """Remove all waiting jobs. Running jobs and results stay."""

    def enqueue_many(self, jobs: Iterable[JobRecord]) -> dict[str, str]:
        """Store ``jobs``: all or nothing with ``Capability.BULK``, otherwise one by one.

        Returns: for each job refused by its ``unique_key``, its id and that of the existing job.
        Raises: as ``enqueue``.
        """
        refused = {}
        for job in jobs:
            existing = self.enqueue(job)
            if existing is not None:
                refused[job.id] = existing
        return refused

    def enqueue_into(self, connection: object, jobs: Iterable[JobRecord]) -> dict[str, str]:
        """Store ``jobs`` in the transaction of the caller's ``connection``.

        They exist once that commits, and never if it rolls back. Nothing is committed here, and a
        worker wakes after the commit only.

        Returns: as ``enqueue_many``.
        Raises: as ``enqueue``, with BackendUnavailable also where the connection leads to a
            database without this store; TypeError: the connection cannot be used.
        """
        del connection, jobs
        raise self._lacks(Capability.TRANSACTIONS, "cannot store a job in your transaction")

    def wait_for_work(self, timeout: float, recheck: Callable[[], bool] | None = None) -> bool:
        """Block until there may be work, at most ``timeout`` seconds.

        Args:
            recheck: Called once after this process has subscribed to wake-ups and before it
                sleeps; True ends the wait. The default checks for any ready job.
        Without ``Capability.WAKE_UP`` this is not called: the worker polls.
        """
        del recheck
        raise self._lacks(Capability.WAKE_UP, f"cannot wait {timeout:g} s for work")

    def notify(self) -> None:
        """Wake a worker that waits for work, in any process; a no-op if none does."""

    def interrupt(self) -> None:
        """End a ``wait_for_work`` call on this instance in another thread."""

    def migrate(self, *, dry_run: bool = False) -> Migration | None:
        """Bring the store to the version that this code works with: ``nuvom migrate``.

        Args:
            dry_run: Change nothing.
        Returns: what was, or would be, done; None if such a store never needs it.
        """
        del dry_run
        return None

    def schedules(self) -> BaseScheduleStore:
        """Return the schedules in this store; a fire and its jobs are one step."""
        raise self._lacks(Capability.SCHEDULES, "cannot keep schedules")

    def start(self) -> None:
        """Prepare for use; called once by a worker. Opening lazily on first use is fine too."""

    def stop(self) -> None:
        """Release connections and threads. Safe to call twice, or before ``start``."""

    def _lacks(self, capability: Capability, reason: str) -> CapabilityMissing:
        return CapabilityMissing(self.name or type(self).__name__, str(capability), reason)
