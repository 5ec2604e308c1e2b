"""Places where threads of this process sleep until a server tells them of news.

Each sleeping thread has a connection of its own. It is kept for the next one, since making it takes
longer than most waits.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORK, RESULTS, SCHEDULES = "work", "results", "schedules"


class Sleeper(Protocol):
    """One thread's place to sleep. Only ``poke`` may be called by others."""

    def is_usable(self) -> bool:
        """Whether its connection is still there."""
        ...

    def arm(self) -> None:
        """Have the server wake it from now on."""
        ...

    def disarm(self) -> None:
        """Have nobody wake it."""
        ...

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until woken or poked; return whether there may be news."""
        ...

    def poke(self) -> None:
        """End its sleep."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


Kind = TypeVar("Kind", bound=Sleeper)


class SleeperPool(Generic[Kind]):
    """The sleepers of one process at a store.

    Args:
        make: Returns a new sleeper that is woken for ``WORK``, ``RESULTS`` or ``SCHEDULES``.
    """

    def __init__(self, make: Callable[[str], Kind]) -> None:
        self._make = make
        self._idle: dict[str, list[Kind]] = {WORK: [], RESULTS: [], SCHEDULES: []}
        self._sleeping: set[Kind] = set()
        self._is_closed = False

    def wait_for_work(self, timeout: float, has_work: Callable[[], bool]) -> bool:
        """Sleep until there may be work, at most ``timeout`` seconds."""
        with self.lend(WORK) as one:
            return has_work() or one.wait(timeout)

    def interrupt(self) -> None:
        """End every wait in this process."""
        for one in tuple(self._sleeping):
            one.poke()

    def close(self) -> None:
        """Close all sleepers, those that are in use once they are given back."""
        self._is_closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        for kept in self._idle.values():
            with suppress(IndexError):  # empty, perhaps only now
                while True:
                    kept.pop().close()

    @contextmanager
    def lend(self, kind: str) -> Iterator[Kind]:
        """Lend a sleeper that is armed; it is kept for the next one if all went well."""
        one = self._take(kind)
        try:
            self._sleeping.add(one)
            one.arm()
            yield one
            one.disarm()
            self._sleeping.discard(one)
            self._idle[kind].append(one)
        except BaseException:
            self._sleeping.discard(one)
            one.close()
            raise
        if self._is_closed:  # just now, perhaps: whoever closed this did not see it
            self._close_idle()

    def _take(self, kind: str) -> Kind:
        """Return a sleeper that nobody uses, made anew where the server has cut them all."""
        while True:
            try:
                one = self._idle[kind].pop()
            except IndexError:  # all are in use
                return self._make(kind)
            if one.is_usable():
                return one
            one.close()
