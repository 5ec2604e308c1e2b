"""Group commit: concurrent enqueues share one transaction and one flush.

There is no writer thread. The caller that holds the lock commits for itself and for all who arrived
meanwhile. A lone caller commits at once. Finished callers are woken one after another: if woken all
at once, they would only contend for the GIL.
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
_LOOK_SECS = 0.05  # an interrupted caller may have owed another one a wake-up


class _Ticket(Generic[T, R]):
    """One caller's item.

    Attributes:
        bed: The lock its caller sleeps on until woken.
        others: Tickets of its group whose callers are still to be woken, each by the one before.
        has_outcome: The item is known to be stored or refused.
        is_gone: Its caller was interrupted and no longer waits.
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
        """Wake its caller to look again. Safe to call twice."""
        with suppress(RuntimeError):  # it was woken before
            self.bed.release()


class GroupCommit(Generic[T, R]):
    """Passes items that arrive together to ``commit`` as one group.

    Args:
        commit: Stores all items in one transaction and returns a result for each, in order.
            Storing an item twice must change nothing. If it raises for a group of one, the caller
            gets the error. Items of a larger group are then retried one by one, so that a bad
            item affects only its own caller.

    A caller that is interrupted (Ctrl-C) leaves the others' items to the next caller.
    """

    def __init__(self, commit: Callable[[list[T]], list[R]]) -> None:
        self._commit = commit
        self._waiting: deque[_Ticket[T, R]] = deque()
        self._gatherer: _Ticket[T, R] | None = None  # a leader that waits for more callers
        self._leading = threading.Lock()  # held by the committing caller
        # Keeps callers from waiting for the lock itself and missing that the leader committed for
        # them. No other thread can run between reading this and taking the lock: there is no call.
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
        return ticket.result  # type: ignore[return-value]  # set if there is no error

    def _wait(self, ticket: _Ticket[T, R]) -> None:
        """Wait for the item's outcome, from a leader or by leading itself."""
        self._waiting.append(ticket)
        gatherer = self._gatherer
        if gatherer is not None and len(self._waiting) >= self._last_size:
            gatherer.wake()
        while not ticket.has_outcome and not self._leads(ticket):
            ticket.bed.acquire(timeout=_LOOK_SECS)

    def _leads(self, ticket: _Ticket[T, R]) -> bool:
        """Commit the waiting items, unless another caller is doing so."""
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
        """Commit the waiting items, including this caller's own."""
        self._gather(own)
        group = self._group_of(own)
        self._last_size = len(group)
        self._store(group)
        done = deque(group[1:])
        for ticket in group[1:]:  # one that looks by itself may take another out of ``done``
            ticket.others = done
        _wake_one(done)

    def _gather(self, own: _Ticket[T, R]) -> None:
        """Wait for as many callers as last time: those were just woken and may return."""
        try:
            self._gatherer = own
            if len(self._waiting) < self._last_size:
                own.bed.acquire(timeout=_GATHER_SECS)
        finally:
            self._gatherer = None

    def _group_of(self, own: _Ticket[T, R]) -> list[_Ticket[T, R]]:
        """Return this caller's ticket, then those of all waiting callers."""
        group = [own]
        while self._waiting:
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
        """Wake the first waiting caller: there is no leader now."""
        with suppress(IndexError):
            self._waiting[0].wake()


def _wake_one(done: deque[_Ticket[T, R]]) -> None:
    """Wake the next caller that still waits; it then wakes the one after it."""
    while True:
        try:
            ticket = done.popleft()
        except IndexError:
            return
        if not ticket.is_gone:
            ticket.wake()
            return
