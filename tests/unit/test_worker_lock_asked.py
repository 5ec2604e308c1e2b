"""Whether a worker lives, asked by many at the same time, and while reapers are at work.

And what an exception leaves behind that strikes while a worker comes, leaves, or is buried.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from threading import Barrier, Event, Thread
from typing import TYPE_CHECKING

import pytest

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.host import worker_lock
from nuvom.host.lock import FileLock
from nuvom.host.worker_lock import WorkerLock, count_workers, find_dead, is_alive
from tests.unit.queue_backends.interrupting import in_thread, interrupt_everywhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Case = tuple[Callable[[], object], Callable[[bool], object]]

shares = pytest.mark.skipif(sys.platform == "win32", reason="locks cannot be shared there")
LIMIT_SECS = 60.0
STORES, DEAD = 6, 30

ASK = """
import select, sys
from pathlib import Path
from nuvom.host.worker_lock import is_alive
questions = [line.split() for line in sys.stdin.readline().split(";")]
print("ready", flush=True)
wrong = []
while not select.select([sys.stdin], [], [], 0)[0]:
    for folder, owner in questions:
        if is_alive(Path(folder), owner) != (owner == "live"):
            wrong.append(f"{folder} {owner}")
print(wrong, flush=True)
"""


@contextmanager
def asked_by_others(questions: list[tuple[Path, str]]) -> Iterator[list[str]]:
    """Have two processes and two threads ask about workers; yield what they were told wrongly."""
    wrong: list[str] = []
    over = Event()
    line = ";".join(f"{folder} {owner}" for folder, owner in questions)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", ASK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for child in children:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(f"{line}\n")
        child.stdin.flush()
        assert child.stdout.readline() == "ready\n"

    def ask() -> None:
        while not over.is_set():
            for folder, owner in questions:
                if is_alive(folder, owner) != (owner == "live"):
                    wrong.append(f"{folder} {owner}")

    threads = [Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield wrong
    finally:
        over.set()
        for thread in threads:
            thread.join(LIMIT_SECS)
        for child in children:
            said, _ = child.communicate("over\n", timeout=LIMIT_SECS)
            if said != "[]\n":
                wrong.append(said)


@shares
def test_however_many_ask_and_reap_all_are_told_right(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(STORES)]
    living = [WorkerLock.acquire(folder, "live", slots=1) for folder in folders]
    owners = {f"dead-{number}" for number in range(DEAD)}
    for folder in folders:
        for owner in owners:
            WorkerLock.acquire(folder, owner, slots=1).abandon()
    questions = [(folder, owner) for folder in folders for owner in ("live", *owners)]
    found: dict[Path, list[str]] = {folder: [] for folder in folders}

    def reap(folder: Path) -> None:
        dead = find_dead(folder)
        found[folder] += [one.owner for one in dead]
        both.wait(LIMIT_SECS)  # none is buried before the other one has looked at all
        for one in dead:
            one.forget()

    with asked_by_others(questions) as wrong:
        for folder in folders:
            both = Barrier(2)
            reapers = [Thread(target=reap, args=(folder,)) for _ in range(2)]
            for reaper in reapers:
                reaper.start()
            for reaper in reapers:
                reaper.join(LIMIT_SECS)
    assert wrong == []
    for folder, names in found.items():
        assert sorted(names) == sorted(owners), f"not each one once in {folder}"
    for held_lock in living:
        held_lock.release()


@shares
def test_who_asks_keeps_no_reaper_from_a_dead_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WorkerLock.acquire(tmp_path, "w").abandon()
    asking = FileLock(tmp_path / "workers" / "w.lock")
    assert asking.acquire(shared=True)  # somebody is in the midst of asking
    monkeypatch.setattr(SYSTEM_CLOCK, "sleep", lambda _: asking.release())
    (one,) = find_dead(tmp_path)
    one.close()


@shares
def test_who_asks_is_not_seen_by_others_who_ask(tmp_path: Path) -> None:
    WorkerLock.acquire(tmp_path, "w").abandon()
    asking = FileLock(tmp_path / "workers" / "w.lock")
    assert asking.acquire(shared=True)
    assert not is_alive(tmp_path, "w")
    assert count_workers(tmp_path) == (0, 1)
    asking.release()


def test_a_reaper_that_comes_in_the_midst_of_a_question_is_no_sign_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WorkerLock.acquire(tmp_path, "w").abandon()
    real, found = worker_lock._read_header, []

    def first(path: str) -> object:
        monkeypatch.setattr(worker_lock, "_read_header", real)
        header = real(path)
        found.extend(find_dead(tmp_path))
        return header

    monkeypatch.setattr(worker_lock, "_read_header", first)
    assert not is_alive(tmp_path, "w")
    assert [one.owner for one in found] == ["w"]
    found[0].forget()


def test_a_reaper_has_no_lock_of_a_worker_that_does_not_say_that_it_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else who asks takes the reaper for the worker."""
    WorkerLock.acquire(tmp_path, "w").abandon()
    real = FileLock.acquire
    seen: list[bytes] = []

    def acquire(lock: FileLock, **kind: bool) -> bool:
        answer = real(lock, **kind)
        if answer and not kind:
            seen.append((tmp_path / "workers" / "w.lock").read_bytes()[:4])
        return answer

    monkeypatch.setattr(FileLock, "acquire", acquire)
    find_dead(tmp_path)[0].forget()
    assert seen == [b"dead"]


