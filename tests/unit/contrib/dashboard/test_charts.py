"""Charts and the figures that they show: pure functions of rows and numbers."""

from __future__ import annotations

import itertools

import pytest

from nuvom.contrib.dashboard import charts
from nuvom.core.views import QueueStats, Rollup
from nuvom.inspection.figures import Flow, QueueFigures
from nuvom.inspection.history import KeptHistory

_NOW = 1_800_000_000.0


def _flow(finished: list[int], failed: list[int], before: list[int] | None = None) -> Flow:
    return Flow(
        since=_NOW, step=60, period=86_400, finished=finished,
        before=before or [0] * len(failed), failed=failed,
        waited_p95=None, ran_p50=None, ran_p95=None, worst_task="images.resize",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("most", "labels"),
    [(0, (0, 1)), (1, (0, 1)), (2, (0, 1, 2)), (3, (0, 1, 2, 3)), (21, (0, 10, 20, 30)),
     (352, (0, 200, 400)), (600, (0, 200, 400, 600)), (10_001, (0, 5000, 10_000, 15_000))],
)  # fmt: skip
def test_an_axis_starts_at_zero_and_reaches_the_most(most: int, labels: tuple[int, ...]) -> None:
    assert charts.scale(most) == labels


def test_an_axis_is_short_for_any_number() -> None:
    for most in itertools.chain(range(200), range(200, 1_000_000, 997)):
        labels = charts.scale(most)
        assert labels[-1] >= most
        assert 2 <= len(labels) <= 4


def test_a_line_goes_from_the_base_to_the_top() -> None:
    assert charts.line([0, 5, 10], 100, 20, top=10) == "M0.0 20.0 50.0 10.0 100.0 0.0"
    assert charts.line([], 100, 20) == "M0 0"


def test_the_worst_minute_is_named_and_every_failure_can_be_seen() -> None:
    chart = charts.throughput(_flow([9, 9, 9], [1, 400, 0]), "min", lambda at: f"{at - _NOW:.0f}")
    assert (chart.peak, chart.peak_task) == ("400 at 60", "images.resize")
    small, large = chart.failed.split("M")[1:]
    assert float(small.split("V")[1]) >= 1.8
    assert float(large.split("V")[1]) <= charts.FAILED_HEIGHT
    assert [text for text, _, _ in chart.times] == ["0", "30", "60", "90", "120"]
    assert "401 failed" in chart.text


def test_a_chart_of_nothing_is_a_chart() -> None:
    chart = charts.throughput(_flow([0], [0]), "min", str)
    assert (chart.peak, chart.failed, chart.before) == ("", "M0 0", "M0 0")
    assert "None failed" in chart.text


def test_fires_are_dots_or_ticks_or_a_line() -> None:
    def axis(secs: float) -> charts.Fires:
        return charts.fires((_NOW + secs * one for one in itertools.count(1)), _NOW)

    few, hourly, often, late = axis(7200), axis(3600), axis(60), axis(90_000)
    assert (len(few.dots), few.ticks) == (12, [])
    assert (len(hourly.dots), len(hourly.ticks), hourly.is_solid) == (1, 24, False)
    assert (len(often.dots), often.ticks, often.is_solid) == (1, [], True)
    assert (late.dots, late.is_later) == ([], True)


def test_slots_stand_in_rows_of_eight() -> None:
    height, cells = charts.cells(["b"] * 9 + [""])
    assert height == 36
    assert cells[8] == (0.5, 20.5, "b")
    assert len(charts.cells([""] * 500)[1]) == charts.MOST_CELLS


@pytest.mark.parametrize(
    ("failed", "before", "is_more"),
    [(96, 8, True), (96, 60, False), (9, 0, False), (10, 0, True), (500, None, False)],
)
def test_more_failures_are_told_only_against_a_day_before(
    failed: int, before: int | None, is_more: object
) -> None:
    one = QueueFigures(
        QueueStats(queue="images"), workers=1, slots=1, oldest_secs=None, per_min=None,
        ran_p95=None, lately=None, failed=failed, failed_before=before,
    )  # fmt: skip
    assert one.has_more_failures is is_more


def test_closed_steps_of_the_history_are_read_once() -> None:
    reads: list[tuple[float, float]] = []

    def read(since: float, until: float, step: int) -> list[Rollup]:
        reads.append((since, until))
        first = -int(-since // step) * step
        return [Rollup(at, "q", "t", "success", 0, 1, 0.1) for at in range(first, int(until), step)]

    kept, start = KeptHistory(), 6000.0
    for now in (9600.0, 9601.0, 9670.0, 9790.0):
        rows = kept.rows(read, (now - 3600, now), 60, now)
        assert [one.at for one in rows] == list(range(int((now - 3600) // 60 * 60), int(now), 60))
    assert reads[0] == (start, 9540.0)
    assert sum(until - since > 300 for since, until in reads) == 1


def test_the_day_before_is_kept_beside_the_day() -> None:
    reads: list[float] = []

    def read(since: float, until: float, step: int) -> list[Rollup]:
        reads.append(until - since)
        return []

    kept, now = KeptHistory(), 864_130.0
    for _ in range(2):
        kept.rows(read, (now - 86_400, now), 600, now)
        kept.rows(read, (now - 172_800, now - 85_930), 600, now)  # to the end of a step
    assert sum(secs > 3600 for secs in reads) == 2
