"""The wire format's extension types for single values: dates, numbers, paths.

The codes are part of the format: a code never changes its meaning. Codes for containers are
handled in ``msgpack_codec.py``, which is the only caller.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, timezone
from decimal import Context, Decimal, InvalidOperation
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from msgspec.msgpack import Decoder, encode

from nuvom.errors import PayloadError
from nuvom.serialization.refusal import Unstorable

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import tzinfo
    from zoneinfo import ZoneInfo


class Code:
    """MessagePack extension codes. UTC times use MessagePack's own code, -1."""

    INT = 1
    TUPLE = 2
    SET = 3
    FROZENSET = 4
    PAIRS = 5
    DATETIME = 6
    DATE = 7
    TIME = 8
    TIMEDELTA = 9
    DECIMAL = 10
    UUID = 11
    PATH = 12
    PURE_POSIX_PATH = 13
    PURE_WINDOWS_PATH = 14
    SHAPED = 15


# ---- numbers ------------------------------------------------------------------------------

# Malformed text must raise, and the output must not vary, whatever the caller's decimal context.
_DECIMAL = Context(traps=[InvalidOperation])


def write_int(value: int) -> bytes:
    """Return two's complement, the most significant byte first."""
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


# ---- dates and times ------------------------------------------------------------------------

# The RFC 9557 form of a time with its zone, 2026-10-25T02:30:00+01:00[Europe/Berlin], plus
# [_fold=1] for the second of two equal local times.
_MOMENT = re.compile(r"([^\[\]]+)(?:\[([A-Za-z0-9_+/-]{1,64})\])?(\[_fold=1\])?")
_ZONE = re.compile(r"[A-Za-z0-9_+/-]{1,64}")
_BELOW_A_SECOND = re.compile(r"[+-]00:00:00\.\d{6}$")  # fromisoformat reads this offset as UTC

_Moment = TypeVar("_Moment", datetime, time)


def _write_moment(value: datetime | time) -> bytes:
    zone = "" if value.tzinfo is None else _zone_suffix(value, value.tzinfo)
    return f"{value.isoformat()}{zone}{'[_fold=1]' if value.fold else ''}".encode()


def _zone_suffix(value: datetime | time, zone: tzinfo) -> str:
    if type(zone) is timezone:
        return ""
    from zoneinfo import ZoneInfo  # noqa: PLC0415  # slow to import, and seldom needed

    if type(zone) is ZoneInfo and zone.key is not None and _ZONE.fullmatch(zone.key):
        return f"[{zone.key}]"
    raise Unstorable(
        value,
        f"its time zone is a {type(zone).__name__}; use a zoneinfo.ZoneInfo with a name, "
        "or a fixed offset (datetime.timezone)",
    )


def _read_moment(text: str, cls: type[_Moment]) -> _Moment:
    match = _MOMENT.fullmatch(text)
    if match is None:
        raise PayloadError(f"not a {cls.__name__}")
    moment = cls.fromisoformat(match[1]).replace(fold=1 if match[3] else 0)
    tiny = _BELOW_A_SECOND.search(match[1])
    if tiny is not None:
        micros = int(tiny[0].replace(":", "").replace(".", ""))
        moment = moment.replace(tzinfo=timezone(timedelta(microseconds=micros)))
    return moment if match[2] is None else _in_zone(moment, match[2])


def _in_zone(moment: _Moment, key: str) -> _Moment:
    """Convert ``moment`` to the zone, if this machine knows it and agrees on its offset."""
    zone = _zone(key)
    if zone is not None:
        zoned = moment.replace(tzinfo=zone)
        if zoned.utcoffset() == moment.utcoffset():
            return zoned
    if moment.tzinfo is None:
        raise PayloadError(f"the time zone {key} is not known here; the package tzdata has it")
    return moment  # the same instant and local time, without the zone's name


def _zone(key: str) -> ZoneInfo | None:
    from zoneinfo import ZoneInfo  # noqa: PLC0415  # slow to import, and seldom needed

    try:
        return ZoneInfo(key)
    except (LookupError, ValueError, OSError):  # missing, not a zone file, or a folder
        return None


# ---- paths -----------------------------------------------------------------------------------


def _write_path(value: PurePath) -> bytes:
    # Every system accepts slashes; surrogatepass keeps names that are not valid text.
    return value.as_posix().encode("utf-8", "surrogatepass")


def _read_path(cls: type[PurePath]) -> Callable[[memoryview], PurePath]:
    return lambda data: cls(str(data, "utf-8", "surrogatepass"))


def _text(data: memoryview) -> str:
    return str(data, "utf-8")


# ---- the tables -----------------------------------------------------------------------------

_timedelta_parts = Decoder(tuple[int, int, int]).decode

WRITERS: dict[type, tuple[int, Callable[[Any], bytes]]] = {
    datetime: (Code.DATETIME, _write_moment),
    date: (Code.DATE, lambda value: value.isoformat().encode()),
    time: (Code.TIME, _write_moment),
    timedelta: (
        Code.TIMEDELTA,
        lambda value: encode((value.days, value.seconds, value.microseconds)),
    ),
    Decimal: (Code.DECIMAL, lambda value: _DECIMAL.to_sci_string(value).encode()),
    UUID: (Code.UUID, lambda value: value.bytes),
    PosixPath: (Code.PATH, _write_path),
    WindowsPath: (Code.PATH, _write_path),
    PurePosixPath: (Code.PURE_POSIX_PATH, _write_path),
    PureWindowsPath: (Code.PURE_WINDOWS_PATH, _write_path),
}
"""Maps exact types to the code and the encoder, which may raise ``Unstorable``."""

READERS: dict[int, Callable[[memoryview], Any]] = {
    Code.INT: lambda data: int.from_bytes(data, "big", signed=True),
    Code.DATETIME: lambda data: _read_moment(_text(data), datetime),
    Code.DATE: lambda data: date.fromisoformat(_text(data)),
    Code.TIME: lambda data: _read_moment(_text(data), time),
    Code.TIMEDELTA: lambda data: timedelta(*_timedelta_parts(data)),
    Code.DECIMAL: lambda data: Decimal(_text(data), _DECIMAL),
    Code.UUID: lambda data: UUID(bytes=bytes(data)),
    Code.PATH: _read_path(Path),
    Code.PURE_POSIX_PATH: _read_path(PurePosixPath),
    Code.PURE_WINDOWS_PATH: _read_path(PureWindowsPath),
}
"""Decoders by code. Bad bytes: PayloadError, ValueError, TypeError or ArithmeticError."""
