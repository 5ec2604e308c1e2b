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
from tests.cli.shell import TASKS, invoke, python, run, spawn, status
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


def test_dev_needs_a_project_or_a_task(tmp_path: Path) -> None:
    assert invoke("dev").code == 4
    assert [] == list(tmp_path.iterdir())


def test_a_child_that_hangs_is_killed(tasks: Path, start: Callable[..., Process]) -> None:
    (tasks / "tasks.py").write_text(
        TASKS + "\nimport os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\n"
    )
    (tasks / "nuvom.toml").write_text("shutdown_timeout_secs = 0\n")
    dev = start()
    until(lambda: children(dev.pid))
    assert stop(dev) == 130


STOPPED_AT_ANY_LINE = """
import faulthandler, sys
from pathlib import Path
from nuvom.cli import reload
from nuvom.cli.context import Invocation
from nuvom.config.sources import load

faulthandler.dump_traceback_later(50, exit=True)
reload._POLL_SECS = 0.0
reload.find_spec = lambda _: None
settings = load(Path.cwd()).settings
invocation = Invocation()
invocation.out.quiet = True
found = reload.Reloader(invocation, settings, [])._discover()

class Childless(reload.Reloader):
    \"\"\"Once it watches, the given line of what it does is its last.\"\"\"

    def __init__(self, last):
        super().__init__(invocation, settings, [], count=0)
        self.last, self.lines, self.place = last, 0, ""

    def _discover(self):
        return found

    def _replace(self):
        sys.settrace(self.trace)

    def trace(self, frame, event, _):
        if "importlib" in frame.f_code.co_filename:
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self.last:
                self.place = frame.f_code.co_name
                self.pool.stop()  # as a signal handler does, between any two lines
        return self.trace

places = []
for last in range(1, 1000):
    supervisor = Childless(last)
    supervisor.run()
    sys.settrace(None)
    places.append(supervisor.place)
print(places.count("changes"), len(set(places)))
"""


def test_a_stop_signal_at_any_moment_of_the_watch_ends_it(tasks: Path) -> None:
    """It may come while the thread that it interrupts holds a lock."""
    answer = python(STOPPED_AT_ANY_LINE, cwd=tasks)
    assert answer.code == 0, answer.err
    rounds, functions = map(int, answer.out.split())
    assert rounds > 4  # so many lines of the loop itself were among them
    assert functions > 10


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
