"""``nuvom top`` as a command: once, without its extra, and in a real terminal."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nuvom.cli.output import Output
from nuvom.config.sources import load
from nuvom.contrib.top import plain
from nuvom.contrib.top.sources import StoreSource
from nuvom.inspection.inspector import Inspector
from nuvom.runtime import build_runtime
from nuvom.testing.clock import FakeClock
from tests.cli.shell import ROOT, invoke, python, run, spawn
from tests.cli.test_worker import until
from tests.conftest import UNPROVED

WITHOUT = """
import importlib.abc


class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(name)


sys.meta_path.insert(0, Blocked())
from nuvom.cli.cli import main
main({args!r})
"""


def test_one_snapshot_needs_neither_textual_nor_rich(tasks: Path) -> None:
    run("tasks.add", "1", "2")
    args = ["top", "--once", "--json"]
    done = python(WITHOUT.format(blocked=["textual", "rich"], args=args), cwd=tasks)
    data = json.loads(done.out)
    assert data["schema"] == "nuvom.top/1"
    assert [one["func_name"] for one in data["jobs"]] == ["tasks.add"]
    assert data["overview"]["queues"][0]["ready"] == 1
    assert {"workers", "schedules", "errors"} <= data.keys()


def test_once_is_a_table(tasks: Path) -> None:
    job = run("tasks.add", "1", "2")
    answer = invoke("top", "--once")
    assert "Ready 1  Running 0" in answer.out
    assert job[-8:] in answer.out
    assert job in invoke("top", "--once", "--plain").out


def test_a_pipe_and_a_wrong_address_are_refused(tasks: Path) -> None:
    assert invoke("top").code == 2
    assert "add --once" in invoke("top").err
    answer = invoke("top", "--once", "--url", "file:///etc")
    assert answer.code == 2
    assert "http://" in answer.err


class Ending(FakeClock):
    """A clock at which the second wait is ended by Ctrl-C."""

    waits = 0

    def sleep(self, secs: float) -> None:
        self.waits += 1
        if self.waits == 2:
            raise KeyboardInterrupt
        self.advance(secs)


def test_without_the_extra_a_table_is_drawn_again_and_says_how_to_get_it(
    tasks: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    job = run("tasks.add", "1", "2")
    runtime = build_runtime(load(tasks))
    clock = Ending()
    plain.watch(Output(), StoreSource(runtime, Inspector(runtime)), clock)
    runtime.stop()
    shown = capsys.readouterr().out
    assert job[-8:] in shown
    assert "pip install 'nuvom[top]'" in shown
    assert clock.waits == 2


# ---- in a terminal ----------------------------------------------------------------------


class Terminal:
    """A window of tmux with a shell in it."""

    def __init__(self, folder: Path) -> None:
        self._socket = str(folder / "tmux")
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "sh")

    def _tmux(self, *args: str) -> str:
        call = ["tmux", "-S", self._socket, *args]
        return subprocess.run(call, check=True, capture_output=True, text=True).stdout

    def keys(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def resize(self, width: int, height: int) -> None:
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    @property
    def text(self) -> str:
        return self._tmux("capture-pane", "-p")

    def shows(self, *texts: str) -> Callable[[], bool]:
        return lambda: all(text in self.text for text in texts)

    def close(self) -> None:
        self._tmux("kill-server")


@pytest.fixture
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    if shutil.which("tmux") is None:
        pytest.skip(f"{UNPROVED}tmux is not installed, so no real terminal was tried")
    one = Terminal(tmp_path_factory.mktemp("t"))
    yield one
    one.close()


def test_in_a_terminal_it_works_resizes_and_leaves_everything_as_it_was(
    tasks: Path, terminal: Terminal
) -> None:
    pytest.importorskip("textual", reason=f"{UNPROVED}textual is not installed")
    worker = spawn("runworker", "--quiet", cwd=tasks)
    job = run("boom")
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from nuvom.cli.cli import main; main()"
    )
    words = [sys.executable, "-c", program, "top", "--project", str(tasks)]
    terminal.keys(f"cd {shlex.quote(str(tasks))}", "Enter")
    terminal.keys("stty -a > before; clear", "Enter")
    terminal.keys(f"{shlex.join(words)}; stty -a > after; echo code $?", "Enter")
    until(terminal.shows("✗ FAILED", job[-8:], "Workers 1", "q quit"))
    terminal.resize(120, 40)
    until(terminal.shows("Scheduled 0", "f hold"))
    terminal.keys("Down", "Enter")
    until(terminal.shows("Traceback (most recent call last)", "Esc back"))
    terminal.keys("q")
    until(terminal.shows("code 0"))
    assert "FAILED" not in terminal.text
    before, after = ((tasks / name).read_text().split("\n", 1)[1] for name in ("before", "after"))
    assert before == after
    worker.terminate()
    worker.wait()
