"""Clocks for laws that wait for other threads, and wrong ones for processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.testing.clock import FakeClock
from tests.lab.iofaults import compiled

if TYPE_CHECKING:
    from nuvom.core.clock import Waitable


VARIABLE = "NUVOM_CLOCK_SECS"
"""Read by a process with a wrong clock at each look at it; it may set its own."""


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


def wrong_clock(folder: Path, secs: float | str) -> dict[str, str]:
    """Return what to add to a child's environment for a wall clock that is wrong by ``secs``.

    Args:
        folder: Where the library that is preloaded is compiled, once.
        secs: Added to the time; ``pid``: a day, nothing or minus a day, in turn of the processes.
    """
    library = compiled(folder, Path(__file__).with_name("wrongclock.c"))
    return {"LD_PRELOAD": os.path.abspath(library), VARIABLE: str(secs)}
