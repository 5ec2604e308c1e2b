"""Text for people: untrusted text made harmless, times, sizes and paths in words.

Everything that comes out of a store (names, arguments, errors of tasks) passes ``clean`` or
``one_line`` before a terminal sees it.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from datetime import UTC, datetime

# Whole escape sequences first (CSI, OSC up to its end, two-character ones), then what is left.
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
# Control characters but tab and newline, direction overrides, line separators, half pairs.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_SPACES = re.compile(r"\s+")
_PLAIN_PATH = re.compile(r"[\w@%+=:,./\\-]+", re.ASCII)
_LEAST_SECS = 0.001
_EXACT_BELOW_SECS = 10  # from there on a tenth of a second says nothing
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def clean(text: str) -> str:
    """Return ``text`` without escape sequences and control characters; newlines stay."""
    return _CONTROL.sub("", _ANSI.sub("", text)).expandtabs(4)


def one_line(text: str) -> str:
    """Return ``clean(text)`` with each run of white space as one space."""
    return _SPACES.sub(" ", clean(text)).strip()


def duration(secs: float) -> str:
    """Return seconds as people say them: ``850 ms``, ``14 s``, ``3 min 5 s``, ``2 d 4 h``."""
    if secs < _LEAST_SECS:
        return "<1 ms" if secs > 0 else "0 s"
    if secs < 1:
        return f"{secs * 1000:.0f} ms"
    if secs < _EXACT_BELOW_SECS:
        return f"{secs:.1f} s".replace(".0 ", " ")
    whole = round(secs)
    for index, (size, unit) in enumerate(_UNITS):
        if whole >= size:
            smaller, name = _UNITS[index + 1] if index + 1 < len(_UNITS) else (1, "s")
            rest = whole % size // smaller
            return f"{whole // size} {unit} {rest} {name}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def ago(moment: float | None, now: float) -> str:
    """Return how long ago ``moment`` was, or how far ahead: ``3 min ago``, ``in 14 s``."""
    if moment is None:
        return "-"
    if moment > now:
        return f"in {_rough(moment - now)}"
    return "now" if now - moment < 1 else f"{_rough(now - moment)} ago"


def _rough(secs: float) -> str:
    for size, unit in _UNITS:
        if secs >= size:
            return f"{secs / size:.0f} {unit}"
    return f"{max(1, round(secs))} s"


def rfc3339(moment: float | None) -> str | None:
    """Return seconds since the epoch as RFC 3339 in UTC, to the millisecond; 0 is no time."""
    if not moment:
        return None
    text = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def quoted(path: object) -> str:
    """Return a path so that it can be pasted into a shell: quoted where that is needed."""
    text = clean(os.fspath(path) if isinstance(path, os.PathLike) else str(path))
    if sys.platform == "win32":
        return text if _PLAIN_PATH.fullmatch(text) else f'"{text}"'
    return shlex.quote(text)
