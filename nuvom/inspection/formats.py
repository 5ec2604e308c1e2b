"""How every surface writes times, durations and values: for people, and as plain JSON types."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any

EXACT = 2**53  # JSON readers represent integers exactly up to here
_LEAST_SECS = 0.001
_EXACT_BELOW_SECS = 10  # above this, tenths of a second do not matter
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))
_SMALLER = (3600, 60, 1)  # the next smaller unit of each, in seconds


def duration(secs: float) -> str:
    """Format seconds for people: ``850 ms``, ``14 s``, ``3 min 5 s``, ``2 d 4 h``."""
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
    secs = abs(moment - now)
    rough = f"{max(1, round(secs))} s"
    for (size, unit), smaller in zip(_UNITS, _SMALLER, strict=True):
        if secs >= size - smaller / 2:  # 59.6 min are 1 h, not 60 min
            rough = f"{max(1.0, secs / size):.0f} {unit}"
            break
    if moment > now:
        return f"in {rough}"
    return "now" if secs < 1 else f"{rough} ago"


def calendar(moment: float, zone: tzinfo = UTC) -> datetime:
    """Return seconds since the epoch as a date and time: the last there is if they are beyond."""
    try:
        return datetime.fromtimestamp(moment, zone)
    except (OverflowError, ValueError):
        return (
            datetime.max.replace(tzinfo=zone) if moment > 0 else datetime.min.replace(tzinfo=zone)
        )


def rfc3339(moment: float | None) -> str | None:
    """Format seconds since the epoch as RFC 3339 in UTC, to the millisecond; 0 means no time."""
    if not moment:
        return None
    text = calendar(moment).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def utc_text(moment: float) -> str:
    """Format seconds since the epoch for people, in UTC: ``2026-05-12 12:21:14 UTC``."""
    return f"{calendar(moment):%Y-%m-%d %H:%M:%S} UTC"


def rate_text(per_min: float) -> str:
    """Format jobs per minute for people: with a tenth where there are few."""
    return f"{per_min:,.0f}" if per_min >= _EXACT_BELOW_SECS or not per_min else f"{per_min:.1f}"


def jsonable(data: Mapping[Any, Any]) -> dict[str, Any]:
    """Return ``data`` with every value in plain JSON types, without loss of meaning.

    Integers beyond 2^53 become text, under a key that ends in ``_str``.
    """
    return {
        f"{key}_str" if _is_large(value) else str(key): _plain(value) for key, value in data.items()
    }


def _is_large(value: object) -> bool:
    return isinstance(value, int) and abs(value) > EXACT


def _plain(value: Any) -> Any:  # noqa: PLR0911  # any value of a job, as plain JSON types
    match value:
        case None | bool():
            return value
        case int():
            return str(value) if _is_large(value) else int(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case Mapping():
            return jsonable(value)
        case list() | tuple():
            return [_plain(item) for item in value]
        case set() | frozenset():
            return sorted((_plain(item) for item in value), key=repr)
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes() | bytearray() | memoryview():
            return b64encode(bytes(value)).decode("ascii")
    # ``str`` also converts enums that are strings; JSON cannot hold half of a surrogate pair.
    return str(value).encode("utf-8", "replace").decode("utf-8")
