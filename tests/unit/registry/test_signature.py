"""Whether the arguments of a call fit a function."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, combinations
from typing import Any

import pytest

from nuvom.errors import InvalidArguments
from nuvom.registry.signature import Binder


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
