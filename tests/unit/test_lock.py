"""Locks between threads and processes: exclusive, gone with their holder, never a child's.

An exception may be raised, and another thread may run, at any point of a call.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import pytest

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.errors import BackendUnavailable
from nuvom.host import lock as lock_module
from nuvom.host.lock import FileLock, FileMutex, LockTimeoutError
from tests.unit.forked import in_child_and_parent
from tests.unit.queue_backends.interrupting import (
    LIMIT_SECS,
    beside,
    descriptors,
    in_thread,
    interrupt_everywhere,
    pause_everywhere,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    Case = tuple[Callable[[], object], Callable[[bool], object]]

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs fork, modes or links")

HOLD = """
import sys
from nuvom.host.lock import FileLock
lock = FileLock(sys.argv[1])
print(lock.acquire(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.lock"


def mutex(path: Path, limit_secs: float = LIMIT_SECS) -> FileMutex:
    return FileMutex(path, limit_secs=limit_secs)


def is_free(path: Path) -> bool:
    lock = FileLock(path)
    free = lock.acquire()
    lock.release()
    return free


# ---- FileLock -----------------------------------------------------------------------------


def test_one_at_a_time_has_the_lock_and_not_twice(path: Path) -> None:
    first, second = FileLock(path), FileLock(path)
    assert first.acquire()
    assert not first.acquire()
    assert not second.acquire()
    first.release()
    first.release()
    assert not first.held
    assert second.acquire()
    second.release()


def test_a_lock_of_another_process_ends_with_it(path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    try:
        assert b"True" == child.stdout.readline().strip()
        assert not is_free(path)
    finally:
        child.kill()
        child.communicate()
    assert is_free(path)


def test_a_shared_lock_excludes_only_those_that_do_not_share(path: Path) -> None:
    first, second = FileLock(path), FileLock(path)
    assert first.acquire(shared=True)
    assert second.acquire(shared=True)
    first.release()
    assert not is_free(path)
    second.release()
    assert is_free(path)


def test_a_missing_file_is_created_only_on_request(path: Path) -> None:
    lock = FileLock(path, create=False)
    assert not lock.acquire()
    assert not path.exists()
    path.write_text("here")
    assert lock.acquire()
    assert b"here" == os.read(lock.fileno(), 10)
    lock.release()


@pytest.mark.parametrize("content", [b"new", b""])
def test_a_file_replaced_between_opening_and_locking_is_opened_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    real = lock_module._lock

    def replacing(descriptor: int, **kind: bool) -> bool:
        monkeypatch.setattr(lock_module, "_lock", real)
        path.unlink()
        if content:
            path.write_bytes(content)
        return real(descriptor, **kind)

    monkeypatch.setattr(lock_module, "_lock", replacing)
    lock = FileLock(path)
    assert lock.acquire()
    assert path.read_bytes() == os.read(lock.fileno(), 10) == content
    lock.release()


def test_a_forgotten_lock_is_released(path: Path) -> None:
    gc.collect()  # what earlier tests have left
    before = descriptors()
    lock, turns = FileLock(path), mutex(path.with_suffix(".turns"))
    lock.acquire()
    turns.run(lambda: None)
    del lock, turns
    gc.collect()
    assert is_free(path)
    assert before == descriptors()


def test_a_lock_that_the_system_refuses_is_an_error_and_not_held(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: bool) -> bool:
        raise OSError(37, "No locks available")

    with monkeypatch.context() as patch:
        patch.setattr(lock_module, "_lock", failing)
        with pytest.raises(BackendUnavailable, match="No locks available"):
            FileLock(path).acquire()
    assert is_free(path)


# ---- FileMutex ----------------------------------------------------------------------------


def test_a_call_holds_the_lock_and_answers_or_raises(path: Path) -> None:
    turns = mutex(path, limit_secs=0)
    assert ("x", 1) == turns.run(lambda a, b: (b, a), 1, "x")
    assert is_free(path)
    assert not turns.run(is_free, path)
    with pytest.raises(KeyError):
        turns.run(dict[str, int]().__getitem__, "missing")
    assert is_free(path)
    turns.close()
    turns.close()
    assert not turns.run(is_free, path)


def test_a_wait_ends_with_its_limit_or_with_the_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []
    now = [0.0]

    def nap(secs: float) -> None:
        naps.append(secs)
        now[0] += secs

    def nap_until_released(secs: float) -> None:
        nap(secs)
        holder.release()

    monkeypatch.setattr(SYSTEM_CLOCK, "monotonic", lambda: now[0])
    monkeypatch.setattr(SYSTEM_CLOCK, "sleep", nap)
    holder = FileLock(path)
    turns = mutex(path, limit_secs=3)
    holder.acquire()
    with pytest.raises(LockTimeoutError):
        turns.run(naps.clear)
    assert 3 <= now[0] < 3.1
    assert len(naps) < 25_000, "it polls less often after a while"
    naps.clear()
    monkeypatch.setattr(SYSTEM_CLOCK, "sleep", nap_until_released)
    turns.run(lambda: None)
    assert 1 == len(naps)
    turns.close()


def test_a_wait_for_a_thread_of_the_same_process_has_a_limit(path: Path) -> None:
    turns, inside, over = mutex(path, limit_secs=0.01), Event(), Event()

    def turn() -> None:
        inside.set()
        over.wait(LIMIT_SECS)

    thread = Thread(target=lambda: turns.run(turn))
    thread.start()
    assert inside.wait(LIMIT_SECS)
    with pytest.raises(LockTimeoutError):
        turns.run(over.set)
    over.set()
    thread.join()
    turns.run(lambda: None)


# ---- fork ---------------------------------------------------------------------------------


@posix
def test_a_child_forked_in_a_call_neither_has_nor_releases_nor_keeps_the_lock(path: Path) -> None:
    turns = mutex(path, limit_secs=0)

    def in_child() -> bool:
        turns.close()
        try:
            turns.run(lambda: None)
        except LockTimeoutError:
            return not is_free(path)
        return False

    def in_parent() -> None:
        assert not is_free(path), "the child released the parent's lock"

    def in_parent_later() -> None:
        turns.run(lambda: None)
        assert is_free(path), "the child keeps the parent's lock"
        turns.close()

    turns.run(in_child_and_parent, in_child, in_parent)
    turns.run(lambda: None)
    in_child_and_parent(lambda: True, in_parent_later)


# ---- interrupted --------------------------------------------------------------------------


def is_over(turns: FileMutex, path: Path) -> bool:
    """Whether another thread can hold the mutex, and another object, too."""
    return not in_thread(lambda: turns.run(is_free, path)) and not mutex(path).run(is_free, path)


def _divide_by_zero(turns: FileMutex) -> None:
    with pytest.raises(ZeroDivisionError):
        turns.run(divmod, 1, 0)


@pytest.mark.parametrize("is_first", [False, True])
@pytest.mark.parametrize(
    ("act", "points"),
    [(lambda turns: turns.run(int), 10), (_divide_by_zero, 10), (FileMutex.close, 3)],
)
def test_an_interrupted_call_of_a_mutex_is_over(
    tmp_path: Path, act: Callable[[FileMutex], object], points: int, *, is_first: bool
) -> None:
    def prepare(number: int) -> Case:
        path = tmp_path / f"{number}.lock"
        turns = mutex(path)
        if not is_first:
            turns.run(lambda: None)

        def check(_: bool) -> None:  # noqa: FBT001  # as above
            # A second exception, that of the interruption, may leave it locked until the next call.
            assert is_free(path) or act is _divide_by_zero
            assert is_over(turns, path)
            turns.close()

        return lambda: act(turns), check

    assert interrupt_everywhere(prepare) > points


def test_close_waits_for_the_call_that_holds_the_lock(tmp_path: Path) -> None:
    def prepare(number: int) -> tuple[Any, Any, Any]:
        path = tmp_path / f"{number}.lock"
        turns, closed = mutex(path), Event()
        turns.run(lambda: None)
        held: list[bool] = []
        hands = []

        def turn() -> None:
            closed.wait(0.02)  # no longer: closing may be waiting for this turn
            held.append(not is_free(path))

        def close() -> None:
            turns.close()
            closed.set()

        def pause() -> None:
            hands.append(beside(lambda: turns.run(turn)))

        def check() -> None:
            for hand in hands:
                hand.finish(LIMIT_SECS)
            assert held == [True] * len(hands), "the lock was released in the middle of a call"
            turns.close()

        return close, pause, check

    assert pause_everywhere(prepare) > 3
