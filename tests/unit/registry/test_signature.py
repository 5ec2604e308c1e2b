"""Whether the arguments of a call fit a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, combinations
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, NotRequired, TypedDict, TypeVar

import pytest

from nuvom.errors import InvalidArguments
from nuvom.registry.signature import Binder, TypedBinder, misfit


def plain(x: int, y: int) -> None: ...
def optional(x: int, y: int = 0) -> None: ...
def none() -> None: ...
def only_positional(x: int, /, y: int) -> None: ...
def only_keyword(x: int, *, y: int) -> None: ...
def optional_keyword(x: int, z: int = 1, *, y: int = 0) -> None: ...
def any_positional(*items: int) -> None: ...
def any_keyword(x: int, **more: int) -> None: ...


class Caller:
    def __call__(self, x: int) -> None: ...


EVERY = [
    *(plain, optional, none, only_positional, only_keyword, optional_keyword),
    *(any_positional, any_keyword, Caller()),
]


@pytest.mark.parametrize("func", EVERY)
@pytest.mark.parametrize("count", range(4))
def test_every_call_is_judged_as_python_does(func: Callable[..., Any], count: int) -> None:
    binder, args = Binder("task", func), (1, 2, 3)[:count]
    for names in chain.from_iterable(combinations("xyz", size) for size in range(4)):
        kwargs = dict.fromkeys(names, 0)
        try:
            func(*args, **kwargs)
        except TypeError:
            with pytest.raises(InvalidArguments):
                binder.check(args, kwargs)
            assert kwargs or count not in binder.fitting
        else:
            binder.check(args, kwargs)


def test_refusal_shows_the_signature_and_is_a_type_error() -> None:
    with pytest.raises(TypeError) as refusal:
        Binder("app.plain", plain).check((), {})
    assert "app.plain: missing a required argument: 'x'." in str(refusal.value)
    assert "The task's signature is app.plain(x: int, y: int) -> None;" in str(refusal.value)


# ---- types ------------------------------------------------------------------------------


class Address(TypedDict):
    street: str
    lines: NotRequired[list[str]]


R = TypeVar("R")
UserId = NewType("UserId", int)


@pytest.mark.parametrize(
    ("hint", "fitting", "others"),
    [
        (int, [1, True], ["1", 1.0, None]),
        (float, [1.5, 1], ["1"]),
        (int | None, [1, None], ["1"]),
        (list[int], [[], [1]], [[1, "2"], (1,)]),
        (Sequence[int], [[1], (1,)], [["1"]]),
        (dict[str, list[int]], [{"a": [1]}], [{"a": ["1"]}, {1: [1]}]),
        (tuple[int, str], [(1, "a")], [(1,), (1, 2)]),
        (tuple[int, ...], [(), (1, 2)], [("1",)]),
        (Literal["a", 1], ["a", 1], ["b", True]),
        (Address, [{"street": "a"}], [{}, {"street": 1}, {"street": "a", "city": "b"}, 1]),
        (Annotated[UserId, "meta"], [1], ["1"]),
        (Path, [Path("a")], ["a"]),
        (R, [1, "a"], []),
        (Callable[[int], int], [len], []),
        (Any, [1, None], []),
    ],
    ids=str,
)
def test_values_are_checked_against_annotations(
    hint: Any, fitting: list[object], others: list[object]
) -> None:
    assert [""] * len(fitting) == [misfit(one, hint, "x") for one in fitting]
    assert all(misfit(one, hint, "x") for one in others)


def test_a_call_is_refused_with_the_place_of_what_does_not_fit() -> None:
    def task(x: int, *rest: int, y: int = None, **more: str) -> None:  # type: ignore[assignment]  # noqa: RUF013
        """Have annotations of all kinds."""

    binder = TypedBinder("tasks.task", task)
    binder.check((1, 2), {"y": None, "z": "a"})
    refused: list[tuple[tuple[object, ...], dict[str, object], str]] = [
        ((1, 2, "3"), {}, r"rest\[1\] is of type str, not int"),
        ((1,), {"y": "2"}, "y is of type str, not int"),
        ((1,), {"z": 1}, "z is of type int, not str"),
        ((), {}, "missing a required argument"),
    ]
    for args, kwargs, said in refused:
        with pytest.raises(InvalidArguments, match=said):
            binder.check(args, kwargs)
