"""``dev`` and ``runworker --reload``: new code for the next job, old code for the running one."""

from __future__ import annotations

import json
import re
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nuvom.cli import reload
from nuvom.cli.context import Invocation
from nuvom.cli.reload import Reloader
from nuvom.config.sources import load
from tests.cli.shell import TASKS, invoke, python, spawn
from tests.cli.test_worker import children, end, is_alive, until

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


class Dev:
    """A running ``nuvom dev --json``: its events, and how to end it."""

    def __init__(self, root: Path, *command: str) -> None:
        self.root = root
        self.events: list[dict[str, Any]] = []
        self.process = spawn(*(command or ("dev", "--json")), cwd=root)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def wait_for(self, event: str) -> dict[str, Any]:
        until(lambda: any(one["event"] == event for one in self.events))
        return next(one for one in self.events if one["event"] == event)

    def result(self, *words: str) -> object:
        job = invoke("run", *words, "-q").out.strip()
        until(lambda: invoke("status", job, "-f", "raw").out.strip() in {"SUCCESS", "FAILED"})
        return invoke("inspect", "job", job, "--json").json["result"]

    def change(self, old: str, new: str) -> None:
        path = self.root / "tasks.py"
        path.write_text(path.read_text().replace(old, new))

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        assert self.process.stderr is not None
        self.process.stderr.read()
        code = self.process.wait(60)
        self._reader.join(60)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        return code


@pytest.fixture
def dev(tasks: Path) -> Iterator[Dev]:
    running = Dev(tasks)
    running.wait_for("started")
    yield running
    if running.process.poll() is None:
        running.stop()


@posix
def test_the_next_job_runs_the_new_code(dev: Dev) -> None:
    assert dev.result("add", "2", "3") == 5
    dev.change("return x + y", "return x + y + 100")
    assert dev.wait_for("reloaded")["files"] == ["tasks.py"]
    until(lambda: dev.result("add", "2", "3") == 105)
    assert dev.stop() == 130
    assert [one["event"] for one in dev.events][-2:] == ["stopping", "stopped"]
    assert {one["schema"] for one in dev.events} == {"nuvom.dev/1"}
    assert invoke("workers", "--json").json["workers"] == []


@posix
def test_a_running_job_finishes_on_the_old_code(dev: Dev) -> None:
    started, last = dev.root / "started", dev.root / "end"
    job = invoke("run", "signal_and_wait", started, last, "-q").out.strip()
    until(started.exists)
    dev.change('return "ended"', 'return "ended by new code"')
    dev.wait_for("reloaded")
    assert dev.result("add", "2", "3") == 5  # by the new worker, while the old one is busy
    last.touch()
    until(lambda: invoke("status", job, "-f", "raw").out == "SUCCESS\n")
    data = invoke("inspect", "job", job, "--json").json
    assert (data["result"], data["attempt"]) == ("ended", 1)
    assert dev.stop() == 130


@posix
def test_a_syntax_error_changes_nothing_and_is_shown(dev: Dev) -> None:
    assert dev.result("add", "2", "3") == 5
    with open(dev.root / "tasks.py", "a", encoding="utf-8") as stream:
        stream.write("def broken(:\n")
    told = dev.wait_for("syntax_error")
    assert re.match(r"tasks\.py:\d+: ", told["text"])
    assert dev.result("add", "2", "3") == 5
    assert dev.stop() == 130


@posix
def test_a_worker_that_cannot_start_is_told_and_waits_for_a_change(tasks: Path) -> None:
    (tasks / "nuvom.toml").write_text('queue_backend = "none_such"\n')
    dev = Dev(tasks)
    assert dev.wait_for("ended")["code"] == 4
    (tasks / "nuvom.toml").write_text("")
    dev.wait_for("reloaded")
    assert dev.result("add", "2", "3") == 5
    assert dev.stop() == 130


@posix
def test_the_second_signal_stops_at_once(dev: Dev) -> None:
    started = dev.root / "started"
    job = invoke("run", "signal_and_wait", started, dev.root / "end", "-q").out.strip()
    until(started.exists)
    dev.process.send_signal(signal.SIGTERM)
    dev.wait_for("stopping")
    assert dev.stop() == 143
    assert invoke("status", job, "-f", "raw").out == "PENDING\n"


@posix
def test_runworker_reload_is_the_same(tasks: Path) -> None:
    for option in ("--reload", "--dev"):
        worker = spawn("runworker", option, "--threads", "2", "--max-seconds", "1h", cwd=tasks)
        until(lambda: invoke("workers", "--json").json["workers"])
        (told,) = invoke("workers", "--json").json["workers"]
        assert told["slots"] == 2
        assert told["pid"] != worker.pid
        worker.send_signal(signal.SIGTERM)
        answer = end(worker)
        assert answer.code == 143
        assert "Watching" in answer.err


def pids() -> set[int]:
    return {one["pid"] for one in invoke("workers", "--json").json["workers"]}


