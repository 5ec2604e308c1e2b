"""A queue that lives and dies with this process: for tests, scripts and embedded workers."""

from __future__ import annotations

from contextlib import contextmanager
from copy import copy
from functools import partial
from threading import Condition, RLock
from typing import TYPE_CHECKING, ClassVar, TypeVar

from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.core.transitions import LostDelivery
from nuvom.queue_backends.base import Capability
from nuvom.queue_backends.table import Table
from nuvom.queue_backends.table_queue import TableQueue
from nuvom.queue_backends.table_schedules import TableSchedules

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from nuvom.core.clock import Waitable
    from nuvom.core.record import JobRecord
    from nuvom.core.transitions import Change
    from nuvom.queue_backends.rows import Holder, Operation
    from nuvom.scheduler.store import ScheduleWaiter

T = TypeVar("T")


class MemoryJobQueue(TableQueue):
    """A queue in memory. Built as ``cls(settings)`` or ``cls()``.

    No other process sees it, so only an expired lease shows that a worker is gone.

    Args:
        settings: Anything with ``lease_secs``, ``max_deliveries``, ``max_queue_size`` and
            ``parked_ttl_secs``; None for the defaults.
        clock: The source of time.

    Attributes:
        table: The jobs; a memory result backend reads them too.
        lock: Guards the table.
        work, outcomes, planned: Notified when a job becomes ready, when one ends, and when a
            schedule becomes due earlier.
        arrivals, endings, plannings: How often that has happened.
    """

    name: ClassVar[str] = "memory"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability)

    def __init__(self, settings: object = None, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.clock = clock
        self.lease_secs = getattr(settings, "lease_secs", 30.0)
        self.max_deliveries = getattr(settings, "max_deliveries", 3)
        self.parked_ttl_secs = getattr(settings, "parked_ttl_secs", 7 * 86_400.0)
        self.max_queue_size = getattr(settings, "max_queue_size", None)
        self.table = Table()
        self.lock = RLock()  # a signal handler may stop a worker whose own thread holds it
        self.work = Condition(self.lock)
        self.outcomes = Condition(self.lock)
        self.planned = Condition(self.lock)
        self.arrivals = self.endings = self.plannings = 0
        self._sleepers: set[object] = set()
        self._version = 0
        self._changes = 0

    def turn(self, action: Callable[[Table], T], *, durable: bool = False) -> T:
        del durable
        with self.lock:
            table = self.table
            if table.unfinished:
                self.tell_workers()  # of jobs that were in no heap
                table.repair()
            return action(table)

    def do(self, table: Table, operation: Operation | Change) -> None:
        self._changes += 1
        table.apply(operation)

    def revision(self) -> Hashable:
        """Return how many changes there have been; see the contract."""
        return self._changes

    # Notified before the change is made: a woken thread gets the lock only afterwards.

    def tell_workers(self, *, everyone: bool = False) -> None:
        del everyone
        self.arrivals += 1
        if self._sleepers:
            self.work.notify_all()

    def tell_readers(self) -> None:
        self.endings += 1
        self.outcomes.notify_all()

    def tell_schedulers(self) -> None:
        self.plannings += 1
        self.planned.notify_all()

    def tell_control(self) -> None:
        self._version += 1
        self.tell_workers()

    def lost_by(self, owner: str, holder: Holder) -> list[LostDelivery]:
        del owner
        now = self.clock.monotonic()
        if holder.known.lease_until > now:
            return []
        return [
            LostDelivery(row.record, row.started_epoch == row.record.lease_epoch)
            for row in holder.held.values()
            if row.lease_until <= now
        ]

    def mark_started(self, job: JobRecord) -> None:
        with self.lock:
            row = self.table.held(job)
            if row is not None:
                row.started_epoch = job.lease_epoch

    def has_started(self, job: JobRecord) -> bool:
        with self.lock:
            row = self.table.held(job)
            return row is not None and row.started_epoch == job.lease_epoch

    def schedules(self) -> TableSchedules:
        """Return the schedules in the same table."""
        return TableSchedules(self)

    # ---- rollback -------------------------------------------------------------------------

    def savepoint(self) -> list[Operation]:
        """Return the present state of all jobs, for ``rollback``."""
        return self.turn(lambda table: [copy(one) for one in table.snapshot()])

    def rollback(self, savepoint: Iterable[Operation]) -> None:
        """Make all jobs what they were at a savepoint; jobs that came later are gone.

        Args:
            savepoint: What ``savepoint`` returned, also in another queue; empty removes all jobs.
        """
        table = Table()
        for one in savepoint:
            table.apply(copy(one))
        with self.lock:
            self.table = table

    # ---- waiting --------------------------------------------------------------------------

    def wait_for_work(self, timeout: float, recheck: Callable[[], bool] | None = None) -> bool:
        sleeper = object()
        try:
            with self.lock:
                self._sleepers.add(sleeper)
                seen = self.arrivals
            if (recheck or self.has_ready)():  # without the lock: it may claim
                return True
            with self.lock:
                due_secs = self.next_due_secs()
                if self.arrivals == seen:
                    secs = timeout if due_secs is None else min(timeout, due_secs)
                    self.clock.wait(self.work, secs)
                    self.next_due_secs()  # a job that has become due counts as an arrival
                return self.arrivals != seen
        finally:
            self._sleepers.discard(sleeper)

    def notify(self) -> None:
        with self.lock:
            self.tell_workers()

    def interrupt(self) -> None:
        self.notify()

    def control_version(self) -> int:
        return self._version

    @contextmanager
    def waiter(self) -> Iterator[Waitable]:
        yield _Waiter(self, self.outcomes, "endings", partial(self.clock.wait, self.outcomes))

    @contextmanager
    def schedule_waiter(self) -> Iterator[ScheduleWaiter]:
        # A scheduler's clock waits for the waiter itself, and so looks at it again and again.
        yield _Waiter(self, self.planned, "plannings", self.planned.wait)


class _Waiter:
    """Set if something has happened since the last look; misses nothing in between."""

    def __init__(
        self,
        queue: MemoryJobQueue,
        news: Condition,
        count: str,
        sleep: Callable[[float | None], bool],
    ) -> None:
        self._queue, self._news, self._count, self._sleep = queue, news, count, sleep
        self._seen = self._happened
        self._is_poked = False

    @property
    def _happened(self) -> int:
        return int(getattr(self._queue, self._count))

    def wait(self, timeout: float | None = None) -> bool:
        queue = self._queue
        with queue.lock:
            if self._seen == self._happened and not self._is_poked:
                self._sleep(timeout)
            has_news = self._seen != self._happened or self._is_poked
            self._seen, self._is_poked = self._happened, False
            return has_news

    def poke(self) -> None:
        """End the current wait, or the next one."""
        with self._queue.lock:
            self._is_poked = True
            self._news.notify_all()
