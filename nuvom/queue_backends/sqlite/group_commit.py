"""Group commit: callers that enqueue at the same time share one transaction and one flush.

There is no writer thread. Whoever holds the lock commits for itself and for all who came meanwhile;
alone, a caller commits at once. Callers that are done are woken one after the other: all at once,
they would only wait for the interpreter lock.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
R = TypeVar("R")

_GATHER_SECS = 0.0001
_LOOK_SECS = 0.05  # a caller that was interrupted may have owed somebody a wake-up
_MOST = 1000


class _Ticket(Generic[T, R]):
    """One caller's item.

    Attributes:
        bed: Its caller sleeps on it until it is woken.
        others: Those of its group who are still to be woken, one by the other.
        has_outcome: It is known to be stored, or refused.
        is_gone: Its caller was interrupted and waits no more.
    """

    __slots__ = ("bed", "error", "has_outcome", "is_gone", "item", "others", "result")

    def __init__(self, item: T) -> None:
        self.item = item
        self.bed = threading.Lock()
        self.bed.acquire()
        self.others: deque[_Ticket[T, R]] | None = None
        self.has_outcome = False
        self.is_gone = False
        self.result: R | None = None
        self.error: BaseException | None = None

    def wake(self) -> None:
        """Have its caller look again; twice is fine."""
        with suppress(RuntimeError):  # it was woken before
            self.bed.release()


class GroupCommit(Generic[T, R]):
    """Hands items that arrive together to ``commit`` together.

    Args:
        commit: Stores all items in one transaction and returns a result for each, in order.
            Storing an item a second time changes nothing. When it raises, every caller of the
            group gets the error, unless the group had more than one item: then each is tried
            alone, so that one bad item harms nobody.

    A caller that is interrupted (Ctrl-C) leaves the others' items to the next one.
    """

    def __init__(self, commit: Callable[[list[T]], list[R]]) -> None:
        self._commit = commit
        self._waiting: deque[_Ticket[T, R]] = deque()
        self._gatherer: _Ticket[T, R] | None = None  # of a leader that waits for more to come
        self._leading = threading.Lock()  # held by who commits
        # So that nobody waits for the lock itself, and misses that the leader has committed for it.
        # No other thread gets its turn between a look at this and the lock: there is no call.
        self._is_led = False
        self._last_size = 1

    def submit(self, item: T) -> R:
        """Return the result of ``item`` once its group is committed, or raise its error."""
        if self._last_size > 1 or self._is_led or self._waiting:
            return self._submit_with_others(item)
        with self._leading:
            try:
                self._is_led = True
                return self._commit([item])[0]
            finally:
                self._is_led = False
                if self._waiting:
                    self._wake_next()

    def _submit_with_others(self, item: T) -> R:
        ticket: _Ticket[T, R] = _Ticket(item)
        try:
            self._wait(ticket)
        except BaseException:
            ticket.is_gone = True
            self._wake_next()
            raise
        finally:
            if ticket.others:
                _wake_one(ticket.others)
        if ticket.error is not None:
            raise ticket.error
        return ticket.result  # type: ignore[return-value]  # set where there is no error

    def _wait(self, ticket: _Ticket[T, R]) -> None:
        """Return once the item has its outcome: from a leader, or from leading."""
        self._waiting.append(ticket)
        gatherer = self._gatherer
        if gatherer is not None and len(self._waiting) >= self._last_size:
            gatherer.wake()
        while not ticket.has_outcome and not self._leads(ticket):
            ticket.bed.acquire(timeout=_LOOK_SECS)

    def _leads(self, ticket: _Ticket[T, R]) -> bool:
        """Commit what waits, unless another caller does just now."""
        if self._is_led:
            return False
        with self._leading:
            try:
                self._is_led = True
                if not ticket.has_outcome:
                    self._lead(ticket)
                return True
            finally:
                self._is_led = False
                if self._waiting:
                    self._wake_next()

    def _lead(self, own: _Ticket[T, R]) -> None:
        """Commit what waits, this caller's own item included."""
        self._gather(own)
        group = self._group_of(own)
        self._last_size = len(group)
        self._store(group)
        done = deque(group[1:])
        for ticket in done:
            ticket.others = done
        _wake_one(done)

    def _gather(self, own: _Ticket[T, R]) -> None:
        """Wait until as many have come as last time, who were just woken."""
        try:
            self._gatherer = own
            if len(self._waiting) < self._last_size:
                own.bed.acquire(timeout=_GATHER_SECS)
        finally:
            self._gatherer = None

    def _group_of(self, own: _Ticket[T, R]) -> list[_Ticket[T, R]]:
        """Return this caller's ticket, then those of all who wait."""
        group = [own]
        while self._waiting and len(group) < _MOST:
            ticket = self._waiting.popleft()  # if interrupted now, its own caller commits it
            if ticket is not own and not ticket.has_outcome and not ticket.is_gone:
                group.append(ticket)
        return group

    def _store(self, group: list[_Ticket[T, R]]) -> None:
        try:
            results = self._commit([ticket.item for ticket in group])
        except Exception as error:  # noqa: BLE001  # handed to the callers, each in its own thread
            if len(group) == 1:
                group[0].error = error
                group[0].has_outcome = True
                return
            for ticket in group:
                self._store([ticket])
            return
        for ticket, result in zip(group, results, strict=True):
            ticket.result = result
            ticket.has_outcome = True

    def _wake_next(self) -> None:
        """Wake the first of those who wait: nobody leads any more."""
        with suppress(IndexError):
            self._waiting[0].wake()


def _wake_one(done: deque[_Ticket[T, R]]) -> None:
    """Wake the next caller that still waits; it does the same for the next after it."""
    while True:
        try:
            ticket = done.popleft()
        except IndexError:
            return
        if not ticket.is_gone:
            ticket.wake()
            return
