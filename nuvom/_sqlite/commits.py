"""Group commit: callers that enqueue at the same time share one transaction and one flush.

There is no writer thread. The first caller to come commits for itself and for all who queued
behind it meanwhile; alone, a caller commits at once in its own thread.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.clock import Clock

T = TypeVar("T")
R = TypeVar("R")

_GATHER_SECS = 0.0001  # a flush takes about as long: waiting longer gains nothing
_MOST = 1000


class _Ticket(Generic[T, R]):
    """One caller's item. ``has_outcome`` once it is known to be stored, or refused."""

    __slots__ = ("error", "has_outcome", "item", "leads", "result", "turn")

    def __init__(self, item: T) -> None:
        self.item = item
        self.turn = threading.Lock()
        self.turn.acquire()
        self.leads = False
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

    def __init__(self, commit: Callable[[list[T]], list[R]], clock: Clock) -> None:
        self._commit = commit
        self._clock = clock
        self._waiting: deque[_Ticket[T, R]] = deque()
        self._lock = threading.Lock()
        self._is_led = False
        self._last_size = 1

    def submit(self, item: T) -> R:
        """Return the result of ``item`` once its group is committed, or raise its error."""
        ticket: _Ticket[T, R] | None = None
        with self._lock:
            leads = not self._is_led
            self._is_led = True
            if not leads or self._last_size > 1:
                ticket = _Ticket(item)
                self._waiting.append(ticket)
        if ticket is None:
            try:
                return self._commit([item])[0]
            finally:
                self._hand_over()
        if leads or self._waits_to_lead(ticket):
            self._lead(ticket)
        if ticket.error is not None:
            raise ticket.error
        return ticket.result  # type: ignore[return-value]  # set where there is no error

    def _waits_to_lead(self, ticket: _Ticket[T, R]) -> bool:
        try:
            ticket.turn.acquire()
        except BaseException:  # Ctrl-C: nobody may be left waiting for this caller to lead
            with self._lock:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
            if ticket.leads:
                self._hand_over()
            raise
        return ticket.leads

    def _lead(self, own: _Ticket[T, R]) -> None:
        """Commit what waits, this caller's own item included, then pass the lead on."""
        group: list[_Ticket[T, R]] = []
        try:
            self._gather()
            with self._lock:
                count = min(len(self._waiting), _MOST)
                group += [self._waiting.popleft() for _ in range(count)]
                self._last_size = max(1, count)
            self._store(group)
        finally:
            self._let_go(own, group)
            self._hand_over()

    def _let_go(self, own: _Ticket[T, R], group: list[_Ticket[T, R]]) -> None:
        """Release those whose outcome is known; the others wait on, ahead of who came later."""
        unknown = []
        for ticket in group:
            if ticket is own:
                continue
            if ticket.has_outcome:
                ticket.turn.release()
            else:  # this caller was interrupted
                unknown.append(ticket)
        with self._lock:
            self._waiting.extendleft(reversed(unknown))
            if own in self._waiting:
                self._waiting.remove(own)

    def _gather(self) -> None:
        """Wait until as many have come as last time, which is who was let go by that commit."""
        deadline = self._clock.monotonic() + _GATHER_SECS
        while len(self._waiting) < self._last_size and self._clock.monotonic() < deadline:
            self._clock.sleep(0)

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
        with self._lock:
            if not self._waiting:
                self._is_led = False
                return
            heir = self._waiting[0]
            heir.leads = True
        heir.turn.release()
