"""Work done in other threads, with a limit, and with its failure brought back."""

from __future__ import annotations

from threading import Barrier, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Hand(Thread):
    """A daemon thread that does one thing. Whoever ``finish``es it gets what it raised."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self.raised: BaseException | None = None

    def run(self) -> None:
        """Do the work."""
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001  # the thread's outermost frame; ``finish`` raises it
            self.raised = error

    def finish(self, limit_secs: float) -> None:
        """Wait for the end and raise what the work raised.

        Raises: AssertionError: it did not end within ``limit_secs``.
        """
        self.join(limit_secs)
        assert not self.is_alive(), f"still not done after {limit_secs:g} s"
        if self.raised is not None:
            raise self.raised


def all_at_once(work: Callable[[int], object], *, threads: int, limit_secs: float) -> None:
    """Run ``work(0)``, ``work(1)`` ... in threads that start together; raise what one raises."""
    gate = Barrier(threads)

    def begin(number: int) -> None:
        gate.wait(limit_secs)
        work(number)

    hands = [Hand(lambda number=number: begin(number)) for number in range(threads)]  # type: ignore[misc]  # bound now
    for hand in hands:
        hand.start()
    for hand in hands:
        hand.finish(limit_secs)
