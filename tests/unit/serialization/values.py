"""Values of every storable type for the property tests, and what makes two of them the same."""

from __future__ import annotations

import struct
import zoneinfo
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from nuvom.serialization import Shaped

_KNOWN = zoneinfo.available_timezones()  # none on Windows without the package tzdata
ZONES = [
    zone for zone in ("Europe/Berlin", "America/St_Johns", "Asia/Kolkata", "UTC") if zone in _KNOWN
]


def sameness(value: Any) -> Any:
    """Return plain tuples and texts, equal for two values if and only if all is the same.

    Type, order of a dict, bits of a float, exponent of a Decimal, zone and fold count.
    """
    for types, describe in _DESCRIPTIONS:
        if isinstance(value, types):
            return type(value).__name__, describe(value)
    return type(value).__name__, value


_DESCRIPTIONS: list[tuple[Any, Callable[[Any], Any]]] = [
    (float, lambda value: struct.pack(">d", value)),
    (Decimal, lambda value: value.as_tuple()),
    (
        (datetime, time),
        lambda value: (
            value.isoformat(),
            value.fold,
            type(value.tzinfo).__name__,
            str(value.tzinfo),
        ),
    ),
    (PurePath, str),
    (dict, lambda value: [(sameness(key), sameness(item)) for key, item in value.items()]),
    ((list, tuple), lambda value: [sameness(item) for item in value]),
    ((set, frozenset), lambda value: sorted(map(sameness, value), key=repr)),
    (Shaped, lambda value: (value.name, sameness(value.data))),
]


offsets = st.builds(
    lambda secs, micros: timezone(timedelta(seconds=secs, microseconds=micros)),
    st.integers(-86399, 86398),
    st.sampled_from([0, 0, 0, 1, 999_999]),
)
zones: st.SearchStrategy[tzinfo | None] = st.none() | offsets
if ZONES:
    zones = zones | st.sampled_from(ZONES).map(zoneinfo.ZoneInfo)

datetimes = st.datetimes(timezones=zones, allow_imaginary=True)
times = st.times(timezones=zones)
paths: st.SearchStrategy[PurePath] = st.builds(
    lambda flavour, text: flavour(text),
    st.sampled_from([Path, PurePosixPath, PureWindowsPath]),
    st.text(st.characters(exclude_characters="\0"), max_size=12),
)
numbers_that_hash = st.decimals().filter(lambda value: not value.is_snan())

hashable_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**64), 2**65),
    st.floats(),
    st.text(max_size=12),
    st.binary(max_size=12),
    datetimes,
    st.datetimes(timezones=st.just(UTC)),
    st.dates(),
    times,
    st.timedeltas(),
    numbers_that_hash,
    st.uuids(),
    paths,
)
hashables = st.recursive(
    hashable_leaves,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
leaves = hashable_leaves | st.sampled_from([Decimal("sNaN"), Decimal("-NaN12")])
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=5), inner, max_size=4),
        st.dictionaries(hashables, inner, max_size=4),
        st.sets(hashables, max_size=4),
        st.frozensets(hashables, max_size=4),
    ),
    max_leaves=12,
)


def nested(depth: int, *, in_tuple: bool = False) -> Any:
    """Return an empty list, or tuple, inside ``depth - 1`` others."""
    wrap: Any = (lambda item: (item,)) if in_tuple else (lambda item: [item])
    value: Any = () if in_tuple else []
    for _ in range(depth - 1):
        value = wrap(value)
    return value


EVERY_TYPE: list[Any] = [
    None,
    True,
    -(2**63),
    2**64 - 1,
    2**64,
    -(2**63) - 1,
    -(2**4000),
    float("nan"),
    float("-inf"),
    -0.0,
    "text \N{SNOWMAN} \0",
    b"\x00\xff",
    [1, [2, "x"]],
    {"a": 1, "b": {"c": None}},
    {1: "int", None: "none", 2.5: b"float", b"k": True, False: 0},
    {(1, 2): "tuple", date(2026, 2, 3): "date", frozenset({1}): "set"},
    (1, (2,), []),
    {1, "one", (1,), None},
    frozenset({frozenset({1, 2}), 3}),
    datetime(2026, 10, 25, 2, 30, 0, 1),  # noqa: DTZ001  # naive ones are stored too
    datetime(2026, 10, 25, 2, 30, fold=1),  # noqa: DTZ001
    datetime(2026, 10, 25, 2, 30, tzinfo=UTC),
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2026, 10, 25, 2, 30, tzinfo=UTC, fold=1),
    datetime(2026, 10, 25, 2, 30, tzinfo=timezone(-timedelta(hours=3, minutes=30))),
    date.min,
    time(23, 59, 59, 999_999, fold=1),
    time(1, 2, tzinfo=timezone(timedelta(hours=2))),
    time(1, 2, tzinfo=timezone(-timedelta(microseconds=1))),
    datetime(2026, 10, 25, 2, 30, tzinfo=timezone(timedelta(microseconds=999_999))),
    timedelta.max,
    timedelta(days=-1, microseconds=1),
    Decimal("NaN"),
    Decimal("-sNaN7"),
    Decimal("-Infinity"),
    Decimal("1.10E+400"),
    Decimal("-0.000"),
    UUID(int=2**128 - 1),
    Path("a/b c"),
    PurePosixPath("//a/b\\c"),
    PureWindowsPath("C:\\a\\b"),
]
"""At least one value of each type, with its edges."""
if ZONES:
    _berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    EVERY_TYPE += [datetime(2026, 10, 25, 2, 30, tzinfo=_berlin, fold=fold) for fold in (0, 1)]
    EVERY_TYPE += [time(9, 30, tzinfo=_berlin, fold=1)]
