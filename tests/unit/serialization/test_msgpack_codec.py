"""What is stored comes back: every type of the closed set, exactly, in every combination."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from decimal import Context, Decimal, localcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuvom.serialization import MAX_DEPTH, MsgpackCodec
from nuvom.serialization.extensions import Code
from tests.unit.serialization.values import EVERY_TYPE, ZONES, nested, sameness, values

codec = MsgpackCodec()


def travel(value: Any) -> Any:
    return codec.decode_value(codec.encode_value(value))


def named(value: Any) -> str:
    """Return a name that is the same in each process: a set's own order is not."""
    return f"set of {len(value)}" if isinstance(value, set | frozenset) else repr(value)


@pytest.mark.parametrize("value", EVERY_TYPE, ids=named)
def test_each_type_comes_back_as_it_was(value: Any) -> None:
    assert sameness(value) == sameness(travel(value))


@given(st.lists(values, max_size=3).map(tuple), st.dictionaries(st.text(), values, max_size=3))
def test_any_call_comes_back_as_it_was(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    back = codec.decode_call(*codec.encode_call(args, kwargs))
    assert sameness((args, kwargs)) == sameness(back)


@given(st.sets(st.integers() | st.text()))
def test_equal_sets_give_equal_bytes(items: set[int | str]) -> None:
    other: set[int | str] = set()
    for item in sorted(items, key=repr, reverse=True):
        other.add(item)
    assert codec.encode_value(items) == codec.encode_value(other)


def stored_text(code: int, text: str) -> bytes:
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(code, text.encode()))


def test_a_zone_unknown_here_becomes_the_fixed_offset_it_had() -> None:
    data = stored_text(Code.DATETIME, "2026-07-01T12:00:00+02:00[Mars/Olympus_Mons]")
    back = codec.decode_value(data)
    assert datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=2))) == back
    assert type(back.tzinfo) is timezone


@pytest.mark.skipif(not ZONES, reason="this machine has no time zone database")
def test_a_zone_that_has_another_offset_here_keeps_the_instant() -> None:
    data = stored_text(Code.DATETIME, "2026-07-01T12:00:00+05:00[Europe/Berlin]")
    back = codec.decode_value(data)
    assert datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=5))) == back
    assert type(back.tzinfo) is timezone


def test_decimals_are_exact_whatever_the_current_context_says() -> None:
    value = Decimal("1.2345678901234567890E-9")
    with localcontext(Context(prec=3, capitals=0, traps=[])):
        assert value.as_tuple() == travel(value).as_tuple()
        data = codec.encode_value(value)
    assert codec.encode_value(value) == data


def test_containers_nest_to_the_limit() -> None:
    args, kwargs = (nested(MAX_DEPTH), nested(MAX_DEPTH, in_tuple=True)), {"x": nested(MAX_DEPTH)}
    assert (args, kwargs) == codec.decode_call(*codec.encode_call(args, kwargs))
    assert args[0] == travel(args[0])


def test_a_large_int_takes_no_more_bytes_than_it_needs() -> None:
    stored = msgspec.msgpack.decode(codec.encode_value(2**64))
    assert (Code.INT, b"\x01" + bytes(8)) == (stored.code, stored.data)


@pytest.mark.parametrize(
    "args", [(), (1, 2), ("x" * 1000, 2**64 - 1, -(2**63)), (None, True, 1.5, b"x")]
)
def test_plain_arguments_are_encoded_in_few_steps_to_the_same_bytes(args: tuple[Any, ...]) -> None:
    def add(x: int, y: int) -> int:
        return x + y

    assert codec.call_encoder(add)(args, {})[0] == codec.quick_encoder(add)(args)


def test_each_extension_type_is_in_both_tables_of_the_page() -> None:
    page = (Path(__file__).parents[3] / "docs" / "serialization.md").read_text(encoding="utf-8")
    types, _, contents = page.partition("## Reading payloads")
    codes = {code for name, code in vars(Code).items() if name.isupper()}
    assert codes == set(range(1, 16))
    for code in codes:
        assert re.search(rf"extensions? (\d+, )*{code}\b", types)
        assert re.search(rf"^\| (\d+, )*{code}\b", contents, re.MULTILINE)
