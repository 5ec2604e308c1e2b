"""Arguments and spans of time as people type them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import pytest

from nuvom.cli.annotations import Converter, call_of
from nuvom.cli.params import span
from nuvom.config.settings import Settings
from nuvom.discovery.stub import signature_of
from nuvom.errors import InvalidArguments
from nuvom.serialization.base import Shaped
from tests.cli import shell


def call(signature: str, *words: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return call_of("tasks.t", signature_of(signature), words)


def test_words_are_json_or_text() -> None:
    words = ("2", "-3.5", "true", "null", '"quoted"', '{"a": [1]}', "text", "[1", "NaN-ish")
    assert call("(*args)", *words) == (
        (2, -3.5, True, None, "quoted", {"a": [1]}, "text", "[1", "NaN-ish"),
        {},
    )


def test_a_word_with_the_name_of_a_parameter_is_a_keyword_argument() -> None:
    assert call("(x, *, y=1)", "1", "y=5") == ((1,), {"y": 5})
    assert call("(x, y)", "y=5", "1") == ((1,), {"y": 5})
    assert call("(**rest)", "any=5") == ((), {"any": 5})


def test_a_word_with_another_name_is_text() -> None:
    assert call("(x)", "z=5") == (("z=5",), {})
    assert call("(x, /)", "x=5") == (("x=5",), {})
    assert call("(x)", "a-b=5") == (("a-b=5",), {})


def test_a_text_parameter_takes_text_that_looks_like_a_number() -> None:
    assert call("(name: str, n: int)", "007", "7") == (("007", 7), {})
    assert call("(name: str)", '"7"') == (("7",), {})
    assert call("(name: str | None = None)", "null") == ((None,), {})
    assert call("(*names: str)", "1", "2") == (("1", "2"), {})


@pytest.mark.parametrize(
    ("annotation", "word", "value"),
    [
        ("Path", "a/b", Path("a/b")),
        ("Decimal", "1.10", Decimal("1.10")),
        ("UUID", "00000000-0000-0000-0000-000000000001", UUID(int=1)),
        ("datetime", "2025-01-02T03:04:00+00:00", datetime(2025, 1, 2, 3, 4, tzinfo=UTC)),
        ("date", "2025-01-02", date(2025, 1, 2)),
        ("datetime.date", '"2025-01-02"', date(2025, 1, 2)),
        ("Decimal | None", "null", None),
    ],
)
def test_a_few_types_are_made_from_text(annotation: str, word: str, value: object) -> None:
    assert call(f"(x: {annotation})", word) == ((value,), {})


def test_text_that_is_no_such_value_names_the_parameter() -> None:
    with pytest.raises(InvalidArguments, match="x cannot be 'soon': it is a datetime"):
        call("(x: datetime)", "soon")


@pytest.mark.parametrize(
    ("signature", "words", "reason"),
    [
        ("(x)", ("1", "2"), "it takes 1 argument, and '2' is one too many"),
        ("(x, y)", ("1", "2", "z=3"), "it has no parameter z, which 'z=3' would set"),
    ],
)
def test_a_word_without_a_place_is_named(
    signature: str, words: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(InvalidArguments, match=re.escape(reason)) as refusal:
        call(signature, *words)
    assert f"tasks.t{signature}" in refusal.value.fix


@pytest.mark.parametrize(
    ("text", "secs"),
    [
        ("30", 30),
        ("500ms", 0.5),
        ("1h30m", 5400),
        ("1.5h", 5400),
        (" 2H ", 7200),
    ],
)
def test_spans_of_time(text: str, secs: float) -> None:
    assert secs == span(text)


@pytest.mark.parametrize("text", ["", "soon", "5x", "-5", "5 m", "1h x", "m5"])
def test_what_is_no_span_of_time(text: str) -> None:
    with pytest.raises(click.BadParameter, match="not a duration"):
        span(text)


@pytest.mark.skipif(sys.platform == "win32", reason="there arguments are Unicode")
def test_text_is_utf_8_whatever_the_locale_says(tasks: Path) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = ("send", "é✓", "--unique-key", "schlüssel", "--json-args", '{"body": "ß"}')
    answer = shell.call("run", *words, "-q", cwd=tasks, **ascii_only)
    assert answer.code == 0, answer.err
    shown = shell.invoke("inspect", "job", answer.out.strip(), "--json").json
    assert (["é✓"], {"body": "ß"}) == (shown["args"], shown["kwargs"])
    assert shown["unique_key"] == "schlüssel"


# ---- types that annotations name --------------------------------------------------------

MODELS = """
import enum
import msgspec
from dataclasses import dataclass, field
from typing import NamedTuple, TypedDict

