"""Exceptions, in whatever state, become three texts and a fingerprint."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from nuvom.core.record import StoredError
from nuvom.execution import failures
from nuvom.execution.failures import (
    current_frames,
    fingerprint,
    stack_of,
    stack_of_coroutine,
    stored_error,
)


def raised(call: Callable[[], Any]) -> BaseException:
    try:
        call()
    except BaseException as error:  # noqa: BLE001  # whatever a task may raise
        return error
    raise AssertionError("nothing was raised")


def stored(call: Callable[[], Any]) -> StoredError:
    return stored_error("tests.probe", raised(call))


def inner() -> None:
    raise ValueError("no good")


def outer() -> None:
    inner()


def test_exception_is_kept_as_type_message_and_traceback() -> None:
    error = stored(outer)
    assert ("ValueError", "no good") == (error.type, error.message)
    assert error.traceback is not None
    assert "in outer" in error.traceback
    assert "in inner" in error.traceback
    assert error.traceback.endswith("ValueError: no good\n")


def test_long_texts_are_cut_in_the_middle() -> None:
    def talkative() -> None:
        raise ValueError("a" * 5000 + "b" * 100_000 + "c" * 5000)

    error = stored(talkative)
    assert len(error.message) < 8_300
    assert error.message.startswith("aaaa")
    assert error.message.endswith("cccc")
    assert "characters left out" in error.message


def test_text_that_utf_8_cannot_hold_is_escaped() -> None:
    def odd() -> None:
        raise ValueError("\ud800")

    error = stored(odd)
    assert "\\ud800" == error.message
    error.message.encode()
    str(error.traceback).encode()


class BadTextError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


class BadNotesError(Exception):
    def __init__(self) -> None:
        super().__init__("text")
        self.__notes__: Any = self

    def __iter__(self) -> Any:
        raise RuntimeError("no notes for you")


class BadCauseError(Exception):
    @property
    def __cause__(self) -> Any:  # type: ignore[override]  # the point
        raise RuntimeError("no cause for you")


def test_exception_whose_text_cannot_be_made_is_reported_all_the_same() -> None:
    def bad() -> None:
        raise BadTextError

    error = stored(bad)
    assert "BadTextError" == error.type
    assert "<its text could not be made: RuntimeError>" == error.message


@pytest.mark.parametrize("kind", [BadNotesError, BadCauseError])
def test_exception_that_cannot_be_formatted_is_reported_all_the_same(
    kind: type[Exception],
) -> None:
    def bad() -> None:
        raise kind

    assert kind.__name__ == stored(bad).type
    assert stored(bad).traceback


@pytest.mark.parametrize("shortage", [MemoryError, RecursionError])
def test_shortage_while_reporting_leaves_a_report_without_details(
    monkeypatch: pytest.MonkeyPatch, shortage: type[BaseException]
) -> None:
    def short(*_: object) -> str:
        raise shortage

    monkeypatch.setattr(failures, "_formatted", short)
    error = stored(inner)
    assert StoredError("ValueError", "its report could not be made", None, "tests.probe") == error


# ---- fingerprints ---------------------------------------------------------------------------


def test_task_type_and_place_tell_failures_apart() -> None:
    def elsewhere() -> None:
        raise ValueError("no good")

    def otherwise() -> None:
        raise KeyError("no good")

    prints = {
        stored(inner).fingerprint,
        stored(elsewhere).fingerprint,
        stored(otherwise).fingerprint,
        stored_error("tests.other", raised(inner)).fingerprint,
        fingerprint("tests.probe", "ValueError"),
    }
    assert 5 == len(prints)


def test_line_of_a_failure_does_not_matter() -> None:
    source = "\n\n\ndef inner():\n    raise ValueError('no good')\n"
    prints = set()
    for text in (source, "\n" * 50 + source):
        space: dict[str, Any] = {}
        exec(compile(text, "/app/tasks.py", "exec"), space)  # two versions of a file
        prints.add(stored(space["inner"]).fingerprint)
    assert 1 == len(prints)


def test_place_is_in_the_users_own_code() -> None:
    library: dict[str, Any] = {}
    text = "".join(f"def {name}(x):\n    raise ValueError(x)\n" for name in ("fetch", "post"))
    exec(compile(text, "/env/site-packages/library.py", "exec"), library)

    def mine(name: str) -> None:
        library[name]("x")

    assert stored(lambda: mine("fetch")).fingerprint == stored(lambda: mine("post")).fingerprint


# ---- stacks ---------------------------------------------------------------------------------


def test_stack_of_a_thread_shows_the_users_part() -> None:
    there, go = threading.Event(), threading.Event()

    def waiting() -> None:
        there.set()
        go.wait(30)

    thread = threading.Thread(target=waiting)
    thread.start()
    there.wait(30)
    try:
        text = stack_of(current_frames()[thread.ident or 0])
    finally:
        go.set()
        thread.join()
    assert "in waiting" in text
    assert "threading.py" not in text


async def step(future: asyncio.Future[None]) -> None:
    await future


def test_stack_of_a_coroutine_goes_to_where_it_waits() -> None:
    async def waits(future: asyncio.Future[None]) -> None:
        await step(future)

    async def main() -> str:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(waits(future))
        await asyncio.sleep(0)
        text = stack_of_coroutine(task.get_coro())
        future.set_result(None)
        await task
        return text

    text = asyncio.run(main())
    assert "in waits" in text
    assert "in step" in text
    assert text.index("in waits") < text.index("in step")
