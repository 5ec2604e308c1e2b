"""The two streams of a command: what they can show, and that they never raise over a character.

Colour and symbols are decided here, for each stream by itself: the output may be a terminal
while the messages go to a file.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping

PIPE_WIDTH = 80
_STYLES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}
_ENABLE_VT = 0x0004  # ENABLE_VIRTUAL_TERMINAL_PROCESSING


class Stream:
    """A text stream with what is known of its reader.

    Attributes:
        is_terminal: Whether a person looks at it.
        has_unicode: Whether box drawing and other symbols arrive as meant.
        has_color: Whether it takes colour.
    """

    def __init__(
        self, stream: TextIO, color: str = "auto", environ: Mapping[str, str] = os.environ
    ) -> None:
        self.raw = stream
        self.is_terminal = _is_terminal(stream)
        encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "")
        self.has_unicode = encoding in {"utf8", "cp65001"}
        self.has_color = _wants_color(color, self.is_terminal, environ)
        if self.has_color and self.is_terminal and sys.platform == "win32":
            self.has_color = _enable_vt(stream)

    @property
    def width(self) -> int:
        """Columns of the terminal, or 80 where there is none."""
        if not self.is_terminal:
            return PIPE_WIDTH
        try:
            return max(20, os.get_terminal_size(self.raw.fileno()).columns or PIPE_WIDTH)
        except (OSError, ValueError, AttributeError):  # a terminal that cannot tell
            return PIPE_WIDTH

    def paint(self, text: str, style: str = "") -> str:
        """Return ``text`` in a style such as ``"bold red"``, unchanged without colour."""
        codes = ";".join(_STYLES[word] for word in style.split())
        return f"\x1b[{codes}m{text}\x1b[0m" if codes and self.has_color else text

    def symbol(self, unicode: str, ascii: str) -> str:  # noqa: A002  # what it is in ASCII
        """Return whichever of the two this stream can show."""
        return unicode if self.has_unicode else ascii

    def line(self, text: str = "") -> None:
        """Write one line."""
        self.raw.write(f"{text}\n")
        if self.is_terminal:
            self.raw.flush()


def never_raise_over_characters() -> None:
    """Let standard output and error escape the characters that they cannot encode."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (ValueError, AttributeError):  # closed, or absent (pythonw)
        return False


def _wants_color(color: str, is_terminal: bool, environ: Mapping[str, str]) -> bool:  # noqa: FBT001  # a fact, not a switch
    if color != "auto":
        return color == "always"
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR", "0") not in {"", "0"}:
        return True
    if environ.get("CLICOLOR_FORCE", "0") not in {"", "0"}:
        return True
    return is_terminal and environ.get("TERM") != "dumb"


def _enable_vt(stream: TextIO) -> bool:
    """Switch on escape sequences in a Windows console; False where that fails."""
    if sys.platform != "win32":
        return True
    import ctypes  # noqa: PLC0415  # Windows only
    import msvcrt  # noqa: PLC0415  # Windows only

    handle = msvcrt.get_osfhandle(stream.fileno())
    mode = ctypes.c_ulong()
    kernel = ctypes.windll.kernel32
    if not kernel.GetConsoleMode(handle, ctypes.byref(mode)):
        return False
    return bool(kernel.SetConsoleMode(handle, mode.value | _ENABLE_VT))