@posix
def test_several_workers_are_all_replaced_when_code_changes(tasks: Path) -> None:
    dev = Dev(tasks, "runworker", "--reload", "--processes", "2", "--json")
    until(lambda: len(pids()) == 2)
    before = pids()
    dev.change("return x + y", "return x + y + 100")
    dev.wait_for("reloaded")
    until(lambda: len(pids()) == 2 and not before & pids())
    assert {dev.result("add", "2", "3") for _ in range(4)} == {105}
    assert dev.stop() == 130
    assert pids() == set()


@posix
def test_a_hang_up_starts_new_workers_and_the_old_ones_end(dev: Dev) -> None:
    until(pids)
    before = pids()
    dev.process.send_signal(signal.SIGHUP)
    until(lambda: len(pids()) == 1 and not before & pids())
    assert dev.stop() == 130


@posix
def test_dev_that_is_killed_with_several_workers_leaves_none(tasks: Path) -> None:
    (tasks / "nuvom.toml").write_text("processes = 2\n")
    dev = Dev(tasks)
    until(lambda: len(pids()) == 2)
    family = pids()
    dev.process.kill()
    dev.process.wait(60)
    until(lambda: not any(map(is_alive, family)))
    dev.stop()


def test_dev_needs_a_project_or_a_task(tmp_path: Path) -> None:
    answer = invoke("dev")
    assert answer.code == 4
    assert [] == list(tmp_path.iterdir())


@posix
def test_a_project_without_a_task_waits_for_one(tmp_path: Path) -> None:
    (tmp_path / "nuvom.toml").touch()
    running = Dev(tmp_path)
    running.wait_for("started")
    assert 130 == running.stop()  # as of a program that Ctrl-C ends


@pytest.fixture
def reloader(project: Path) -> Reloader:
    """A reloader of workers that hang, in a project with one task."""
    (project / "tasks.py").write_text("from nuvom import task\n@task\ndef one(): ...\n")
    return Reloader(Invocation(), load(project).settings, [])


@posix
def test_a_child_that_hangs_is_killed(tasks: Path) -> None:
    (tasks / "tasks.py").write_text(
        TASKS + "\nimport os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\n"
    )
    (tasks / "nuvom.toml").write_text("shutdown_timeout_secs = 0\n")
    dev = Dev(tasks)
    dev.wait_for("started")
    until(lambda: children(dev.process.pid))
    assert dev.stop() == 130


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
found = reload.Reloader(Invocation(), settings, [])._discover()

class Childless(reload.Reloader):
    \"\"\"Once it watches, the given line of what it does is its last.\"\"\"

    def __init__(self, last):
        super().__init__(Invocation(), settings, [], count=0)
        self.last, self.lines, self.place = last, 0, ""

    def _discover(self):
        return found

    def _replace(self):
        sys.settrace(self.trace)

    def _tell(self, event, text, **data):
        if event == "stopping":
            sys.settrace(None)

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


def test_what_discovery_finds_is_told(
    reloader: Reloader, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reloader._discover()
    (project / "tasks.py").write_text("")
    (project / "broken.py").write_text("from nuvom import task\n@task\ndef x(:\n")
    reloader._discover()
    told = capsys.readouterr().err
    assert "+ tasks.one()" in told
    assert "- tasks.one" in told
    assert "broken.py:3" in told


def test_a_file_that_cannot_be_parsed_is_named(project: Path) -> None:
    (project / "bad.py").write_text("x = (\n")
    (project / "nul.py").write_bytes(b"x = '\xff'\n")
    (project / "good.py").write_text("x = 1\n")
    assert "bad.py:1: " in str(reload.syntax_error(project, ["bad.py", "good.py"]))
    assert "nul.py" in str(reload.syntax_error(project, ["nul.py"]))
    assert reload.syntax_error(project, ["gone.py", "good.py", "nuvom.toml"]) is None


# ---- watching ---------------------------------------------------------------------------


@pytest.fixture(params=["watchfiles", "polling"])
def watch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have changes told by the system, or found by looking."""
    if request.param == "polling":
        monkeypatch.setattr(reload, "find_spec", lambda _: None)


def test_python_and_configuration_files_are_watched_and_nothing_else(project: Path) -> None:
    for name in ("a.py", "nuvom.toml", ".env", "notes.txt"):
        (project / name).write_text("")
    (project / ".venv").mkdir()
    (project / ".venv" / "b.py").write_text("")
    assert set(reload.snapshot(project)) == {"a.py", "nuvom.toml", ".env"}


def test_new_changed_and_removed_files_are_changes(project: Path, watch: None) -> None:
    for name in ("stays.py", "changes.py", "goes.py"):
        (project / name).write_text("x")
    before = reload.snapshot(project)
    (project / "early.py").write_text("")  # before the first look
    stop = threading.Event()
    seen, found = reload.changes(project, before, is_over=stop.is_set), set[str]()
    while found != {"early.py"}:
        found |= next(seen)
    (project / "changes.py").write_text("xx")
    (project / "goes.py").unlink()
    (project / "new.py").write_text("")
    while found != {"early.py", "changes.py", "goes.py", "new.py"}:
        found |= next(seen)
    stop.set()
    assert not any(seen)
