"""Bells: who sleeps is rung, who does not is left alone, and nothing is missed in between."""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import stat
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from nuvom.errors import BackendUnavailable, StorageFull
from nuvom.host import wakeup
from nuvom.host.wakeup import Loopback, SocketFiles, Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nuvom.host.wakeup import Listener, Transport

    Listen = Callable[..., Listener]

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs fork, modes or socket files")
LIMIT_SECS = 30.0

SLEEP = """
import sys
from pathlib import Path
from nuvom.host.wakeup import Wakeup
listener = Wakeup(Path(sys.argv[1])).listen("work")
listener.arm()
print("asleep", flush=True)
print(listener.wait(30), flush=True)
"""


@pytest.fixture
def bell(tmp_path: Path, transport: Callable[[], Transport]) -> Iterator[Wakeup]:
    bell = Wakeup(tmp_path, transport=transport())
    yield bell
    bell.close()


@pytest.fixture
def listen(bell: Wakeup) -> Iterator[Listen]:
    """Make listeners that are closed at the end."""
    with ExitStack() as stack:

        def make(kind: str = "work", *, armed: bool = False) -> Listener:
            listener = bell.listen(kind)
            if armed:
                listener.arm()
            stack.callback(listener.close)
            return listener

        yield make


def files(folder: Path) -> set[str]:
    return set(os.listdir(folder / "bells"))


