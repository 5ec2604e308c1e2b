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
    AmbiguousJob,
    AmbiguousTask,
    BackendUnavailable,
    InvalidArguments,
    InvalidId,
    InvalidTaskOption,
    JobFailed,
    JobNotFound,
    JobTimeout,
    NotStorable,
    NuvomError,
    PluginsOff,
    QueueError,
    QueueFull,
    TaskHidden,
    TaskNotFound,
    UnknownBackend,
    UnknownSetting,
    did_you_mean,
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
        if parameter.name in ("waited_secs", "size", "limit", "workers", "lease_epoch"):
            given[parameter.name] = 3
    return cls(**given)


@pytest.mark.parametrize("cls", CLASSES)
def test_error_says_what_and_what_to_do(cls: type[NuvomError]) -> None:
    error = make(cls)
    assert f"{error.what}\nFix: {error.fix}" == str(error)
    assert "{" not in str(error)
    assert error.fix.strip()


@pytest.mark.parametrize("cls", CLASSES)
def test_error_survives_copies_and_its_way_through_a_process_pool(cls: type[NuvomError]) -> None:
    error = make(cls)
    pickled = pickle.loads(pickle.dumps(error))  # what concurrent.futures does
    for again in (copy.copy(error), copy.deepcopy(error), pickled):
        assert type(error) is type(again)
        assert (str(error), error.fields) == (str(again), again.fields)
    assert cls.__name__ in repr(error)


@pytest.mark.parametrize("cls", CLASSES)
def test_fields_of_an_error_are_attributes(cls: type[NuvomError]) -> None:
    error = make(cls)
    for name, value in error.fields.items():
        if not hasattr(cls, name):
            assert value == getattr(error, name)
    with pytest.raises(AttributeError, match="colour"):
        _ = error.colour


@pytest.mark.parametrize("cls", CLASSES)
def test_error_can_be_imported_from_the_package(cls: type[NuvomError]) -> None:
    assert cls is getattr(nuvom, cls.__name__)


@pytest.mark.parametrize(
    ("cls", "also"),
    [
        (JobNotFound, KeyError),
        (JobTimeout, TimeoutError),
        (NotStorable, TypeError),
        (InvalidArguments, TypeError),
        (InvalidId, ValueError),
        (UnknownBackend, errors.ConfigError),
        (QueueFull, QueueError),
        (TaskHidden, TaskNotFound),
    ],
)
def test_error_is_also_what_python_calls_it(cls: type[Exception], also: type[Exception]) -> None:
    assert issubclass(cls, also)


def test_text_of_a_key_error_is_not_quoted() -> None:
    assert str(JobNotFound("x")).startswith("There is no job x.")


def test_value_with_braces_is_shown_as_it_is() -> None:
    error = BackendUnavailable("{where}", "{0}", "{repair}")
    assert "The store {where} cannot be used: {0}.\nFix: {repair}" == str(error)
    assert "'{x}'" in InvalidTaskOption("queue", "{x}", "a text").what


def test_error_without_a_text_is_empty() -> None:
    error = NuvomError()
    error.args = ()
    assert "" == error.what


def test_error_that_is_not_built_has_no_fields() -> None:
    with pytest.raises(AttributeError, match="job_id"):
        _ = JobNotFound.__new__(JobNotFound).job_id


# ---- hints ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("ad", ["add", "mail.send"], ["add"]),
        ("sned", ["add", "mail.send"], ["mail.send"]),
        ("MAX_WORKER", ["max_workers"], ["max_workers"]),
        ("sqlit", ["sqlite", "sqlite3", "sqlite4", "sqlite5"], ["sqlite", "sqlite5", "sqlite4"]),
        ("nothing", ["add"], []),
        ("", ["add"], []),
        ("add", [], []),
    ],
)
def test_names_that_look_alike_are_suggested(name: str, known: list[str], found: list[str]) -> None:
    assert sorted(found) == sorted(suggest(name, known)) or len(suggest(name, known)) == 3
    assert suggest(name, known)[:1] == found[:1]


@pytest.mark.parametrize(
    ("known", "text"),
    [
        (["add"], ' Did you mean "add"?'),
        (["add", "adds"], ' Did you mean "add" or "adds"?'),
        (["addr", "adds", "addx"], ' Did you mean "'),
        (["send"], ""),
    ],
)
def test_hint_is_part_of_a_sentence(known: list[str], text: str) -> None:
    assert did_you_mean("add", known).startswith(text)


def test_misspelt_names_have_a_hint() -> None:
    assert 'Did you mean "max_workers"?' in UnknownSetting("max_worker", ["max_workers"]).what
    assert 'Did you mean "sqlite"?' in UnknownBackend("queue", "sqlit", ["sqlite"]).what
    assert 'Did you mean "app.add"?' in TaskNotFound("ad", ["app.add"]).what
    assert 'Did you mean "sqlite"?' in PluginsOff("queue", "sqlit", ["sqlite"]).what


def test_several_names_are_listed() -> None:
    assert "a, b" in AmbiguousTask("x", ["b", "a"]).what
    assert "b, a" in AmbiguousJob("x", ["b", "a"]).what


# ---- single errors --------------------------------------------------------------------------


def test_failure_of_a_job_holds_type_and_message() -> None:
    error = JobFailed("x", "ValueError", "no good", "Traceback")
    assert "ValueError: no good" in str(error)
    assert ("ValueError", "no good", "Traceback") == (error.type, error.text, error.traceback)


@pytest.mark.parametrize(
    ("workers", "advice"), [(0, "nuvom runworker"), (2, "nuvom workers"), ("unknown", "workers")]
)
def test_timeout_advises_by_the_workers(workers: int | str, advice: str) -> None:
    error = JobTimeout("x", 1.5, status="PENDING", queue="mail", workers=workers)
    assert f'PENDING after waiting 1.5 s; {workers} workers alive on queue "mail"' in error.what
    assert advice in error.fix
