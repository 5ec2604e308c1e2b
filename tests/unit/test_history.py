"""Figures from roll-ups."""

from __future__ import annotations

from typing import Any

import pytest

from nuvom.core.views import ROLLUP_BOUNDS, UNTIMED, Rollup
from nuvom.inspection.history import percentile, series, total


def row(at: int = 0, kind: str = "success", **fields: Any) -> Rollup:
    given = {"queue": "mail", "task": "send", "bucket": 0, "count": 1, "secs": 0.0, **fields}
    return Rollup(at=at, kind=kind, **given)


ROWS = [
    row(at=600, count=2),
    row(at=660, count=3, task="other"),
    row(at=720, count=5, queue="slow"),
    row(at=660, kind="failed", count=7),
    row(at=660, kind="waited", task="", count=11),
]


def test_each_step_has_a_count() -> None:
    assert series(ROWS, 605.0, 841.0, 60, kinds=("success",)) == [2, 3, 5, 0, 0]
    assert series(ROWS, 605.0, 841.0, 120, kinds=("success", "failed")) == [12, 5, 0]
    assert series(ROWS, 660.0, 720.0, 60, kinds=("success",)) == [3]
    assert series(ROWS, 600.0, 600.0, 60, kinds=("success",)) == []


def test_rows_are_chosen_by_kind_queue_and_task() -> None:
    assert total(ROWS, ("success",)) == 10
    assert total(ROWS, ("success", "failed"), queue="mail") == 12
    assert total(ROWS, ("success",), queue="mail", task="send") == 2
    assert series(ROWS, 600, 780, 60, kinds=("success",), queue="slow") == [0, 0, 5]


def test_a_percentile_is_interpolated_inside_its_bucket() -> None:
    half, whole = ROLLUP_BOUNDS.index(0.5), ROLLUP_BOUNDS.index(1.0)
    rows = [row(bucket=half, count=50), row(bucket=whole, count=50), row(bucket=UNTIMED, count=99)]
    assert percentile(rows, 0.25, kinds=("success",)) == pytest.approx(0.375)
    assert percentile(rows, 0.75, kinds=("success",)) == pytest.approx(0.75)
    assert percentile(rows, 1.0, kinds=("success",)) == pytest.approx(1.0)
    assert percentile([row(count=3)], 0.0, kinds=("success",)) == 0.0


def test_a_percentile_above_all_bounds_is_the_mean_there() -> None:
    rows = [row(count=1), row(bucket=len(ROLLUP_BOUNDS), count=3, secs=30_000.0)]
    assert percentile(rows, 0.9, kinds=("success",)) == pytest.approx(10_000.0)


def test_nothing_timed_has_no_percentile() -> None:
    assert percentile([], 0.5, kinds=("success",)) is None
    assert percentile([row(kind="dead", bucket=UNTIMED)], 0.5, kinds=("dead",)) is None
    assert percentile([row()], 0.5, kinds=("success",), task="unknown") is None
