"""What cannot be stored is refused at the call, with the place, the type and the reason."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, time, tzinfo
from enum import Enum
from typing import Any, NamedTuple

import msgspec
import pytest

from nuvom.errors import NotStorable
from nuvom.serialization import MAX_DEPTH, MsgpackCodec, Shaped
from tests.unit.serialization.values import nested

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
