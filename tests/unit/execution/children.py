"""Children for tests: real processes that run a line of Python in place of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.core.record import JobRecord
from nuvom.execution import child_process
from nuvom.execution.attempts import OpenAttempt
from nuvom.execution.child_process import ChildProcess
from nuvom.execution.frames import Hello

SLEEP = "import time; time.sleep(60)"
"""A child that hears nothing, says nothing and does not leave."""

LISTEN = "import sys; sys.stdin.buffer.read()"
"""A child that says nothing, and leaves when it is told to."""


class Child(ChildProcess):
    """A child that knows whether its threads run: they alone close its pipes then."""

    has_talked = False

    def talk(self) -> None:
        self.has_talked = True
        super().talk()


class Nest:
    """Makes children and ends those that a test has left.

    Attributes:
        heard, gone, crashes: What the children's callbacks were called with.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, clock: Clock = SYSTEM_CLOCK) -> None:
        self._monkeypatch = monkeypatch
        self._clock = clock
        self.children: list[Child] = []
        self.heard: list[object] = []
        self.gone: list[tuple[ChildProcess, str]] = []
        self.crashes: list[BaseException] = []
        self.on_gone: Callable[[ChildProcess, str], None] = lambda child, how: None
        self.program(SLEEP)

    def program(self, text: str) -> None:
        """Let the next children run this."""
        self._monkeypatch.setattr(child_process, "CHILD_PROGRAM", text)

    def child(self, **hello: Any) -> Child:
        """Start a child; it talks only when it is told to."""
        child = Child(
            Hello({}, "worker", **hello),
            clock=self._clock,
            hear=lambda _, frame: self.heard.append(frame),
            gone=self._note_gone,
            crashed=self.crashes.append,
        )
        self.children.append(child)
        return child

    def _note_gone(self, child: ChildProcess, how: str) -> None:
        self.on_gone(child, how)
        self.gone.append((child, how))

    def end(self) -> None:
        """Kill all that still run, and let go of their pipes."""
        for child in self.children:
            child.kill()
            if not child.has_talked:
                child.process.wait()
                child._link.close_sink()
                child._link.close_source()


@contextmanager
def nest(monkeypatch: pytest.MonkeyPatch, clock: Clock = SYSTEM_CLOCK) -> Iterator[Nest]:
    found = Nest(monkeypatch, clock)
    try:
        yield found
    finally:
        found.end()


def make_work(job_id: str = "job") -> OpenAttempt:
    """Return an attempt of no task in particular."""
    nobody: Any = None
    return OpenAttempt(JobRecord(job_id, "tasks.f"), "worker", nobody, 0.0)
