"""One tree of errors: each says what happened, why, and what to do."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

import nuvom
from nuvom import errors
from nuvom.errors import (
    BackendUnavailable,
    JobNotFound,
    NuvomError,
    suggest,
)


def tree(cls: type[NuvomError] = NuvomError) -> Iterator[type[NuvomError]]:
    yield cls
    for one in cls.__subclasses__():
        yield from tree(one)


CLASSES = sorted(
    {cls for cls in tree() if cls.__module__ == errors.__name__}, key=lambda c: c.__name__
)


def make(cls: type[NuvomError]) -> NuvomError:
    """Build an error with a value for each of its arguments."""
    given: dict[str, Any] = {}
    for parameter in inspect.signature(cls.__init__).parameters.values():
        if parameter.name == "self" or parameter.kind is parameter.VAR_KEYWORD:
            continue
        is_list = parameter.name in ("known", "tried", "candidates")
        given[parameter.name] = ["one", "two"] if is_list else f"<{parameter.name}>"
        if parameter.name in ("at", "waited_secs", "size", "limit", "workers", "lease_epoch"):
            given[parameter.name] = 3
    return cls(**given)


@pytest.mark.parametrize("cls", CLASSES)
def test_error_says_what_and_what_to_do_and_survives_copies(cls: type[NuvomError]) -> None:
    error = make(cls)
    assert f"{error.what}\nFix: {error.fix}" == str(error)
    assert "{" not in str(error)
    assert error.fix.strip()
    assert cls is getattr(nuvom, cls.__name__)
    pickled = pickle.loads(pickle.dumps(error))  # what concurrent.futures does
    for again in (copy.copy(error), pickled):
        assert (cls, str(error), error.fields) == (type(again), str(again), again.fields)
    with pytest.raises(AttributeError, match="colour"):
        _ = error.colour
    with pytest.raises(AttributeError, match="job_id"):
        _ = cls.__new__(cls).job_id


@pytest.mark.parametrize(
    ("cls", "also"),
    [
        (JobNotFound, KeyError),
        (errors.JobTimeout, TimeoutError),
        (errors.NotStorable, TypeError),
        (errors.InvalidArguments, TypeError),
        (errors.InvalidTaskOption, TypeError),
        (errors.InvalidId, ValueError),
    ],
)
def test_error_is_also_what_python_calls_it(cls: type[Exception], also: type[Exception]) -> None:
    assert issubclass(cls, also)


def test_text_of_an_error_is_shown_as_it_is() -> None:
    assert str(JobNotFound("x")).startswith("There is no job x.")  # a KeyError would quote it
    error = BackendUnavailable("{where}", "{0}", "{repair}")
    assert "The store {where} cannot be used: {0}.\nFix: {repair}" == str(error)


# ---- hints ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("ad", ["add", "mail.send"], ["add"]),
        ("sned", ["add", "mail.send"], ["mail.send"]),
        ("MAX_WORKER", ["max_workers"], ["max_workers"]),
        ("sqlit", ["sqlite", "sqlite3", "sqlite4", "sqlite5"], ["sqlite", "sqlite5", "sqlite4"]),
        ("", ["add"], []),
    ],
)
def test_names_that_look_alike_are_suggested(name: str, known: list[str], found: list[str]) -> None:
    assert sorted(found) == sorted(suggest(name, known)) or len(suggest(name, known)) == 3
    assert suggest(name, known)[:1] == found[:1]
