"""Completion: what each shell is offered, and that it never makes a store or shows an error."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nuvom.cli import completion
from nuvom.cli.cli import cli
from nuvom.cli.commands.completion import SHELLS
from tests.cli.shell import call, invoke


def offered(*words: str, incomplete: str = "", cwd: Path | None = None) -> list[str]:
    """Return what PowerShell would be offered after these words."""
    line = " ".join(["nuvom", *words, incomplete])
    answer = call(
        cwd=cwd,
        _NUVOM_COMPLETE="powershell_complete",
        COMP_WORDS=line,
        COMP_WORD=incomplete,
    )
    assert (answer.code, answer.err) == (0, "")
    return [row[0] for row in answer.rows if row[0]]


def run(*args: str) -> str:
    return invoke("run", *args, "-q").out.strip()


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_a_script(shell: str) -> None:
    answer = invoke("completion", shell)
    assert answer.code == 0
    assert "_NUVOM_COMPLETE" in answer.out
    assert f"{shell}_complete" in answer.out
    data = invoke("completion", shell, "--json").json
    assert data["script"].strip() == answer.out.strip()
    assert data["install"]


def test_another_shell_is_refused() -> None:
    assert invoke("completion", "tcsh").code == 2


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_takes_the_script() -> None:
    script = invoke("completion", "bash").out
    done = subprocess.run(["bash", "-n"], input=script.encode(), check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(shutil.which("pwsh") is None, reason="no PowerShell here")
def test_powershell_takes_the_script() -> None:
    script = invoke("completion", "powershell").out
    done = subprocess.run(
        ["pwsh", "-NoProfile", "-Command", script], check=False, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_commands_and_options_are_offered(tmp_path: Path) -> None:
    assert offered(incomplete="qu", cwd=tmp_path) == ["queues"]
    assert offered("queues", incomplete="pu", cwd=tmp_path) == ["purge"]
    assert "--burst" in offered("runworker", incomplete="--b", cwd=tmp_path)
    assert offered("history", "recent", "--status", incomplete="PEN", cwd=tmp_path) == ["PENDING"]


def test_names_of_the_project_are_offered(tasks: Path) -> None:
    job = run("add", "1", "2")
    run("send", "bob")
    assert offered("run", incomplete="tasks.s", cwd=tasks) == [
        "tasks.send",
        "tasks.signal_and_wait",
    ]
    assert offered("run", incomplete="se", cwd=tasks) == ["send"]
    assert offered("queues", "pause", incomplete="m", cwd=tasks) == ["mail"]
    assert offered("status", incomplete=job[-8:-4], cwd=tasks) == [job[-8:]]
    assert offered("status", incomplete=job[:30], cwd=tasks) == [job]
    assert offered("config", "explain", incomplete="max_w", cwd=tasks) == ["max_workers"]
    (tasks / ".nuvom_plugins.toml").write_text('[plugins]\nmonitoring = ["plug:Plug"]\n')
    (tasks / ".nuvom_plugins.toml").chmod(0o600)
    assert offered("plugin", "inspect", incomplete="pl", cwd=tasks) == ["plug"]
    assert offered("errors", "show", incomplete="x", cwd=tasks) == []
    assert offered("workers", "stop", incomplete="x", cwd=tasks) == []


def test_where_there_is_nothing_nothing_is_offered_and_nothing_made(tmp_path: Path) -> None:
    for words in (["run"], ["status"], ["queues", "pause"], ["plugin", "test"], ["errors", "show"]):
        assert offered(*words, cwd=tmp_path) == []
    assert [] == list(tmp_path.iterdir())


def test_an_empty_project_stays_empty(project: Path) -> None:
    before = sorted(project.rglob("*"))
    assert offered("status", cwd=project) == []
    assert before == sorted(project.rglob("*"))


def test_a_broken_set_up_is_nobodys_error(project: Path) -> None:
    (project / "nuvom.toml").write_text("[[[")
    assert offered("run", cwd=project) == []


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the values take longer than a shell waits."""
    end = threading.Event()

    class Slow:
        @staticmethod
        def tasks(*_: object) -> list[tuple[str, str]]:
            end.wait(60)
            return [("late", "")]

    monkeypatch.setattr(completion, "import_module", lambda _: Slow)
    yield
    end.set()


def test_a_slow_store_is_not_waited_for(slow: None) -> None:
    context = cli.make_context("nuvom", ["version"], resilient_parsing=True)
    assert completion.tasks(context, cli.params[0], "") == []


def test_notes_stay_on_one_line(tasks: Path) -> None:
    invoke("discover", "tasks")
    answer = call(
        cwd=tasks,
        _NUVOM_COMPLETE="powershell_complete",
        COMP_WORDS="nuvom run tasks.a",
        COMP_WORD="tasks.a",
    )
    assert answer.out == "tasks.add\tAdd two numbers.\n"
