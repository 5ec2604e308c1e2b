"""Several workers under one command: as many as were asked for, replaced, and ended together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nuvom.cli import supervisor as module
from nuvom.cli import worker
from nuvom.cli.processes import WorkerProcess, own_command
from nuvom.config.settings import Settings
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.host import platforms
from tests.cli.shell import LIMIT_SECS, call, invoke, run, spawn, status
from tests.cli.test_worker import end, is_alive, read_until, states, until

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
linux = pytest.mark.skipif(not platforms.CAN_MEASURE, reason="no /proc")


def pids() -> list[int]:
    return sorted(one["pid"] for one in invoke("workers", "--json").json["workers"])


def supervisor(tasks: Path, *options: str) -> subprocess.Popen[str]:
    """Start a supervisor of two workers, and wait until both are up."""
    process = spawn("runworker", "--processes", "2", *options, cwd=tasks)
    until(lambda: states() == ["alive", "alive"])
    return process


def result(job: str) -> object:
    until(lambda: status(job) == "SUCCESS")
    return invoke("inspect", "job", job, "--json").json["result"]


@posix
def test_workers_are_replaced_after_a_kill_and_at_a_restart_and_end_together(tasks: Path) -> None:
    process = supervisor(tasks)
    first = pids()
    os.kill(first[0], signal.SIGKILL)
    until(lambda: len(pids()) == 2 and first[0] not in pids())
    second = pids()
    process.send_signal(signal.SIGHUP)
    until(lambda: len(pids()) == 2 and not set(second) & set(pids()))
    assert result(run("add", "2", "3")) == 5
    process.send_signal(signal.SIGTERM)
    answer = end(process)
    assert answer.code == 143
    assert "ended: signal SIGKILL; the next starts in 0.2 s" in answer.err
    assert "workers   2, each with 4 threads" in answer.err
    assert pids() == []


@posix
def test_a_restart_that_does_not_succeed_leaves_the_workers_before(tasks: Path) -> None:
    process = supervisor(tasks)
    before = pids()
    (tasks / "nuvom.toml").write_text('queue_backend = "simpel"\n')
    process.send_signal(signal.SIGHUP)
    read_until(process, "the restart was abandoned, and the previous workers keep running")
    (tasks / "nuvom.toml").unlink()
    assert pids() == before
    process.send_signal(signal.SIGTERM)
    assert end(process).code == 143


def test_a_worker_that_keeps_dying_is_replaced_ever_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_WAITS_SECS", (0.01, 0.02))
    command = [sys.executable, "-c", "raise SystemExit(1)"]
    pool = module.WorkerPool(lambda: WorkerProcess(command), grace_secs=0)
    one = module.Supervisor(pool, 1)
    deadline = SYSTEM_CLOCK.monotonic() + LIMIT_SECS
    while len(caplog.messages) < 3 and SYSTEM_CLOCK.monotonic() < deadline:
        one.step()
    pool.end()
    assert ["0.01", "0.02", "0.02"] == [told.split()[-2] for told in caplog.messages]


@posix
def test_a_worker_is_tied_to_its_supervisor(tasks: Path) -> None:
    process = WorkerProcess(own_command("runworker", "--parent", str(os.getpid()), "-q"))
    until(lambda: process.is_up)
    os.kill(process.pid, signal.SIGHUP)  # its supervisor's affair
    assert pids() == [process.pid]
    process.ask_to_stop()
    until(lambda: process.code() == 0)
    process.close()
    assert pids() == []


HANGING = """
import time
from nuvom import task

@task(timeout_secs=0.2)
def hang() -> None:
    time.sleep(600)
