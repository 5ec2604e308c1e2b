"""Live workers are seen to live, dead ones are found once, and what they had started is known.

Many may ask at the same time while reapers are at work, and an exception may be raised anywhere.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from functools import partial
from threading import Barrier, Event
from typing import TYPE_CHECKING

import pytest

from nuvom.core.clock import SYSTEM_CLOCK, boot_id
from nuvom.errors import BackendUnavailable, InvalidId, NuvomError
from nuvom.host import worker_lock
from nuvom.host.lock import FileLock
from nuvom.host.worker_lock import WorkerLock, count_workers, find_dead, is_alive, is_gone
from nuvom.testing.conformance.law import all_at_once
from tests.unit.forked import in_child_and_parent
from tests.unit.queue_backends.faults import Faults, fail
from tests.unit.queue_backends.interrupting import beside, in_thread, interrupt_everywhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Case = tuple[Callable[[], object], Callable[[bool], object]]

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs fork, modes or shared locks")
LIMIT_SECS = 60.0
DEAD = 120

LIVE = """
import sys
from pathlib import Path
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


def die(store: Path, *owners: str) -> None:
    for owner in owners:
        WorkerLock.acquire(store, owner, slots=1).abandon()


def files(store: Path) -> set[str]:
    return set(os.listdir(store / "workers"))


def rewrite_boot(store: Path, boot: str) -> None:
    path = store / "workers" / "w1.lock"
    path.write_text(path.read_text().replace(boot_id(), boot))


# ---- alive --------------------------------------------------------------------------------


def test_a_worker_lives_until_it_is_released(store: Path) -> None:
    assert find_dead(store) == []
    assert not is_alive(store, "w1")
    held_lock = WorkerLock.acquire(store, "w1")
    assert is_alive(store, "w1")
    assert not is_gone(store, "w1")
    assert find_dead(store) == []
    assert files(store) == {"w1.lock", "w1.slots"}
    held_lock.release()
    held_lock.release()
    assert not is_alive(store, "w1")
    assert is_gone(store, "w1")
    assert files(store) == set()


@pytest.mark.parametrize("call", [WorkerLock.acquire, is_alive, is_gone])
def test_an_id_that_could_lead_elsewhere_is_refused(
    store: Path, call: Callable[[Path, str], object]
) -> None:
    with pytest.raises(InvalidId):
        call(store, "../w")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failed_start_can_be_tried_again(tmp_path: Path, code: int) -> None:
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


@posix
def test_a_forked_child_neither_keeps_the_worker_alive_nor_ends_it(store: Path) -> None:
    held_lock = WorkerLock.acquire(store, "w1")

    def in_child() -> bool:
        held_lock.release()
        return is_alive(store, "w1")

    def in_parent() -> None:
        held_lock.abandon()
        assert not is_alive(store, "w1"), "the child keeps its parent alive"

    in_child_and_parent(in_child, in_parent)


