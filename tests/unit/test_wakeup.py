"""Wake-ups: listeners that sleep are woken, others are left alone, and nothing is missed.

An exception may be raised at any point: places are given back, and notifying works again.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest

from nuvom.errors import BackendUnavailable
from nuvom.host import wakeup as wakeup_module
from nuvom.host.wakeup import Listener, Wakeup
from tests.lab.points import Interruption
from tests.unit.forked import in_child_and_parent
from tests.unit.queue_backends.interrupting import in_thread, interrupt_everywhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Listen = Callable[..., Listener]
    Case = tuple[Callable[[], object], Callable[[bool], object]]

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


@pytest.fixture(params=["socket files", "loopback"])
def family(request: pytest.FixtureRequest) -> int:
    """Use each kind of sockets."""
    if request.param == "loopback":
        return socket.AF_INET
    if sys.platform == "win32":
        pytest.skip("no socket files")
    return socket.AF_UNIX


@pytest.fixture
def wakeup(tmp_path: Path, family: int) -> Iterator[Wakeup]:
    wakeup = Wakeup(tmp_path, family=family)
    yield wakeup
    wakeup.close()


@pytest.fixture
def listen(wakeup: Wakeup) -> Iterator[Listen]:
    """Make listeners that are closed at the end."""
    with ExitStack() as stack:

        def make(kind: str = "work", *, armed: bool = False) -> Listener:
            listener = wakeup.listen(kind)
            if armed:
                listener.arm()
            stack.callback(listener.close)
            return listener

        yield make


@pytest.fixture
def one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeup_module, "LISTENERS", 1)


def files(folder: Path) -> set[str]:
    return set(os.listdir(folder / "bells"))


def sleeper(folder: Path) -> subprocess.Popen[bytes]:
    child = subprocess.Popen([sys.executable, "-c", SLEEP, str(folder)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline().strip() == b"asleep"
    return child


def works(wakeup: Wakeup, kind: str = "work") -> bool:
    """Whether one can listen at the first place and be woken, with nobody else asleep."""
    listener = wakeup.listen(kind)
    listener.arm()
    is_woken = wakeup.notify_one(kind) and listener.wait(LIMIT_SECS)
    is_alone = wakeup.notify_one(kind) == (kind == "result")  # which is armed again by itself
    listener.close()
    return is_woken and is_alone


# ---- waiting for results ------------------------------------------------------------------


def test_a_waiter_is_woken_and_its_place_kept_for_the_next(wakeup: Wakeup, tmp_path: Path) -> None:
    for _ in range(3):
        with wakeup.waiter() as waiter:
            wakeup.notify_all()
            assert waiter.wait(LIMIT_SECS)
            wakeup.notify_all()  # while it looks for news
            assert waiter.wait(LIMIT_SECS)
        assert not wakeup.notify_one("result")  # nobody sleeps
        assert files(tmp_path) >= {"result-0.lock"}
        assert "result-1.lock" not in files(tmp_path)


# ---- notifying ----------------------------------------------------------------------------


def test_a_listener_of_another_process_is_woken(tmp_path: Path) -> None:
    child = sleeper(tmp_path)
    wakeup = Wakeup(tmp_path)
    assert wakeup.notify_one("work")
    answer, _ = child.communicate(timeout=LIMIT_SECS)
    assert answer.strip() == b"True"
    assert not wakeup.notify_one("work")
    wakeup.close()


def test_only_an_armed_listener_is_woken_and_only_by_later_news(
    wakeup: Wakeup, listen: Listen
) -> None:
    listener = listen()
    assert not wakeup.notify_one()
    listener.arm()
    listener.disarm()
    assert not wakeup.notify_one()
    listener.arm()
    wakeup.notify_one()
    listener.poke()
    listener.arm()
    assert not listener.wait(0)


def test_notify_one_wakes_one_and_notify_all_each_once(wakeup: Wakeup, listen: Listen) -> None:
    listeners = [listen(armed=True) for _ in range(3)]
    waiter = listen("result", armed=True)
    assert wakeup.notify_one()
    assert sum(listener.wait(0.05) for listener in listeners) == 1
    wakeup.notify_all("work")
    assert sum(listener.wait(0.05) for listener in listeners) == 2
    assert not wakeup.notify_one()
    wakeup.notify_all("work")
    assert not any(listener.wait(0) for listener in (*listeners, waiter))


# ---- the dead -----------------------------------------------------------------------------


@posix
def test_a_dead_listener_is_passed_over_and_its_place_taken(tmp_path: Path) -> None:
    child = sleeper(tmp_path)
    wakeup = Wakeup(tmp_path)
    wakeup._map[1] = 1  # another one whose files are gone altogether
    alive = wakeup.listen("work"), wakeup.listen("work")
    alive[1].arm()
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert wakeup.notify_one()
    assert alive[1].wait(LIMIT_SECS)
    taken = wakeup.listen("work")
    assert {"work-0.sock", "work-1.sock", "work-2.sock"} <= files(tmp_path)
    for listener in (*alive, taken):
        listener.close()
    assert files(tmp_path) == {"flags"}
    wakeup.close()


# ---- places -------------------------------------------------------------------------------


def test_a_path_too_long_for_socket_files_gets_the_loopback(tmp_path: Path) -> None:
    wakeup = Wakeup(tmp_path / ("d" * 60) / ("e" * 60))
    assert works(wakeup)
    wakeup.close()


# ---- the folder and its file --------------------------------------------------------------


def test_the_version_changes_with_every_bump_and_for_all(tmp_path: Path) -> None:
    first, second = Wakeup(tmp_path), Wakeup(tmp_path)
    seen = {first.version()}
    for number in range(100):
        (first if number % 2 else second).bump()
        assert first.version() == second.version()
        seen.add(first.version())
    assert len(seen) == 101


@posix
def test_all_files_are_private_and_a_linked_folder_is_refused(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        wakeup = Wakeup(tmp_path / "store")
        listener = wakeup.listen("work")
    finally:
        os.umask(before)
    folder = tmp_path / "store" / "bells"
    assert 0o700 == stat.S_IMODE(folder.stat().st_mode)
    for name in os.listdir(folder):
        assert 0o600 == stat.S_IMODE((folder / name).stat().st_mode)
    listener.close()
    wakeup.close()
    (tmp_path / "bells").symlink_to(folder)
    with pytest.raises(BackendUnavailable):
        Wakeup(tmp_path)


# ---- fork ---------------------------------------------------------------------------------


@posix
def test_a_forked_child_can_notify_and_does_not_keep_the_parents_place(tmp_path: Path) -> None:
    wakeup = Wakeup(tmp_path)
    listener = wakeup.listen("work")
    listener.arm()

    def in_child() -> bool:
        listener.close()
        return (tmp_path / "bells" / "work-0.sock").exists() and wakeup.notify_one()

    def in_parent() -> None:
        assert listener.wait(LIMIT_SECS)
        listener.close()
        assert works(wakeup)
        assert "work-1.sock" not in files(tmp_path), "the child keeps the place"

    with wakeup._sender._mutex:  # as if another thread notified, which the child does not have
        in_child_and_parent(in_child, lambda: None)
    listener.arm()
    in_child_and_parent(in_child, in_parent)
    wakeup.close()


# ---- interrupted --------------------------------------------------------------------------

# Sockets that were just made when the exception came are closed when they are forgotten.
interrupted = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@interrupted
@pytest.mark.usefixtures("one_place")
@pytest.mark.parametrize("name", ["listen", "close", "notify_one"])
def test_an_interrupted_call_leaves_the_place_usable(
    tmp_path: Path, family: int, name: str
) -> None:
    def prepare(number: int) -> Case:
        wakeup = Wakeup(tmp_path / str(number), family=family)
        listeners: list[Listener] = []

        def listen() -> None:
            listeners.append(wakeup.listen("work"))

        if name != "listen":
            listen()
            listeners[0].arm()
        calls: dict[str, Callable[[], object]] = {"listen": listen, "notify_one": wakeup.notify_one}

        def check(_: bool) -> None:  # noqa: FBT001  # it is told this alone
            if name == "notify_one":
                listeners[0].arm()
                in_thread(wakeup.notify_one)
                assert listeners[0].wait(LIMIT_SECS)
            for listener in listeners:
                in_thread(listener.close)
            assert in_thread(lambda: works(wakeup))
            wakeup.close()

        return calls.get(name) or listeners[0].close, check

    assert interrupt_everywhere(prepare) > 5


@interrupted
@pytest.mark.usefixtures("one_place")
def test_an_interrupted_wait_for_a_result_leaves_its_place_to_the_next(
    tmp_path: Path, family: int
) -> None:
    def prepare(number: int) -> Case:
        wakeup = Wakeup(tmp_path / str(number), family=family)

        def wait() -> None:
            # Suppressed, and its traceback forgotten with it: the waiter lives as long as that.
            with suppress(Interruption), wakeup.waiter() as waiter:
                waiter.wait(0)

        def check(_: bool) -> None:  # noqa: FBT001  # as above
            wakeup.close()
            again = Wakeup(tmp_path / str(number), family=family)
            assert in_thread(lambda: works(again, "result"))
            again.close()

        return wait, check

    assert interrupt_everywhere(prepare) > 30
