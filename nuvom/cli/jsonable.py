"""Any value that a job can hold, as JSON can carry it without loss of meaning.

JSON readers keep whole numbers exactly only up to 2^53; larger ones become text, under a key
that ends in ``_str``.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from typing import Any

EXACT = 2**53


def jsonable(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``data`` with every value in plain JSON types."""
    plain: dict[str, Any] = {}
    for key, value in data.items():
        name = key if isinstance(key, str) else str(key)
        if _is_large(value):
            plain[f"{name}_str"] = str(value)
        else:
            plain[name] = _value(value)
    return plain


def _is_large(value: object) -> bool:
    return isinstance(value, int) and abs(value) > EXACT


def _value(value: object) -> Any:  # noqa: ANN401  # plain JSON types, whichever
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        # ``str`` for enumerations that are texts; half of a pair has no place in JSON.
        return str(value).encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, int):
        return str(value) if _is_large(value) else int(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return jsonable(value)
    if isinstance(value, list | tuple):
        return [_value(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_value(item) for item in value), key=repr)
    return _scalar(value)


def _scalar(value: object) -> str | float:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | bytearray | memoryview):
        return b64encode(bytes(value)).decode("ascii")
    return str(value)
