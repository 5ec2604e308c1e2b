"""Group commit: callers that enqueue at the same time share one transaction and one flush.

There is no writer thread. The first caller to come commits for itself and for all who queued
behind it meanwhile; alone, a caller commits at once in its own thread. Callers that are done are
let go one after the other: woken all at once, they would only wait for the interpreter lock.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
R = TypeVar("R")

_GATHER_SECS = 0.0001  # a flush takes about as long: waiting longer gains nothing
_MOST = 1000


class _Ticket(Generic[T, R]):
    """One caller's item.

    Attributes:
        turn: Held until the caller may go on: to lead, or since its outcome is known.
        others: Those of its group who are still to be let go, one by the other.
        is_let_go: Its caller has to let the next of them go.
        is_gone: Its caller was interrupted and waits no more.
        has_outcome: It is known to be stored, or refused.
    """

    __slots__ = (
        "error",
        "has_outcome",
        "is_gone",
        "is_let_go",
        "item",
        "leads",
        "others",
        "result",
        "turn",
    )

    def __init__(self, item: T) -> None:
        self.item = item
        self.turn = threading.Lock()
        self.turn.acquire()
        self.others: deque[_Ticket[T, R]] | None = None
        self.leads = False
        self.is_let_go = False
        self.is_gone = False
        self.has_outcome = False
        self.result: R | None = None
        self.error: BaseException | None = None


class GroupCommit(Generic[T, R]):
    """Hands items that arrive together to ``commit`` together.

    Args:
        commit: Stores all items in one transaction and returns a result for each, in order.
            When it raises, every caller of the group gets the error, unless the group had
            more than one item: then each is tried alone, so that one bad item harms nobody.

    A caller that is interrupted (Ctrl-C) leaves the others' items to the next leader.
    """

    def __init__(self, commit: Callable[[list[T]], list[R]]) -> None:
        self._commit = commit
        self._waiting: deque[_Ticket[T, R]] = deque()
        self._gatherer: _Ticket[T, R] | None = None  # a leader that waits for more to come
        self._lock = threading.Lock()
        self._leading = threading.Lock()  # held while somebody leads, and passed on with the lead
        self._last_size = 1

    def submit(self, item: T) -> R:
        """Return the result of ``item`` once its group is committed, or raise its error."""
        # By keyword it would take three times as long.
        if self._last_size == 1 and self._leading.acquire(False):
            try:
                return self._commit([item])[0]
            finally:
                self._hand_over()
        ticket: _Ticket[T, R] = _Ticket(item)
        with self._lock:
            self._waiting.append(ticket)  # first: see ``_hand_over``
            leads = self._leading.acquire(blocking=False)
            if self._gatherer is not None and len(self._waiting) >= self._last_size:
                self._gatherer.turn.release()
                self._gatherer = None
        if leads or self._waits_to_lead(ticket):
            self._lead(ticket)
        if ticket.error is not None:
            raise ticket.error
        return ticket.result  # type: ignore[return-value]  # set where there is no error

    def _waits_to_lead(self, ticket: _Ticket[T, R]) -> bool:
        try:
            ticket.turn.acquire()
        except BaseException:  # Ctrl-C: nobody may be left waiting for this caller
            with self._lock:
                ticket.is_gone = True
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
            if ticket.leads:
                self._hand_over()
            raise
        finally:
            if ticket.is_let_go and ticket.others:
                _let_one_go(ticket.others)
        return ticket.leads

    def _lead(self, own: _Ticket[T, R]) -> None:
        """Commit what waits, this caller's own item included, then pass the lead on."""
        group: list[_Ticket[T, R]] = []
        try:
            self._gather(own)
            with self._lock:
                self._gatherer = None
                count = min(len(self._waiting), _MOST)
                group += [self._waiting.popleft() for _ in range(count)]
                self._last_size = max(1, count)
            self._store(group)
        finally:
            done = self._settle(own, group)
            self._hand_over()
            _let_one_go(done)

    def _settle(self, own: _Ticket[T, R], group: list[_Ticket[T, R]]) -> deque[_Ticket[T, R]]:
        """Return those whose outcome is known; the others wait on, ahead of who came later."""
        done: deque[_Ticket[T, R]] = deque()
        with self._lock:
            for ticket in reversed(group):
                if ticket is own or ticket.is_gone:
                    continue
                if ticket.has_outcome:
                    ticket.others = done
                    done.appendleft(ticket)
                else:  # this caller was interrupted
                    self._waiting.appendleft(ticket)
            if own in self._waiting:
                self._waiting.remove(own)
        return done

    def _gather(self, own: _Ticket[T, R]) -> None:
        """Wait until as many have come as last time, which is who was let go by that commit."""
        with self._lock:
            if len(self._waiting) >= self._last_size:
                return
            self._gatherer = own  # whoever completes them wakes it
        own.turn.acquire(timeout=_GATHER_SECS)

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

    def _hand_over(self) -> None:
        """Give up the lead, to the first of those who wait.

        Who finds that somebody leads waits already: it is seen here, or by whoever leads by then.
        """
        self._leading.release()
        if not self._waiting or not self._leading.acquire(blocking=False):
            return
        with self._lock:
            if not self._waiting:  # it was interrupted
                self._leading.release()
                return
            heir = self._waiting[0]
            heir.leads = True
        heir.turn.release()


def _let_one_go(done: deque[_Ticket[T, R]]) -> None:
    """Let the next caller go that still waits; it does the same for the next after it."""
    while True:
        try:
            ticket = done.popleft()
        except IndexError:
            return
        ticket.is_let_go = True  # first, or somebody interrupted just now would let nobody go
        if not ticket.is_gone:
            ticket.turn.release()
            return
