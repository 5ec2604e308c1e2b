"""What docs/architecture.md says of files, statuses and outcomes is so."""

from __future__ import annotations

import random
import re

import pytest

from nuvom.core.options import TaskOptions
from nuvom.core.outcome import (
    Failed,
    Outcome,
    RetryAsked,
    Snoozed,
    TimedOut,
    UnknownTask,
    decide,
)
from nuvom.core.record import JobRecord, JobStatus, StoredError
from tests.docs.snippets import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SIX = [
    "nuvom/task.py",
    "nuvom/dispatcher.py",
    "nuvom/queue_backends/",
    "nuvom/worker.py",
    "nuvom/execution/job_runner.py",
    "nuvom/result_backends/",
]
ERROR = StoredError("ValueError", "no")
TIMEOUT = TimedOut(StoredError("TimeoutError", "timed out"))


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def table(head: str) -> list[list[str]]:
    """Return the cells of the table whose first line begins with ``head``, row by row."""
    lines = PAGE.partition(f"\n| {head} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("place", sorted(set(re.findall(r"\bnuvom/[\w/.]*\w/?", PAGE))))
def test_every_file_that_the_page_names_exists(place: str) -> None:
    path = ROOT / place
    assert path.is_dir() if place.endswith("/") else path.is_file()


def test_the_picture_and_the_walk_go_through_the_same_six_files() -> None:
    picture = re.findall(r"^ \d (nuvom/[\w/.]+)", section("The way of a job"), re.MULTILINE)
    walk = re.findall(
        r"^\*\*\d\. `(nuvom/[\w/.]+)`", section("Follow one job through six files"), re.MULTILINE
    )
    assert SIX == picture
    assert [place.rstrip("/") for place in SIX] == [
        re.sub(r"/sqlite(\.py|/)$", "", place) for place in walk
    ]


def test_both_tables_show_all_statuses_and_no_other() -> None:
    statuses = {str(status) for status in JobStatus}
    assert statuses | {"a call"} == {end for change in changes() for end in change}
    assert statuses == {row[0] for row in table("Status")}


def test_a_status_that_nothing_but_a_request_changes_is_final() -> None:
    left = {begin for begin, _ in changes(but="manual retry")}
    assert {str(status) for status in JobStatus if not status.is_final} == left - {"a call"}


def changes(*, but: str = "") -> list[tuple[str, str]]:
    """Return the changes of status that the page lists, as pairs."""
    return [
        (begin, end)
        for begins, end, when in table("From")
        if when != but
        for begin in begins.split(", ")
    ]


@pytest.mark.parametrize(
    ("place", "outcome", "policy", "attempt"),
    [
        (0, Failed(ERROR, ValueError()), "fail", 1),
        (1, Failed(ERROR, ValueError()), "fail", 2),
        (1, Failed(ERROR, KeyError()), "fail", 1),
        (1, Failed(ERROR, ValueError(), discard=True), "fail", 1),
        (2, RetryAsked(ERROR, 1.0), "fail", 1),
        (3, TIMEOUT, "retry", 1),
        (4, TIMEOUT, "fail", 1),
        (5, TIMEOUT, "ignore", 1),
        (6, Snoozed(1.0), "fail", 1),
        (7, UnknownTask("none"), "fail", 1),
    ],
)
def test_what_follows_an_outcome_is_in_the_table(
    place: int, outcome: Outcome, policy: str, attempt: int
) -> None:
    named, becomes, counts = table("Outcome")[place]
    record = JobRecord("1", "t", max_retries=1, timeout_policy=policy, attempt=attempt)
    options = TaskOptions(retry_on=(ValueError,))
    verdict = decide(outcome, record, options, now=100.0, rng=random.Random(1))
    assert f"`{type(outcome).__name__}`" in named
    assert becomes.startswith(str(verdict.status))
    assert ("`run_at`" in becomes) == (verdict.run_at > 0)
    assert {True: "counts", False: "is given back"}[verdict.keeps_attempt] == counts
