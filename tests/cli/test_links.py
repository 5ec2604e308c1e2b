"""Jobs that follow from others: ``inspect`` names each from the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.shell import invoke, run

FLOW = """\
from concurrent.futures import ThreadPoolExecutor

from nuvom import current_job, task


@task
def last(number: int) -> int:
    return number


def before() -> None:
    current_job().enqueue(last, 0)


@task(before_job=before, isolation="ISOLATION")
def first() -> list[str]:
    job = current_job()
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda number: job.enqueue(last, number), range(1, 41)))
"""


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_job_and_what_its_code_enqueues(
    tasks: Path, drain: Callable[[], None], isolation: str
) -> None:
    (tasks / "flow.py").write_text(FLOW.replace("ISOLATION", isolation))
    job = run("first")
    drain()
    seen = invoke("inspect", job, "--json").json
    children = [invoke("inspect", one, "--json").json for one in seen["children"]]
    assert sorted(one["result"] for one in children) == [*range(41)]
    assert {one["parent"] for one in children} == {job}
    assert set(seen["result"]) < set(seen["children"])
    assert f"parent {job}" in " ".join(invoke("inspect", seen["children"][0]).out.split())
    assert seen["children"][0] in invoke("inspect", job).out


def test_a_job_and_what_repeats_it(tasks: Path, drain: Callable[[], None]) -> None:
    job = run("boom")
    drain()
    repeats = [invoke("retry", job, "--as", name).out.strip() for name in ("boom", "fail", "boom")]
    assert repeats[0] == repeats[2]
    assert invoke("inspect", job, "--json").json["retried_by"] == repeats[:1]
    assert invoke("inspect", repeats[0], "--json").json["retried_from"] == job
