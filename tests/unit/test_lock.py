"""Locks between threads and processes: exclusive, gone with their holder, never a child's.

What an exception does that strikes in between is in ``test_lock_interrupted.py``.
"""

from __future__ import annotations

import gc
import os
import stat
import subprocess
import sys
from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.errors import BackendUnavailable
from nuvom.host import lock as lock_module
from nuvom.host.files import open_file
from nuvom.host.lock import FileLock, FileMutex, LockTimeoutError
from tests.unit.queue_backends.interrupting import descriptors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs fork, modes or links")
LIMIT_SECS = 30

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


def is_free(path: Path) -> bool:
    lock = FileLock(path)
    free = lock.acquire()
    lock.release()
    return free


def hold_in_another_process(path: Path) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline().strip() == b"True"
    return child


def test_one_at_a_time_has_the_lock(path: Path) -> None:
    first, second = FileLock(path), FileLock(path)
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()


def test_the_same_object_does_not_take_it_twice(path: Path) -> None:
    lock = FileLock(path)
    assert lock.acquire()
    assert not lock.acquire()
    lock.release()
    lock.release()
    assert not lock.held
    assert lock.acquire()
    lock.release()


def test_a_lock_of_another_process_is_respected_and_ends_with_it(path: Path) -> None:
    child = hold_in_another_process(path)
    try:
        assert not is_free(path)
    finally:
        child.kill()
        child.communicate()
    assert is_free(path)


def test_who_blocks_gets_it_when_it_is_released(path: Path) -> None:
    holder, got = FileLock(path), Event()
    waiting = FileLock(path)
    holder.acquire()

    def wait() -> None:
        assert waiting.acquire(blocking=True)
        got.set()

    thread = Thread(target=wait)
    thread.start()
    assert not got.wait(0.02)
    holder.release()
    assert got.wait(LIMIT_SECS)
    thread.join()
    waiting.release()


def test_those_that_share_a_lock_have_it_together_and_nobody_else(path: Path) -> None:
    first, second, alone = FileLock(path), FileLock(path), FileLock(path)
    assert first.acquire(shared=True)
    assert second.acquire(shared=True)
    assert not alone.acquire()
    first.release()
    assert not alone.acquire()
    second.release()
    assert alone.acquire()
    assert not first.acquire(shared=True)
    alone.release()


# ---- turns --------------------------------------------------------------------------------


@pytest.mark.parametrize("keep_open", [False, True])
def test_who_waits_for_a_turn_gets_it_when_the_one_before_is_over(
    path: Path, *, keep_open: bool
) -> None:
    got = Event()
    turns = FileMutex(path, keep_open=keep_open)
    thread = Thread(target=lambda: FileMutex(path, keep_open=keep_open).run(got.set))

    def turn() -> bool:
        thread.start()
        return got.wait(0.02)

    assert not turns.run(turn)
    assert got.wait(LIMIT_SECS)
    thread.join()
    turns.close()


def test_a_turn_gives_what_was_given_to_it_and_what_came_of_it(path: Path) -> None:
    turns = FileMutex(path)
    assert turns.run(lambda a, b: (b, a), 1, "x") == ("x", 1)
    with pytest.raises(KeyError):
        turns.run(dict[str, int]().__getitem__, "missing")
    assert is_free(path)


def test_waiting_with_a_limit_ends_with_it_or_with_the_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []
    waits: list[float] = []
    now = [0.0]

    def nap(secs: float) -> None:
        naps.append(secs)
        now[0] += secs

    def nap_until_released(secs: float) -> None:
        nap(secs)
        holder.release()

    monkeypatch.setattr(SYSTEM_CLOCK, "monotonic", lambda: now[0])
    monkeypatch.setattr(SYSTEM_CLOCK, "sleep", nap)
    holder, turns = FileLock(path), FileMutex(path, limit_secs=3, waiting=waits.append)
    holder.acquire()
    with pytest.raises(LockTimeoutError):
        turns.run(naps.clear)
    assert 3 <= now[0] < 3.1
    assert len(naps) < 25_000, "it asks less often when it takes long"
    assert waits[0] == 0
    assert 2.9 < waits[-1] < 3
    naps.clear()
    monkeypatch.setattr(SYSTEM_CLOCK, "sleep", nap_until_released)
    turns.run(lambda: None)
    assert len(naps) == 1
    turns.run(lambda: None)
    turns.close()


