"""A delivery that tells how long the store took; in use only where somebody listens to that.

A worker that nobody measures has the plain delivery, and pays nothing for this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuvom.events import BackendCalled, WorkerAsked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nuvom.core.clock import Clock
    from nuvom.core.outcome import Settlement
    from nuvom.core.record import JobRecord
    from nuvom.events import EventBus
    from nuvom.execution.delivery import Delivery, QueueFilter


class WatchedDelivery:
    """Does what ``delivery`` does, and emits ``BackendCalled`` and ``WorkerAsked``.

    Args:
        leaked: Returns how many slots were replaced whose code still runs.
    """

    def __init__(
        self, delivery: Delivery, bus: EventBus, clock: Clock, leaked: Callable[[], int]
    ) -> None:
        self._delivery = delivery
        self._bus = bus
        self._clock = clock
        self._leaked = leaked
        self.served = delivery.served
        self.finished_before = delivery.finished_before
        self.release = delivery.release
        self.next_due_secs = delivery.next_due_secs
        self.report_progress = delivery.report_progress

    def claim(
        self,
        n: int,
        owner: str,
        *,
        without: Iterable[str] = (),
        suspects: int = 1,
        served: QueueFilter | None = None,
    ) -> list[JobRecord]:
        """Get at most ``n`` jobs for ``owner``."""
        began = self._clock.monotonic()
        jobs = self._delivery.claim(n, owner, without=without, suspects=suspects, served=served)
        self._tell("claim", began)
        self._bus.emit(WorkerAsked(owner, len(jobs), self._leaked()))
        return jobs

    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Close attempts; False where the lease was lost."""
        began = self._clock.monotonic()
        accepted = self._delivery.settle(settlements)
        self._tell("settle", began)
        return accepted

    def _tell(self, op: str, began: float) -> None:
        self._bus.emit(BackendCalled(op, self._clock.monotonic() - began))


def watched(
    delivery: Delivery, bus: EventBus, clock: Clock, leaked: Callable[[], int]
) -> Any:  # stands for any delivery
    """Return ``delivery``, watched if somebody subscribed to what that tells."""
    if bus.active.isdisjoint((BackendCalled, WorkerAsked)):
        return delivery
    return WatchedDelivery(delivery, bus, clock, leaked)
