"""Tasks that were renamed, with jobs stored under their old names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.shell import invoke, run, status

TASK = """\
from nuvom import task


@task({options})
def {name}(x: int, secret: str = "") -> int:
    return x + 1
"""


def write(root: Path, name: str, options: str = "") -> None:
    """Define the one task of the module ``shop``."""
    (root / "shop.py").write_text(TASK.format(name=name, options=options))


# ---- aliases ----------------------------------------------------------------------------


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_jobs_run_under_a_former_name(
    tasks: Path, drain: Callable[[], None], isolation: str
) -> None:
    write(tasks, "old")
    parked, waiting = run("shop.old", 1, "secret=x"), run("shop.old", 2)
    write(tasks, "new")
    drain()
    assert (status(parked), status(waiting)) == ("PARKED", "PARKED")
    write(tasks, "new", f"aliases=['shop.old'], isolation='{isolation}'")
    assert invoke("discover", "tasks", "--check").code == 7
    late = run("shop.old", 3)  # the task's own name, by the alias
    drain()
    for job, task, result in ((parked, "old", 2), (waiting, "old", 3), (late, "new", 4)):
        shown = invoke("--json", "inspect", job).json
        assert (shown["func_name"], shown["result"]) == (f"shop.{task}", result)
    assert "***" in invoke("inspect", parked).out  # the signature is that of the task
    assert "shop.new (formerly shop.old)" in invoke("tasks").out
    (listed,) = [one for one in invoke("--json", "tasks").json["tasks"] if "new" in one["name"]]
    assert listed["options"]["aliases"] == ["shop.old"]


# ---- nuvom retry --as -------------------------------------------------------------------


def parked(root: Path, drain: Callable[[], None]) -> str:
    """Return a job that is PARKED, since its task is now named ``new``."""
    write(root, "old")
    job = run("shop.old", 1)
    write(root, "new")
    drain()
    assert status(job) == "PARKED"
    return job


def test_what_is_advised_for_a_renamed_task_can_be_typed(
    tasks: Path, drain: Callable[[], None]
) -> None:
    job = parked(tasks, drain)
    (advice,) = {invoke("--json", "why", job).json["reason"]["fix"]} & {
        one["fix"] for one in invoke("--json", "doctor").json["checks"]
    }
    assert 'aliases=["shop.old"]' in advice
    command = advice.rpartition("nuvom ")[2].split()
    assert command == ["retry", job, "--as", "shop.new"]
    new, again = invoke(*command), invoke(*command)
    assert (new.code, again.code) == (0, 0)
    assert new.out == again.out != f"{job}\n"
    drain()
    shown = invoke("--json", "inspect", new.out.strip()).json
    assert (shown["func_name"], shown["result"], shown["retried_from"]) == ("shop.new", 2, job)
    assert status(job) == "CANCELLED"
    assert len(invoke("--json", "history").json["jobs"]) == 2


def test_a_job_that_does_not_fit_the_other_task_stays_as_it_is(
    tasks: Path, drain: Callable[[], None]
) -> None:
    job = parked(tasks, drain)
    assert invoke("retry", job, "--as", "tasks.add").code == 2
    assert invoke("retry", job, "--as", "nosuch").code == 3
    assert status(job) == "PARKED"
    waiting = run("shop.new", 1)
    assert invoke("retry", waiting, "--as", "boom").code == 8


def test_all_jobs_of_a_former_name_run_as_another_task(
    tasks: Path, drain: Callable[[], None]
) -> None:
    jobs = [parked(tasks, drain), parked(tasks, drain)]
    answer = invoke("retry", "--task", "shop.old", "--as", "shop.new", "--json")
    assert answer.code == 0
    assert sorted(jobs) == sorted(one["retried_from"] for one in answer.json["jobs"])
    drain()
    assert ["SUCCESS", "SUCCESS"] == [status(one["id"]) for one in answer.json["jobs"]]
