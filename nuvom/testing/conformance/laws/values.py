"""Values of every storable type, values that are not storable, and hostile names."""

from __future__ import annotations

import threading
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from math import inf
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from uuid import UUID


class _Colour(Enum):
    RED = "red"


class _Pair(NamedTuple):
    first: int
    second: int


class _Text(str):
    __slots__ = ()


STORABLE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 1.0, 2**63 - 1, 2**64, -(2**200)),
    *(0.0, 1.5, -1e300, inf, "1", b"1", [True], [1], [1.0]),
    *("", "naïve \N{SNOWMAN} \N{GRINNING FACE}", "a\0b", b"", bytes(range(256))),
    *([], [1, [2, [3, None]]], {}, {"a": {"b": [1.5]}}, {1: "one", None: 2, (2, 3): "pair"}),
    *((), (1, ("a", (None,))), {1, 2}, set(), frozenset({"a"}), {frozenset({1}): ()}),
    datetime(2025, 6, 1, 12, 30, 15, 123456, tzinfo=UTC),
    datetime(2025, 6, 1, 12, 30, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    datetime(2025, 6, 1, 12, 30),  # noqa: DTZ001  # naive moments are storable, too
    *(date(2025, 6, 1), time(12, 30, 1), timedelta(days=-1, microseconds=3)),
    *(Decimal("10.50"), Decimal("-1E+100"), UUID(int=7)),
    *(Path("a") / "b.txt", PurePosixPath("/a"), PureWindowsPath("C:/a")),
    [{"deep": ({1, 2}, [Decimal(1)], {"k": (b"x", UUID(int=1))})}],
)
"""One value or more of each storable type."""

NOT_STORABLE: tuple[Any, ...] = (
    *(object(), threading.Lock(), lambda: None, int, _Colour.RED, _Pair(1, 2), _Text("a")),
    *(OrderedDict(), 1j, "\ud800", iter(())),
)
"""Values that a codec refuses where no annotation says what to do with them."""

HOSTILE = (
    *("", ".", "..", "../escape", "a/b", "a\\b", "/etc/escape", "C:\\escape", "a\0b", "a\nb"),
    *("a b", "-a", ".a", "a'; DROP TABLE jobs; --", "{a}", "%s", "*", "naïve", "a" * 65),
)
"""Texts that are no name of a queue and no id."""


def same(one: object, other: object) -> bool:
    """Tell whether two values are equal, their types and those of all that is in them included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return same(list(one.items()), list(other.items()))
    return repr(one) == repr(other) if isinstance(one, float | Decimal) else one == other


def escaping(folder: Path, token: str) -> list[str]:
    """Return names that a careless store takes for paths to ``token``, outside of ``folder``."""
    names = [f"{'../' * up}{token}" for up in range(1, 7)]
    return [*names, str(folder / token), f"..\\{token}", f"a/../../{token}"]


def stray_files(folder: Path, token: str) -> list[str]:
    """Return the paths called after ``token`` beside the stores in ``folder``, or above it."""
    above = [folder, *folder.parents][:7]
    return [str(path) for place in above for path in place.glob(f"*{token}*")]