@posix
def test_a_reaper_that_comes_before_a_new_worker_has_its_lock_takes_nothing(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = FileLock.acquire
    reaped: list[str] = []

    def acquire(lock: FileLock, **kind: bool) -> bool:
        monkeypatch.setattr(FileLock, "acquire", real)
        (store / "workers" / "w1.lock").touch()
        reapers.extend(find_dead(store))
        return real(lock, **kind)

    def forget(_: float) -> None:
        for reaper in reapers:
            reaped.append(reaper.owner)
            reaper.forget()

    reapers: list[worker_lock.DeadWorker] = []
    monkeypatch.setattr(FileLock, "acquire", acquire)
    monkeypatch.setattr(SYSTEM_CLOCK, "sleep", forget)
    held_lock = WorkerLock.acquire(store, "w1")
    assert reaped == ["w1"]
    assert is_alive(store, "w1")
    assert find_dead(store) == []
    held_lock.release()


@posix
def test_a_second_lock_of_the_same_worker_replaces_the_first(store: Path) -> None:
    first, second = (WorkerLock.acquire(store, "w1") for _ in range(2))
    first.abandon()
    assert is_alive(store, "w1")
    second.release()
    assert files(store) == set()


# ---- dead ---------------------------------------------------------------------------------


def test_a_killed_worker_is_found_and_what_it_had_started_is_known(
    store: Path, worker: subprocess.Popen[bytes]
) -> None:
    assert is_alive(store, "w1")
    assert find_dead(store) == []
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


def lose_slots(store: Path) -> None:
    (store / "workers" / "w1.slots").unlink()


@pytest.mark.parametrize(
    "damage",
    [lose_slots, partial(rewrite_boot, boot="an earlier boot"), partial(rewrite_boot, boot="")],
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


def test_counting_finds_the_living_and_the_dead(store: Path) -> None:
    assert count_workers(store) == (0, 0)
    living = [WorkerLock.acquire(store, f"live-{number}") for number in range(2)]
    die(store, "dead-1", "dead-2", "dead-3")
    assert count_workers(store) == (2, 3)
    with find_dead(store)[0]:
        assert count_workers(store) == (2, 3), "they are not forgotten yet"
    for one in living:
        one.release()


# ---- another machine ----------------------------------------------------------------------


def test_a_store_that_another_machine_uses_is_refused(
    store: Path, worker: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite_boot(store, "the boot of another machine")
    monkeypatch.setattr(SYSTEM_CLOCK, "sleep", lambda _: None)
    with pytest.raises(BackendUnavailable, match="another machine"):
        find_dead(store)


@pytest.mark.parametrize("change", [lambda path: path.write_text("dead"), os.unlink])
def test_a_reaper_or_a_worker_that_leaves_after_a_reboot_is_no_other_machine(
    store: Path,
    worker: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], object],
) -> None:
    """A reaper takes the lock before it writes to the file, which still shows the earlier boot."""
    rewrite_boot(store, "an earlier boot")
    monkeypatch.setattr(SYSTEM_CLOCK, "sleep", lambda _: change(store / "workers" / "w1.lock"))
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
    for boot in ("boot-998", "another"):
        path.write_text(content.replace(boot_id(), boot))
        with pytest.raises(BackendUnavailable):
            find_dead(store)


# ---- at the same time ---------------------------------------------------------------------


@posix
def test_however_many_ask_and_reap_all_are_told_right(tmp_path: Path) -> None:
    living = WorkerLock.acquire(tmp_path, "live", slots=1)
    owners = {f"dead-{number}" for number in range(DEAD)}
    found: list[str] = []
    wrong: list[str] = []
    over, both = Event(), Barrier(2)
    die(tmp_path, *owners)

    def ask() -> None:
        while not over.is_set():
            told = {owner for owner in ("live", *owners) if is_alive(tmp_path, owner)}
            wrong.extend(told ^ {"live"})

    def reap(_: int) -> None:
        dead = find_dead(tmp_path, {"live"})
        found.extend(one.owner for one in dead)
        both.wait(LIMIT_SECS)  # none is forgotten before the other one has looked at all
        for one in dead:
            one.forget()

    asking = [beside(ask) for _ in range(4)]
    all_at_once(reap, threads=2, limit_secs=LIMIT_SECS)
    over.set()
    for hand in asking:
        hand.finish(LIMIT_SECS)
    assert sorted(found) == sorted(owners), "not each one once"
    assert wrong == []
    living.release()


@posix
def test_a_check_hides_a_dead_worker_from_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    die(tmp_path, "w")
    asking = FileLock(tmp_path / "workers" / "w.lock")
    assert asking.acquire(shared=True)  # a check is going on
    assert not is_alive(tmp_path, "w")
    monkeypatch.setattr(SYSTEM_CLOCK, "sleep", lambda _: asking.release())
    (one,) = find_dead(tmp_path)
    one.close()


# ---- interrupted --------------------------------------------------------------------------


def test_an_interrupted_start_can_be_repeated(tmp_path: Path) -> None:
    def prepare(number: int) -> Case:
        folder = tmp_path / str(number)
        entered: list[WorkerLock] = []

        def check(is_cut: bool) -> None:  # noqa: FBT001  # it is told this alone
            assert is_alive(folder, "w") != is_cut
            if is_cut:
                entered.append(in_thread(lambda: WorkerLock.acquire(folder, "w", slots=1)))
            assert is_alive(folder, "w")
            assert find_dead(folder) == []
            entered[-1].release()
            assert os.listdir(folder / "workers") == []

        return lambda: entered.append(WorkerLock.acquire(folder, "w", slots=1)), check

    assert interrupt_everywhere(prepare) > 100


def test_an_interrupted_reaper_or_check_leaves_the_dead_to_the_next_reaper(tmp_path: Path) -> None:
    def prepare(number: int) -> Case:
        folder = tmp_path / str(number)
        die(folder, "a", "b")

        def reap() -> None:
            is_alive(folder, "a")
            dead = find_dead(folder)
            try:
                for one in dead:
                    one.close()
            except BaseException:
                for one in dead:
                    one.close()
                raise

        def check(_: bool) -> None:  # noqa: FBT001  # as above
            dead = in_thread(lambda: find_dead(folder))
            assert sorted(one.owner for one in dead) == ["a", "b"]
            for one in dead:
                one.forget()
            assert os.listdir(folder / "workers") == []

        return reap, check

    assert interrupt_everywhere(prepare) > 100
