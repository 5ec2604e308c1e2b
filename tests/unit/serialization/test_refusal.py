"""What cannot be stored is refused at the call, with the place, the type and the reason."""

from __future__ import annotations

import inspect
import os
import sys
import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, time, tzinfo
from enum import Enum
from typing import Any, NamedTuple
from zoneinfo import TZPATH, ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuvom.errors import NotStorable, PayloadError
from nuvom.serialization import MAX_DEPTH, MsgpackCodec, Shaped
from tests.unit.serialization.values import nested, values

codec = MsgpackCodec()


class Session:
    pass


@dataclass
class User:
    name: str


class Price(msgspec.Struct):
    cents: int


class Point(NamedTuple):
    x: int


class Colour(Enum):
    RED = 1


class Text(str):
    __slots__ = ()


class Moment(datetime):
    pass


class Elsewhere(tzinfo):
    def utcoffset(self, moment: datetime | None) -> None:
        return None

    dst = tzname = utcoffset


def refusal(value: Any, **kwargs: Any) -> NotStorable:
    with pytest.raises(NotStorable) as caught:
        codec.encode_value(value, **kwargs)
    return caught.value


def call_refusal(*args: Any, **kwargs: Any) -> NotStorable:
    with pytest.raises(NotStorable) as caught:
        codec.encode_call(args, kwargs, names=("first",))
    return caught.value


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ((0, [Session()]), "[1][0]"),
        ({2: Session()}, "[2]"),
        ({(1, 2): Session()}, "[tuple]"),
        ({"x" * 61: Session()}, f"['{'x' * 60}'...]"),
        ({Session(): 1}, ".keys()[0]"),
        ({"a": 1, (Session(),): 1}, ".keys()[1][0]"),
        (frozenset({(1, Session())}), "{*}[1]"),
        (Shaped("User", {"name": "Ada", "session": Session()}), ".session"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_the_path_leads_to_the_value(value: Any, path: str) -> None:
    error = refusal(value)
    assert ("result" + path, "Session") == (error.path, error.type)


def test_arguments_are_named_by_position_parameter_or_keyword() -> None:
    assert "first[0]" == call_refusal([Session()]).path
    assert "args[1][0]" == call_refusal(1, [Session()]).path
    assert "kwargs['user']['session']" == call_refusal(user={"session": Session()}).path


def test_the_message_names_place_type_and_reason() -> None:
    text = str(call_refusal(user={"at": bytearray()}))
    assert "kwargs['user']['at']: bytearray cannot be stored (pass bytes(value))." in text
    assert "annotate the parameter" in text


@pytest.mark.parametrize(
    ("value", "because"),
    [
        (User("Ada"), "a dataclass is stored only where the annotation names User"),
        (Price(5), "a msgspec.Struct is stored only where the annotation names Price"),
        (Point(5), "a named tuple is stored only where the annotation names Point"),
        (Colour.RED, "an Enum is stored only where the annotation names Colour"),
        (Text("x"), "pass str(value)"),
        (OrderedDict(a=1), "a subclass of dict would come back as dict; pass dict(value)"),
        (bytearray(b"x"), "pass bytes(value)"),
        ((number for number in range(3)), "pass list(value)"),
        (range(3), "pass list(value)"),
        (Moment(2026, 1, 1), ""),
        (threading.Lock(), ""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_reason_says_what_to_do(value: Any, because: str) -> None:
    assert because in refusal([value]).what
    assert because in refusal(value).what


@pytest.mark.parametrize(
    "moment", [datetime(2026, 1, 1, tzinfo=Elsewhere()), time(1, tzinfo=Elsewhere())]
)
def test_a_time_zone_that_has_no_name_is_refused(moment: Any) -> None:
    error = refusal({"at": moment})
    assert "result['at']" == error.path
    assert "its time zone is a Elsewhere" in error.what


def test_a_zone_without_a_usable_key_is_refused() -> None:
    files = [os.path.join(folder, "Europe", "Berlin") for folder in TZPATH]
    file = next((name for name in files if os.path.exists(name)), None)
    if file is None:
        pytest.skip("this machine has no time zone files")
    for key in (None, "my own zone"):
        with open(file, "rb") as stream:
            zone = ZoneInfo.from_file(stream, key)
        assert "ZoneInfo with a name" in refusal(datetime(2026, 1, 1, tzinfo=zone)).what


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\ud83d\ude00"])
def test_half_a_surrogate_pair_is_refused_with_its_place(text: str) -> None:
    assert "surrogate pair" in refusal(text).what
    assert "result['x'][1]" == refusal({"x": ["ok", text]}).path
    assert "result.keys()[1]" == refusal({"x": 1, text: 2}).path
    assert "args[1]" == call_refusal(1, text).path
    assert "kwargs['x']" == call_refusal(x=text).path
    keywords: dict[str, Any] = {text: 1}
    assert f"kwargs[{text!r}]" == call_refusal(**keywords).path
    assert "result" == refusal(Shaped("Colour", text)).path


@pytest.mark.parametrize("deep", [nested(MAX_DEPTH + 1), nested(MAX_DEPTH + 1, in_tuple=True)])
def test_a_container_below_the_limit_is_refused(deep: Any) -> None:
    error = call_refusal(deep)
    assert f"nested more than {MAX_DEPTH} levels deep" in error.what
    assert "first[0][0][0][0][0][0][0][0][0][0][0]..." == error.path
    assert "levels deep" in refusal(nested(5000)).what


def test_a_value_that_contains_itself_is_refused_where_it_closes() -> None:
    loop: list[Any] = [1]
    loop.append({"again": loop})
    error = call_refusal([loop])
    assert ("first[0][1]['again']", "list") == (error.path, error.type)
    assert "it contains itself" in error.what


def test_a_call_stack_without_room_is_no_recursion_error() -> None:
    value = nested(MAX_DEPTH, in_tuple=True)
    data = codec.encode_value(value)
    encode = codec.call_encoder(taking_users)
    limit, frames = sys.getrecursionlimit(), len(inspect.stack(0))
    sys.setrecursionlimit(frames + 50)
    try:
        with pytest.raises(NotStorable) as refused:
            codec.encode_value(value)
        with pytest.raises(NotStorable) as refused_by_classes:
            encode((value,), {})
        with pytest.raises(PayloadError):
            codec.decode_value(data)
    finally:
        sys.setrecursionlimit(limit)
    assert "the call stack has no room left" in refused.value.what
    assert "the call stack has no room left" in refused_by_classes.value.what


def taking_users(users: tuple[User, ...]) -> None:
    pass


@given(values, st.integers(0, 3))
def test_a_bad_value_beside_any_good_one_is_found(value: Any, place: int) -> None:
    items = [value] * place + [Session()] + [value]
    assert f"result[{place}]" == refusal(items).path
    assert "Session" == refusal({"good": value, "bad": (1, items)}).type
