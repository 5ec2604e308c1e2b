"""Valid names for jobs, queues and workers, and the creation of new ids.

Names travel into file names, SQL parameters and terminals, so the allowed set is closed
and checked with ``fullmatch``.
"""

from __future__ import annotations

import os
import re
import struct
from functools import lru_cache
from uuid import NAMESPACE_OID, uuid5

from nuvom.core.clock import epoch_millis
from nuvom.errors import InvalidId

_match = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}").fullmatch
ID_BYTES = 16
_WITH_VARIANT = bytes(byte & 0x3F | 0x80 for byte in range(256))
ID_CHARS = 36
_COLUMNS = [column for column in range(ID_CHARS) if column not in (8, 13, 18, 23)]  # no dashes
MOST_IDS = 2048
"""The most ids that ``new_ids`` makes at once: half the range of its twelve-bit counter."""

_MOST_MILLIS = 2**48 - 1
_ENDINGS = 128  # how many are generated at once
_ENDING_CHARS = 22  # the part of an id after the time and the version, and a space
_ANY_VARIANT = bytes.maketrans(b"0123456789abcdef", b"89ab" * 4)
_endings: list[str] = []
_EXPECTED = "1 to 64 letters, digits, '_', '-' or '.', starting with a letter or digit"


def valid_name(kind: str, value: object) -> str:
    """Return ``value`` if it may name a ``kind`` (a queue, an id).

    Raises: InvalidId: it is not a string, or contains characters that are not allowed.
    """
    if not isinstance(value, str) or _match(value) is None:
        raise InvalidId(kind, value, _EXPECTED)
    return value


def new_id() -> str:
    """Return a new UUID version 7 as text, sortable by the millisecond of its creation.

    The bits after the time are random for each id, never a counter, so that threads and
    forked processes need no lock to avoid collisions.
    Source: RFC 9562, section 5.7.
    """
    try:
        ending = _endings.pop()
    except IndexError:
        ending = _draw_endings()
    return f"{_time_text(epoch_millis())}-7{ending}"


REPEATS, CHILDREN = "repeat", ("child", "grandchild")
"""Kinds of jobs that follow from another one: what repeats it, and what its code enqueues.

The code that a child process of the worker runs numbers its jobs by itself: the last kind.
"""


def following_id(job_id: str, kind: str, number: int) -> str:
    """Return the id of the ``number``-th job of a kind that follows from another job.

    It can be told from the other id, so no store needs a list of them. Whoever stores such a job
    again, after an interruption, stores no second one.
    """
    ending = str(uuid5(NAMESPACE_OID, f"{job_id} {kind} {number}"))
    return f"{job_id[:13]}-7{ending[15:]}" if len(job_id) == ID_CHARS else ending


def timed_id(at: float, digits: str) -> str:
    """Return the id that a time, in seconds since the epoch, and 18 hexadecimal digits stand for.

    It sorts by the time as other ids do by their creation.
    """
    time = _time_text(min(max(int(at * 1000), 0), _MOST_MILLIS))
    return f"{time}-7{digits[:3]}-{'89ab'[int(digits[3], 16) % 4]}{digits[3:6]}-{digits[6:]}"


@lru_cache(maxsize=1)  # creating ids in a row yields many per millisecond
def _time_text(millis: int) -> str:
    return millis.to_bytes(6, "big").hex("-", -4)


def _draw_endings() -> str:
    """Return the random part of an id, and keep some more for later ids.

    Asking the system each time would let another thread take the interpreter lock each time.
    """
    noise = bytearray(os.urandom(_ENDING_CHARS * _ENDINGS // 2).hex().encode())
    noise[3::_ENDING_CHARS] = noise[8::_ENDING_CHARS] = b"-" * _ENDINGS
    noise[4::_ENDING_CHARS] = noise[4::_ENDING_CHARS].translate(_ANY_VARIANT)
    noise[21::_ENDING_CHARS] = b" " * _ENDINGS
    endings = noise.decode().split()
    _endings.extend(endings[1:])
    return endings[0]


def new_ids(count: int) -> bytes:
    """Return new ids, 16 bytes each, in ascending order; see ``id_texts``.

    Being in order, they are appended to the end of a store's index, page after page. The twelve
    bits after the time count up from a random number; the other 62 are random for each id.
    Source: RFC 9562, section 6.2, method 1.

    Args:
        count: At most ``MOST_IDS``.
    """
    ids = bytearray(os.urandom(ID_BYTES * count))
    first = 0x7000 + int.from_bytes(os.urandom(2), "big") % MOST_IDS  # version and counter
    numbers = struct.pack(f">{count}H", *range(first, first + count))
    # Column by column, to avoid a Python-level step for each id.
    for column, byte in enumerate(epoch_millis().to_bytes(6, "big")):
        ids[column::ID_BYTES] = bytes([byte]) * count
    ids[6::ID_BYTES] = numbers[0::2]
    ids[7::ID_BYTES] = numbers[1::2]
    ids[8::ID_BYTES] = ids[8::ID_BYTES].translate(_WITH_VARIANT)
    return bytes(ids)


def id_texts(ids: bytes | bytearray) -> list[bytes]:
    """Return the encoded text of each of ``ids``, which are 16 bytes each, concatenated."""
    digits = ids.hex().encode()
    texts = bytearray(b"-" * (len(ids) // ID_BYTES * ID_CHARS))
    for digit, column in enumerate(_COLUMNS):
        texts[column::ID_CHARS] = digits[digit :: 2 * ID_BYTES]
    whole = bytes(texts)
    return [whole[start : start + ID_CHARS] for start in range(0, len(whole), ID_CHARS)]


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no fork
    os.register_at_fork(after_in_child=_endings.clear)  # or parent and child would share them
