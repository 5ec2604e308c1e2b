"""Stop signals of foreground processes: the first stops in good order, the second at once.

Installed before anything slow happens, so that a signal is never lost: one that arrives while
the worker is still being built stops it before its first claim.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from nuvom.cli.exit_codes import INTERRUPTED, TERMINATED

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGBREAK")
_PATIENCE = 3  # signals after which nothing is waited for any more


class StopSignals:
    """Counts stop signals, and calls what is connected for the first and for the second.

    Attributes:
        received: Numbers of the signals so far.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self._first: Callable[[], None] | None = None
        self._second: Callable[[], None] | None = None

    def install(self) -> StopSignals:
        """Take the signals over; returns itself."""
        for name in _NAMES:
            number = getattr(signal, name, None)
            if number is not None:
                signal.signal(number, self._handle)
        return self

    def connect(self, first: Callable[[], None], second: Callable[[], None]) -> None:
        """Call ``first`` at the first signal and ``second`` at the next.

        Both are called in the signal handler: they must return at once and lock nothing.
        Signals that came already are passed on now.
        """
        self._first, self._second = first, second
        for count in range(1, len(self.received) + 1):
            self._pass_on(count)

    @property
    def exit_code(self) -> int | None:
        """130 after Ctrl-C, 143 after another stop signal, None after none."""
        if not self.received:
            return None
        return INTERRUPTED if self.received[0] == signal.SIGINT else TERMINATED

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.received.append(number)
        count = len(self.received)
        is_starting = self._first is None
        if count >= _PATIENCE or (is_starting and count > 1):
            os._exit(self.exit_code or TERMINATED)
        self._pass_on(count)

    def _pass_on(self, count: int) -> None:
        call = self._first if count == 1 else self._second
        if call is not None:
            call()


def write_now(text: str) -> None:
    """Write to standard error from a signal handler, where buffered streams may not be used."""
    try:
        os.write(2, text.encode("ascii", "backslashreplace"))
    except OSError:  # nobody is listening any more
        return
