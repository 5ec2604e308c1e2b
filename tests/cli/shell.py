"""Calls the command line for tests: in this process where it only shows, else in one of its own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from nuvom.cli.cli import main
from nuvom.cli.processes import own_command

ROOT = Path(__file__).resolve().parent.parent.parent
LIMIT_SECS = 60

spawned: list[subprocess.Popen[str]] = []
"""All that were started; what a failing test leaves behind is ended after it."""

TASKS = '''\
"""Tasks of a project under test."""

from pathlib import Path

from nuvom import task


@task
def add(x: int, y: int) -> int:
    """Add two numbers."""
    return x + y


@task(queue="mail", retries=2, retry_delay_secs=0)
def send(to: str, *, body: str = "hi", password: str = "") -> str:
    """Pretend to send."""
    return f"{to}: {body}"


@task
def boom(password: str = "") -> None:
    """Fail always."""
    raise ValueError("no paper")


@task
def signal_and_wait(started: str, end: str) -> str:
    """Say that it runs, then wait to be let go."""
    Path(started).touch()
    while not Path(end).exists():
        pass
    return "ended"
'''


class Answer(NamedTuple):
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        lines = self.out.strip().splitlines()
        assert len(lines) == 1, f"not one object alone: {self.out!r} {self.err!r}"
        data: dict[str, Any] = json.loads(lines[0])
        return data

    @property
    def rows(self) -> list[list[str]]:
        """The rows of a ``--plain`` table, the heading first."""
        return [line.split("\t") for line in self.out.splitlines()]


class Terminal(io.TextIOWrapper):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def stream(encoding: str = "utf-8", *, terminal: bool = False) -> io.TextIOWrapper:
    """Return a text stream over memory, as ``sys.stdout`` is one over a file."""
    cls = Terminal if terminal else io.TextIOWrapper
    return cls(io.BytesIO(), encoding=encoding, errors="strict", newline="\n")


def text_of(one: io.TextIOWrapper) -> str:
    """Return what was written to a stream."""
    one.flush()
    buffer = one.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode(one.encoding)


def invoke(*args: object, terminal: bool = False, encoding: str = "utf-8") -> Answer:
    """Run a command in this process."""
    out, err = stream(encoding, terminal=terminal), stream(encoding, terminal=terminal)
    code: Any = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main([str(arg) for arg in args])
        except SystemExit as end:
            code = end.code
    return Answer(int(code or 0), text_of(out), text_of(err))


def run(*words: object) -> str:
    """Enqueue a job and return its id."""
    answer = invoke("run", *words, "-q")
    assert answer.code == 0, answer.err
    return answer.out.strip()


def status(job: str) -> str:
    """Return the status of a job."""
    return invoke("status", job, "-f", "raw").out.strip()


def call(*args: object, cwd: Path | None = None, stdin: str = "", **env: str) -> Answer:
    """Run a command in a process of its own and wait for it."""
    done = subprocess.run(
        own_command(*map(str, args)),
        cwd=cwd,
        input=stdin.encode(),
        capture_output=True,
        check=False,
        timeout=LIMIT_SECS,
        env={**os.environ, **env},
    )
    encoding = env.get("PYTHONIOENCODING", "utf-8")
    out, err = done.stdout.decode(encoding), done.stderr.decode(encoding)
    return Answer(done.returncode, out.replace("\r\n", "\n"), err.replace("\r\n", "\n"))


def spawn(*args: object, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
    """Start a command in a process of its own; its streams are pipes of text."""
    process = subprocess.Popen(
        own_command(*map(str, args)),
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
    )
    spawned.append(process)
    return process


def end_spawned() -> None:
    """End what still runs; the workers of a supervisor end with it."""
    while spawned:
        process = spawned.pop()
        if process.poll() is None:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def python(program: str, *, cwd: Path | None = None, **env: str) -> Answer:
    """Run a program in a fresh interpreter that finds this package."""
    head = f"import sys; sys.path.append({str(ROOT)!r})\n"
    done = subprocess.run(
        [sys.executable, "-P", "-c", head + program],
        cwd=cwd,
        capture_output=True,
        check=False,
        timeout=LIMIT_SECS,
        text=True,
        env={**os.environ, **env},
    )
    return Answer(done.returncode, done.stdout, done.stderr)