"""


@posix
def test_a_worker_with_stuck_threads_starts_anew_beneath_its_supervisor(tasks: Path) -> None:
    def workers() -> dict[int, tuple[str, str]]:
        found = invoke("workers", "--json").json["workers"]
        return {one["pid"]: (one["id"], one["state"]) for one in found}

    def has_restarted() -> bool:  # by one answer: in the next, a worker may be between two lives
        now = workers()
        is_whole = now.keys() == before.keys() and all(
            state == "alive" for _, state in now.values()
        )
        return is_whole and now != before

    (tasks / "hanging.py").write_text(HANGING)
    (tasks / "nuvom.toml").write_text("max_stuck_threads = 1\n")
    process = supervisor(tasks)
    before = workers()
    hung = run("hanging.hang")
    until(lambda: status(hung) == "FAILED")
    until(has_restarted)
    assert len(set(workers().values()) & set(before.values())) == 1  # the other one goes on
    process.send_signal(signal.SIGTERM)
    answer = end(process)
    assert (answer.code, "ended" in answer.err) == (143, False)  # nobody was replaced


PROCESS_TASK = """
import os, time
from pathlib import Path
from nuvom import task

@task(isolation="process")
def sit(told: str) -> None:
    Path(told).write_text(f"{os.getppid()} {os.getpid()}")
    time.sleep(600)
"""


@posix
def test_nobody_outlives_a_killed_supervisor_by_more_than_a_second(tasks: Path) -> None:
    (tasks / "sitting.py").write_text(PROCESS_TASK)
    process = supervisor(tasks)
    told = tasks / "told"
    invoke("run", "sitting.sit", told)
    until(lambda: told.exists() and told.read_text())
    family = {*pids(), *map(int, told.read_text().split())}
    assert len(family) == 3
    process.kill()
    process.wait()
    SYSTEM_CLOCK.sleep(1.0)
    assert [pid for pid in family if is_alive(pid)] == []
    end(process)


@posix
def test_each_process_stops_after_so_many_jobs_or_so_long(tasks: Path) -> None:
    jobs = [run("add", number, "1") for number in range(5)]
    answer = call("runworker", "--processes", "2", "--max-jobs", "2", "--json", "-q", cwd=tasks)
    assert (answer.code, answer.json["replaced"]) == (0, 0)
    assert sorted(map(status, jobs)) == ["PENDING"] + 4 * ["SUCCESS"]
    call("runworker", "--processes", "2", "--max-seconds", "2s", "-q", cwd=tasks)
    assert {status(job) for job in jobs} == {"SUCCESS"}
    assert pids() == []


@posix
def test_a_project_that_cannot_work_ends_the_command_with_its_code(tasks: Path) -> None:
    (tasks / "nuvom.toml").write_text('queue_backend = "simpel"\nprocesses = 2\n')
    answer = call("runworker", "--log-format", "json", cwd=tasks)
    assert answer.code == 4
    assert "simpel" in answer.err


ORPHAN = """
import os, subprocess, sys
from nuvom import task

@task
def leave_an_orphan() -> int:
    child = subprocess.Popen(
        [sys.executable, "-c", "import os; print(os.fork() or 0, flush=True)"],
        stdout=subprocess.PIPE, text=True,
    )
    return max(int(line) for line in child.communicate()[0].split())

@task
def is_there(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")
"""

INIT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans come here
os.execv(sys.argv[1], sys.argv[1:])
"""


@linux
def test_orphans_that_a_container_hands_over_are_reaped(tasks: Path) -> None:
    (tasks / "orphans.py").write_text(ORPHAN)
    command = own_command("runworker", "--processes", "2", "--max-seconds", "60s", "-q")
    process = subprocess.Popen([sys.executable, "-c", INIT, *command], cwd=tasks)
    orphan = result(run("orphans.leave_an_orphan"))
    until(lambda: not Path(f"/proc/{orphan}").exists())
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130


def test_process_1_of_a_container_supervises_even_one_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert not worker.needs_supervisor(Settings(processes=1))
    assert worker.needs_supervisor(Settings(processes=2))
    monkeypatch.setattr("os.getpid", lambda: 1)
    assert worker.needs_supervisor(Settings(processes=1))
