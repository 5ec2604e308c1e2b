"""Tells people how far long work is: a bar on a terminal, elsewhere a line now and then.

The bar is the last line of the terminal. Whoever writes there meanwhile takes it away first:
``nuvom.log.LogHandler`` for log lines, ``nuvom.cli.output.Output`` for all else. It draws no faster
than it is told something, and has no thread of its own.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Self, TextIO

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.text import mask_text, one_line
from nuvom.log import own_handlers, unchanged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from nuvom.core.clock import Clock

_BAR_AFTER_SECS = 1.0  # shorter work needs no bar
_DRAW_SECS = 0.1
_LINE_SECS = 10.0
_BAR_CELLS = 24
_SPANS = ((7200, 3600, "h"), (120, 60, "min"), (0, 1, "s"))


class ProgressDisplay:
    """How far some work is. Use it as a context manager, and call ``tell`` now and then.

    Args:
        label: What is being done, such as ``Waiting``.
        unit: What is counted, such as ``jobs``.
        total: How many there are, if that is known.
        stream: Where to show it, usually standard error; None shows nothing.
        color: Whether a bar has colours; None asks the terminal and ``NO_COLOR``.

    Attributes:
        total: May be changed at any time.
    """

    def __init__(
        self,
        label: str,
        unit: str = "",
        total: float | None = None,
        *,
        stream: TextIO | None,
        color: bool | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.total = total
        self._label, self._unit = one_line(label), unit
        self._stream, self._color = stream, color
        self._clock = clock
        self._is_bar = stream is not None and is_screen(stream)
        self._began = clock.monotonic()
        self._due = self._began + (_BAR_AFTER_SECS if self._is_bar else _LINE_SECS)
        self._console: Console | None = None
        self._shown = self._erase = ""

    def tell(self, done: float, note: str = "", *, total: float | None = None) -> None:
        """Show that ``done`` of the total is done, unless something was shown just now.

        Args:
            note: What to show beside the count.
            total: A new total.
        """
        self.total = self.total if total is None else total
        now = self._clock.monotonic()
        is_due = now >= self._due or (self._shown and done == self.total)
        if self._stream is None or not is_due:
            return
        self._due = now + (_DRAW_SECS if self._is_bar else _LINE_SECS)
        parts = [self._count(done), one_line(mask_text(note)), self._left(done, now)]
        text = ", ".join(filter(None, parts))
        if self._is_bar:
            self._draw(done, text)
        else:
            self._write(f"{self._label}: {text} ({_span(now - self._began)} so far)\n")

    def hide(self) -> None:
        """Take the bar away; the next ``tell`` shows it again."""
        if self._shown:
            self._shown, self._due = "", 0.0
            self._write(self._erase)

    def beside(self, line: str) -> str:
        """Return ``line`` with what moves the bar below it."""
        return f"{self._erase}{line}{self._shown}" if self._shown else line

    def __enter__(self) -> Self:
        if self._is_bar:
            for handler in own_handlers():
                handler.around = self.beside
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_bar:
            for handler in own_handlers():
                handler.around = unchanged
        self.hide()
        self._stream = None

    def _count(self, done: float) -> str:
        if self.total is None:
            return f"{_number(done)} {self._unit}".strip() if done else ""
        return f"{_number(done)} of {_number(self.total)} {self._unit}".strip()

    def _left(self, done: float, now: float) -> str:
        """Return how long the rest takes if it goes on at the same pace."""
        if self.total is None or not 0 < done < self.total:
            return ""
        return f"about {_span((now - self._began) * (self.total - done) / done)} left"

    def _draw(self, done: float, text: str) -> None:
        from rich.progress_bar import ProgressBar  # noqa: PLC0415  # only where something is drawn
        from rich.text import Text  # noqa: PLC0415  # likewise

        console = self._console = self._console or _console(self._stream, color=self._color)
        cells = max(20, console.width - 1)  # a full line would move the cursor to the next
        width = min(_BAR_CELLS, cells // 4)
        is_open = self.total is None and not done
        with console.capture() as captured:
            console.print(ProgressBar(self.total, done, width=width, pulse=is_open), end="")
        rest = Text(text)
        has_dots = console.encoding.lower().startswith("utf")
        room = max(0, cells - len(self._label) - width - 4)
        rest.truncate(room, overflow="ellipsis" if has_dots else "crop")
        before, self._erase = self._erase, f"\r{' ' * cells}\r"
        bar = captured.get().ljust(width)  # without colours it ends where the work is
        self._shown = f"{self._label}  {bar}  {rest.plain}"
        self._write(f"{before or self._erase}{self._shown}")

    def _write(self, text: str) -> None:
        stream = self._stream
        if stream is not None:
            with suppress(OSError, ValueError):  # nobody sees it; that must not fail the work
                stream.write(text)
                stream.flush()


def is_screen(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether a line of ``stream`` can be written again."""
    try:
        return stream.isatty() and environ.get("TERM") != "dumb"
    except (ValueError, AttributeError):  # closed
        return False


def _console(stream: TextIO | None, *, color: bool | None) -> Console:
    from rich.console import Console  # noqa: PLC0415  # only where something is drawn

    return Console(
        file=stream,
        color_system=None if color is False else "auto",
        force_terminal=color,
        legacy_windows=False,
        highlight=False,
    )


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:.4g}"


def _span(secs: float) -> str:
    size, unit = next((size, unit) for least, size, unit in _SPANS if secs >= least)
    return f"{secs / size:.0f} {unit}"
