"""Plays the snippets of one page, in order, in one folder, as a reader would.

- Python whose first line is ``# name.py`` is written to that file; so are TOML and the like.
- Other Python runs in one interpreter for the whole page, with the folder as its working one.
- ``bash`` is a list of commands, ``console`` shows commands after ``$`` and what they print,
  where ``...`` stands for anything. They are started without a shell, so that the pages are
  right on every system; ``nuvom`` and ``python`` are those that run the tests.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.docs.snippets import ROOT, Snippet

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERPRETER = Path(__file__).with_name("interpreter.py")
PROGRAMS = {
    "nuvom": [sys.executable, "-m", "nuvom"],
    "python": [sys.executable],
    "python3": [sys.executable],
}
ASSIGNMENT = re.compile(r"[A-Z_]+=\S*$")
ENDED_BY_US = (0, 130, 143, -signal.SIGTERM)
LIMIT_SECS = 90.0  # less than the limit of a test, so that the page and the line are told


class StoryFailed(AssertionError):  # noqa: N818  # named after what happened
    """A snippet does not do what its page says."""


class Story:
    """The folder of one page, its interpreter, and what it runs in the background."""

    def __init__(self, page: str, folder: Path) -> None:
        self.page = page
        self.folder = folder
        self._stack = ExitStack()
        self._interpreter: subprocess.Popen[str] | None = None
        self._env = dict(os.environ)
        paths = [str(ROOT), self._env.get("PYTHONPATH", "")]
        self._env |= {
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "PYTHONIOENCODING": "utf-8",
            "NO_COLOR": "1",
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def play(self, snippet: Snippet) -> None:
        """Do what a reader does with ``snippet``. Raises: StoryFailed."""
        if snippet.reason_not_to_run is not None:
            if not snippet.reason_not_to_run.strip():
                raise self._failed(snippet, "it is not run, and no reason is given")
            return
        if snippet.file_name is not None:
            path = self.folder / snippet.file_name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(snippet.text, encoding="utf-8")
            return
        player = getattr(self, f"_play_{snippet.language or 'text'}", None)
        if player is None:
            raise self._failed(snippet, f"nobody knows how to try a {snippet.language} snippet")
        player(snippet)

    # ---- languages ----------------------------------------------------------------------

    def _play_python(self, snippet: Snippet) -> None:
        interpreter = self._interpreter or self._start_interpreter()
        assert interpreter.stdin is not None
        assert interpreter.stdout is not None
        call = {"source": snippet.text, "name": self.page, "line": snippet.line}
        interpreter.stdin.write(json.dumps(call) + "\n")
        interpreter.stdin.flush()
        answer = interpreter.stdout.readline()
        error = json.loads(answer)["error"] if answer else "the interpreter ended"
        if error is not None:
            raise self._failed(snippet, error)

    def _play_bash(self, snippet: Snippet) -> None:
        for command in _commands(snippet.text.splitlines()):
            if snippet.is_background:
                self._stack.enter_context(self._in_background(snippet, command))
            else:
                self._run(snippet, command)

    def _play_console(self, snippet: Snippet) -> None:
        for part in re.split(r"^\$ ", snippet.text, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            printed = self._run(snippet, command)
            if not matches(expected, printed):
                shown = f"$ {command}\nexpected:\n{expected}\nprinted:\n{printed}"
                raise self._failed(snippet, shown)

    def _play_toml(self, snippet: Snippet) -> None:
        tomllib.loads(snippet.text)

    def _play_json(self, snippet: Snippet) -> None:
        json.loads(snippet.text)

    def _play_text(self, snippet: Snippet) -> None:
        """A picture, or something to read."""

    _play_sql = _play_text

    # ---- processes ----------------------------------------------------------------------

    def _start_interpreter(self) -> subprocess.Popen[str]:
        self._interpreter = self._start([sys.executable, str(INTERPRETER)], stdin=subprocess.PIPE)
        self._stack.callback(_end, self._interpreter)
        return self._interpreter

    def _run(self, snippet: Snippet, command: str) -> str:
        env, program = _program(command)
        done = self._start(program, env=env, stderr=subprocess.PIPE)
        try:
            out, err = done.communicate(timeout=LIMIT_SECS)
        except subprocess.TimeoutExpired:
            done.kill()
            out, err = done.communicate()
            raise self._failed(snippet, f"{command} does not end\n{out}\n{err}") from None
        if done.returncode != snippet.exit_code:
            ended = f"{command}: exit code {done.returncode}, expected {snippet.exit_code}"
            raise self._failed(snippet, f"{ended}\n{out}\n{err}")
        return str(out)

    @contextmanager
    def _in_background(self, snippet: Snippet, command: str) -> Iterator[None]:
        env, program = _program(command)
        flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
        log = self.folder / "background.log"
        with log.open("w", encoding="utf-8") as stream:
            child = self._start(program, env=env, stdout=stream, stderr=stream, creationflags=flags)
        try:
            yield
        finally:
            ended_before = child.poll() is not None
            child.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM))
            _end(child)
        if ended_before or child.returncode not in ENDED_BY_US:
            text = log.read_text(encoding="utf-8")
            raise self._failed(snippet, f"{command}: exit code {child.returncode}\n{text}")

    def _start(
        self, program: list[str], *, env: dict[str, str] | None = None, **rest: Any
    ) -> subprocess.Popen[str]:
        rest.setdefault("stdout", subprocess.PIPE)
        rest.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen(
            program, cwd=self.folder, env=self._env | (env or {}), encoding="utf-8", **rest
        )

    def _failed(self, snippet: Snippet, why: str) -> StoryFailed:
        return StoryFailed(f"{self.page}, line {snippet.line}: {why}")


def matches(expected: str, printed: str) -> bool:
    """Return whether a text is as expected; ``...`` stands for anything, also for nothing."""
    parts = (re.escape(part.strip("\n")) for part in expected.strip().split("..."))
    return re.fullmatch(r"\s*" + ".*".join(parts) + r"\s*", printed, re.DOTALL) is not None


def _commands(lines: list[str]) -> list[str]:
    joined = "\n".join(lines).replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def _program(command: str) -> tuple[dict[str, str], list[str]]:
    """Return the environment and the program of a command line."""
    words = shlex.split(command, comments=True)
    env = {}
    while ASSIGNMENT.match(words[0]):
        name, _, value = words.pop(0).partition("=")
        env[name] = value
    if words[0] not in PROGRAMS:
        raise StoryFailed(f"{command}: only {', '.join(PROGRAMS)} can be tried on every system")
    return env, [*PROGRAMS[words[0]], *words[1:]]


def _end(child: subprocess.Popen[str]) -> None:
    if child.stdin is not None:
        child.stdin.close()
    try:
        child.wait(LIMIT_SECS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if child.stdout is not None:
        child.stdout.close()
