"""A clock for laws that wait for other threads and yet let leases end at no cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.testing.clock import FakeClock

if TYPE_CHECKING:
    from nuvom.core.clock import Waitable


class RunningClock(FakeClock):
    """Time that passes by itself, and that ``advance`` moves ahead.

    With a ``FakeClock`` a call that waits for another one's lock would wait for ever.
    """

    def __init__(self) -> None:
        super().__init__()
        self._began = SYSTEM_CLOCK.monotonic()

    def now(self) -> float:
        return super().now() + self._passed_secs()

    def monotonic(self) -> float:
        return super().monotonic() + self._passed_secs()

    def sleep(self, secs: float) -> None:
        SYSTEM_CLOCK.sleep(secs)

    def wait(self, event: Waitable, secs: float | None = None) -> bool:
        return event.wait(secs)

    def _passed_secs(self) -> float:
        return SYSTEM_CLOCK.monotonic() - self._began