raise RuntimeError("nothing may be imported")

class Color(enum.Enum):
    RED = "#f00"
    BLUE = enum.auto()

class Place(NamedTuple):
    x: int
    y: int = 0

@dataclass
class Item:
    name: str
    count: int = 1

@dataclass
class Order(Item):
    items: list[Item] = field(default_factory=list)
    color: Color | None = None

class Parcel(msgspec.Struct):
    place: Place

class Note(TypedDict, total=False):
    priority: int
"""
USING = "from pkg.models import Color, Note, Order as O, Parcel\nfrom datetime import date as D\n"


@pytest.fixture
def converter(project: Path) -> Converter:
    (project / "pkg").mkdir()
    (project / "pkg" / "__init__.py").touch()
    (project / "pkg" / "models.py").write_text(MODELS)
    (project / "tasks.py").write_text(USING)
    return Converter(Settings(root=project))


@pytest.mark.parametrize(
    ("note", "given", "made"),
    [
        ("int", "5", 5),
        ("int | str", "5", "5"),
        ("list[float]", [1, "2"], [1.0, 2.0]),
        ("dict[str, D]", {"a": "2025-01-02"}, {"a": date(2025, 1, 2)}),
        ("'tuple[int, ...]'", [1, 2], (1, 2)),
        ("Color", "BLUE", Shaped("Color", "BLUE")),
        ("Color", "#f00", Shaped("Color", "RED")),
        ("O", {"name": "a"}, Shaped("Order", {"name": "a"})),
        (
            "O | None",
            {"name": "a", "items": [{"name": "b", "count": "2"}], "color": "RED"},
            Shaped(
                "Order",
                {
                    "name": "a",
                    "items": [Shaped("Item", {"name": "b", "count": 2})],
                    "color": Shaped("Color", "RED"),
                },
            ),
        ),
        ("Parcel", {"place": {"x": 1}}, Shaped("Parcel", {"place": Shaped("Place", {"x": 1})})),
        ("Note", {"priority": "1"}, {"priority": 1}),
        ("Unknown", {"a": "1"}, {"a": "1"}),
    ],
)
def test_values_become_what_the_annotation_names(
    converter: Converter, note: str, given: object, made: object
) -> None:
    args, _ = converter.call("tasks.py", signature_of(f"(x: {note})"), (given,), {})
    assert repr((made,)) == repr(args)


@pytest.mark.parametrize(
    ("note", "given", "said"),
    [
        ("int", "abc", "x cannot be 'abc': expected int, got str"),
        ("O", {"name": "a", "itms": []}, "object contains unknown field itms"),
        ("O", {"name": "a", "items": [{"nam": 1}]}, "at .items"),
        ("Color", "GREEN", "x cannot be 'GREEN'"),
    ],
)
def test_values_that_cannot_be_converted_are_refused(
    converter: Converter, note: str, given: object, said: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        converter.call("tasks.py", signature_of(f"(x: {note})"), (given,), {})


def test_run_refuses_what_does_not_fit_and_makes_objects_of_json(
    project: Path, drain: Callable[[], None]
) -> None:
    (project / "tasks.py").write_text(ORDERS)
    refused = shell.invoke("run", "tasks.place", '{"name": "a", "count": "many"}')
    assert refused.code == 2
    assert "expected int, got str at .count" in refused.err
    assert not shell.invoke("history", "--json").json["jobs"]
    job = shell.run("tasks.place", '{"name": "a", "count": "3"}')
    keyword = shell.run("tasks.place", "--json-args", '{"order": {"name": "b"}}')
    drain()
    shown = [shell.invoke("wait", one, "--json").json["jobs"][0] for one in (job, keyword)]
    assert ["SUCCESS", "SUCCESS"] == [one["status"] for one in shown]
    assert shell.invoke("inspect", job, "--json").json["result"] == "Order(name='a', count=3)"


ORDERS = """
from dataclasses import dataclass
from nuvom import task

@dataclass
class Order:
    name: str
    count: int = 1

@task
def place(order: Order) -> str:
    return repr(order)
"""
