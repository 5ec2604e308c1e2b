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
_VARIANT = {digit: "89ab"[index % 4] for index, digit in enumerate("0123456789abcdef")}
_NOISE_BYTES = 10
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
    return _uuid(f"{epoch_millis():012x}", os.urandom(_NOISE_BYTES).hex())


def new_ids(count: int) -> list[str]:
    """Return ``count`` fresh ids of one millisecond, in ascending order.

    In order they go to the end of a store's index, page after page.
    """
    time_part = f"{epoch_millis():012x}"
    noise, each = os.urandom(_NOISE_BYTES * count).hex(), 2 * _NOISE_BYTES
    return sorted(
        [_uuid(time_part, noise[start : start + each]) for start in range(0, len(noise), each)]
    )


def _uuid(time_part: str, noise: str) -> str:
    return (
        f"{time_part[:8]}-{time_part[8:]}-7{noise[:3]}-"
        f"{_VARIANT[noise[3]]}{noise[4:7]}-{noise[7:19]}"
    )
