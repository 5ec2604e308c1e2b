"""The differences between systems, on the one that this runs on; and how ends are worded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from nuvom.host import platforms
from tests.engine import LIMIT_SECS, wait_until

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
linux = pytest.mark.skipif(not platforms.CAN_MEASURE, reason="no /proc")

SLEEPER = "import sys, time; print('up', flush=True); time.sleep(60)"
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {SLEEPER!r}])
print(child.pid, flush=True)
child.wait()
"""


def start(program: str, **options: object) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        bufsize=0,
        **{**platforms.spawn_options(), **options},
    )
    assert isinstance(child, subprocess.Popen)
    return child


def finish(child: subprocess.Popen[bytes]) -> int:
    with child:
        return child.wait(LIMIT_SECS)


@pytest.fixture
def signals() -> Iterator[None]:
    """Put back the handlers of this process."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@posix
def test_what_a_child_started_is_killed_with_it() -> None:
    child = start(PARENT)
    assert child.stdout is not None
    grandchild = int(child.stdout.readline())
    platforms.kill(child)
    finish(child)
    wait_until(lambda: not _runs(grandchild))


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# ---- in the child ---------------------------------------------------------------------

ORPHAN = """
import sys
from nuvom.host import platforms
platforms.end_with_parent({parent})
print("lives", flush=True)
"""


@posix
def test_child_whose_parent_is_gone_already_ends() -> None:
    child = start(ORPHAN.format(parent=1))
    assert child.stdout is not None
    assert b"" == child.stdout.read()
    assert 1 == finish(child)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child so")
def test_child_ends_with_the_thread_that_started_it() -> None:
    program = ORPHAN.format(parent=os.getpid()) + "import time; time.sleep(60)"
    found: list[subprocess.Popen[bytes]] = []

    def start_and_end() -> None:
        child = start(program)
        assert child.stdout is not None
        assert b"lives\n" == child.stdout.readline(), "its parent lives"
        found.append(child)

    thread = threading.Thread(target=start_and_end)
    thread.start()
    thread.join()
    assert -signal.SIGKILL == finish(found[0])


@posix
def test_end_request_comes_through_where_it_was_blocked(signals: None) -> None:
    seen: list[str] = []
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    platforms.on_end_request(lambda: seen.append("asked"))
    signal.raise_signal(signal.SIGINT)  # that is for the parent
    assert [] == seen
    signal.raise_signal(signal.SIGTERM)
    assert ["asked"] == seen


@posix
def test_main_thread_is_interrupted_where_it_waits(signals: None) -> None:
    class Interrupted(BaseException):
        pass

    def act() -> None:
        raise Interrupted

    platforms.on_end_request(act)
    other = threading.Thread(target=platforms.interrupt_main_thread, args=(threading.get_ident(),))
    with pytest.raises(Interrupted):
        start_and_wait(other)
    other.join()


def start_and_wait(other: threading.Thread) -> None:
    other.start()
    threading.Event().wait(LIMIT_SECS)
