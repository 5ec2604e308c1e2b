"""What can be said about a task and about a call of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from nuvom.core.options import (
    CALL_OPTION_NAMES,
    NO_CALL_OPTIONS,
    TaskOptions,
    call_options,
    task_options,
)
from nuvom.errors import InvalidId, InvalidTaskOption


async def coroutine_hook() -> None: ...


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"in": value}
    return value


@pytest.mark.parametrize("name", TaskOptions._fields)
def test_none_stands_for_the_default_of_a_task_option(name: str) -> None:
    assert TaskOptions() == task_options({name: None})


@pytest.mark.parametrize("name", CALL_OPTION_NAMES)
def test_none_changes_no_call_option(name: str) -> None:
    base = call_options(NO_CALL_OPTIONS, {"queue": "mail", "delay": 5})
    assert base == call_options(base, {name: None})


BAD: list[tuple[str, Any]] = [
    ("queue", "../x"),
    ("queue", "a" * 65),
    ("priority", 1.5),
    ("priority", True),
    ("priority", 2**31),
    ("retries", -1),
    ("retries", True),
    ("retries", 2**31),
    ("retry_delay_secs", -0.1),
    ("retry_delay_secs", float("nan")),
    ("retry_delay_secs", True),
    ("backoff", "quadratic"),
    ("jitter", 1),
    ("retry_on", "OSError"),
    ("retry_on", (OSError, 5)),
    ("timeout_secs", 0),
    ("timeout_secs", "5"),
    ("tags", ["a", 5]),
    ("tags", ["\ud800"]),
    ("tags", "\ud800"),
    ("tags", 5),
    ("description", 5),
    ("unique_by", ()),
    ("before_job", "clean_up"),
    ("after_job", coroutine_hook),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_task_option_that_cannot_be_used_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises((InvalidTaskOption, InvalidId), match=name):
        task_options({name: value})


def test_unknown_option_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidTaskOption, match=r'retrys=3.*retries.* Did you mean "retries"'):
        task_options({"retrys": 3})
    with pytest.raises(InvalidTaskOption, match='Did you mean "priority"'):
        call_options(NO_CALL_OPTIONS, {"priorty": 3})


def test_soft_time_limit_that_is_never_reached_is_refused() -> None:
    with pytest.raises(InvalidTaskOption, match=r"soft_timeout_secs=5 .* less than timeout_secs"):
        task_options({"soft_timeout_secs": 5, "timeout_secs": 5})


@pytest.mark.parametrize("hook", ["before_job", "after_job", "on_error"])
def test_task_with_any_hook_has_hooks(hook: str) -> None:
    assert task_options({hook: print}).has_hooks


CALL_GOOD: list[tuple[str, Any]] = [
    ("delay", 0),
    ("delay", timedelta(minutes=1)),
    ("run_at", datetime(2030, 1, 1, tzinfo=UTC)),
    ("run_at", datetime(2030, 1, 1, tzinfo=timezone(timedelta(hours=2)))),
    ("expires", timedelta(minutes=1)),
    ("expires", datetime(2030, 1, 1, tzinfo=UTC)),
    ("unique_key", "user:5 / день"),
    ("metadata", {"a": [1, 2.5, None, True, "x", {"b": {}}]}),
    ("metadata", nested(31)),
]
CALL_BAD: list[tuple[str, Any]] = [
    ("delay", -1),
    ("delay", timedelta(seconds=-1)),
    ("run_at", "tomorrow"),
    ("expires", "tomorrow"),
    ("expires", -1),
    ("unique_key", "\ud800"),
    ("metadata", []),
    ("metadata", {5: "a"}),
    ("metadata", {"\ud800": 1}),
    ("metadata", {"a": "\ud800"}),
    ("metadata", {"a": [object()]}),
    ("metadata", {"a": 2**63}),
    ("metadata", {"a": b"bytes"}),
    ("metadata", nested(40)),
    ("backoff", "linear"),
]


@pytest.mark.parametrize(("name", "value"), CALL_GOOD)
def test_call_option_is_kept(name: str, value: object) -> None:
    assert {name: value} == call_options(NO_CALL_OPTIONS, {name: value})


@pytest.mark.parametrize(("name", "value"), CALL_BAD)
def test_call_option_that_cannot_be_used_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidTaskOption, match=name):
        call_options(NO_CALL_OPTIONS, {name: value})


def test_call_options_add_up() -> None:
    base = call_options(NO_CALL_OPTIONS, {"queue": "mail", "priority": 1})
    options = call_options(base, {"priority": 2, "tags": "a"})
    assert {"queue": "mail", "priority": 2, "tags": ("a",)} == options


def test_delay_and_run_at_exclude_each_other() -> None:
    both = {"delay": 5, "run_at": datetime(2030, 1, 1, tzinfo=UTC)}
    with pytest.raises(InvalidTaskOption, match="either run_at or delay"):
        call_options(NO_CALL_OPTIONS, both)


def test_of_delay_and_run_at_the_later_word_counts() -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    delayed = call_options(NO_CALL_OPTIONS, {"delay": 5})
    fixed = call_options(delayed, {"run_at": moment})
    assert {"run_at": moment} == fixed
    assert {"delay": 7} == call_options(fixed, {"delay": 7})


def test_naive_moment_is_taken_as_utc_with_a_warning() -> None:
    naive = datetime(2030, 1, 1, 12)  # noqa: DTZ001  # the point
    with pytest.warns(UserWarning, match=r"run_at=2030-01-01T12:00:00 has no time zone"):
        options = call_options(NO_CALL_OPTIONS, {"run_at": naive})
    assert datetime(2030, 1, 1, 12, tzinfo=UTC) == options["run_at"]


def test_metadata_is_not_changed_afterwards() -> None:
    given: dict[str, Any] = {"a": [1]}
    options = call_options(NO_CALL_OPTIONS, {"metadata": given})
    given["a"].append(2)
    given["b"] = 3
    assert {"a": [1]} == options["metadata"]
