"""R11, F12: many processes and threads at one file, and one that locks them all out."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.testing import history
from tests.engine import LIMIT_SECS
from tests.reliability.workspace import Workspace, wait_for


def lock_out(workspace: Workspace, secs: float) -> float:
    """Hold the file's write lock; return when it was let go (monotonic seconds)."""
    outsider = sqlite3.connect(
        workspace.root / ".nuvom" / "nuvom.db", timeout=30, isolation_level=None
    )
    try:
        outsider.execute("BEGIN EXCLUSIVE")
        SYSTEM_CLOCK.sleep(secs)
        outsider.execute("ROLLBACK")
    finally:
        outsider.close()
    return SYSTEM_CLOCK.monotonic()


def prove(
    workspace: Workspace,
    figures: Callable[[str], None],
    *,
    processes: int,
    secs: float,
    locked_secs: float,
) -> None:
    """Let half of the processes enqueue and half of them work, and lock them out for a while."""
    with (
        workspace.open() as runtime,
        workspace.processes(processes // 2, "supply", threads=4),
        workspace.processes(processes // 2, threads=4),
    ):
        SYSTEM_CLOCK.sleep((secs - locked_secs) / 2)
        freed_at = lock_out(workspace, locked_secs)
        wait_for(lambda: bool(finished_after(workspace, freed_at)), LIMIT_SECS, "nothing goes on")
        recovery = finished_after(workspace, freed_at)[0] - freed_at
        SYSTEM_CLOCK.sleep((secs - locked_secs) / 2)
    workspace.drain(runtime)
    raised, findings = workspace.events("raised"), workspace.findings(runtime)
    jobs, starts = len(workspace.events(history.ENQUEUE_OK)), len(workspace.events(history.START))
    figures(
        f"{processes} processes of 4 threads, {secs} s, locked out for {locked_secs} s: {jobs} "
        f"jobs, {starts} starts, {len(raised)} raised, {len(findings.unexplained_starts)} false "
        f"reaps, first finish {recovery:.2f} s after the lock"
    )
    assert not raised, raised[:3]
    assert findings.is_valid, findings
    assert starts == len(workspace.snapshots(runtime))
    assert recovery <= 2.0
    workspace.assert_sound(runtime)


def finished_after(workspace: Workspace, moment: float) -> list[float]:
    return [one["at"] for one in workspace.events(history.FINISH_OK) if one["at"] > moment]


def test_f12_a_lock_that_outlives_the_lease_reaches_no_user_and_costs_no_job(
    tmp_path: Path, figures: Callable[[str], None]
) -> None:
    workspace = Workspace(tmp_path, settings={"lease_secs": 1.0})
    prove(workspace, figures, processes=4, secs=4, locked_secs=2.5)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_r11_a_lock_storm_of_a_minute_reaches_no_user_and_costs_no_job(
    tmp_path: Path, figures: Callable[[str], None]
) -> None:
    prove(Workspace(tmp_path), figures, processes=8, secs=60, locked_secs=30)
