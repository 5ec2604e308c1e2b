"""Damaged or hostile bytes: either a value of the closed set, or PayloadError. Nothing else."""

from __future__ import annotations

import random
import tracemalloc
from datetime import timedelta
from decimal import Context, localcontext
from typing import Any

import msgspec
import pytest
from msgspec.msgpack import Ext

from nuvom.errors import PayloadError
from nuvom.serialization import MsgpackCodec, Shaped
from nuvom.serialization.extensions import Code
from tests.unit.serialization.values import EVERY_TYPE

codec = MsgpackCodec()
encode = msgspec.msgpack.encode

SHAPED: list[Any] = [
    Shaped("User", {"name": "Ada", "tags": {1, 2}}),
    [Shaped("Colour", "RED"), Shaped("Mode", 3)],
]
CORPUS = [codec.encode_value(value) for value in [*EVERY_TYPE, *SHAPED]]
CORPUS += codec.encode_call((1, "x", (2,)), {"when": timedelta(1), "s": {1}})


def refused(data: bytes, **kwargs: Any) -> PayloadError:
    with pytest.raises(PayloadError) as caught:
        codec.decode_value(data, **kwargs)
    return caught.value


def test_a_huge_declared_length_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        for first in LENGTHS:
            for data in (first + b"\xff" * 5, b"\x92\x01" + first + b"\x7f" * 300):
                refused(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize(
    ("code", "data"),
    [
        (Code.TUPLE, b"\x80"),
        (Code.SET, encode([[1]])),
        (Code.PAIRS, encode([1])),
        (Code.PAIRS, encode([[], 1])),
        (Code.DATETIME, b"yesterday"),
        (Code.DATETIME, b"\xff"),
        (Code.DATETIME, b"2026-01-01T00:00:00[../../etc/passwd]"),
        (Code.DATE, b"2026-13-01"),
        (Code.TIME, b"25:00"),
        (Code.TIME, b"12:00[Mars/Olympus_Mons]"),
        (Code.TIMEDELTA, encode([10**12, 0, 0])),
        (Code.DECIMAL, b"1.2.3"),
        (Code.DECIMAL, b"1E+99999999999999999999"),
        (Code.UUID, b"short"),
        (Code.PATH, b"\xff"),
        (Code.SHAPED, encode(["User"])),
        (Code.SHAPED, encode(["User", None])),
    ],
)
def test_an_extension_whose_content_does_not_fit_is_refused(code: int, data: bytes) -> None:
    with localcontext(Context(traps=[])):
        refused(encode([Ext(code, data)]))
        refused(encode([Ext(code, data)]), shaped=True)


def test_the_message_does_not_repeat_what_was_stored() -> None:
    secret = "password-123"
    error = refused(encode(Ext(Code.DATETIME, secret.encode())))
    assert secret not in str(error)


# ---- fuzzing --------------------------------------------------------------------------------

LENGTHS = (b"\xdd", b"\xdf", b"\xc6", b"\xdb", b"\xc9")


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return ``data`` with one to four faults."""
    blob = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randint(0, len(blob))
        match rng.randrange(6):
            case 0:
                blob[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                del blob[place : place + rng.randint(1, 4)]
            case 2:
                blob[place:place] = rng.randbytes(rng.randint(1, 4))
            case 3:
                other = rng.choice(CORPUS)
                blob[place:place] = other[: rng.randint(0, len(other))]
            case 4:
                blob[place:place] = rng.choice(LENGTHS) + rng.randbytes(4)
            case _ if place < len(blob):
                blob[place] ^= 1 << rng.randrange(8)
    return bytes(blob)


def test_s01_r23_damaged_bytes_raise_payload_errors_only() -> None:
    rng, refusals, count = random.Random(20250601), 0, 20_000
    for number in range(count):
        data = mutated(CORPUS[number % len(CORPUS)], rng)
        try:
            value = codec.decode_value(data, shaped=bool(number & 1))
            codec.encode_value(value)  # what can be read is of the closed set
        except PayloadError:
            refusals += 1
        try:
            codec.decode_call(data, data if number & 2 else b"\x80")
        except PayloadError:
            refusals += 1
    assert refusals > count
