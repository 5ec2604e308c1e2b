"""Workers in processes of their own: what is said over the line, and how all are ended."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from nuvom.cli import supervisor
from nuvom.cli.processes import WorkerProcess, own_command
from nuvom.cli.supervisor import WorkerPool
from nuvom.core.clock import SYSTEM_CLOCK
from tests.cli.shell import ROOT, invoke
from tests.cli.test_worker import states, until

posix = pytest.mark.skipif(sys.platform == "win32", reason="the worker cannot answer there")

WORKER = f"""
import sys, threading
sys.path.append({str(ROOT)!r})
from nuvom.cli.processes import SupervisorLine
line = SupervisorLine({{parent}})
told, names = threading.Event(), []
def tell(name):
    names.append(name)
    told.set()
line.connect(lambda: tell("stop"), lambda: tell("now"))
line.tell_up()
assert sys.stdin.read() == ""
told.wait()
{{then}}
"""


def start(then: str = "sys.exit(7 if names == ['stop'] else 8)") -> WorkerProcess:
    program = WORKER.format(parent=os.getpid(), then=then)
    return WorkerProcess([sys.executable, "-c", program])


@pytest.fixture
def ended() -> Iterator[list[WorkerProcess]]:
    """Give a list whose processes are ended after the test."""
    found: list[WorkerProcess] = []
    yield found
    for process in found:
        process.kill()
        wait_for(process)
        process.close()


def wait_for(process: WorkerProcess) -> int | None:
    """Return the exit code of a process once it has ended."""
    until(lambda: process.code() is not None)
    return process.code()


def crew_of(*programs: str, grace_secs: float) -> tuple[WorkerPool, list[WorkerProcess]]:
    """Return a crew of workers that do so once they were told something."""
    left = iter(programs)
    crew = WorkerPool(lambda: start(next(left)), clock=SYSTEM_CLOCK, grace_secs=grace_secs)
    return crew, [crew.start_one() for _ in programs]


@posix
def test_all_are_asked_then_told_then_killed(
    ended: list[WorkerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "HAND_BACK_SECS", 1.0)
    good, slow = "sys.exit(0)", "told.clear(); told.wait(); sys.exit(5)"
    crew, everybody = crew_of(good, slow, "while True: pass", grace_secs=0.2)
    ended += everybody
    until(lambda: all(process.is_up for process in everybody))
    crew.end()
    assert [process.code() for process in everybody] == [0, 5, -signal.SIGKILL]


@posix
def test_a_real_worker_is_tied_to_its_supervisor(tasks: Path, ended: list[WorkerProcess]) -> None:
    command = own_command("runworker", "--parent", str(os.getpid()), "-q")
    process = WorkerProcess(command)
    ended.append(process)
    until(lambda: process.is_up)
    assert states() == ["alive"]
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGHUP)  # its supervisor's affair
    assert invoke("workers", "--json").json["workers"][0]["pid"] == process.pid
    process.ask_to_stop()
    assert wait_for(process) == 0
    assert states() == []
