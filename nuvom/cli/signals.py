"""Stop signals of foreground processes: the first stops in good order, the second at once.

Installed before anything slow happens, so that a signal is never lost: one that arrives while
the worker is still being built stops it before its first claim. SIGHUP has two meanings: the
terminal was closed, which stops the process as well; or somebody asks for a restart.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import click

from nuvom.cli.exit_codes import INTERRUPTED, TERMINATED
from nuvom.host import processes as platforms

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

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
        self._restart: Callable[[], None] | None = None
        self._had_terminal = platforms.has_terminal()

    def install(self) -> StopSignals:
        """Take the signals over; returns itself."""
        for number in platforms.stop_signals():
            signal.signal(number, self._handle)
        hang_up = platforms.hang_up_signal()
        if hang_up is not None:
            signal.signal(hang_up, self._hang_up)
        platforms.let_signals_in()
        return self

    def connect(
        self,
        first: Callable[[], None],
        second: Callable[[], None],
        restart: Callable[[], None] | None = None,
    ) -> None:
        """Call ``first`` at the first signal, ``second`` at the next and ``restart`` at SIGHUP.

        They are called in the signal handler: they must return at once and lock nothing.
        Stop signals that came already are passed on now; whoever starts has nothing to restart.
        Without ``restart`` SIGHUP is a stop signal.
        """
        self._first, self._second, self._restart = first, second, restart
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

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        has_lost_terminal = self._had_terminal and not platforms.has_terminal()
        if has_lost_terminal or (self._first is not None and self._restart is None):
            self._handle(number, frame)
        elif self._restart is not None:
            self._restart()

    def _pass_on(self, count: int) -> None:
        call = self._first if count == 1 else self._second
        if call is not None:
            call()


def stop_signals() -> StopSignals:
    """Return the handlers that the command line installed before it loaded the command."""
    found = click.get_current_context().find_root().meta.get("nuvom.signals")
    return found if isinstance(found, StopSignals) else StopSignals().install()


def write_now(text: str) -> None:
    """Write to standard error from a signal handler, where buffered streams may not be used."""
    try:
        os.write(2, text.encode("ascii", "backslashreplace"))
    except OSError:  # nobody is listening any more
        return