def sleeper(folder: Path) -> subprocess.Popen[bytes]:
    child = subprocess.Popen([sys.executable, "-c", SLEEP, str(folder)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline().strip() == b"asleep"
    return child


# ---- waiting for results ------------------------------------------------------------------


def test_a_waiter_is_woken_and_its_place_kept_for_the_next(bell: Wakeup, tmp_path: Path) -> None:
    for _ in range(3):
        with bell.waiter() as waiter:
            bell.notify_all()
            assert waiter.wait(60)
            bell.notify_all()  # while it looks for news
            assert waiter.wait(60)
        assert not bell.notify_one("result")  # nobody sleeps
        assert files(tmp_path) >= {"result-0.lock"}
        assert "result-1.lock" not in files(tmp_path)


def test_of_waiters_at_the_same_time_one_place_is_kept(bell: Wakeup, tmp_path: Path) -> None:
    with bell.waiter(), bell.waiter():
        assert files(tmp_path) >= {"result-0.lock", "result-1.lock"}
    assert 1 == len([name for name in files(tmp_path) if name.endswith(".lock")])
    bell.close()
    assert [] == [name for name in files(tmp_path) if name.endswith(".lock")]


def test_a_waiter_beyond_the_last_place_is_not_kept(
    bell: Wakeup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeup, "LISTENERS", 0)
    with bell.waiter() as waiter:
        assert not waiter.wait(0)
    monkeypatch.undo()
    with bell.waiter() as waiter:
        bell.notify_all()
        assert waiter.wait(60)


# ---- ringing ------------------------------------------------------------------------------


def test_who_sleeps_in_another_process_is_woken(tmp_path: Path) -> None:
    child = sleeper(tmp_path)
    bell = Wakeup(tmp_path)
    assert bell.notify_one("work")
    answer, _ = child.communicate(timeout=LIMIT_SECS)
    assert answer.strip() == b"True"
    assert not bell.notify_one("work")
    bell.close()


def test_who_does_not_sleep_is_not_rung(bell: Wakeup, listen: Listen) -> None:
    listener = listen()
    assert not bell.notify_one()
    listener.arm()
    listener.disarm()
    assert not bell.notify_one()
    assert not listener.wait(0)


def test_arming_forgets_what_rang_before(bell: Wakeup, listen: Listen) -> None:
    listener = listen(armed=True)
    bell.notify_one()
    listener.poke()
    listener.arm()
    assert not listener.wait(0)


def test_one_ring_wakes_one_of_several(bell: Wakeup, listen: Listen) -> None:
    listeners = [listen(armed=True) for _ in range(3)]
    assert bell.notify_one()
    assert sum(listener.wait(0.05) for listener in listeners) == 1
    assert bell.notify_one()
    assert bell.notify_one()
    assert not bell.notify_one()


def test_all_are_rung_each_once(bell: Wakeup, listen: Listen) -> None:
    listeners = [listen() for _ in range(3)]
    for listener in listeners[:2]:
        listener.arm()
    bell.notify_all("work")
    assert [listener.wait(0.05) for listener in listeners] == [True, True, False]
    bell.notify_all("work")
    assert not any(listener.wait(0) for listener in listeners)


def test_kinds_do_not_mix(bell: Wakeup, listen: Listen) -> None:
    worker, waiter = listen(armed=True), listen("result", armed=True)
    bell.notify_all("result")
    assert not worker.wait(0)
    assert waiter.wait(LIMIT_SECS)
    assert bell.notify_one("work")


def test_a_poke_ends_one_wait_of_that_listener(bell: Wakeup, listen: Listen) -> None:
    first, second = listen(armed=True), listen(armed=True)
    first.poke()
    assert first.wait(LIMIT_SECS)
    assert not second.wait(0)


def test_its_descriptor_becomes_readable_when_it_rings(bell: Wakeup, listen: Listen) -> None:
    listener = listen(armed=True)
    assert select.select([listener], [], [], 0)[0] == []
    bell.notify_one()
    assert select.select([listener], [], [], LIMIT_SECS)[0] == [listener]
    listener.close()
    assert listener.fileno() == -1


def test_a_full_buffer_counts_as_rung(
    bell: Wakeup, listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def __init__(self, *_: object) -> None: ...
        def setblocking(self, *_: object) -> None: ...
        def close(self) -> None: ...
        def sendto(self, *_: object) -> None:
            raise BlockingIOError

    listen(armed=True)
    monkeypatch.setattr(socket, "socket", Full)
    assert bell.notify_one()
    monkeypatch.undo()


# ---- the dead -----------------------------------------------------------------------------


@posix
def test_who_died_asleep_is_passed_over_and_its_place_taken(tmp_path: Path) -> None:
    child = sleeper(tmp_path)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    bell = Wakeup(tmp_path)
    bell._map[1] = 1  # another one whose files are gone altogether
    alive = [bell.listen("work") for _ in range(3)]
    assert {"work-0.sock", "work-1.sock", "work-2.sock"} <= files(tmp_path)
    alive[2].arm()
    assert bell.notify_one()
    assert alive[2].wait(LIMIT_SECS)
    for listener in alive:
        listener.close()
    assert files(tmp_path) == {"flags"}
    bell.close()


@posix
def test_a_ring_goes_on_to_the_living_when_the_first_is_dead(tmp_path: Path) -> None:
    child = sleeper(tmp_path)
    bell = Wakeup(tmp_path)
    alive = bell.listen("work")
    alive.arm()
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert bell.notify_one()
    assert alive.wait(LIMIT_SECS)
    assert not bell.notify_one()
    alive.close()
    bell.close()


@pytest.mark.parametrize("content", ["", "x", "99999999"])
def test_a_damaged_port_is_a_listener_that_is_not_there(tmp_path: Path, content: str) -> None:
    bell = Wakeup(tmp_path, transport=Loopback())
    listener = bell.listen("work")
    listener.arm()
    (tmp_path / "bells" / "work-0.port").write_text(content)
    assert not bell.notify_one()
    (tmp_path / "bells" / "work-0.port").unlink()
    listener.arm()
    assert not bell.notify_one()
    listener.close()
    bell.close()


def test_an_answer_of_the_network_to_an_earlier_send_wakes_nobody(
    bell: Wakeup, listen: Listen
) -> None:
    """Windows reports to the receiver that somebody it once sent to is gone."""

    class Reset:
        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        def recv(self, _: int) -> bytes:
            raise ConnectionResetError

    listener = listen()
    real = listener._socket
    listener._socket = Reset()  # type: ignore[assignment]  # a socket that fails
    listener.arm()
    assert not listener.wait(0)
    listener._socket = real


# ---- places -------------------------------------------------------------------------------


def test_closing_frees_the_place_and_takes_its_files_away(bell: Wakeup, tmp_path: Path) -> None:
    listener = bell.listen("work")
    listener.arm()
    listener.close()
    listener.close()
    assert not bell.notify_one()
    again = bell.listen("work")
    again.arm()
    assert bell.notify_one()
    again.close()
    assert files(tmp_path) <= {"flags", "work-0.port"}


def test_a_forgotten_listener_gives_its_place_up(bell: Wakeup) -> None:
    listener = bell.listen("work")
    listener.arm()
    del listener
    gc.collect()
    again = bell.listen("work")
    again.arm()
    assert bell.notify_one()
    assert again.wait(LIMIT_SECS)
    assert not bell.notify_one()
    again.close()


def test_beyond_the_last_place_a_listener_waits_for_its_limit_or_a_poke(
    bell: Wakeup, listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeup, "LISTENERS", 1)
    _, second = listen(), listen()
    second.arm()
    assert not bell.notify_one()
    assert not second.wait(0.001)
    second.poke()
    assert second.wait(LIMIT_SECS)
    second.disarm()


def test_a_listener_that_cannot_be_bound_leaves_its_place_free(
    tmp_path: Path, transport: Callable[[], Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    bell = Wakeup(tmp_path, transport=transport())

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "chmod", full)
        patch.setattr(wakeup, "write_durably", full)
        with pytest.raises(StorageFull):
            bell.listen("work")
    listener = bell.listen("work")
    listener.arm()
    assert bell.notify_one()
    listener.close()
    bell.close()


def test_a_long_path_is_served_by_the_loopback(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    bell = Wakeup(deep)
    assert isinstance(bell._transport, Loopback)
    listener = bell.listen("work")
    listener.arm()
    assert bell.notify_one()
    assert listener.wait(LIMIT_SECS)
    listener.close()
    bell.close()


@posix
def test_a_short_path_is_served_by_socket_files(tmp_path: Path) -> None:
    if len(str(tmp_path)) > 70:
        pytest.skip("the folder for tests is too deep")
    assert isinstance(Wakeup(tmp_path)._transport, SocketFiles)


# ---- the number ---------------------------------------------------------------------------


def test_the_number_changes_with_every_bump_and_for_all(tmp_path: Path) -> None:
    first, second = Wakeup(tmp_path), Wakeup(tmp_path)
    seen = {first.version()}
    for number in range(100):
        (first if number % 2 else second).bump()
        assert first.version() == second.version()
        seen.add(first.version())
    assert len(seen) == 101


# ---- the folder ---------------------------------------------------------------------------


@posix
def test_all_files_are_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        bell = Wakeup(tmp_path / "store")
        listener = bell.listen("work")
    finally:
        os.umask(before)
    folder = tmp_path / "store" / "bells"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in os.listdir(folder):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    listener.close()
    bell.close()


def test_a_file_of_another_size_is_filled_up_and_kept(tmp_path: Path) -> None:
    Wakeup(tmp_path).bump()
    flags = tmp_path / "bells" / "flags"
    content = flags.read_bytes()
    flags.write_bytes(content[:600])
    bell = Wakeup(tmp_path)
    assert flags.read_bytes() == content
    bell.close()


@posix
def test_a_folder_that_is_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "bells").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BackendUnavailable):
        Wakeup(tmp_path)


@posix
def test_a_forked_child_can_ring_and_does_not_keep_the_parents_place(tmp_path: Path) -> None:
    bell = Wakeup(tmp_path)
    listener, other = bell.listen("work"), bell.listen("work")
    listener.arm()
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        listener.close()
        ok = (tmp_path / "bells" / "work-0.sock").exists() and bell.notify_one()
        os.write(ready[1], b"1" if ok else b"0")
        os.read(go[0], 1)
        os._exit(0)
    assert os.read(ready[0], 1) == b"1"
    assert listener.wait(LIMIT_SECS)
    listener.close()
    again = bell.listen("work")
    assert "work-0.sock" in files(tmp_path), "the child keeps the place"
    other.close()
    again.close()
    assert "work-1.sock" not in files(tmp_path)
    os.write(go[1], b"1")
    os.waitpid(pid, 0)
    for end in (*ready, *go):
        os.close(end)
    bell.close()


def test_a_dropped_listener_leaves_its_place_to_the_one_it_was_copied_from(tmp_path: Path) -> None:
    bell = Wakeup(tmp_path)
    listener = bell.listen("work")
    before = files(tmp_path)
    listener.drop_in_child()
    assert listener.fileno() == -1
    listener.close()
    assert files(tmp_path) == before
    bell.close()
