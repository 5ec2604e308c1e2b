"""What all commands share: help, common options, errors, exit codes, streams."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import click
import pytest

from nuvom import errors
from nuvom.cli.cli import COMMANDS, SECTIONS, cli, run
from nuvom.cli.commands.errors import error_entries
from nuvom.cli.context import Invocation
from nuvom.cli.exit_codes import exit_code_of
from nuvom.cli.processes import own_command
from tests.cli.shell import call, invoke
from tests.cli.shell import run as enqueue
from tools.reference import MEANINGS


def paths(group: click.Group, *before: str) -> list[tuple[str, ...]]:
    """Return the words of all commands, groups included."""
    context = click.Context(group)
    found: list[tuple[str, ...]] = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        found.append((*before, name))
        if isinstance(command, click.Group):
            found += paths(command, *before, name)
    return found


ALL = paths(cli)


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_explains_itself_and_takes_the_common_options(path: tuple[str, ...]) -> None:
    answer = invoke(*path, "--help")
    assert answer.code == 0
    assert answer.out.startswith(f"Usage: nuvom {' '.join(path)}")
    assert "--json" in answer.out
    assert max(map(len, answer.out.splitlines())) <= 80
    assert "..." not in answer.out.partition("\nCommands:")[2]  # where click cuts a sentence off


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["histroy"], 'Did you mean "history"?'),
        (["plugin", "zzz"], "There are: list, inspect, status, test, scaffold."),
        (["inspect"], "Missing argument 'ID'."),
    ],
    ids=str,
)
def test_a_word_like_no_command_says_what_there_is(
    words: list[str], told: str, project: Path
) -> None:
    answer = invoke(*words)
    assert (answer.code, answer.out) == (2, "")
    assert told in answer.err


def test_help_lists_each_command_once() -> None:
    listed = [name for section in SECTIONS.values() for name in section]
    assert sorted(COMMANDS) == sorted(listed)


def test_common_options_stand_before_or_after_the_command() -> None:
    for args in (("--json", "version"), ("version", "--json")):
        assert invoke(*args).json["schema"] == "nuvom.version/1"


def test_what_follows_two_dashes_is_no_option(tasks: Path) -> None:
    answer = invoke("run", "tasks.send", "--", "--json")
    assert (answer.code, answer.out.startswith("{")) == (0, False)


def test_a_group_without_a_command_shows_its_list(project: Path) -> None:
    assert invoke("queues", "--json").json["schema"] == "nuvom.queues/1"
    assert invoke("errors", "--limit", "3", "--json").json["schema"] == "nuvom.errors/1"


# ---- errors -----------------------------------------------------------------------------


def test_an_error_says_what_why_the_fix_and_where_to_read(project: Path) -> None:
    answer = invoke("status", "00000000")
    assert answer.code == 3
    assert answer.out == ""
    first, second, third = answer.err.splitlines()
    assert first == "Error: There is no job 00000000."
    assert second.startswith("Fix:   Check the id")
    assert third == "More:  nuvom explain JobNotFound"


def test_a_usage_error_with_json_is_an_object_too() -> None:
    answer = invoke("why", "--json")
    assert (answer.code, answer.err) == (2, "")
    assert answer.json == {
        "schema": "nuvom.error/1",
        "code": "Usage",
        "message": "Missing argument 'ID'.",
        "hint": "Read: nuvom why --help",
        "docs": "docs/errors.md#usage",
        "explain": "nuvom explain Usage",
        "exit": 2,
    }


def test_a_traceback_is_shown_with_debug_alone(project: Path) -> None:
    assert "Traceback" not in invoke("status", "00000000").err
    assert "Traceback" in invoke("status", "00000000", "--debug").err


def test_every_error_has_an_exit_code_with_a_meaning() -> None:
    waiting = [errors.NuvomError]
    while waiting:
        cls = waiting.pop()
        waiting += cls.__subclasses__()
        assert exit_code_of(cls) in MEANINGS


def ended_by(error: BaseException) -> int:
    def action() -> None:
        raise error

    return run(Invocation(), action)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), PermissionError(13, "denied")], ids=repr)
def test_an_unforeseen_error_is_exit_1_and_one_sentence(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended_by(error) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert f"{type(error).__name__}: {error}" in told.err
    assert "--debug" in told.err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort(), EOFError()], ids=repr)
def test_ctrl_c_is_exit_130_without_a_word(
    error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended_by(error) == 130
    assert capsys.readouterr() == ("", "")


# ---- streams ----------------------------------------------------------------------------


def test_a_reader_who_has_seen_enough_is_no_error() -> None:
    first = subprocess.Popen(
        own_command("completion", "bash"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert first.stdout is not None
    assert first.stderr is not None
    first.stdout.close()  # before it has written anything
    err = first.stderr.read()
    assert first.wait(60) == 0
    first.stderr.close()
    assert err == b""


def test_no_encoding_raises_over_a_character(tasks: Path) -> None:
    (tasks / "tasks.py").write_text(
        'from nuvom import task\n@task\ndef grüße(name: str = "✓ 日本") -> None: ...\n',
        encoding="utf-8",
    )
    assert invoke("discover", "tasks", encoding="cp1252").code == 0
    answer = invoke("list", "tasks", encoding="cp1252")
    assert (answer.code, "\\u2713" in answer.out, "─" in answer.out) == (0, True, False)


def test_colour_is_for_terminals(tasks: Path) -> None:
    assert "\x1b[" in invoke("discover", "tasks", terminal=True).out
    invoke("run", "add", "1", "2")
    assert "\x1b[" not in invoke("history").out
    assert "\x1b[" in invoke("history", "--color", "always").out
    assert "\x1b[" not in invoke("history", "--color", "never", terminal=True).out


def test_the_next_step_is_told_to_people_only(tasks: Path) -> None:
    assert "Next:" in invoke("discover", "tasks", terminal=True).err
    assert "Next:" not in invoke("discover", "tasks").err
    assert "Next:" not in invoke("discover", "tasks", "-q", terminal=True).err
    assert "Next:" not in invoke("discover", "tasks", "--json", terminal=True).err


def test_a_store_of_another_program_is_exit_5_and_named(tasks: Path) -> None:
    (tasks / ".nuvom" / "nuvom.db").write_bytes(b"neither SQLite nor ours, but long " * 50)
    for command in (["history", "recent"], ["run", "add", "1", "2"]):
        answer = invoke(*command)
        assert (answer.code, "nuvom.db" in answer.err) == (5, True), answer.err


@pytest.mark.parametrize("command", ["inspect", "retry"])
def test_a_command_on_jobs_may_be_left_out(tasks: Path, command: str) -> None:
    job = enqueue("boom")
    assert call("runworker", "--burst", "-q", cwd=tasks).code == 0
    assert invoke(command, job).code == 0
    assert "ID" in invoke(command).err


def test_what_people_type_first_is_understood(tasks: Path) -> None:
    assert invoke("-V").out == invoke("--version").out
    assert invoke("help").out == invoke("--help").out
    assert invoke("help", "retry", "job").out == invoke("retry", "job", "--help").out
    assert invoke("discover").code == 0
    assert invoke("tasks").out == invoke("list", "tasks").out


def test_errors_are_explained_without_a_project_or_the_documentation(tmp_path: Path) -> None:
    told = invoke("explain", "jobtimeout")
    assert told.code == 0
    assert "waiting {waited_secs:g} s" in told.out
    assert "`nuvom why ID` says why the job does not run" in told.out
    for entry in error_entries():
        data = invoke("explain", entry.name, "--json").json
        assert data["meaning"]
        assert not re.fullmatch(r"\{\w+\}", data["fix"]), f"the fix of {entry.name} says nothing"
    unknown = invoke("explain", "JobTimout")
    assert unknown.code == 2
    assert 'Did you mean "JobTimeout"' in unknown.err
    assert [] == list(tmp_path.iterdir())
