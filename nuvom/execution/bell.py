"""What the pump sleeps on: a lock that anybody may release, which is the quickest there is.

The pump's loop is a generator that yields each wait as a ``Nap``; ``drive`` does the waiting. So
the same loop lives on real time in a thread, and on virtual time in a simulation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import NamedTuple

from nuvom.errors import NuvomError


class Bell:
    """Rung by any thread, waited for by one. Rung again before it was heard, it rings once.

    Attributes:
        has_rung: It was rung, and not heard yet.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.has_rung = False

    def ring(self) -> None:
        """Let the one who waits go on, or the next wait end at once."""
        if self.has_rung:  # who is yet to hear it looks only then for what there is to do
            return
        self.has_rung = True
        with suppress(RuntimeError):  # another thread rings it just now
            self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it rings, at most ``timeout`` seconds; return whether it did."""
        is_heard = self._lock.acquire(timeout=-1 if timeout is None else timeout)
        if is_heard:
            self.has_rung = False
        return is_heard


class Nap(NamedTuple):
    """A wait that the pump asks for.

    Attributes:
        secs: At most so long.
        is_on_queue: The queue can end it, too, when a job becomes ready.
    """

    secs: float
    is_on_queue: bool = False


Rounds = Generator[Nap, bool, None]


def drive(rounds: Rounds, sleep: Callable[[Nap], bool]) -> None:
    """Go through ``rounds`` to their end.

    Args:
        sleep: Waits, and returns whether there is news; trouble with the store is thrown into
            the loop, anything else ends it.
    """
    with suppress(StopIteration):
        nap = next(rounds)
        while True:
            try:
                has_news = sleep(nap)
            except NuvomError as error:
                nap = rounds.throw(error)
            else:
                nap = rounds.send(has_news)
