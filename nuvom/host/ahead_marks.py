"""Tells a server which jobs are about to start, ahead of time, so that a job rarely waits for it.

A job starts only once its mark is acknowledged; one round trip for each would be the limit of a
worker with quick jobs. So marks are sent on a connection of their own, without waiting, for as many
claimed jobs as will start within a few milliseconds: more if the server is farther away. If the
worker dies, that many jobs at most count as started which had not. Slow jobs are marked one by one,
and those that an idle worker claims are marked with the claim.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

from nuvom.core.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterator, Sequence

_LEAST_AHEAD_SECS, _MOST_AHEAD_SECS = 0.002, 0.016
_MOST_AHEAD = 512
_STALL_SECS = 0.0003  # of a wait for a mark that was sent ahead: the server is farther away
_PROVED = 64  # so many jobs have to end before any is marked ahead
_NEWEST_WEIGHT = 0.2  # of the latest jobs in the moving average
_RETRY_SECS = 0.25


class AheadSender(Protocol):
    """A connection that carries the marks of one worker and never waits to send.

    Attributes:
        sent: What is on its way.
    """

    sent: set[int]

    def send(self, refs: list[int], running: Container[int]) -> None:
        """Send marks for these deliveries; marks of none that is ``running`` may be removed."""
        ...

    def acknowledged_until(self, ref: int) -> list[int]:
        """Wait until a delivery that was sent is acknowledged; return all that are by then."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class AheadMarks:
    """The marks of the workers of this process; usable from any thread.

    Args:
        connect: Returns a new connection for the marks of a worker.
        cut: What is raised where the server cannot be reached.
        failure: Returns what to raise in its place once the marks are closed.
    """

    def __init__(
        self,
        connect: Callable[[str], AheadSender],
        cut: tuple[type[Exception], ...],
        failure: Callable[[Any], Exception],
    ) -> None:
        self._connect = connect
        self._cut = cut
        self._failure = failure
        self._lock = threading.Lock()
        self._waiting: dict[str, dict[int, None]] = {}  # claimed and not marked, by owner
        self._owners: dict[int, str] = {}
        self._acknowledged: set[int] = set()  # and not started
        self._senders: dict[str, AheadSender] = {}
        self._ended = 0
        self._mean_secs = 0.0  # from one start to the next
        self._ended_at = 0.0
        self._ahead_secs = _LEAST_AHEAD_SECS
        self._window = 1
        self._least = 0  # of acknowledged ones, below which more are sent; 0 while none could be
        self._is_closed = False

    def expect(self, owner: str, refs: Sequence[int], *, are_known: bool = False) -> None:
        """Note claimed jobs, in the order in which they will start.

        Args:
            are_known: The claim has marked them all.
        """
        with self._lock:
            self._owners.update(dict.fromkeys(refs, owner))
            waiting = self._waiting.setdefault(owner, {})
            if are_known:
                self._acknowledged.update(refs)
            else:
                waiting.update(dict.fromkeys(refs))
                self._least = self._window // 2

    def mark(self, ref: int) -> None:
        """Return once the server knows that a job starts, however long it cannot be reached.

        Raises: what ``failure`` returns, if the marks were closed in the meantime.
        """
        try:
            self._acknowledged.remove(ref)  # most are by then: no lock, since one step does it
        except KeyError:
            self._await(ref)
        else:
            if len(self._acknowledged) < self._least:
                self._send_ahead(ref)

    def ended(self, refs: Collection[int], secs: float) -> None:
        """Note that jobs have ended, which ran for ``secs`` seconds altogether; -1: unknown."""
        with self._lock:
            self._acknowledged.difference_update(refs)
            for ref in refs:
                owner = self._owners.pop(ref, None)
                if owner is not None:
                    self._waiting[owner].pop(ref, None)
            if refs and secs >= 0:
                self._ended += len(refs)
                now = SYSTEM_CLOCK.monotonic()
                # Jobs that share a processor seem long, and a worker that was idle seems slow.
                secs, self._ended_at = min(secs, now - self._ended_at), now
                self._mean_secs += _NEWEST_WEIGHT * (secs / len(refs) - self._mean_secs)
            if self._ended >= _PROVED:
                window = int(self._ahead_secs / (self._mean_secs + 1e-5))
                self._window = max(1, min(_MOST_AHEAD, window))

    def close(self) -> None:
        """Close all connections, for good."""
        self._is_closed = True
        with self._lock:
            while self._senders:
                self._senders.popitem()[1].close()

    def _await(self, ref: int) -> None:
        """Have a job marked that is not, and wait until the server knows it."""
        while (owner := self._owners.get(ref)) is not None:
            try:
                with self._using(owner):
                    self._acknowledge(owner, ref)
            except self._cut as error:
                if self._is_closed:
                    raise self._failure(error) from error
                SYSTEM_CLOCK.sleep(_RETRY_SECS)  # the job must not start, and has nowhere to go
            else:
                return

    def _acknowledge(self, owner: str, ref: int) -> None:
        if ref not in self._acknowledged:  # else another thread has just read its answer
            sender = self._senders.get(owner)
            began = SYSTEM_CLOCK.monotonic()
            if sender is None or ref not in sender.sent:
                sender = self._send(owner, ref)
                known = sender.acknowledged_until(ref)
            else:
                known = sender.acknowledged_until(ref)
                is_late = SYSTEM_CLOCK.monotonic() - began > _STALL_SECS
                secs = self._ahead_secs * (2.0 if is_late else 0.98)
                self._ahead_secs = min(max(secs, _LEAST_AHEAD_SECS), _MOST_AHEAD_SECS)
            self._acknowledged.update(one for one in known if one in self._owners)
            self._least = self._window // 2
        self._acknowledged.discard(ref)

    def _send_ahead(self, ref: int) -> None:
        """Send marks for the next jobs while this one, whose mark is known, runs."""
        owner = self._owners.get(ref, "")
        if owner in self._senders:  # else the next job that has no mark connects again
            with suppress(*self._cut), self._using(owner):
                self._send(owner, None)

    @contextmanager
    def _using(self, owner: str) -> Iterator[None]:
        """Use the connection of a worker; whatever is raised costs it.

        An answer may have been read or not, and others would take it for that to a mark of theirs.
        """
        with self._lock:
            try:
                yield
            except BaseException:
                sender = self._senders.pop(owner, None)
                if sender is not None:
                    sender.close()
                raise

    def _send(self, owner: str, first: int | None) -> AheadSender:
        """Send marks for the next jobs to start, ``first`` before all others."""
        sender = self._senders.get(owner)
        if sender is None:
            sender = self._senders[owner] = self._connect(owner)
        waiting = self._waiting.get(owner, {})
        refs = [] if first is None else [first]
        if first is not None:
            waiting.pop(first, None)
        while waiting and len(refs) < self._window:
            refs.append(next(iter(waiting)))
            del waiting[refs[-1]]
        if refs:
            sender.send(refs, self._owners)
        self._least = 0  # until these are acknowledged, or others claimed
        return sender
