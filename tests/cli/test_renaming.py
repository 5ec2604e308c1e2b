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
