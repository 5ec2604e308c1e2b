"""``queues`` and ``prune``: counts, pausing, and what is destroyed only with a yes."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.shell import Answer, Terminal, invoke, run


def queue(name: str) -> dict[str, object]:
    found = [one for one in invoke("queues", "--json").json["queues"] if one["queue"] == name]
    (one,) = found
    return dict(one)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Give a function that lets a person at a terminal type something."""

    def type_in(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", Terminal(io.BytesIO(text.encode())))

    return type_in


def at_terminal(*args: str) -> Answer:
    return invoke(*args, terminal=True)


def test_queues_are_counted_by_what_their_jobs_wait_for(
    tasks: Path, drain: Callable[[], None]
) -> None:
    run("boom")
    drain()
    run("add", "1", "2")
    run("add", "1", "2", "--in", "1h")
    run("send", "bob")
    counts = queue("default")
    assert (counts["ready"], counts["scheduled"], counts["failed"]) == (1, 1, 1)
    assert (counts["workers"], counts["paused_by"]) == (0, None)
    assert isinstance(counts["oldest_ready_secs"], float)
    assert queue("mail")["ready"] == 1
    heading, *rows = invoke("queues", "--plain").rows
    assert heading[:3] == ["queue", "ready", "later"]
    assert [row[:3] for row in rows] == [["default", "1", "1"], ["mail", "1", "0"]]


def test_a_paused_queue_starts_nothing_until_it_is_resumed(
    tasks: Path, drain: Callable[[], None]
) -> None:
    job = run("add", "1", "2")
    assert invoke("queues", "pause", "default").out == "Queue default: paused.\n"
    assert "@" in str(queue("default")["paused_by"])
    assert "yes" in invoke("queues").out
    drain()
    assert invoke("status", job).out == "PENDING\n"
    assert invoke("queues", "resume", "default", "--json").json["change"] == "resumed"
    assert invoke("queues", "resume", "default").out == "Queue default: was not paused.\n"
    drain()
    assert invoke("status", job).out == "SUCCESS\n"


def test_an_unknown_queue_is_not_found_and_the_nearest_named(tasks: Path) -> None:
    invoke("discover", "tasks")
    for command in ("pause", "resume", "purge"):
        answer = invoke("queues", command, "mial")
        assert answer.code == 3
        assert 'Did you mean "mail"?' in answer.err


def test_purge_needs_a_yes_where_nobody_can_be_asked(tasks: Path) -> None:
    job = run("add", "1", "2")
    answer = invoke("queues", "purge", "default")
    assert answer.code == 8
    assert "1 waiting job of queue default" in answer.err
    assert invoke("queues", "purge", "default", "--json").json["exit"] == 8
    assert invoke("queues", "purge", "default", "--dry-run").code == 0
    assert invoke("status", job).out == "PENDING\n"
    answer = invoke("queues", "purge", "default", "--yes", "--json")
    assert answer.json["removed"] == 1
    assert invoke("status", job).code == 3


def test_purge_asks_for_the_name_of_the_queue(tasks: Path, answers: Callable[[str], None]) -> None:
    job = run("add", "1", "2")
    answers("yes\n")
    assert at_terminal("queues", "purge", "default").code == 8
    assert invoke("status", job).out == "PENDING\n"
    answers("default\n")
    assert at_terminal("queues", "purge", "default").code == 0
    assert invoke("status", job).code == 3


def test_prune_removes_what_is_old_and_has_ended(tasks: Path, drain: Callable[[], None]) -> None:
    done, failed = run("add", "1", "2"), run("boom")
    drain()
    waiting = run("add", "1", "2")
    assert invoke("prune").out.startswith("0 jobs removed (SUCCESS over 7 d, others over 30 d")
    assert invoke("prune", "--older-than", "0s").code == 8
    assert "2 jobs would be removed" in invoke("prune", "--older-than", "0s", "--dry-run").out
    assert invoke("prune", "--older-than", "0s", "--yes", "--json").json["removed"] == 2
    assert [invoke("status", job).code for job in (done, failed, waiting)] == [3, 3, 0]