def test_waiting_for_a_thread_of_the_same_process_has_a_limit_too(path: Path) -> None:
    turns, inside, over = FileMutex(path, limit_secs=0.01), Event(), Event()

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


def test_threads_that_share_an_object_exclude_each_other(path: Path) -> None:
    turns, inside, most = FileMutex(path, keep_open=True), [0], [0]

    def work() -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        inside[0] -= 1

    threads = [Thread(target=lambda: [turns.run(work) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    turns.close()


@pytest.mark.parametrize("keep_open", [False, True])
def test_a_file_is_locked_again_and_again(path: Path, *, keep_open: bool) -> None:
    turns = FileMutex(path, keep_open=keep_open, limit_secs=0)
    for _ in range(3):
        assert not turns.run(is_free, path)
        assert is_free(path)
    other = FileLock(path)
    other.acquire()
    with pytest.raises(LockTimeoutError):
        turns.run(lambda: None)
    other.release()
    turns.close()
    turns.close()
    assert not turns.run(is_free, path)
    turns.close()
    assert is_free(path)


@posix
def test_a_file_kept_open_that_somebody_removed_is_made_anew(path: Path) -> None:
    """Else two processes could each have a turn."""
    turns = FileMutex(path, keep_open=True)
    turns.run(lambda: None)
    path.unlink()
    assert not turns.run(is_free, path)
    path.unlink()
    path.write_text("another")
    assert not turns.run(is_free, path)
    turns.close()


def test_a_forgotten_file_kept_open_is_closed(path: Path) -> None:
    before = descriptors()
    turns = FileMutex(path, keep_open=True)
    turns.run(lambda: None)
    del turns
    gc.collect()
    assert descriptors() == before


# ---- the file -----------------------------------------------------------------------------


@posix
def test_the_file_is_private_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        lock = FileLock(path)
        lock.acquire()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    lock.release()


@posix
def test_a_symbolic_link_is_refused(path: Path, tmp_path: Path) -> None:
    (tmp_path / "target").write_text("")
    path.symlink_to(tmp_path / "target")
    lock = FileLock(path)
    with pytest.raises(BackendUnavailable):
        lock.acquire()
    path.unlink()
    assert lock.acquire(), "a failed acquire must not keep the lock from its own threads"
    lock.release()


def test_a_missing_file_is_not_made_when_it_is_not_to_be(path: Path) -> None:
    lock = FileLock(path, create=False)
    assert not lock.acquire()
    assert not path.exists()
    path.write_text("here")
    assert lock.acquire()
    assert path.read_text() == "here"
    lock.release()


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="nowhere"):
        FileLock(tmp_path / "nowhere" / "a.lock").acquire()


def test_a_file_removed_by_its_holder_is_made_anew_by_the_next(path: Path) -> None:
    holder, next_one = FileLock(path), FileLock(path)
    holder.acquire()
    thread = Thread(target=lambda: next_one.acquire(blocking=True))
    thread.start()
    holder.remove()
    thread.join()
    assert next_one.held
    assert not is_free(path), "the next one holds a lock that nobody else can see"
    next_one.remove()
    next_one.remove()
    assert not path.exists()


@pytest.mark.parametrize("content", [b"new", b""])
def test_a_file_replaced_or_removed_between_opening_and_locking_is_opened_again(
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


def test_moving_the_file_keeps_it_locked(path: Path, tmp_path: Path) -> None:
    lock = FileLock(path)
    lock.acquire()
    assert lock.move_to(tmp_path / "b.lock")
    assert not path.exists()
    assert not is_free(tmp_path / "b.lock")
    lock.remove()
    assert not (tmp_path / "b.lock").exists()


def test_a_failed_move_leaves_the_lock_where_it_was(path: Path, tmp_path: Path) -> None:
    lock = FileLock(path)
    lock.acquire()
    with pytest.raises(BackendUnavailable):
        lock.move_to(tmp_path / "nowhere" / "b.lock")
    lock.remove()
    assert not path.exists()


def test_the_descriptor_is_given_only_while_locked(path: Path) -> None:
    lock = FileLock(path)
    with pytest.raises(ValueError, match="not locked"):
        lock.fileno()
    lock.acquire()
    assert os.fstat(lock.fileno()).st_size == 0
    lock.release()
    with pytest.raises(ValueError, match="not locked"):
        lock.fileno()


def test_a_lock_that_nobody_can_give_up_any_more_is_given_up(path: Path) -> None:
    lock = FileLock(path)
    lock.acquire()
    del lock
    gc.collect()
    assert is_free(path)


@pytest.mark.parametrize(
    ("where", "name", "reason"),
    [(lock_module, "_lock", "No locks available"), (os, "lstat", "Input/output error")],
)
def test_a_lock_that_the_system_cannot_give_or_look_at_is_an_error_and_left_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch, where: object, name: str, reason: str
) -> None:
    def failing(*_: object, **__: bool) -> bool:
        raise OSError(5, reason)

    lock, turns = FileLock(path), FileMutex(path, keep_open=True)
    before = descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(where, name, failing)
        with pytest.raises(BackendUnavailable, match=reason):
            lock.acquire()
        with pytest.raises(BackendUnavailable, match=reason):
            turns.run(lambda: None)
    assert not lock.held
    assert is_free(path)
    assert descriptors() == before
    assert lock.acquire()
    lock.release()
    assert not turns.run(is_free, path)
    turns.close()


# ---- fork ---------------------------------------------------------------------------------


def _in_child_and_parent(in_child: Callable[[], bool], in_parent: Callable[[], None]) -> None:
    """Let a forked child act first, and the parent while the child still lives."""
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(ready[1], b"1" if in_child() else b"0")
        os.read(go[0], 1)
        os._exit(0)
    try:
        assert os.read(ready[0], 1) == b"1"
        in_parent()
    finally:
        os.write(go[1], b"1")
        os.waitpid(pid, 0)
        for end in (*ready, *go):
            os.close(end)


@posix
def test_a_forked_child_neither_has_the_lock_nor_lifts_nor_keeps_it(path: Path) -> None:
    lock = FileLock(path)
    lock.acquire()

    def in_child() -> bool:
        ok = not lock.held and not is_free(path)
        lock.release()
        lock.remove()
        return ok and path.exists() and not lock.acquire()

    def in_parent() -> None:
        assert not is_free(path), "the child lifted the parent's lock"
        lock.release()
        assert is_free(path), "the child keeps the parent's lock"

    _in_child_and_parent(in_child, in_parent)


@posix
@pytest.mark.parametrize("keep_open", [False, True])
def test_a_child_forked_in_a_turn_neither_has_it_nor_lifts_nor_keeps_it(
    path: Path, *, keep_open: bool
) -> None:
    turns = FileMutex(path, keep_open=keep_open, limit_secs=0)

    def in_child() -> bool:
        turns.close()
        try:
            turns.run(lambda: None)
        except LockTimeoutError:
            return not is_free(path)
        return False

    def in_parent() -> None:
        assert not is_free(path), "the child lifted the parent's lock"

    def in_parent_later() -> None:
        turns.run(lambda: None)
        assert is_free(path), "the child keeps the parent's lock"
        turns.close()

    turns.run(_in_child_and_parent, in_child, in_parent)
    turns.run(lambda: None)
    _in_child_and_parent(lambda: True, in_parent_later)


@posix
def test_a_child_that_loses_the_object_before_its_own_turn_lifts_nothing(path: Path) -> None:
    """Another at-fork hook may drop the last reference before ours has closed the file."""
    lock: FileLock | None = FileLock(path)
    assert lock is not None
    lock.acquire()
    pid = os.fork()
    if pid == 0:
        lock._file._file = open_file(path, os.O_RDWR)  # as if ours had not run yet
        lock._pid = os.getppid()
        del lock
        gc.collect()
        os._exit(0)
    os.waitpid(pid, 0)
    assert not is_free(path)
    lock.release()


def test_a_dropped_lock_is_nobodys_and_can_be_taken_anew(path: Path) -> None:
    lock = FileLock(path)
    lock.acquire()
    lock.drop_in_child()  # what a forked child calls
    assert not lock.held
    assert lock.acquire()
    lock._pid = -1  # as it is in a child whose hooks have not run yet
    assert not lock.held
    lock.release()
    assert lock.acquire()
    lock.release()
