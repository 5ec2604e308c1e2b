"""Which texts may name a job, a queue or a worker, and how new ids are made.

Names travel into file names, SQL parameters and terminals, so the allowed set is closed
and checked with ``fullmatch``.
"""

from __future__ import annotations

import os
import re

from nuvom.clock import epoch_millis
from nuvom.errors import InvalidId

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_EXPECTED = "1 to 64 letters, digits, '_', '-' or '.', starting with a letter or digit"


def valid_name(kind: str, value: object) -> str:
    """Return ``value`` when it may name a ``kind`` (a queue, an id).

    Raises: InvalidId: it is no text, or holds anything else than the allowed characters.
    """
    if not isinstance(value, str) or _NAME.fullmatch(value) is None:
        raise InvalidId(kind, value, _EXPECTED)
    return value


def new_id() -> str:
    """Return a fresh UUID version 7 as text: sortable by the millisecond it was made in.

    The bits after the time are random for each id, never a counter, so that threads and
    forked processes need no lock to stay apart.
    Source: RFC 9562, section 5.7.
    """
    millis = epoch_millis()
    noise = int.from_bytes(os.urandom(10), "big")
    return (
        f"{millis >> 16:08x}-{millis & 0xFFFF:04x}-7{noise >> 68:03x}-"
        f"{0x8000 | (noise >> 48) & 0x3FFF:04x}-{noise & 0xFFFFFFFFFFFF:012x}"
    )
