"""The form of one entry of the log, and how entries are told from damage.

An entry is a header of 32 bytes and a body. The header says how long the body is and where in
the log the entry stands, and ends with a CRC32 of all the rest: bytes that a torn write or a
failing disk left behind are never taken for an entry.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple
from zlib import crc32

MAGIC = b"NvFl"
VERSION = 1
HEADER_BYTES = 32

# Kinds of entries; what their bodies hold is in ``rows.py``.
JOB, CHANGES, WHOLE, REMOVED, NOTE, SEAL, KEPT, TOTALS = range(1, 9)

# What is appended together is taken up together: it stands from a BEGIN to an END.
BEGIN, END = 1, 2

# magic, version, kind, flags, length of the body, place, place up to which the log was flushed
_HEAD = Struct("<4sBBHIQQ")
_CRC = Struct("<I")
_HEADER = Struct("<4sBBHIQQI")

Frame = tuple[int, int, int, bytes]  # kind, flags, place, body

# A place is the number of a segment and an offset in it.
_OFFSET_BITS = 40
_OFFSET = (1 << _OFFSET_BITS) - 1


class UnknownVersionError(Exception):
    """A sound entry is of a version that this Nuvom does not know."""


def place(segment: int, offset: int) -> int:
    """Return where ``offset`` bytes of segment number ``segment`` stand in the log."""
    return segment << _OFFSET_BITS | offset


def segment_of(at: int) -> int:
    """Return the number of the segment of a place."""
    return at >> _OFFSET_BITS


def offset_of(at: int) -> int:
    """Return the offset of a place in its segment."""
    return at & _OFFSET


def header(kind: int, flags: int, at: int, body: bytes, *, synced: int = 0) -> bytes:
    """Return what goes before ``body`` at place ``at``."""
    head = _HEAD.pack(MAGIC, VERSION, kind, flags, len(body), at, synced)
    return head + _CRC.pack(crc32(body, crc32(head)))


class Scan(NamedTuple):
    """What a piece of the log holds.

    Attributes:
        frames: Its entries, up to the first that is damaged or incomplete.
        used: Bytes of them.
        needs: How many bytes the next entry takes; 0 when it is damaged.
        problem: What is wrong with it.
        synced: The farthest place that an entry says was flushed.
    """

    frames: list[Frame]
    used: int
    needs: int
    problem: str
    synced: int


def scan(data: bytes, at: int, start: int = 0, most: float = float("inf")) -> Scan:
    """Return the entries in ``data`` from offset ``start`` on.

    Args:
        at: Place of the first byte of ``data``.
    Raises: UnknownVersionError.
    """
    frames: list[Frame] = []
    size, synced = len(data), 0
    while size - start >= HEADER_BYTES and len(frames) < most:
        magic, version, kind, flags, length, stands, flushed, crc = _HEADER.unpack_from(data, start)
        begin = start + HEADER_BYTES
        end = begin + length
        if magic != MAGIC or stands != at + start:
            return Scan(frames, start, 0, "no entry begins where one should", synced)
        if end > size:
            return Scan(frames, start, end - start, "it is cut short", synced)
        body = data[begin:end]
        if crc != crc32(body, crc32(data[start : begin - _CRC.size])):
            return Scan(frames, start, 0, "its checksum does not match", synced)
        if version != VERSION:
            raise UnknownVersionError(version)
        frames.append((kind, flags, stands, body))
        synced = max(synced, flushed)
        start = end
    return Scan(frames, start, HEADER_BYTES, "it is cut short", synced)


def next_entry(data: bytes, at: int) -> int | None:
    """Return the offset of the first sound entry behind the damaged one that ``data`` begins with.

    Args:
        at: Place of the first byte of ``data``.
    """
    found = data.find(MAGIC, 1)
    while found >= 0:
        if scan(data, at, found, most=1).frames:
            return found
        found = data.find(MAGIC, found + 1)
    return None


def first_unflushed(data: bytes, base: int) -> int | None:
    """Return where the append begins that has the first damage behind the last known flush.

    Args:
        data: A whole segment, which stands at place ``base``.
    """
    at = whole = synced = 0
    damages = []
    while at < len(data):
        found = scan(data, base, at)
        for _, flags, stands, body in found.frames:
            if flags & END:
                whole = stands - base + HEADER_BYTES + len(body)
        synced = max(synced, found.synced)
        at = found.used
        if at < len(data):
            damages.append((base + at, whole))
            sound = next_entry(data[at:], base + at)
            at = len(data) if sound is None else at + sound
    return next((begin for damage, begin in damages if damage >= synced), None)
