"""R11, F12: many processes and threads at one file, and one that locks them all out."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.testing import history
from tests.engine import LIMIT_SECS
from tests.reliability.site import Site, wait_for


def lock_out(site: Site, secs: float) -> float:
    """Hold the file's write lock; return when it was let go (monotonic seconds)."""
    outsider = sqlite3.connect(site.root / ".nuvom" / "nuvom.db", timeout=30, isolation_level=None)
    try:
        outsider.execute("BEGIN EXCLUSIVE")
        SYSTEM_CLOCK.sleep(secs)
        outsider.execute("ROLLBACK")
    finally:
        outsider.close()
    return SYSTEM_CLOCK.monotonic()


def prove(
    site: Site, figures: Callable[[str], None], *, processes: int, secs: float, locked_secs: float
) -> None:
    """Let half of the processes enqueue and half of them work, and lock them out for a while."""
    with (
        site.open() as runtime,
        site.crew(processes // 2, "supply", threads=4),
        site.crew(processes // 2, threads=4),
    ):
        SYSTEM_CLOCK.sleep((secs - locked_secs) / 2)
        freed_at = lock_out(site, locked_secs)
        wait_for(lambda: bool(finished_after(site, freed_at)), LIMIT_SECS, "nothing goes on")
        recovery = finished_after(site, freed_at)[0] - freed_at
        SYSTEM_CLOCK.sleep((secs - locked_secs) / 2)
    site.drain(runtime)
    raised, findings = site.events("raised"), site.findings(runtime)
    jobs, starts = len(site.events(history.ENQUEUE_OK)), len(site.events(history.START))
    figures(
        f"{processes} processes of 4 threads, {secs} s, locked out for {locked_secs} s: {jobs} "
        f"jobs, {starts} starts, {len(raised)} raised, {len(findings.unexplained_starts)} false "
        f"reaps, first finish {recovery:.2f} s after the lock"
    )
    assert not raised, raised[:3]
    assert findings.is_valid, findings
    assert starts == len(site.snapshots(runtime))
    assert recovery <= 2.0
    site.assert_sound(runtime)


def finished_after(site: Site, moment: float) -> list[float]:
    return [one["at"] for one in site.events(history.FINISH_OK) if one["at"] > moment]


def test_f12_a_lock_that_outlives_the_lease_reaches_no_user_and_costs_no_job(
    tmp_path: Path, figures: Callable[[str], None]
) -> None:
    site = Site(tmp_path, settings={"lease_secs": 1.0})
    prove(site, figures, processes=4, secs=4, locked_secs=2.5)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_r11_a_lock_storm_of_a_minute_reaches_no_user_and_costs_no_job(
    tmp_path: Path, figures: Callable[[str], None]
) -> None:
    prove(Site(tmp_path), figures, processes=8, secs=60, locked_secs=30)
