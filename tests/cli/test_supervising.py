"""Several workers under one command: as many as were asked for, replaced, and ended together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nuvom.cli import exit_codes, worker
from nuvom.cli.processes import WorkerProcess, own_command
from nuvom.cli.supervisor import Supervisor, WorkerPool
from nuvom.config.settings import Settings
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.host import platforms
from nuvom.testing.clock import FakeClock
from tests.cli.shell import call, invoke, run, spawn, status
from tests.cli.test_worker import end, is_alive, states, until

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
linux = pytest.mark.skipif(not platforms.CAN_MEASURE, reason="no /proc")


class Fake(WorkerProcess):
    """A worker process that is what the test says."""

    def __init__(self, company: Company) -> None:
        self._company = company
        self._pid = 100 + len(company.born)
        self.has_come_up = company.comes_up
        self.ends_with: int | None = company.ends_with
        self.started_at = company.clock.monotonic()
        self.words: list[str] = []
        self.ends_when = {"stop", "kill"}

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def is_up(self) -> bool:
        return self.has_come_up

    def code(self) -> int | None:
        return self.ends_with

    def _hear(self, word: str) -> None:
        self.words.append(word)
        if word in self.ends_when and self.ends_with is None:
            self.ends_with = 0

    def ask_to_stop(self) -> None:
        self._hear("stop")

    def stop_at_once(self) -> None:
        self._hear("now")

    def kill(self) -> None:
        self._hear("kill")

    def close(self) -> None:
        self._hear("close")


class Turning(FakeClock):
    """A clock that sleeping turns."""

    def sleep(self, secs: float) -> None:
        self.advance(secs)


class Company:
    """A supervisor of fakes, and a clock that the test turns."""

    def __init__(self, count: int) -> None:
        self.clock = Turning()
        self.born: list[Fake] = []
        self.comes_up = True
        self.ends_with: int | None = None
        self.fault: OSError | None = None
        self.said: list[str] = []
        self.pool = WorkerPool(self.spawn, clock=self.clock, grace_secs=15.0, say=self.said.append)
        self.supervisor = Supervisor(self.pool, count)
        self.look()

    def spawn(self) -> Fake:
        if self.fault is not None:
            raise self.fault
        self.born.append(Fake(self))
        return self.born[-1]

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.supervisor.step()

    @property
    def living(self) -> list[int]:
        return [self.born.index(one) for one in self.born if one.ends_with is None]


def test_a_worker_that_dies_is_replaced_and_the_others_are_left_alone() -> None:
    company = Company(3)
    company.born[1].ends_with = -9
    company.look(2)
    assert company.living == [0, 2]
    company.clock.advance(0.2)
    company.look()
    assert company.living == [0, 2, 3]
    assert company.supervisor.replaced == 1
    assert [one.words for one in company.born] == [[], ["close"], [], []]


def test_a_worker_that_keeps_dying_is_replaced_ever_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    company = Company(1)
    for number in range(8):
        company.born[number].ends_with = 1
        company.look()
        company.clock.advance(30.5)
        company.look()
        assert company.living == [number + 1]
    waits = [record.getMessage().split()[-2] for record in caplog.records]
    assert waits == ["0.2", "1", "2", "5", "10", "30", "30", "30"]
    company.clock.advance(30.5)
    company.born[-1].ends_with = 1  # it has lived for long
    company.look()
    assert "starts in 0.2 s" in caplog.messages[-1]


def test_a_worker_that_cannot_be_started_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    company = Company(1)
    company.fault = OSError("no more processes")
    company.born[0].ends_with = 1
    company.look()
    company.clock.advance(0.2)
    company.look()
    assert "no worker process could be started: no more processes" in caplog.text
    company.fault = None
    company.clock.advance(1.0)
    company.look()
    assert company.living == [1]


def test_workers_that_end_by_themselves_are_not_replaced() -> None:
    company = Company(2)
    for one in company.born:
        one.ends_with = 0
    assert company.supervisor.run() == 0
    assert len(company.born) == 2


@pytest.mark.parametrize("code", [exit_codes.USAGE, exit_codes.NOT_FOUND, exit_codes.CONFIG])
def test_what_no_restart_cures_ends_the_command_unless_workers_were_up(code: int) -> None:
    company = Company(2)
    for one in company.born:
        one.has_come_up = False
    company.born[0].ends_with = code
    assert company.supervisor.run() == code
    assert company.born[1].words[0] == "stop"

    company = Company(2)
    company.look()
    company.born[0].ends_with = code
    company.look()
    company.clock.advance(0.2)
    company.look()
    assert company.living == [1, 2]


# ---- the rolling restart ----------------------------------------------------------------


def test_one_worker_goes_after_the_other_and_each_when_the_next_is_up() -> None:
    company = Company(2)
    company.comes_up = False
    company.born[0].ends_when = {"kill"}  # it takes its time
    company.pool.restart()
    company.look(3)
    assert company.living == [0, 1, 2]  # the new one comes up
    assert company.born[0].words == []
    company.born[2].has_come_up = True
    company.look(3)
    assert company.born[0].words == ["stop"]
    assert company.living == [0, 1, 2]  # the old one leaves
    company.born[0].ends_with = 0
    company.look(3)
    assert company.living == [1, 2, 3]
    company.born[3].has_come_up = True
    company.look(3)
    assert company.living == [2, 3]
    assert company.supervisor.replaced == 2


def test_an_old_worker_that_hangs_is_killed() -> None:
    company = Company(1)
    company.born[0].ends_when = {"kill"}
    company.pool.restart()
    company.look(2)
    company.clock.advance(60)
    company.look(2)
    assert company.living == [1]
    assert company.born[0].words[:2] == ["stop", "kill"]


@pytest.mark.parametrize("how", ["ends", "hangs", "cannot start"])
def test_a_restart_that_does_not_succeed_leaves_the_workers_before(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    company = Company(2)
    company.comes_up = False
    company.ends_with = exit_codes.CONFIG if how == "ends" else None
    company.fault = OSError("no more") if how == "cannot start" else None
    company.pool.restart()
    company.look(2)
    company.clock.advance(61)
    company.look(3)
    assert company.living == [0, 1]
    assert [one.words for one in company.born[:2]] == [[], []]
    assert "the restart was abandoned, and the previous workers keep running" in caplog.text


def test_a_worker_that_has_ended_by_itself_is_left_out_of_a_restart() -> None:
    company = Company(2)
    company.born[0].ends_with = 0
    company.look()
    company.pool.restart()
    company.look(4)
    assert company.living == [2]


def test_a_second_signal_ends_all_at_once() -> None:
    company = Company(1)
    company.born[0].ends_when = {"now"}
    company.pool.stop()
    company.pool.abort()
    company.supervisor.run()
    assert company.born[0].words[:2] == ["stop", "now"]
    assert "at once" in company.said[1]


# ---- real processes ---------------------------------------------------------------------


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


HANGING = """
import time
from nuvom import task

@task(timeout_secs=0.2)
def hang() -> None:
    time.sleep(600)
"""


@posix
def test_a_worker_with_stuck_threads_starts_anew_beneath_its_supervisor(tasks: Path) -> None:
    def workers() -> dict[int, str]:
        return {one["pid"]: one["id"] for one in invoke("workers", "--json").json["workers"]}

    (tasks / "hanging.py").write_text(HANGING)
    (tasks / "nuvom.toml").write_text("max_stuck_threads = 1\n")
    process = supervisor(tasks)
    before = workers()
    hung = run("hanging.hang")
    until(lambda: status(hung) == "FAILED")
    until(lambda: states() == ["alive", "alive"] and workers() != before)
    assert workers().keys() == before.keys()
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