def test_a_census_counts_the_living_and_the_dead_and_nobody_else(tmp_path: Path) -> None:
    assert count_workers(tmp_path) == (0, 0)
    living = [WorkerLock.acquire(tmp_path, f"live-{number}") for number in range(2)]
    for number in range(3):
        WorkerLock.acquire(tmp_path, f"dead-{number}").abandon()
    (tmp_path / "workers" / "coming.new").write_text("")
    assert count_workers(tmp_path) == (2, 3)
    with find_dead(tmp_path)[0]:
        assert count_workers(tmp_path) == (2, 3), "they are not buried yet"
    for held_lock in living:
        held_lock.release()


def test_who_leaves_during_a_census_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_lock = WorkerLock.acquire(tmp_path, "w")
    real = os.listdir

    def leaving(path: str) -> list[str]:
        names = real(path)
        held_lock.release()
        return names

    monkeypatch.setattr(os, "listdir", leaving)
    assert count_workers(tmp_path) == (0, 0)


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


def test_an_interrupted_leave_can_be_completed(tmp_path: Path) -> None:
    def prepare(number: int) -> Case:
        folder = tmp_path / str(number)
        held_lock = WorkerLock.acquire(folder, "w", slots=1)

        def check(_: bool) -> None:  # noqa: FBT001  # as above
            in_thread(held_lock.release)
            assert not held_lock.held
            assert not is_alive(folder, "w")
            for one in find_dead(folder):  # its end came before its files were removed
                one.forget()
            assert os.listdir(folder / "workers") == []

        return held_lock.release, check

    assert interrupt_everywhere(prepare) > 20


def test_an_interrupted_reaper_leaves_the_dead_to_the_next(tmp_path: Path) -> None:
    def prepare(number: int) -> Case:
        folder = tmp_path / str(number)
        for owner in ("a", "b"):
            WorkerLock.acquire(folder, owner, slots=1).abandon()
        (folder / "workers" / "c.new").write_text("")

        def reap() -> None:
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
            owners = sorted(one.owner for one in dead)
            assert owners == ["a", "b"]
            for one in dead:
                one.forget()
            assert os.listdir(folder / "workers") == []

        return reap, check

    assert interrupt_everywhere(prepare) > 100


def test_an_interrupted_question_keeps_nobody_from_the_worker(tmp_path: Path) -> None:
    def prepare(number: int) -> Case:
        folder = tmp_path / str(number)
        WorkerLock.acquire(folder, "w", slots=1).abandon()

        def check(_: bool) -> None:  # noqa: FBT001  # as above
            (one,) = in_thread(lambda: find_dead(folder))
            one.forget()

        return lambda: is_alive(folder, "w"), check

    assert interrupt_everywhere(prepare) > 20
