"""``demo``: the tour ends as it should, wherever it is shown, and leaves nothing behind."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from nuvom.cli import demo
from nuvom.cli.demo import Expected
from nuvom.core.record import JobStatus
from tests.cli.shell import call, invoke


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tour's long jobs be short where it runs in this process."""
    monkeypatch.setattr(demo, "CRUNCHES", (0.1, 0.1, 0.1, 0.1))
    monkeypatch.setattr(demo, "DELAY_SECS", 0.3)


def test_the_tour_is_the_smoke_test(tmp_path: Path) -> None:
    answer = call("demo", "--json", cwd=tmp_path)
    assert answer.code == 0, answer.err
    data = answer.json
    assert data["schema"] == "nuvom.demo/1"
    assert data["ok"]
    assert Counter(job["status"] for job in data["jobs"]) == {"SUCCESS": 23, "FAILED": 1}
    assert all(job["status"] == job["expected"] and job["ok"] for job in data["jobs"])
    (healed,) = [job for job in data["jobs"] if job["func_name"] == "demo.flaky"]
    assert healed["attempt"] == 2
    (broken,) = [job for job in data["jobs"] if job["status"] == "FAILED"]
    assert broken["error"] == {"type": "NoPaperError", "message": "the printer has no paper"}
    assert [] == list(tmp_path.iterdir())


def test_the_tour_shows_each_job_and_what_to_do_next(tmp_path: Path) -> None:
    answer = invoke("demo")
    assert answer.code == 0
    assert (
        len(re.findall(r"^demo\.\w+ +(?:SUCCESS|FAILED) after attempt", answer.out, re.MULTILINE))
        == 24
    )
    assert "24 jobs ended as expected" in answer.out
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
    assert len(told["jobs"]) == 24
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
