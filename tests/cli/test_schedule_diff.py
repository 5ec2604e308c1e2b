"""``nuvom schedule diff``: it shows what the next scheduler does, which then does just that."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nuvom.config.sources import load
from nuvom.runtime import build_runtime
from nuvom.scheduler.schedule import store_of
from nuvom.scheduler.store import all_records
from tests.cli.shell import LIMIT_SECS, call, invoke, spawn
from tests.cli.test_worker import read_until

BEFORE = """
from nuvom import task
@task(schedule="0 9 * * MON-FRI", timezone_name="Europe/Berlin")
def kept(): ...
@task(schedule=6000)
def changed(): ...
@task(schedule="@yearly")
def removed(): ...
"""
AFTER = """
from nuvom import task
@task(schedule="0 9 * * MON-FRI", timezone_name="Europe/Berlin")
def kept(): ...
@task(schedule=9000)
def changed(): ...
@task(schedule="@monthly")
def added(): ...
"""
TABLE = '[schedules.nightly]\ntask = "tasks.kept"\ncron = "0 3 1 1 *"\n'
PARTS = ("added", "changed", "enabled", "disabled")


def names(data: dict[str, Any]) -> dict[str, list[str]]:
    return {part: [one["name"] for one in data[part]] for part in PARTS}


def start(root: Path) -> subprocess.Popen[str]:
    """Start a worker, which runs a scheduler."""
    return spawn("runworker", "--log-format", "json", cwd=root)


def reconciled(worker: subprocess.Popen[str]) -> dict[str, list[str]]:
    """Return what the log of a worker says that its scheduler did."""
    line = read_until(worker, "schedule.reconciled").splitlines()[-1]
    data = json.loads(line)
    return {part: data[part] for part in PARTS}


def states(root: Path) -> dict[str, str]:
    runtime = build_runtime(load(root))
    try:
        return {one.name: one.state for one in all_records(store_of(runtime))}
    finally:
        runtime.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="ends a worker by a signal")
def test_a_worker_started_with_edited_code_does_what_the_difference_said(project: Path) -> None:
    (project / "nuvom.toml").write_text(TABLE)
    (project / "tasks.py").write_text(BEFORE)
    shown = call("schedule", "diff", "--json", cwd=project)
    assert 7 == shown.code
    first = start(project)
    assert names(shown.json) == reconciled(first)
    assert 0 == call("schedule", "diff", cwd=project).code
    (project / "tasks.py").write_text(AFTER)
    shown = call("schedule", "diff", "--json", cwd=project)
    (gone,) = shown.json["disabled"]
    assert gone["waits_for"], "the worker still runs the code that declares it"
    first.terminate()
    first.wait(LIMIT_SECS)
    shown = call("schedule", "diff", "--json", cwd=project)
    assert 7 == shown.code
    assert {
        "added": ["tasks.added"],
        "changed": ["tasks.changed"],
        "enabled": [],
        "disabled": ["tasks.removed"],
    } == names(shown.json)
    (changed,) = shown.json["changed"]
    assert [{"name": "interval", "before": 6000.0, "after": 9000.0}] == changed["fields"]
    assert names(shown.json) == reconciled(start(project))
    assert {
        "nightly": "active",
        "tasks.added": "active",
        "tasks.changed": "active",
        "tasks.kept": "active",
        "tasks.removed": "disabled",
    } == states(project)
    assert 0 == call("schedule", "diff", cwd=project).code


def test_the_difference_is_for_people_too_and_looking_changes_nothing(project: Path) -> None:
    (project / "nuvom.toml").write_text(TABLE)
    (project / "tasks.py").write_text(BEFORE + "@task(schedule=when())\ndef unclear(): ...\n")
    before = sorted(project.rglob("*"))
    answer = invoke("schedule", "diff")
    assert 7 == answer.code
    assert "+ nightly  tasks.kept at 03:00 on January 1 (UTC)" in answer.out
    assert "+ tasks.changed  tasks.changed every 100 min" in answer.out
    assert '"tasks.unclear" cannot be followed (tasks.py:10): its schedule can only' in answer.err
    assert "4 schedules: 4 added." in answer.err
    assert [] == [path for path in project.rglob("*.db") if path not in before]
    assert {} == states(project)


def test_a_wrong_table_is_refused_with_its_name_and_its_line(project: Path) -> None:
    (project / "nuvom.toml").write_text(TABLE.replace("0 3 1 1 *", "0 25 1 1 *"))
    for code, command in ((4, ("schedule", "diff")), (7, ("config", "check"))):
        answer = invoke(*command)
        assert code == answer.code
        assert "The setting schedules.nightly.cron cannot be '0 25 1 1 *'" in answer.err
        assert "nuvom.toml, line 1" in answer.err
        assert "    0 25 1 1 *\n      ^^ column 3" in answer.err
    (below,) = (line for line in invoke("doctor").out.splitlines() if "column 3" in line)
    assert below.startswith(" " * len("fail settings  ") + "      ^^")


def test_in_production_only_the_manifest_counts(project: Path) -> None:
    (project / "nuvom.toml").write_text('environment = "prod"\n')
    (project / "tasks.py").write_text(BEFORE)
    answer = invoke("schedule", "diff")
    assert 7 == answer.code
    assert "There is no manifest" in answer.err
    invoke("discover", "tasks")
    assert 3 == len(invoke("schedule", "diff", "--json").json["added"])
    (project / "tasks.py").write_text(AFTER)
    assert "tasks.removed" in invoke("schedule", "diff").out
