"""What a scheduler's step costs does not depend on how many schedules there are.

Operations are counted, not time: Python calls, and on SQLite instructions and statements.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from nuvom.config.settings import Settings
from nuvom.queue_backends.file import FileJobQueue
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.scheduler import planner
from nuvom.scheduler.record import ScheduleRule
from nuvom.scheduler.service import Scheduler
from nuvom.testing.builders import make_job, make_schedule
from nuvom.testing.clock import FakeClock
from tests.benchmarks.calls import Counter
from tests.engine import make_runtime, with_backends

FEW, DUE = 1_000, 10
MOST_RATIO = 1.5
_QUEUES: dict[str, Any] = {"memory": MemoryJobQueue, "file": FileJobQueue, "sqlite": SQLiteJobQueue}


class Instructions:
    """Counts what SQLite does, on all connections that are opened from now on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps = 0
        self.statements: list[str] = []
        connect = sqlite3.connect

        def opened(*args: Any, **options: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*args, **options)
            connection.set_progress_handler(self._step, 1)
            connection.set_trace_callback(self.statements.append)
            return connection

        monkeypatch.setattr(sqlite3, "connect", opened)

    def _step(self) -> None:
        self.steps += 1


def ticks(backend: str, root: Path, count: int, counter: Instructions) -> tuple[int, int, int]:
    """Return what a step with ten due costs: Python calls, SQLite instructions, statements."""
    root.mkdir(exist_ok=True)
    clock = FakeClock()
    queue = _QUEUES[backend](Settings(root=root, durability="normal"), clock=clock)
    runtime = with_backends(make_runtime(root), queue)
    fill(queue.schedules(), clock.now(), count)
    scheduler = Scheduler(runtime)
    clock.advance(60)
    scheduler.step()  # opens what is opened once
    clock.advance(60)
    steps, statements = counter.steps, len(counter.statements)
    with Counter() as calls:
        scheduler.step()
    assert queue.qsize() == 2 * DUE
    runtime.stop()
    return calls.calls, counter.steps - steps, len(counter.statements) - statements


def fill(store: Any, now: float, count: int) -> None:
    """Store schedules, of which ten are due each minute and the others next year."""
    job = make_job().replace(id="", created_at=0.0)
    rules = [ScheduleRule(interval=60.0)] * DUE + [ScheduleRule(interval=3e7)] * (count - DUE)
    changes = [
        planner.created(make_schedule(f"s{number}", job=job, rule=rule), now)
        for number, rule in enumerate(rules)
    ]
    for first in range(0, count, 10_000):
        assert all(store.apply(changes[first : first + 10_000]))


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Instructions:
    return Instructions(monkeypatch)


@pytest.mark.parametrize("backend", _QUEUES)
@pytest.mark.parametrize("many", [20_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_many_times_the_schedules_cost_a_step_no_more(
    project: Path, counter: Instructions, record_property: Any, *, backend: str, many: int
) -> None:
    low = ticks(backend, project / "few", FEW, counter)
    high = ticks(backend, project / "many", many, counter)
    told = f"{backend}: a step with {DUE} due of {FEW} schedules: {low}; of {many}: {high}"
    record_property("figure", f"{told} (Python calls, SQLite instructions, statements)")
    assert all(more <= MOST_RATIO * less for less, more in zip(low, high, strict=True))
