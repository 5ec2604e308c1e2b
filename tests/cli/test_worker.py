"""``runworker`` in the foreground: what it says, when it stops, and with which code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nuvom.cli.processes import StopSignals
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.host import platforms
from tests.cli.shell import LIMIT_SECS, Answer, call, invoke, run, spawn, status

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def until(condition: Callable[[], object]) -> None:
    """Wait until ``condition()`` holds."""
    deadline = SYSTEM_CLOCK.monotonic() + LIMIT_SECS
    while not condition():
        assert SYSTEM_CLOCK.monotonic() < deadline, "it never came true"
        SYSTEM_CLOCK.sleep(0.01)


def end(worker: subprocess.Popen[str]) -> Answer:
    """Wait for a process to end."""
    out, err = worker.communicate(timeout=LIMIT_SECS)
    return Answer(worker.returncode, out, err)


def read_until(worker: subprocess.Popen[str], word: str) -> str:
    """Return what a process writes to standard error, up to the first line with ``word``."""
    assert worker.stderr is not None
    seen = ""
    while word not in seen:
        line = worker.stderr.readline()
        assert line, f"it ended without {word!r}: {seen}"
        seen += line
    return seen


def running(tasks: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    """Start a worker that is inside a job which waits for the file ``end``."""
    job = run("signal_and_wait", tasks / "started", tasks / "end")
    worker = spawn("runworker", *options, cwd=tasks)
    until((tasks / "started").exists)
    return worker, job


def children(pid: int) -> list[int]:
    told = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(word) for word in told.stdout.split()]


def is_alive(pid: int) -> bool:
    stat = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return bool(stat.stdout.strip()) and not stat.stdout.startswith("Z")


def test_a_worker_says_what_it_is_and_what_it_has_done(tasks: Path) -> None:
    job = run("add", "2", "3")
    options = ("--threads", "3", "--queues", "mail,default", "--concurrency", "mail=2")
    answer = call("runworker", "--burst", *options, cwd=tasks)
    assert (answer.code, answer.out) == (0, "")
    where = os.path.join(".nuvom", "nuvom.db")
    for line in (
        f"project   {tasks}",
        f"store     sqlite in {where}, durability full (survives a power cut)",
        "slots     3 threads",
        "queues    mail, default; at most 2 of mail at once",
        "tasks     4",
        "delivery  at least once, finished exactly once",
        "Worker ended (burst) after 1 job.",
    ):
        assert line in answer.err
    assert invoke("inspect", "job", job, "--json").json["result"] == 5
    assert call("runworker", "--burst", "-q", cwd=tasks) == Answer(0, "", "")


def test_queues_may_be_chosen_or_left_out(tasks: Path) -> None:
    plain, mail = (run(*words) for words in (["add", "1", "2"], ["send", "a"]))
    assert "all but mail" in call("runworker", "--burst", "--exclude-queues", "mail", cwd=tasks).err
    assert (status(plain), status(mail)) == ("SUCCESS", "PENDING")
    call("runworker", "--burst", "--queues", "mail", cwd=tasks)
    assert status(mail) == "SUCCESS"
    answer = invoke("runworker", "--burst", "--concurrency", "mail=0")
    assert (answer.code, "write mail=2" in answer.err) == (2, True)


def test_a_worker_stops_after_so_many_jobs_or_so_long(tasks: Path) -> None:
    for _ in range(3):
        invoke("run", "add", "1", "2")
    answer = call(
        "runworker", "--max-jobs", "2", "--threads", "1", "--batch", "1", "--json", cwd=tasks
    )
    assert answer.code == 0
    data = json.loads(answer.out)
    assert (data["schema"], data["reason"], data["jobs"]) == ("nuvom.worker_run/1", "max-jobs", 2)
    assert (
        call("runworker", "--max-seconds", "50ms", "--json", cwd=tasks).json["reason"] == "max-secs"
    )


def test_a_worker_in_production_only_says_that_the_manifest_is_stale(tasks: Path) -> None:
    answer = call("runworker", "--burst", cwd=tasks, NUVOM_ENVIRONMENT="prod")
    assert answer.err.count("The manifest is stale or missing. Run: nuvom discover tasks") == 1
    assert not (tasks / ".nuvom" / "manifest.json").exists()
    invoke("discover", "tasks")
    assert "stale" not in call("runworker", "--burst", cwd=tasks, NUVOM_ENVIRONMENT="prod").err


def test_a_worker_needs_a_project_or_a_task(tmp_path: Path) -> None:
    assert invoke("runworker", "--burst").code == 4
    assert [] == list(tmp_path.iterdir())
    (tmp_path / "nuvom.toml").touch()
    answer = call("runworker", "--burst", cwd=tmp_path)
    assert (answer.code, "No task was found" in answer.err) == (0, True)


def test_a_log_for_programs_holds_all_that_is_told_and_nothing_else(tasks: Path) -> None:
    invoke("run", "add", "1", "2")
    (tasks / "broken.py").write_text("from nuvom import task\n@task\ndef x(:\n")
    options = ("--burst", "-vv", "--log-format", "json")
    answer = call("runworker", *options, cwd=tasks, NUVOM_MAX_WROKERS="3")
    lines = [json.loads(line) for line in answer.err.splitlines()]
    assert any(line["event"] == "job.started" for line in lines)  # with -vv alone
    for text in ("NUVOM_MAX_WROKERS", "broken.py:3"):
        assert ["WARNING"] == [line["level"] for line in lines if text in line["msg"]]


def test_tasks_that_cannot_be_loaded_are_counted_and_told_in_a_few_lines(tasks: Path) -> None:
    task = "@task\ndef {}(): ...\n"
    for number in range(8):
        source = f"from nuvom import task\nimport nosuch{number}\n"
        more = "".join(task.format(f"x{one}") for one in range(100))
        (tasks / f"broken{number}.py").write_text(source + more)
    (tasks / "inner.py").write_text(
        "from nuvom import task\ndef f():\n    @task\n    def x(): ...\n"
    )
    answer = call("runworker", "--burst", cwd=tasks, NUVOM_TASK_IMPORT="start")
    assert "Ready, but 801 tasks cannot be loaded." in answer.err
    lines = [line for line in answer.err.splitlines() if "could not be loaded" in line]
    assert [("100 tasks of broken" in line, "nosuch" in line) for line in lines[:5]] == [
        (True, True)
    ] * 5
    assert [line.partition("300")[2] for line in lines[5:]] == [
        " more tasks could not be loaded, for other reasons."
    ]


def test_problems_of_discovery_are_told_in_a_few_lines(tasks: Path) -> None:
    inner = "def f{0}():\n    @task\n    def x(): ...\n"
    (tasks / "inner.py").write_text(
        "from nuvom import task\n" + "".join(inner.format(number) for number in range(100))
    )
    answer = call("runworker", "--burst", cwd=tasks)
    assert answer.err.count("inner.py:") == 5
    assert "95 more such problems: nuvom discover tasks --check" in answer.err


# ---- signals ----------------------------------------------------------------------------


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_lets_running_jobs_finish(
    number: signal.Signals, code: int, tasks: Path
) -> None:
    worker, job = running(tasks)
    later = run("add", "1", "2", "--queue", "other")
    until(lambda: status(later) == "SUCCESS")
    worker.send_signal(number)
    told = read_until(worker, "Stopping")
    assert "Stopping: draining 1 job." in told
    (tasks / "end").touch()
    answer = end(worker)
    assert answer.code == code
    assert "Traceback" not in told + answer.err
    assert status(job) == "SUCCESS"
    assert invoke("workers", "--json").json["workers"] == []


@posix
def test_the_second_signal_hands_back_what_runs(tasks: Path) -> None:
    worker, job = running(tasks)
    worker.send_signal(signal.SIGINT)
    read_until(worker, "draining 1 job")
    assert status(job) == "RUNNING"
    worker.send_signal(signal.SIGTERM)
    answer = end(worker)
    assert (answer.code, "Stopping at once" in answer.err) == (130, True)
    data = invoke("inspect", "job", job, "--json").json
    assert (data["status"], data["attempt"], data["deliveries"]) == ("PENDING", 0, 0)


@posix
def test_a_signal_before_the_worker_is_built_stops_it_before_its_first_claim(tasks: Path) -> None:
    job = run("add", "1", "2")
    (tasks / "plug.py").write_text(
        "import os, signal\n"
        "from nuvom.plugins.contracts import Plugin\n"
        "class Plug(Plugin):\n"
        "    name = 'plug'\n"
        "    def start(self, settings, extras):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    (tasks / ".nuvom_plugins.toml").write_text('[plugins]\nmonitoring = ["plug:Plug"]\n')
    (tasks / ".nuvom_plugins.toml").chmod(0o600)
    answer = call("runworker", cwd=tasks)
    assert answer.code == 143
    assert status(job) == "PENDING"


# ---- commands to workers ----------------------------------------------------------------


def states() -> list[str]:
    return [worker["state"] for worker in invoke("workers", "--json").json["workers"]]


def test_workers_are_listed_quieted_and_stopped(tasks: Path) -> None:
    worker = spawn("runworker", cwd=tasks)
    until(lambda: states() == ["alive"])
    (told,) = invoke("workers", "--json").json["workers"]
    assert told["pid"] == worker.pid
    assert told["id"][-8:] in invoke("workers").out
    assert invoke("workers", "quiet", told["id"][-8:]).code == 0
    until(lambda: states() == ["quiet"])
    job = invoke("run", "add", "1", "2")
    assert "0 workers alive on queue default" in job.err
    assert invoke("workers", "resume", "--all", "--json").json["workers"] == [told["id"]]
    until(lambda: status(job.out.strip()) == "SUCCESS")
    assert "was told to write the stacks" in invoke("workers", "stacks", "--all").out
    assert "was told to finish its jobs" in invoke("workers", "stop", told["id"]).out
    assert end(worker).code == 0


def marked() -> list[str]:
    """Return the workers that are said to run other code, which ``doctor`` has to say too."""
    told = invoke("workers").err
    checks = invoke("doctor", "--json").json["checks"]
    warned = [one["text"][:8] for one in checks if "runs other code" in one["text"]]
    listed = [line.split()[2] for line in told.splitlines() if "runs other code" in line]
    assert sorted(warned) == sorted(listed)
    return listed


def test_workers_that_run_other_code_are_marked(tasks: Path) -> None:
    spawn("runworker", cwd=tasks)
    until(lambda: states() == ["alive"])
    (old,) = invoke("workers", "--json").json["workers"]
    assert old["release"].startswith("code-")
    assert marked() == []
    with (tasks / "tasks.py").open("a") as file:
        file.write("# changed\n")
    assert marked() == [old["id"][-8:]]
    assert "than the manifest: restart it." in invoke("workers").err
    for release in ("v1", "v2"):
        spawn("runworker", cwd=tasks, NUVOM_RELEASE=release)
        until(lambda: len(states()) == int(release[1]) + 1)  # noqa: B023  # called at once
    (named,) = [
        one for one in invoke("workers", "--json").json["workers"] if one["release"] == "v1"
    ]
    assert sorted(marked()) == sorted([old["id"][-8:], named["id"][-8:]])


@posix
def test_a_job_whose_worker_was_killed_is_never_all_well(tasks: Path) -> None:
    worker, job = running(tasks)
    assert "RUNNING" in invoke("why", job).out
    assert "RUNNING (for " in invoke("status", job).out
    assert invoke("inspect", job, "--json").json["started_at"] is not None
    worker.kill()
    worker.wait()
    assert states() == []
    (told,) = [one for one in invoke("doctor", "--json").json["checks"] if one["level"] == "fail"]
    assert told["text"] == f"1 job RUNNING on a worker that has died, such as {job}"
    assert "nuvom runworker" in told["fix"]
    assert "Not running: its worker has died. Start one" in invoke("status", job).err
    (tasks / "end").touch()
    spawn("runworker", cwd=tasks)
    until(lambda: status(job) == "SUCCESS")


def test_an_unknown_worker_is_not_found(tasks: Path) -> None:
    assert invoke("workers", "stop", "abcdef").code == 3
    assert invoke("workers", "stop").code == 2
    assert invoke("workers", "stop", "abcdef", "--all").code == 2
    assert "0 workers alive" in invoke("workers").err


# ---- signals, without a process ---------------------------------------------------------


def test_a_hang_up_asks_for_a_restart_unless_the_terminal_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminals = iter([True, True, True, False])
    monkeypatch.setattr(platforms, "has_terminal", lambda: next(terminals))
    signals, calls = StopSignals(), list[str]()
    signals._hang_up(1, None)  # it is only starting, and reads everything anew anyhow
    signals.connect(lambda: calls.append("stop"), lambda: None, lambda: calls.append("restart"))
    signals._hang_up(1, None)
    assert (signals.received, calls) == ([], ["restart"])
    signals._hang_up(1, None)
    assert (signals.received, calls) == ([1], ["restart", "stop"])
    assert signals.exit_code == 143


@posix
def test_a_single_worker_starts_anew_under_the_same_id(tasks: Path) -> None:
    worker, job = running(tasks, "--max-jobs", "2")
    (told,) = invoke("workers", "--json").json["workers"]
    worker.send_signal(signal.SIGHUP)
    until(lambda: states() == ["stopping"])
    (tasks / "end").touch()
    until(lambda: states() == ["alive"])
    (again,) = invoke("workers", "--json").json["workers"]
    assert again["pid"] == told["pid"] == worker.pid
    assert again["id"] != told["id"]
    assert status(job) == "SUCCESS"
    for number in range(2):  # it counts anew
        invoke("run", "add", number, "1")
    answer = end(worker)
    assert answer.code == 0
    assert "Worker ended (max-jobs) after 2 jobs." in answer.err


def test_a_worker_that_nothing_can_reach_says_so(tasks: Path) -> None:
    (tasks / "nuvom.toml").write_text('queue_backend = "memory"\nresult_backend = "memory"\n')
    text = "no job of another program or command gets here"
    assert call("runworker", "--burst", cwd=tasks).err.count(text) == 1


ENDING_PLUGIN = """
from nuvom.plugins.contracts import Plugin

class Ending(Plugin):
    name = "ending"

    def start(self, settings, extras):
        from nuvom.worker import Worker

        def work(worker, tell):
            raise SystemExit(0)

        Worker.run = work
"""


def test_an_end_that_nobody_asked_for_is_a_failure(tasks: Path) -> None:
    (tasks / "plug.py").write_text(ENDING_PLUGIN)
    (tasks / ".nuvom_plugins.toml").write_text('[plugins]\nmonitoring = ["plug:Ending"]\n')
    (tasks / ".nuvom_plugins.toml").chmod(0o600)
    answer = call("runworker", cwd=tasks)
    assert answer.code == 1
    assert "the worker was ended by SystemExit(0)" in answer.err
