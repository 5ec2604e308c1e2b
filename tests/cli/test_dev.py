"""``dev`` and ``runworker --reload``: new code for the next job, old code for the running one."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nuvom.cli import reload
from tests.cli.shell import TASKS, invoke, run, spawn, status
from tests.cli.test_worker import children, end, is_alive, read_until, until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

Process = subprocess.Popen[str]


@pytest.fixture
def start(tasks: Path) -> Iterator[Callable[..., Process]]:
    """Give a function that starts ``dev`` in the project and waits until it watches."""
    started: list[Process] = []

    def start(*command: str) -> Process:
        process = spawn(*(command or ("dev",)), cwd=tasks)
        started.append(process)
        read_until(process, "Watching")
        return process

    yield start
    for process in started:
        stop(process)


def stop(process: Process, number: int = signal.SIGINT) -> int:
    """Send a signal to a process, and return its exit code."""
    if process.poll() is None:
        process.send_signal(number)
        end(process)
    return process.returncode


def change(root: Path, old: str, new: str) -> None:
    path = root / "tasks.py"
    path.write_text(path.read_text().replace(old, new))


def result(*words: str) -> object:
    """Return what a job returns that is enqueued now."""
    job = run(*words)
    until(lambda: status(job) in {"SUCCESS", "FAILED"})
    return invoke("inspect", "job", job, "--json").json["result"]


def test_it_fires_schedules_unless_told_otherwise(start: Callable[..., Process]) -> None:
    def fires() -> list[bool]:
        return [one["scheduler"] for one in invoke("workers", "--json").json["workers"]]

    process = start("dev", "--no-scheduler")
    until(lambda: fires() == [False])
    stop(process)
    start()
    until(lambda: fires() == [True])


def pids() -> set[int]:
    return {one["pid"] for one in invoke("workers", "--json").json["workers"]}


def test_the_next_job_runs_the_new_code_and_a_running_one_the_old(
    tasks: Path, start: Callable[..., Process]
) -> None:
    dev = start()
    job = run("signal_and_wait", tasks / "started", tasks / "end")
    until((tasks / "started").exists)
    change(tasks, "return x + y", "return x + y + 100")
    read_until(dev, "Changed: tasks.py")
    until(lambda: result("add", "2", "3") == 105)  # by the new worker, while the old one is busy
    (tasks / "end").touch()
    until(lambda: status(job) == "SUCCESS")
    assert invoke("inspect", "job", job, "--json").json["attempt"] == 1
    assert stop(dev) == 130
    assert pids() == set()


def test_a_syntax_error_changes_nothing_and_is_shown(
    tasks: Path, start: Callable[..., Process]
) -> None:
    dev = start()
    assert result("add", "2", "3") == 5  # the worker has loaded the code
    with open(tasks / "tasks.py", "a", encoding="utf-8") as stream:
        stream.write("def broken(:\n")
    assert "tasks.py:33: " in read_until(dev, "keeps running the previous code")
    assert result("add", "2", "3") == 5


def test_a_worker_that_cannot_start_is_told_and_waits_for_a_change(
    tasks: Path, start: Callable[..., Process]
) -> None:
    (tasks / "nuvom.toml").write_text('queue_backend = "none_such"\n')
    dev = start()
    read_until(dev, "The worker ended with code 4")
    (tasks / "nuvom.toml").write_text("")
    assert result("add", "2", "3") == 5


def test_the_second_signal_stops_at_once(tasks: Path, start: Callable[..., Process]) -> None:
    dev = start()
    job = run("signal_and_wait", tasks / "started", tasks / "end")
    until((tasks / "started").exists)
    dev.send_signal(signal.SIGTERM)
    read_until(dev, "Stopping")
    assert stop(dev) == 143
    assert status(job) == "PENDING"


def test_several_workers_are_all_replaced_at_a_hang_up_and_end_with_a_kill(
    start: Callable[..., Process],
) -> None:
    dev = start("runworker", "--reload", "--processes", "2", "--threads", "2")
    until(lambda: len(pids()) == 2)
    before = pids()
    assert {one["slots"] for one in invoke("workers", "--json").json["workers"]} == {2}
    dev.send_signal(signal.SIGHUP)
    until(lambda: len(pids()) == 2 and not before & pids())
    family = pids()
    dev.kill()
    end(dev)
    until(lambda: not any(map(is_alive, family)))


def test_a_child_that_hangs_is_killed(tasks: Path, start: Callable[..., Process]) -> None:
    (tasks / "tasks.py").write_text(
        TASKS + "\nimport os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\n"
    )
    (tasks / "nuvom.toml").write_text("shutdown_timeout_secs = 0\n")
    dev = start()
    until(lambda: children(dev.pid))
    assert stop(dev) == 130


# ---- watching ---------------------------------------------------------------------------


def test_python_and_configuration_files_are_watched_and_nothing_else(project: Path) -> None:
    for name in ("a.py", "nuvom.toml", ".env", "notes.txt"):
        (project / name).write_text("")
    (project / ".venv").mkdir()
    (project / ".venv" / "b.py").write_text("")
    assert set(reload.snapshot(project)) == {"a.py", "nuvom.toml", ".env"}


@pytest.mark.parametrize("has_watchfiles", [True, False])
def test_new_changed_and_removed_files_are_changes(
    has_watchfiles: bool,  # noqa: FBT001  # a parameter of the test
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not has_watchfiles:
        monkeypatch.setattr(reload, "find_spec", lambda _: None)
    for name in ("changes.py", "goes.py"):
        (project / name).write_text("x")
    before = reload.snapshot(project)
    (project / "early.py").write_text("")  # before the first look
    is_over = threading.Event()
    seen, found = reload.changes(project, before, is_over=is_over.is_set), set[str]()
    while found != {"early.py"}:
        found |= next(seen)
    (project / "changes.py").write_text("xx")
    (project / "goes.py").unlink()
    (project / "new.py").write_text("")
    while found != {"early.py", "changes.py", "goes.py", "new.py"}:
        found |= next(seen)
    is_over.set()
    assert not any(seen)
