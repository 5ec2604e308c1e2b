"""R01, R02: workers and producers are killed at random, and nothing is lost or done twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nuvom.testing.torture import Storm, TortureReport

FREEZES = {"kill": 1, "freeze": 8, "term": 1, "producer-kill": 1}


def show(figures: Callable[[str], None], report: TortureReport) -> None:
    found = ", ".join(f"{name} {count}" for name, count in report.findings.counts().items())
    figures(
        f"seed {report.seed}, {report.secs} s: {report.jobs} jobs, {report.starts} starts, of "
        f"which the faults repeated {report.repeats.cut_short} runs (at most "
        f"{report.most_cut_short}), {report.repeats.uncommitted} that had ended and were being "
        f"committed, {report.repeats.thawed} after a thaw; {report.kills} kills of workers, "
        f"{report.producer_kills} of producers, {report.freezes} freezes, {report.terms} stops, "
        f"{report.fenced} fenced; "
        f"{found}; crashes {report.crashes}; integrity {report.integrity}"
    )


def prove(figures: Callable[[str], None], storm: Storm, *, jobs: int, kills: int) -> None:
    report = storm.run()
    show(figures, report)
    assert report.is_balanced, f"{report.to_dict()}\n{errors_of(storm.root)}"
    assert report.jobs >= jobs
    assert report.kills >= kills


def errors_of(root: Path) -> str:
    return (root / "children.log").read_text(encoding="utf-8", errors="replace")[-5000:]


def at_length(*values: float, limit_secs: int) -> Any:
    """Return the numbers of the full count, which needs the machine for itself."""
    marks = (pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(limit_secs))
    return pytest.param(*values, marks=marks)


@pytest.mark.parametrize(
    ("secs", "kills", "jobs"), [(12, 30, 1000), at_length(80, 200, 5000, limit_secs=420)]
)
def test_r01_a_kill_storm_on_sqlite_balances(
    tmp_path: Path, seed: int, figures: Callable[[str], None], *, secs: int, kills: int, jobs: int
) -> None:
    storm = Storm(tmp_path, secs=secs, seed=seed, kills=kills, least_jobs=jobs)
    prove(figures, storm, jobs=jobs, kills=kills)


@pytest.mark.parametrize(
    ("secs", "kills", "jobs"), [(6, 5, 100), at_length(25, 60, 1000, limit_secs=300)]
)
def test_r02_a_kill_storm_on_files_balances(
    tmp_path: Path, seed: int, figures: Callable[[str], None], *, secs: int, kills: int, jobs: int
) -> None:
    storm = Storm(tmp_path, backend="file", secs=secs, seed=seed, kills=kills, least_jobs=jobs)
    prove(figures, storm, jobs=jobs, kills=kills)


def test_r05_a_storm_of_freezes_balances(
    tmp_path: Path, seed: int, figures: Callable[[str], None]
) -> None:
    storm = Storm(tmp_path, secs=5, seed=seed, faults=FREEZES, least_jobs=100)
    prove(figures, storm, jobs=100, kills=0)
