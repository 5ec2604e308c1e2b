"""The kill storm balances on a sound store, and its victims are killed, frozen and stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nuvom.testing import history
from nuvom.testing.faults import Victim, can_freeze
from nuvom.testing.history import Findings, HistoryLog, Repeats, read_history
from nuvom.testing.torture import Storm, TortureReport


def test_the_ledger_of_a_small_storm_on_a_sound_store_balances(tmp_path: Path) -> None:
    told: list[str] = []
    storm = Storm(tmp_path, secs=1.5, seed=5, workers=2, threads=2, least_jobs=60, tell=told.append)
    report = storm.run()
    assert report.is_balanced, report.to_dict()
    assert report.jobs >= 60
    assert report.starts >= report.jobs
    assert report.kills + report.freezes + report.terms + report.producer_kills >= 3
    assert told[-1].startswith(f"{report.kills} kills")
    data = json.loads(json.dumps(report.to_dict()))
    assert (data["balanced"], data["findings"]["lost"], data["backend"]) == (True, 0, "sqlite")


def test_a_storm_that_is_over_before_the_first_job_does_not_balance(tmp_path: Path) -> None:
    report = Storm(tmp_path, secs=0, workers=1, producers=0).run()
    assert (report.jobs, report.drained, report.is_balanced) == (0, True, False)


@pytest.mark.parametrize(
    "broken",
    [
        TortureReport("x", 0, jobs=1, drained=False),
        TortureReport("x", 0, jobs=1, drained=True, crashes=1),
        TortureReport("x", 0, jobs=1, drained=True, integrity="row 3 missing from index"),
        TortureReport("x", 0, jobs=1, drained=True, repeats=Repeats(cut_short=3), most_cut_short=2),
        TortureReport("x", 0, jobs=1, drained=True, findings=Findings(lost=["a"])),
    ],
    ids=["not drained", "crashed", "damaged", "cut short too often", "lost"],
)
def test_a_report_with_anything_wrong_does_not_balance(broken: TortureReport) -> None:
    assert not broken.is_balanced


def victim_of(folder: Path) -> Victim:
    """Start a victim that is recorded, and wait until it runs."""
    log = HistoryLog(folder / "history.ndjson")
    victim = Victim("tests.unit.testing.sleeper", {}, folder=folder, log=log, talks=True)
    assert next(victim.said()) == "up"
    return victim


def test_a_kill_is_recorded_from_its_signal_to_the_end(tmp_path: Path) -> None:
    victim = victim_of(tmp_path)
    victim.kill()
    assert not victim.is_running
    (kill,) = read_history(tmp_path / "history.ndjson")
    assert (kill["event"], kill["pid"]) == (history.KILL, victim.pid)
    assert kill["over"] >= kill["at"]


@pytest.mark.skipif(not can_freeze, reason="this system cannot stop a process")
def test_a_freeze_lasts_until_a_thaw_or_a_kill(tmp_path: Path) -> None:
    victim, other = victim_of(tmp_path), victim_of(tmp_path)
    victim.freeze()
    victim.term()  # thaws it
    assert victim.wait(20)
    victim.close()
    other.freeze()
    other.kill()
    events = read_history(tmp_path / "history.ndjson")
    ended, killed = ([one for one in events if one["pid"] == each.pid] for each in (victim, other))
    assert [one["event"] for one in ended] == [history.FREEZE, history.TERM, history.THAW]
    assert ended[0]["at"] < ended[0]["over"] == ended[2]["at"]
    assert [one["event"] for one in killed] == [history.FREEZE, history.KILL]
    assert killed[0]["over"] == killed[1]["over"]


def test_a_victim_that_is_closed_while_it_runs_is_ended(tmp_path: Path) -> None:
    victim = victim_of(tmp_path)
    victim.close()
    assert not victim.is_running
