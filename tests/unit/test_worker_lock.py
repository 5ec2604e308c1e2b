"""Live workers are seen to live, dead ones are found once, and what they had started is known."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

import pytest

from nuvom.core.clock import SYSTEM_CLOCK, boot_id
from nuvom.errors import BackendUnavailable, InvalidId, NuvomError
from nuvom.host import worker_lock
from nuvom.host.lock import FileLock
from nuvom.host.start_marks import SLOT_BYTES, STARTED, STATE_AT
from nuvom.host.worker_lock import WorkerLock, find_dead, is_alive, is_gone
from tests.unit.queue_backends.faults import Faults, fail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs fork, signals or modes")

LIVE = """
import sys
from pathlib import Path
from nuvom.host.lock import FileLock
from nuvom.host.start_marks import SLOT_BYTES, STARTED, STATE_AT
from nuvom.host.worker_lock import WorkerLock
held_lock = WorkerLock.acquire(Path(sys.argv[1]), "w1")
indexes = held_lock.book([("started", 1), ("waiting", 1)])
held_lock.map[indexes[0] * SLOT_BYTES + STATE_AT] = STARTED
print("here", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def worker(store: Path) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(
        [sys.executable, "-c", LIVE, str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline().strip() == b"here"
    yield child
    child.kill()
    child.communicate()


def kill(worker: subprocess.Popen[bytes]) -> None:
    worker.kill()
    worker.wait()


def files(store: Path) -> set[str]:
    return set(os.listdir(store / "workers"))


def rewrite_boot(store: Path, boot: str) -> None:
    path = store / "workers" / "w1.lock"
    path.write_text(path.read_text().replace(boot_id(), boot))


# ---- alive --------------------------------------------------------------------------------


def test_a_worker_lives_from_entering_to_leaving(store: Path) -> None:
    assert not is_alive(store, "w1")
    held_lock = WorkerLock.acquire(store, "w1")
    assert held_lock.owner == "w1"
    assert is_alive(store, "w1")
    assert not is_gone(store, "w1")
    assert files(store) == {"w1.lock", "w1.slots"}
    held_lock.release()
    held_lock.release()
    assert not is_alive(store, "w1")
    assert is_gone(store, "w1")
    assert files(store) == set()


def test_a_live_worker_of_this_very_process_is_not_found_dead(store: Path) -> None:
    held_lock = WorkerLock.acquire(store, "w1")
    assert find_dead(store) == []
    assert is_alive(store, "w1")
    held_lock.release()


def test_a_live_worker_of_another_process_is_not_found_dead(
    store: Path, worker: subprocess.Popen[bytes]
) -> None:
    assert find_dead(store) == []
    assert is_alive(store, "w1")


def test_an_empty_store_has_no_dead(store: Path) -> None:
    assert find_dead(store) == []


@posix
def test_its_files_are_private(store: Path) -> None:
    before = os.umask(0)
    try:
        held_lock = WorkerLock.acquire(store, "w1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((store / "workers").stat().st_mode) == 0o700
    for name in files(store):
        assert stat.S_IMODE((store / "workers" / name).stat().st_mode) == 0o600
    held_lock.release()


@pytest.mark.parametrize("owner", ["", "../w", "a/b", "x" * 65])
def test_an_id_that_could_lead_elsewhere_is_refused(store: Path, owner: str) -> None:
    with pytest.raises(InvalidId):
        WorkerLock.acquire(store, owner)
    with pytest.raises(InvalidId):
        is_alive(store, owner)
    with pytest.raises(InvalidId):
        is_gone(store, owner)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failed_start_leaves_nothing_behind_and_can_be_tried_again(
    tmp_path: Path, code: int
) -> None:
    number = 0
    while True:
        store = tmp_path / str(number)
        with pytest.MonkeyPatch.context() as patch:
            fault = Faults(number, fail(code))
            fault.install(patch)
            try:
                WorkerLock.acquire(store, "w1").release()
            except NuvomError:
                if (store / "workers").exists():
                    assert "w1.lock" not in files(store) or fault.reached == "unlink"
        for one in find_dead(store):
            one.forget()
        WorkerLock.acquire(store, "w1").release()
        assert files(store) == set()
        if not fault.reached:
            break
        number += 1
    assert number > 5


# ---- dead ---------------------------------------------------------------------------------


def test_a_killed_worker_is_found_and_what_it_had_started_is_known(
    store: Path, worker: subprocess.Popen[bytes]
) -> None:
    kill(worker)
    assert not is_alive(store, "w1")
    assert not is_gone(store, "w1")
    (one,) = find_dead(store)
    assert one.owner == "w1"
    assert one.had_started("started", 1)
    assert not one.had_started("waiting", 1)
    assert not one.had_started("started", 2)
    one.forget()
    one.forget()
    assert files(store) == set()
    assert find_dead(store) == []


def test_a_second_reaper_passes_over_what_the_first_has_found(
    store: Path, worker: subprocess.Popen[bytes]
) -> None:
    kill(worker)
    with find_dead(store)[0]:
        assert find_dead(store) == []
        assert not is_alive(store, "w1"), "a reaper's lock is no sign of life"
        assert not is_gone(store, "w1")
    (one,) = find_dead(store)  # the first one gave up
    assert not one.had_started("waiting", 1)
    one.forget()


def test_who_is_known_to_live_is_not_looked_at(
    store: Path, worker: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = WorkerLock.acquire(store, "w2")
    assert here.held
    asked = []

    def acquire(lock: FileLock, **kind: bool) -> bool:
        asked.append(lock.path)
        return real_acquire(lock, **kind)

    real_acquire = FileLock.acquire
    monkeypatch.setattr(FileLock, "acquire", acquire)
    assert [] == find_dead(store, {"w2"})
    assert ["w1.lock"] == [os.path.basename(path) for path in asked]
    here.abandon()
    assert not here.held


def lose_slots(store: Path) -> None:
    (store / "workers" / "w1.slots").unlink()


def damage_slots(store: Path) -> None:
    path = store / "workers" / "w1.slots"
    content = bytearray(path.read_bytes())
    content[64] ^= 1  # the record of the job that waited
    path.write_bytes(content)


def write_header(content: bytes, store: Path) -> None:
    (store / "workers" / "w1.lock").write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lose_slots,
        damage_slots,
        partial(rewrite_boot, boot="an earlier boot"),
        *(partial(write_header, content) for content in (b"", b"\0" * 50, b"\xff\xfe")),
    ],
)
def test_where_its_files_tell_nothing_everything_counts_as_started(
    store: Path, worker: subprocess.Popen[bytes], damage: Callable[[Path], None]
) -> None:
    kill(worker)
    damage(store)
    with find_dead(store)[0] as one:
        assert one.had_started("waiting", 1)
        one.forget()
    assert files(store) == set()


def test_a_worker_that_gave_up_is_found_with_what_it_had_started(store: Path) -> None:
    held_lock = WorkerLock.acquire(store, "w1")
    started, _ = held_lock.book([("started", 1), ("waiting", 1)])
    held_lock.map[started * SLOT_BYTES + STATE_AT] = STARTED
    held_lock.abandon()
    held_lock.abandon()
    with find_dead(store)[0] as one:
        assert one.had_started("started", 1)
        assert not one.had_started("waiting", 1)
        one.forget()


def test_what_died_before_it_was_visible_is_swept_away(store: Path) -> None:
    WorkerLock.acquire(store, "w0").release()
    for name in ("w1.new", "w1.slots", "notes.txt"):
        (store / "workers" / name).write_text("x")
    assert find_dead(store) == []
    assert files(store) == {"notes.txt"}


def test_who_is_buried_while_it_is_born_is_born_again(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only Windows lets that happen: there the file has to be closed to be renamed."""
    real = FileLock.move_to
    moves: list[str] = []

    def buried(lock: FileLock, path: str) -> bool:
        moves.append(path)
        if len(moves) > 1:
            return real(lock, path)
        lock.remove()
        return False

    monkeypatch.setattr(FileLock, "move_to", buried)
    held_lock = WorkerLock.acquire(store, "w1")
    assert is_alive(store, "w1")
    assert len(moves) == 2
    held_lock.release()


# ---- another machine ----------------------------------------------------------------------


def test_a_store_that_another_machine_uses_is_refused(
    store: Path, worker: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite_boot(store, "the boot of another machine")
    naps: list[float] = []
    monkeypatch.setattr(SYSTEM_CLOCK, "sleep", naps.append)
    with pytest.raises(BackendUnavailable, match="another machine"):
        find_dead(store)
    assert naps


def test_dead_ones_found_before_a_refusal_are_left_to_the_next_reaper(
    store: Path, worker: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    WorkerLock.acquire(store, "a-dead-one").abandon()
    rewrite_boot(store, "the boot of another machine")
    monkeypatch.setattr(SYSTEM_CLOCK, "sleep", lambda _: None)
    monkeypatch.setattr(os, "listdir", lambda _: ["a-dead-one.lock", "w1.lock"])
    with pytest.raises(BackendUnavailable):
        find_dead(store)
    monkeypatch.undo()
    kill(worker)
    found = find_dead(store)
    assert {one.owner for one in found} == {"a-dead-one", "w1"}
    for one in found:
        one.forget()


def test_a_reaper_that_has_just_taken_a_lock_after_a_reboot_is_no_other_machine(
    store: Path, worker: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between taking the lock and saying so, its header still shows the earlier boot."""
    rewrite_boot(store, "an earlier boot")
    path = store / "workers" / "w1.lock"

    def says_so(_: float) -> None:
        path.write_text(path.read_text().replace("live", "dead"))

    monkeypatch.setattr(SYSTEM_CLOCK, "sleep", says_so)
    assert find_dead(store) == []


def test_a_worker_that_leaves_meanwhile_is_no_other_machine(
    store: Path, worker: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite_boot(store, "another boot")
    path = store / "workers" / "w1.lock"
    monkeypatch.setattr(SYSTEM_CLOCK, "sleep", lambda _: path.unlink())
    assert find_dead(store) == []


def test_a_boot_time_that_two_processes_round_differently_is_one_boot(
    store: Path, worker: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SYSTEM_CLOCK, "sleep", lambda _: None)
    monkeypatch.setattr(worker_lock, "boot_id", lambda: "boot-1000")
    path = store / "workers" / "w1.lock"
    content = path.read_text()
    for boot in ("boot-999", "boot-1000", "boot-1001"):
        path.write_text(content.replace(boot_id(), boot))
        assert find_dead(store) == []
    for boot in ("boot-998", "boot-x", "another"):
        path.write_text(content.replace(boot_id(), boot))
        with pytest.raises(BackendUnavailable):
            find_dead(store)


# ---- oddities -----------------------------------------------------------------------------


def test_a_folder_that_cannot_be_read_is_an_error(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: object) -> list[str]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "listdir", failing)
    with pytest.raises(BackendUnavailable):
        find_dead(store)


def test_a_lock_file_that_cannot_be_read_is_an_error(store: Path) -> None:
    WorkerLock.acquire(store, "w0").release()
    (store / "workers" / "w1.lock").mkdir()
    with pytest.raises(BackendUnavailable):
        is_alive(store, "w1")


def test_a_worker_that_leaves_between_two_looks_is_not_alive(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_lock = WorkerLock.acquire(store, "w1")
    real = worker_lock._read_header

    def leaving(path: str) -> object:
        header = real(path)
        held_lock.release()
        return header

    monkeypatch.setattr(worker_lock, "_read_header", leaving)
    assert not is_alive(store, "w1")


@posix
def test_a_forked_child_does_not_keep_the_worker_alive_and_cannot_end_it(store: Path) -> None:
    held_lock = WorkerLock.acquire(store, "w1")
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        held_lock.release()
        os.write(ready[1], b"1" if is_alive(store, "w1") else b"0")
        os.read(go[0], 1)
        os._exit(0)
    assert os.read(ready[0], 1) == b"1", "the child ended its parent's held_lock"
    held_lock.abandon()
    assert not is_alive(store, "w1"), "the child keeps its parent alive"
    os.write(go[1], b"1")
    os.waitpid(pid, 0)
    for end in (*ready, *go):
        os.close(end)
