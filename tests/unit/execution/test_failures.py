"""Exceptions, in whatever state, become three texts and a fingerprint."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Generator
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
from nuvom.serialization.msgpack_codec import MsgpackCodec
from tests.engine import LIMIT_SECS


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


def test_frames_of_the_engine_are_left_out_at_the_outer_end() -> None:
    error = raised(outer)
    frames = error.__traceback__
    assert frames is not None
    failures_own = types.TracebackType(frames, sys._getframe(), frames.tb_lasti, frames.tb_lineno)
    error.__traceback__ = failures_own
    text = stored_error("tests.probe", error).traceback
    assert "in outer" in str(text)


def test_error_that_the_engine_raises_on_purpose_shows_none_of_its_frames() -> None:
    refusal = _of_the_engine(lambda: MsgpackCodec().encode_value(object()))
    error = stored_error("tests.probe", refusal)
    assert "NotStorable" == error.type
    assert error.traceback is not None
    assert error.traceback.startswith("nuvom.errors.NotStorable: result: object cannot be stored.")


def test_fault_of_the_engine_keeps_its_frames() -> None:
    fault = _of_the_engine(lambda: MsgpackCodec().encode_call(None, {}))  # type: ignore[arg-type]  # a fault
    assert "msgpack_codec.py" in str(stored_error("tests.probe", fault).traceback)


def _of_the_engine(call: Callable[[], Any]) -> BaseException:
    """Return what ``call`` raises, as if the engine had called it."""
    error = raised(call)
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    error.__traceback__ = frames
    return error


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


def test_failures_at_one_place_have_one_fingerprint() -> None:
    assert stored(inner).fingerprint == stored(outer).fingerprint
    assert 12 == len(str(stored(inner).fingerprint))


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


@types.coroutine
def old_style(future: asyncio.Future[None]) -> Generator[Any, None, None]:
    yield from step(future).__await__()


@pytest.mark.parametrize("how", [step, old_style])
def test_stack_of_a_coroutine_goes_to_where_it_waits(how: Callable[..., Any]) -> None:
    async def waits(future: asyncio.Future[None]) -> None:
        await how(future)

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
    assert f"in {how.__name__}" in text
    assert text.index("in waits") < text.index(f"in {how.__name__}")


# ---- walks over the stacks of others ---------------------------------------------------------


class Walker:
    """A thread in the midst of a walk, which ends when it is let."""

    def __init__(self) -> None:
        self.inside, self.go = threading.Event(), threading.Event()
        self.collected: list[bool] = []
        self.thread = threading.Thread(target=lambda: failures._WALKS.run(self._walk))
        self.thread.start()

    def _walk(self) -> None:
        self.inside.set()
        self.go.wait(LIMIT_SECS)
        self.collected.append(gc.isenabled())


def test_end_of_one_walk_lets_the_collector_into_no_other() -> None:
    first = Walker()
    assert first.inside.wait(LIMIT_SECS)
    second = Walker()
    second.inside.wait(0.1)  # it would be, if two could walk at once
    first.go.set()
    first.thread.join()
    second.go.set()
    second.thread.join()
    assert [False] == first.collected == second.collected
    assert gc.isenabled()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_process_that_is_forked_in_the_midst_of_a_walk_collects_and_walks() -> None:
    walker = Walker()
    assert walker.inside.wait(LIMIT_SECS)
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)  # rather than wait for the parent's walk for ever
        os._exit(7 if gc.isenabled() and failures.current_frames() else 1)
    walker.go.set()
    walker.thread.join()
    assert 7 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
