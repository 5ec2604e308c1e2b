"""``demo``: the tour ends as it should, wherever it is shown, and leaves nothing behind."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from nuvom.cli import demo
from nuvom.cli.demo import Expected
from nuvom.core.record import JobStatus
from nuvom.scheduler.schedule import Schedule
from tests.cli.shell import call, invoke


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tour's long jobs be short where it runs in this process."""
    monkeypatch.setattr(demo, "CRUNCHES", (0.1, 0.1, 0.1, 0.1))
    monkeypatch.setattr(demo, "DELAY_SECS", 0.3)
    monkeypatch.setattr(demo, "FIRE_SECS", 0.5)


def test_the_tour_is_the_smoke_test(tmp_path: Path) -> None:
    answer = call("demo", "--json", cwd=tmp_path)
    assert answer.code == 0, answer.err
    data = answer.json
    assert data["schema"] == "nuvom.demo/1"
    assert data["ok"]
    assert Counter(job["status"] for job in data["jobs"]) == {"SUCCESS": 26, "FAILED": 1}
    assert all(job["status"] == job["expected"] and job["ok"] for job in data["jobs"])
    (healed,) = [job for job in data["jobs"] if job["func_name"] == "demo.flaky"]
    assert healed["attempt"] == 2
    (broken,) = [job for job in data["jobs"] if job["status"] == "FAILED"]
    assert broken["error"] == {"type": "NoPaperError", "message": "the printer has no paper"}
    assert [] == list(tmp_path.iterdir())
    schedule = data["schedule"]
    assert (schedule["description"], schedule["expected"], schedule["fired"]) == ("every 1 s", 3, 3)
    fires = [job["schedule"] for job in data["jobs"] if job["func_name"] == "demo.tick"]
    assert [schedule["name"]] * 3 == fires


def test_the_tour_shows_each_job_and_what_to_do_next(tmp_path: Path) -> None:
    answer = invoke("demo")
    assert answer.code == 0
    assert (
        len(re.findall(r"^demo\.\w+ +(?:SUCCESS|FAILED) after attempt", answer.out, re.MULTILINE))
        == 27
    )
    assert answer.out.count("demo.tick SUCCESS after attempt 1, at a fire of demo-tick") == 3
    assert "24 jobs and 3 fires of a schedule ended as expected" in answer.out
    assert re.findall(r"^  nuvom (\w+)", answer.out, re.MULTILINE) == [
        "init",
        "dev",
        "run",
        "history",
    ]


def test_a_kept_tour_is_a_project_to_go_on_with(tmp_path: Path) -> None:
    answer = invoke("demo", "--keep", "my tour")
    root = tmp_path / "my tour"
    assert answer.code == 0
    assert f"cd '{root}'" in answer.out or f'cd "{root}"' in answer.out
    assert {"tasks.py", "nuvom.toml", ".nuvom"} <= {path.name for path in root.iterdir()}
    told = invoke("--project", root, "history", "--limit", "50", "--json").json
    assert len(told["jobs"]) == 27
    assert invoke("--project", root, "run", "add", "2", "3", "-q").code == 0


def test_the_tour_fails_where_a_job_ends_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = demo.enqueue

    def otherwise() -> list[Expected]:
        first, *rest = usual()
        return [first._replace(status=JobStatus.FAILED), *rest]

    monkeypatch.setattr(demo, "enqueue", otherwise)
    answer = invoke("demo")
    assert answer.code == 1
    assert "demo.square ended SUCCESS, expected FAILED" in answer.err


def test_the_tour_fails_where_its_schedule_fires_too_rarely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual = demo.start_schedule

    def paused(now: float) -> Schedule:
        schedule = usual(now)
        schedule.pause()
        return schedule

    monkeypatch.setattr(demo, "start_schedule", paused)
    monkeypatch.setattr(demo, "LIMIT_SECS", 3.0)
    answer = invoke("demo", "--json")
    assert (answer.code, answer.json["ok"], answer.json["schedule"]["fired"]) == (1, False, 0)
