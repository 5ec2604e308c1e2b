"""R14: seeded simulations of workers on virtual time, and faults that they find.

A failing seed is replayed, with its whole history, by the command that the failure prints.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nuvom.core.record import JobRecord
from nuvom.core.transitions import LostDelivery
from nuvom.execution.attempts import OpenAttempts
from nuvom.execution.maintenance import Maintenance
from nuvom.execution.worker_loop import WorkerLoop
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.queue_backends.rows import Holder, Row
from nuvom.queue_backends.table import Table
from tests.lab.simulation import simulate
from tests.lab.simulation.__main__ import main
from tests.lab.simulation.world import VirtualClock

PART = 125
PARTS = 4
SEEDS_AT_LENGTH = 10_000
SEEDS_FOR_A_FAULT = 300


def prove(figures: Callable[[str], None], first: int, seeds: int) -> None:
    jobs = starts = faults = 0
    slowest = 0.0
    for seed in range(first, first + seeds):
        report = simulate(seed)
        assert report.is_valid, (
            f"{report}\n{report.crash}\nto replay: python -m tests.lab.simulation --seed {seed}"
        )
        jobs, starts, faults = jobs + report.jobs, starts + report.starts, faults + report.faults
        slowest = max(slowest, report.drained_secs)
    figures(
        f"{seeds} seeds from {first}: {jobs} jobs, {starts} starts, {faults} faults; "
        f"drained at the latest {slowest:.1f} virtual seconds after them"
    )


@pytest.mark.parametrize("part", range(PARTS))
def test_r14_five_hundred_seeds_find_no_fault(figures: Callable[[str], None], part: int) -> None:
    prove(figures, part * PART, PART)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_r14_ten_thousand_seeds_find_no_fault(figures: Callable[[str], None], seed: int) -> None:
    prove(figures, 1_000_000 + seed, SEEDS_AT_LENGTH)


def test_r14_a_seed_gives_the_same_run_again() -> None:
    assert simulate(7).events == simulate(7).events
    assert simulate(7).events != simulate(8).events


def test_r14_a_seed_is_replayed_by_one_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == main(["--seed", "7"])
    told = capsys.readouterr().out
    assert str(simulate(7)) in told
    assert "enqueue-ok" in told
    assert 0 == main(["--seed", "7", "--seeds", "3"])
    assert "3 seeds, 0 with findings" in capsys.readouterr().out


# ---- what it finds --------------------------------------------------------------------------


def row_whatever_the_epoch(self: Table, before: JobRecord) -> Row | None:
    row = self.rows.get(before.id)
    return row if row is not None and row.record.status is before.status else None


def everything(self: MemoryJobQueue, owner: str, holder: Holder) -> list[LostDelivery]:
    return [LostDelivery(row.record, started=True) for row in holder.held.values()]


def nothing(*_: Any, **__: Any) -> None:
    """Forget to do it."""


def raises(*_: Any, **__: Any) -> Any:
    raise LookupError("a fault of the engine")


FAULTS: dict[str, tuple[Any, str, Any]] = {
    "the epoch is not looked at": (Table, "row_as", row_whatever_the_epoch),
    "the lease is not renewed": (Maintenance, "beat", nothing),
    "the living are reaped": (MemoryJobQueue, "lost_by", everything),
    "the dead are not reaped": (Maintenance, "reap", nothing),
    "the lost answer of a claim is forgotten": (OpenAttempts, "orphans", lambda *_: []),
    "a lease is measured by the wall clock": (VirtualClock, "monotonic", VirtualClock.now),
    "jobs wait for a task for ever": (MemoryJobQueue, "unpark", lambda *_: 0),
    "a lost lease is not noticed": (WorkerLoop, "may_start", lambda self, attempt: True),
    "the engine itself fails": (WorkerLoop, "lose", raises),
}


# Where a rare one shows: a worker has to be frozen while jobs that it claimed ahead wait.
FIRST_SEED = {"a lost lease is not noticed": 2700}


@pytest.mark.parametrize("fault", FAULTS)
def test_r14_a_fault_is_found_within_a_few_hundred_seeds(
    figures: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    place, name, broken = FAULTS[fault]
    monkeypatch.setattr(place, name, broken)
    first = FIRST_SEED.get(fault, 0)
    for seed in range(first, first + SEEDS_FOR_A_FAULT):
        report = simulate(seed)
        if not report.is_valid:
            figures(f"{fault}: found after {seed - first + 1} seeds, {report}")
            return
    pytest.fail(f"nothing found in {SEEDS_FOR_A_FAULT} seeds")
