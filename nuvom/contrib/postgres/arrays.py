"""Arrays in PostgreSQL's binary format, packed whole: psycopg takes a step for each element.

Source of the format: ``array_recv`` in PostgreSQL's ``src/backend/utils/adt/arrayfuncs.c``.
"""

from __future__ import annotations

import struct
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from psycopg.adapt import Dumper
from psycopg.pq import Format

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

_HEAD = struct.Struct("!iiiii").pack  # dimensions, has nulls, type, length, lower bound
_EMPTY = struct.Struct("!iii").pack
_SIZE = struct.Struct("!i").pack
_NULL = b"\xff\xff\xff\xff"
Kind = TypeVar("Kind", bound="Packed")


class Packed(bytes):
    """An array as the server receives it.

    Attributes:
        name: What the server calls the type of its elements.
        oid, element: The server's numbers for the types of the array and of its elements.
    """

    name: ClassVar[str]
    oid: ClassVar[int]
    element: ClassVar[int]


class Int8s(Packed):
    """``bigint[]``."""

    name, oid, element = "int8", 1016, 20


class Floats(Packed):
    """``float8[]``."""

    name, oid, element = "float8", 1022, 701


class Texts(Packed):
    """``text[]``."""

    name, oid, element = "text", 1009, 25


class Byteas(Packed):
    """``bytea[]``."""

    name, oid, element = "bytea", 1001, 17


def int8s(values: Sequence[int]) -> Int8s:
    """Pack integers of eight bytes."""
    return _fixed(Int8s, "q", 8, values)


def floats(values: Sequence[float]) -> Floats:
    """Pack floating point numbers."""
    return _fixed(Floats, "d", 8, values)


def texts(values: Sequence[str]) -> Texts:
    """Pack texts."""
    return encoded_texts([one.encode() for one in values])


def encoded_texts(values: Sequence[bytes]) -> Texts:
    """Pack texts that are UTF-8 already."""
    return _sized(Texts, values)


def byteas(values: Sequence[bytes | None]) -> Byteas:
    """Pack bytes, or None for NULL."""
    return _sized(Byteas, values)


def _fixed(kind: type[Kind], code: str, size: int, values: Sequence[float]) -> Kind:
    if not values:
        return kind(_EMPTY(0, 0, kind.element))
    pairs = chain.from_iterable(zip(repeat(size), values, strict=False))
    body = struct.pack("!" + f"i{code}" * len(values), *pairs)
    return kind(_HEAD(1, 0, kind.element, len(values), 1) + body)


def _sized(kind: type[Kind], values: Sequence[bytes | None]) -> Kind:
    if not values:
        return kind(_EMPTY(0, 0, kind.element))
    parts = [_HEAD(1, None in values, kind.element, len(values), 1)]
    for one in values:
        parts += (_NULL,) if one is None else (_SIZE(len(one)), one)
    return kind(b"".join(parts))


class _PackedDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Any) -> bytes:
        return bytes(obj)


def register_arrays(connection: psycopg.Connection[Any]) -> None:
    """Have a connection send packed arrays as they are."""
    for kind in (Int8s, Floats, Texts, Byteas):
        dumper = type(f"_{kind.__name__}Dumper", (_PackedDumper,), {"oid": kind.oid})
        connection.adapters.register_dumper(kind, dumper)
