"""The contract of a schedule store: what keeps schedules, and wakes schedulers.

A queue of the house offers one on its own store (``BaseJobQueue.schedules``), where a fire and its
jobs are one step. A store of schedules alone works as well: the jobs' ids follow from schedule and
fire time, so a scheduler enqueues first, and enqueueing twice is harmless.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, Protocol

from nuvom.core.clock import SYSTEM_CLOCK, Clock, Waitable
from nuvom.errors import ScheduleNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from nuvom.scheduler.record import ScheduleChange, ScheduleRecord


PAGE = 500
"""How many schedules are read in one step by whoever reads all."""

_MOST_NAMES = 10_000  # among which a misspelt one is looked for


class ScheduleWaiter(Waitable, Protocol):
    """What a scheduler sleeps on."""

    def poke(self) -> None:
        """End the current ``wait``, from any thread."""
        ...


class BaseScheduleStore(ABC):
    """Keeps schedules. Built as ``cls(settings)``. All methods may be called from any thread.

    Attributes:
        clock: The clock that decides what is due; of a store on a server, the server's.
        inserts_jobs: Whether ``apply`` stores the jobs of a change in the same step, in the queue
            that they are for. If not, it gets none: they have been enqueued before.
    """

    name: ClassVar[str] = ""
    inserts_jobs: bool = False
    clock: Clock = SYSTEM_CLOCK

    @abstractmethod
    def apply(self, changes: Sequence[ScheduleChange]) -> list[bool]:
        """Write changes in order, each only if its schedule has the revision that was seen.

        Each change is atomic, its jobs included, and all are durable when this returns. One that
        is refused does not affect others. Afterwards sleeping schedulers are woken if the earliest
        ``due_at`` of all schedules is earlier than before, and workers if there are new jobs.

        A store that makes the call again by itself, since the answer was lost, returns what the
        first one has written.

        Returns: for each, whether it was written.
        """

    @abstractmethod
    def get(self, name: str) -> ScheduleRecord | None:
        """Return a schedule, or None."""

    @abstractmethod
    def page(self, after: str | None = None, limit: int = 100) -> list[ScheduleRecord]:
        """Return schedules by name, from the first name after ``after``, compared as UTF-8."""

    @abstractmethod
    def due(self, now: float, limit: int) -> list[ScheduleRecord]:
        """Return at most ``limit`` schedules whose ``due_at`` has come, the earliest first.

        It reads no other schedules: their number does not matter. Damaged ones hold up no others.
        Raises: PayloadError: all that are due are damaged.
        """

    @abstractmethod
    def next_due_at(self) -> float | None:
        """Return the earliest ``due_at``, or None if no schedule has one."""

    @abstractmethod
    def waiter(self) -> AbstractContextManager[ScheduleWaiter]:
        """Lend something that is woken when the earliest ``due_at`` of all schedules is earlier.

        It misses nothing from the moment it is lent: whoever looks at ``next_due_at`` and then
        waits learns of everything that is written after the look.
        """

    def start(self) -> None:
        """Prepare for use. Opening lazily on first use is fine too."""

    def stop(self) -> None:
        """Release connections. Safe to call twice."""


def all_records(store: BaseScheduleStore) -> Iterator[ScheduleRecord]:
    """Yield all schedules of a store by name."""
    after: str | None = None
    while page := store.page(after, PAGE):
        yield from page
        after = page[-1].name


def find_record(store: BaseScheduleStore, name: str) -> ScheduleRecord:
    """Return a schedule. Raises: ScheduleNotFound, which names those with similar names."""
    record = store.get(name)
    if record is None:
        names = (one.name for one in islice(all_records(store), _MOST_NAMES))
        raise ScheduleNotFound(name, names)
    return record
