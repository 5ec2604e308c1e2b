"""Completion: what each shell is offered, and that it never makes a store or shows an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from nuvom.cli.commands.shell import SHELLS
from tests.cli.shell import Answer, call, invoke, run


def offered(*words: str, incomplete: str = "") -> list[str]:
    """Return what PowerShell would be offered after these words."""
    rows = ask(*words, incomplete=incomplete).rows
    return [row[0] for row in rows if row[0]]


def ask(*words: str, incomplete: str = "") -> Answer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_NUVOM_COMPLETE", "powershell_complete")
        patch.setenv("COMP_WORDS", " ".join(["nuvom", *words, incomplete]))
        patch.setenv("COMP_WORD", incomplete)
        answer = invoke()
    assert (answer.code, answer.err) == (0, "")
    return answer


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_a_script(shell: str) -> None:
    answer = invoke("completion", shell)
    assert answer.code == 0
    assert "_NUVOM_COMPLETE" in answer.out
    assert f"{shell}_complete" in answer.out
    data = invoke("completion", shell, "--json").json
    assert data["script"].strip() == answer.out.strip()
    assert data["install"]


def test_commands_and_options_are_offered(tmp_path: Path) -> None:
    assert offered(incomplete="qu") == ["queues"]
    assert offered("queues", incomplete="pu") == ["purge"]
    assert "--burst" in offered("runworker", incomplete="--b")
    assert offered("history", "recent", "--status", incomplete="PEN") == ["PENDING"]


def test_names_of_the_project_are_offered(tasks: Path) -> None:
    job = run("add", "1", "2")
    run("send", "bob")
    assert offered("run", incomplete="tasks.s") == [
        "tasks.send",
        "tasks.signal_and_wait",
    ]
    assert offered("run", incomplete="se") == ["send"]
    assert offered("queues", "pause", incomplete="m") == ["mail"]
    assert offered("status", incomplete=job[-8:-4]) == [job[-8:]]
    assert offered("status", incomplete=job[:30]) == [job]
    assert offered("config", "explain", incomplete="thr") == ["threads"]
    assert offered("explain", incomplete="jobt") == ["JobTimeout"]
    (tasks / ".nuvom_plugins.toml").write_text('[plugins]\nmonitoring = ["plug:Plug"]\n')
    (tasks / ".nuvom_plugins.toml").chmod(0o600)
    assert offered("plugin", "inspect", incomplete="pl") == ["plug"]
    assert offered("errors", "show", incomplete="x") == []
    assert offered("workers", "stop", incomplete="x") == []


def test_where_there_is_nothing_nothing_is_offered_and_nothing_made(tmp_path: Path) -> None:
    for words in (["run"], ["status"], ["queues", "pause"], ["plugin", "test"], ["errors", "show"]):
        assert offered(*words) == []
    assert [] == list(tmp_path.iterdir())


def test_a_broken_set_up_is_nobodys_error(project: Path) -> None:
    (project / "nuvom.toml").write_text("[[[")
    assert offered("run") == []


def test_a_process_that_only_completes_makes_no_file(tmp_path: Path) -> None:
    answer = call(
        cwd=tmp_path, _NUVOM_COMPLETE="bash_complete", COMP_WORDS="nuvom que", COMP_CWORD="1"
    )
    assert (answer.code, answer.out, answer.err) == (0, "plain,queues\n", "")
    assert [] == list(tmp_path.iterdir())
