"""Locks between threads and processes: exclusive, gone with their holder, never a child's."""

from __future__ import annotations

import gc
import os
import stat
import subprocess
import sys
from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest

from nuvom import _lockfile
from nuvom._lockfile import FileLock
from nuvom.clock import SYSTEM_CLOCK
from nuvom.errors import BackendUnavailable

if TYPE_CHECKING:
    from pathlib import Path

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs fork, modes or links")
LIMIT_SECS = 30

HOLD = """
import sys
from nuvom._lockfile import FileLock
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
    for keep_open in (False, True):
        holder, got = FileLock(path, keep_open=keep_open), Event()
        holder.acquire()

        def wait(lock: FileLock, got: Event) -> None:
            with lock:
                got.set()

        thread = Thread(target=wait, args=(FileLock(path, keep_open=keep_open), got))
        thread.start()
        assert not got.wait(0.02)
        holder.release()
        assert got.wait(LIMIT_SECS)
        thread.join()
        holder.close()


def test_waiting_with_a_limit_ends_with_it_or_with_the_lock(
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
    holder, waiting = FileLock(path), FileLock(path)
    holder.acquire()
    assert not waiting.acquire(blocking=True, limit_secs=3)
    assert 3 <= now[0] < 3.1
    assert len(naps) < 25_000, "it asks less often when it takes long"
    naps.clear()
    monkeypatch.setattr(SYSTEM_CLOCK, "sleep", nap_until_released)
    assert waiting.acquire(blocking=True, limit_secs=3)
    assert len(naps) == 1
    waiting.release()
    assert waiting.acquire(blocking=True, limit_secs=3)
    waiting.release()


def test_threads_that_share_an_object_exclude_each_other(path: Path) -> None:
    lock, inside, most = FileLock(path, keep_open=True), [0], [0]

    def work() -> None:
        for _ in range(50):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    lock.close()


def test_a_file_kept_open_is_locked_again_and_again(path: Path) -> None:
    lock = FileLock(path, keep_open=True)
    for _ in range(3):
        assert lock.acquire()
        assert not is_free(path)
        lock.release()
        assert is_free(path)
    other = FileLock(path)
    other.acquire()
    assert not lock.acquire()
    other.release()
    lock.close()
    lock.close()
    assert lock.acquire()
    lock.close()
    assert is_free(path)


@posix
def test_a_file_kept_open_that_somebody_removed_is_made_anew(path: Path) -> None:
    """Else two processes could each hold a lock of that name."""
    lock = FileLock(path, keep_open=True)
    with lock:
        pass
    path.unlink()
    with lock:
        assert not is_free(path)
    path.unlink()
    path.write_text("another")
    with lock:
        assert not is_free(path)
    lock.close()


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


def test_a_file_replaced_between_opening_and_locking_is_opened_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = _lockfile._lock

    def replacing(descriptor: int, *, blocking: bool) -> bool:
        monkeypatch.setattr(_lockfile, "_lock", real)
        path.unlink()
        path.write_text("new")
        return real(descriptor, blocking=blocking)

    monkeypatch.setattr(_lockfile, "_lock", replacing)
    lock = FileLock(path)
    assert lock.acquire()
    assert os.read(lock.fileno(), 10) == b"new"
    lock.release()


def test_a_file_removed_between_opening_and_locking_is_made_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = _lockfile._lock

    def removing(descriptor: int, *, blocking: bool) -> bool:
        monkeypatch.setattr(_lockfile, "_lock", real)
        path.unlink()
        return real(descriptor, blocking=blocking)

    monkeypatch.setattr(_lockfile, "_lock", removing)
    lock = FileLock(path)
    assert lock.acquire()
    assert path.exists()
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
    with lock:
        assert os.fstat(lock.fileno()).st_size == 0


def test_a_lock_that_nobody_can_give_up_any_more_is_given_up(path: Path) -> None:
    lock = FileLock(path)
    lock.acquire()
    del lock
    gc.collect()
    assert is_free(path)


def test_a_lock_that_the_system_cannot_give_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(descriptor: int, *, blocking: bool) -> bool:
        raise OSError(37, "No locks available")

    lock = FileLock(path)
    with monkeypatch.context() as patch:
        patch.setattr(_lockfile, "_lock", failing)
        with pytest.raises(BackendUnavailable, match="No locks available"):
            lock.acquire()
    assert lock.acquire()
    lock.release()


@posix
@pytest.mark.parametrize("keep_open", [False, True])
def test_a_forked_child_neither_has_the_lock_nor_lifts_nor_keeps_it(
    path: Path, *, keep_open: bool
) -> None:
    lock = FileLock(path, keep_open=keep_open)
    lock.acquire()
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        ok = not lock.held and not is_free(path)
        lock.release()
        lock.remove()
        lock.close()
        ok = ok and path.exists() and not lock.acquire()
        os.write(ready[1], b"1" if ok else b"0")
        os.read(go[0], 1)
        os._exit(0)
    assert os.read(ready[0], 1) == b"1"
    assert not is_free(path), "the child lifted the parent's lock"
    lock.close()
    assert is_free(path), "the child keeps the parent's lock"
    os.write(go[1], b"1")
    os.waitpid(pid, 0)
    for end in (*ready, *go):
        os.close(end)


@posix
def test_a_child_that_loses_the_object_before_its_own_turn_lifts_nothing(path: Path) -> None:
    """Another at-fork hook may drop the last reference before ours has closed the file."""
    lock: FileLock | None = FileLock(path)
    assert lock is not None
    lock.acquire()
    pid = os.fork()
    if pid == 0:
        lock._descriptor = os.dup(2)  # as if ours had not run yet
        lock._pid = os.getppid()
        del lock
        gc.collect()
        os._exit(0)
    os.waitpid(pid, 0)
    assert not is_free(path)
    lock.release()


def test_a_dropped_lock_is_nobodys_and_can_be_taken_anew(path: Path) -> None:
    for keep_open in (False, True):
        lock = FileLock(path, keep_open=keep_open)
        lock.acquire()
        lock.drop_in_child()  # what a forked child calls
        assert not lock.held
        assert lock.acquire()
        lock._pid = -1  # as it is in a child whose hooks have not run yet
        assert not lock.held
        lock.release()
        assert lock.acquire()
        lock.close()
