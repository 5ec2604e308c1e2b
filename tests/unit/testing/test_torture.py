"""The kill storm balances on a sound store, and says so when a store loses or repeats jobs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nuvom.testing import history, torture_tasks
from nuvom.testing.faults import Victim, can_freeze
from nuvom.testing.history import Findings, HistoryLog, Repeats, read_history
from nuvom.testing.torture import Storm, TortureReport


@pytest.fixture(scope="module")
def storm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TortureReport, list[str]]:
    """Make one small storm for all tests of this module."""
    root = tmp_path_factory.mktemp("storm")
    told: list[str] = []
    small = Storm(root, secs=1.5, seed=5, workers=2, threads=2, jobs=60, tell=told.append)
    return root, small.run(), told


def test_the_ledger_of_a_sound_store_balances(
    storm: tuple[Path, TortureReport, list[str]],
) -> None:
    _, report, _ = storm
    assert report.is_balanced, report.to_dict()
    assert report.jobs >= 60
    assert report.starts >= report.jobs
    assert report.kills + report.freezes + report.terms + report.producer_kills >= 3
    assert report.secs >= 1.5


def test_faults_go_on_until_enough_jobs_were_accepted(tmp_path: Path) -> None:
    few = Storm(tmp_path, secs=0, seed=5, workers=1, producers=1, least_jobs=20, faults={"kill": 1})
    report = few.run()
    assert report.is_balanced, report.to_dict()
    assert report.jobs >= 20


def test_progress_is_told_after_each_fault(storm: tuple[Path, TortureReport, list[str]]) -> None:
    _, report, told = storm
    assert len(told) >= report.kills + report.freezes + report.terms
    assert told[-1].startswith(f"{report.kills} kills")


def test_the_report_is_plain_data(storm: tuple[Path, TortureReport, list[str]]) -> None:
    _, report, _ = storm
    data = json.loads(json.dumps(report.to_dict()))
    assert data["balanced"] is True
    assert data["findings"]["lost"] == 0
    assert data["backend"] == "sqlite"


@pytest.mark.parametrize(
    "broken",
    [
        TortureReport("x", 0, drained=False),
        TortureReport("x", 0, drained=True, crashes=1),
        TortureReport("x", 0, drained=True, integrity="row 3 missing from index"),
        TortureReport("x", 0, drained=True, repeats=Repeats(cut_short=3), most_cut_short=2),
        TortureReport("x", 0, drained=True, findings=Findings(lost=["a"])),
    ],
    ids=["not drained", "crashed", "damaged", "cut short too often", "lost"],
)
def test_a_report_with_anything_wrong_does_not_balance(broken: TortureReport) -> None:
    assert not broken.is_balanced
    assert broken.to_dict()["balanced"] is False


def test_a_victim_runs_until_it_is_killed_and_the_kill_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "history.ndjson"
    log = HistoryLog(path)
    victim = Victim("tests.unit.testing.sleeper", {}, folder=tmp_path, log=log, talks=True)
    assert next(victim.said()) == "up"
    assert victim.is_running
    victim.kill()
    victim.close()
    assert not victim.is_running
    (kill,) = read_history(path)
    assert (kill["event"], kill["pid"]) == (history.KILL, victim.pid)
    assert kill["over"] >= kill["at"]
    log.close()


@pytest.mark.skipif(not can_freeze, reason="this system cannot stop a process")
def test_a_frozen_victim_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "history.ndjson"
    log = HistoryLog(path)
    victim = Victim("tests.unit.testing.sleeper", {}, folder=tmp_path, log=log, talks=True)
    assert next(victim.said()) == "up"
    victim.freeze()
    victim.freeze()
    assert victim.is_frozen
    victim.term()
    assert not victim.is_frozen
    assert victim.wait(20)
    assert victim.process.returncode == 0
    victim.close()
    freeze, term, thaw = read_history(path)
    words = [one["event"] for one in (freeze, term, thaw)]
    assert words == [history.FREEZE, history.TERM, history.THAW]
    assert freeze["at"] < freeze["over"] == thaw["at"]
    log.close()


@pytest.mark.skipif(not can_freeze, reason="this system cannot stop a process")
def test_a_freeze_that_a_kill_ends_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "history.ndjson"
    log = HistoryLog(path)
    victim = Victim("tests.unit.testing.sleeper", {}, folder=tmp_path, log=log)
    victim.freeze()
    victim.kill()
    assert not victim.is_frozen
    freeze, kill = read_history(path)
    assert [freeze["event"], kill["event"]] == [history.FREEZE, history.KILL]
    assert freeze["over"] == kill["over"]
    log.close()


def test_a_victim_that_is_closed_while_it_runs_is_ended(tmp_path: Path) -> None:
    victim = Victim("tests.unit.testing.sleeper", {}, folder=tmp_path)
    assert not victim.wait(0)
    assert list(victim.said()) == []
    victim.close()
    assert not victim.is_running


def test_the_task_of_the_storm_returns_what_the_ledger_expects() -> None:
    assert torture_tasks.answer(20) == 41
