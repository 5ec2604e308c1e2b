"""Commands that take long say how far they are, to people only."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nuvom.cli.commands.run import teller_of_job
from nuvom.cli.processes import own_command
from nuvom.core.record import JobSnapshot
from nuvom.logs.progress import ProgressDisplay
from nuvom.testing import FakeClock
from nuvom.testing.builders import make_job
from tests.cli.shell import LIMIT_SECS, invoke, run

COPY = ("copy", "--from", "sqlite:.nuvom/nuvom.db", "--to", "file:other")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show a bar without waiting for work that takes long."""
    monkeypatch.setattr("nuvom.logs.progress._BAR_AFTER_SECS", 0.0)
    monkeypatch.setattr("nuvom.logs.progress._DRAW_SECS", 0.0)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("wait", "JOBS"), "2 of 2 jobs"),
        (("prune", "--older-than", "0", "--yes"), "2 of 2 jobs"),
        (("discover", "tasks"), "1 of 1 files"),
        ((*COPY, "--results"), "2 of 2 jobs"),
        ((*COPY, "--results", "--dry-run"), "2 of 2 jobs"),
        (("export", "--results", "jobs.jsonl"), "2 jobs"),
        (("import", "jobs.jsonl"), "2 lines"),
    ],
    ids=lambda one: " ".join(one[:1]) if isinstance(one, tuple) else "",
)
def test_long_work_shows_a_bar_on_a_terminal_and_not_to_programs(
    tasks: Path, drain: Callable[[], None], command: tuple[str, ...], said: str
) -> None:
    jobs = [run("tasks.add", 1, number) for number in range(2)]
    drain()
    invoke("export", "--results", "jobs.jsonl")
    args = [one for word in command for one in (jobs if word == "JOBS" else [word])]
    for option in ("--json", "--quiet"):
        if command[0] != "prune":  # nothing would be left
            assert said not in invoke(*args, option, terminal=True).err
    (tasks / "tasks.py").touch()
    answer = invoke(*args, terminal=True)
    assert said in answer.err
    assert said not in answer.out


def test_one_job_tells_what_its_task_reports() -> None:
    stream, clock = io.StringIO(), FakeClock()
    shown = ProgressDisplay("Waiting", stream=stream, clock=clock)
    tell, record = teller_of_job(shown, clock), make_job()
    for progress in (None, (3.0, 10.0, "crunching")):
        clock.advance(10)
        tell(JobSnapshot(record=record, progress=progress))
    assert stream.getvalue().splitlines() == [
        "Waiting: PENDING (10 s so far)",
        "Waiting: 3 of 10, crunching, about 47 s left (20 s so far)",
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_burst_tells_how_far_it_is(tasks: Path) -> None:
    run("signal_and_wait", tasks / "started", tasks / "end")
    run("tasks.add", 1, 2)
    run("tasks.add", 1, 3)
    screen, terminal = os.openpty()
    worker = subprocess.Popen(
        own_command("runworker", "--burst", "--threads", "2"),
        cwd=tasks,
        stderr=terminal,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(terminal)
    seen = ""
    try:
        while "2 of 3 jobs" not in seen:
            seen += os.read(screen, 1000).decode()
        (tasks / "end").touch()
        while "Worker ended (burst) after 3 jobs" not in seen:
            seen += os.read(screen, 1000).decode()
        assert worker.wait(LIMIT_SECS) == 0
    finally:
        worker.kill()
        os.close(screen)
