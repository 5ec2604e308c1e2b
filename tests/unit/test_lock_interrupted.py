"""An exception, or another thread, may come at any point of a call: the lock stays in order."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest

from nuvom.host.lock import FileLock, FileMutex, LockTimeoutError
from tests.unit.queue_backends.interrupting import (
    LIMIT_SECS,
    beside,
    in_thread,
    interrupt_everywhere,
    pause_everywhere,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    Case = tuple[Callable[[], object], Callable[[bool], object]]


def is_free(path: Path) -> bool:
    lock = FileLock(path)
    answer = lock.acquire()
    lock.release()
    return answer


def is_lifted(lock: FileLock, path: Path) -> bool:
    """Whether another thread can take and lift the same lock, and another object, too."""
    answer = in_thread(lock.acquire) and not is_free(path)
    in_thread(lock.release)
    return answer and is_free(path)


@pytest.mark.parametrize("kind", [{}, {"blocking": True}, {"shared": True}])
def test_an_interrupted_acquire_takes_nothing(tmp_path: Path, kind: dict[str, bool]) -> None:
    def prepare(number: int) -> Case:
        path = tmp_path / f"{number}.lock"
        lock = FileLock(path)

        def check(is_cut: bool) -> None:  # noqa: FBT001  # it is told this alone
            assert lock.held != is_cut
            assert is_free(path) == is_cut
            lock.release()
            assert is_lifted(lock, path)

        return lambda: lock.acquire(**kind), check

    assert interrupt_everywhere(prepare) > 10


def test_an_interrupted_attempt_at_a_lock_that_is_taken_leaves_it_alone(tmp_path: Path) -> None:
    def prepare(number: int) -> Case:
        path = tmp_path / f"{number}.lock"
        holder, lock = FileLock(path), FileLock(path)
        assert holder.acquire()

        def check(_: bool) -> None:  # noqa: FBT001  # as above
            assert not lock.held
            assert not is_free(path)
            holder.release()
            assert is_lifted(lock, path)

        return lock.acquire, check

    assert interrupt_everywhere(prepare) > 10


def test_an_interrupted_release_can_be_repeated(tmp_path: Path) -> None:
    def prepare(number: int) -> Case:
        path = tmp_path / f"{number}.lock"
        lock = FileLock(path)
        assert lock.acquire()

        def check(_: bool) -> None:  # noqa: FBT001  # as above
            assert lock.held != is_free(path)
            in_thread(lock.release)
            assert not lock.held
            assert is_lifted(lock, path)

        return lock.release, check

    assert interrupt_everywhere(prepare) > 5


def test_an_interrupted_removal_lifts_the_lock(tmp_path: Path) -> None:
    def prepare(number: int) -> Case:
        path = tmp_path / f"{number}.lock"
        lock = FileLock(path)
        assert lock.acquire()

        def check(_: bool) -> None:  # noqa: FBT001  # as above
            assert lock.held == (number == 1)
            in_thread(lock.remove)
            assert is_lifted(lock, path)

        return lock.remove, check

    assert interrupt_everywhere(prepare) > 10


def test_an_interrupted_move_leaves_the_lock_held_where_the_file_is(tmp_path: Path) -> None:
    def prepare(number: int) -> Case:
        path, target = tmp_path / f"{number}.new", tmp_path / f"{number}.lock"
        lock = FileLock(path)
        assert lock.acquire()

        def check(_: bool) -> None:  # noqa: FBT001  # as above
            assert lock.held
            assert path.exists() != target.exists()
            in_thread(lock.remove)
            assert not path.exists()
            assert not target.exists()
            assert is_lifted(lock, Path(lock.path))

        return lambda: lock.move_to(target), check

    assert interrupt_everywhere(prepare) > 5


# ---- turns --------------------------------------------------------------------------------


def is_over(turns: FileMutex, path: Path) -> bool:
    """Whether another thread can have a turn, and another object, too."""
    return not in_thread(lambda: turns.run(is_free, path)) and not FileMutex(path).run(
        is_free, path
    )


@pytest.mark.parametrize("is_first", [False, True])
@pytest.mark.parametrize("limit_secs", [None, LIMIT_SECS])
@pytest.mark.parametrize("keep_open", [False, True])
def test_an_interrupted_turn_is_over(
    tmp_path: Path, *, keep_open: bool, limit_secs: float | None, is_first: bool
) -> None:
    def prepare(number: int) -> Case:
        path = tmp_path / f"{number}.lock"
        turns = FileMutex(path, keep_open=keep_open, limit_secs=limit_secs)
        if not is_first:
            turns.run(lambda: None)

        def check(_: bool) -> None:  # noqa: FBT001  # as above
            assert is_free(path)
            assert is_over(turns, path)
            turns.close()

        return lambda: turns.run(int), check

    assert interrupt_everywhere(prepare) > 10


def test_an_interrupted_turn_that_fails_is_over(tmp_path: Path) -> None:
    def prepare(number: int) -> Case:
        path = tmp_path / f"{number}.lock"
        turns = FileMutex(path, keep_open=True)

        def call() -> None:
            with pytest.raises(ZeroDivisionError):
                turns.run(divmod, 1, 0)

        def check(_: bool) -> None:  # noqa: FBT001  # as above
            assert is_over(turns, path)
            assert is_free(path)
            turns.close()

        return call, check

    assert interrupt_everywhere(prepare) > 10


def test_an_interrupted_wait_for_a_turn_takes_none(tmp_path: Path) -> None:
    def prepare(number: int) -> Case:
        path = tmp_path / f"{number}.lock"
        holder = FileLock(path)
        assert holder.acquire()
        turns = FileMutex(path, keep_open=True, limit_secs=0.0001)

        def call() -> None:
            with pytest.raises(LockTimeoutError):
                turns.run(int)

        def check(_: bool) -> None:  # noqa: FBT001  # as above
            assert not is_free(path)
            holder.release()
            assert is_over(turns, path)
            turns.close()

        return call, check

    assert interrupt_everywhere(prepare) > 10


def test_an_interrupted_close_can_be_repeated(tmp_path: Path) -> None:
    def prepare(number: int) -> Case:
        path = tmp_path / f"{number}.lock"
        turns = FileMutex(path, keep_open=True)
        turns.run(lambda: None)

        def check(_: bool) -> None:  # noqa: FBT001  # as above
            in_thread(turns.close)
            assert is_over(turns, path)
            turns.close()

        return turns.close, check

    assert interrupt_everywhere(prepare) > 3


# ---- threads at the same time -------------------------------------------------------------


def test_of_two_threads_that_ask_one_is_told_that_it_has_the_lock(tmp_path: Path) -> None:
    """The first one is refused; the second one, which asks in its midst, is not."""

    def prepare(number: int) -> tuple[Any, Any, Any]:
        path = tmp_path / f"{number}.lock"
        holder, lock = FileLock(path), FileLock(path)
        assert holder.acquire()
        answers: list[bool] = []
        hands = []

        def pause() -> None:
            holder.release()
            hands.append(beside(lambda: answers.append(lock.acquire())))

        def check() -> None:
            for hand in hands:
                hand.finish(LIMIT_SECS)
            assert sum(answers) == 1, answers
            lock.release()

        return lambda: answers.append(lock.acquire()), pause, check

    assert pause_everywhere(prepare) > 10


def test_closing_leaves_a_turn_that_is_running_alone(tmp_path: Path) -> None:
    def prepare(number: int) -> tuple[Any, Any, Any]:
        path = tmp_path / f"{number}.lock"
        turns, closed = FileMutex(path, keep_open=True), Event()
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
            assert held == [True] * len(hands), "the lock was lifted in the midst of a turn"
            turns.close()

        return close, pause, check

    assert pause_everywhere(prepare) > 3
