"""How many jobs a worker claims at once."""

from __future__ import annotations

from typing import Any

import pytest

from nuvom.execution.pace import Lead, Pace, Patience


def test_claims_begin_with_the_slots() -> None:
    pace = Pace(4, None)
    assert (4, False) == (pace.batch, pace.is_bulk)


def test_quick_jobs_double_the_size_up_to_what_takes_a_moment() -> None:
    pace = Pace(4, None)
    sizes = []
    for _ in range(8):
        pace.finished(1000, 0.1)  # 200 jobs in 20 ms
        sizes.append(pace.batch)
    assert [8, 16, 32, 64, 128, 200, 200, 200] == sizes
    assert pace.is_bulk


def test_size_is_capped() -> None:
    pace = Pace(4, None)
    for _ in range(20):
        pace.finished(1_000_000, 0.1)
    assert 1024 == pace.batch


def test_slow_jobs_shrink_the_size_at_once() -> None:
    pace = Pace(4, None)
    for _ in range(8):
        pace.finished(1000, 0.1)
    pace.finished(10, 1.0)
    assert (4, False) == (pace.batch, pace.is_bulk)


def test_size_halves_when_nothing_ends() -> None:
    pace = Pace(4, None)
    for _ in range(4):
        pace.finished(1000, 0.1)
    sizes = []
    for _ in range(6):
        pace.slowed()
        sizes.append(pace.batch)
    assert [32, 16, 8, 4, 4, 4] == sizes


def test_size_falls_to_the_slots_when_jobs_wait_behind_slow_ones() -> None:
    pace = Pace(4, None)
    for _ in range(8):
        pace.finished(1000, 0.1)
    pace.stalled()
    assert 4 == pace.batch


@pytest.mark.parametrize(("count", "secs"), [(0, 1.0), (10, 0.0), (10, -1.0)])
def test_what_tells_nothing_changes_nothing(count: int, secs: float) -> None:
    pace = Pace(4, None)
    pace.finished(count, secs)
    assert 4 == pace.batch


@pytest.mark.parametrize(("slots", "cap", "least", "most"), [(4, 16, 4, 16), (8, 3, 3, 3)])
def test_setting_bounds_the_size(slots: int, cap: int, least: int, most: int) -> None:
    pace = Pace(slots, cap)
    assert least == pace.batch
    for _ in range(10):
        pace.finished(1_000_000, 0.1)
    assert most == pace.batch


def test_lead_is_a_moment_of_work_and_none_of_slow_jobs() -> None:
    lead = Lead(2)
    assert 0 == lead.size  # nobody knows yet
    lead.took(0.01)
    assert 20 == lead.size
    for _ in range(20):
        lead.took(1.0)
    assert 0 == lead.size
    for _ in range(100):
        lead.took(0.0)
    assert 1000 < lead.size <= 1024
    lead.took(-5.0)  # a clock was set back
    assert lead.size <= 1024


class FakeLane:
    """A lane with a backlog, and slots that are idle."""

    def __init__(self, name: str, backlog: int, free: int = 0) -> None:
        self.name = name
        self.backlog = lambda: backlog
        self.free = lambda: free


def test_jobs_may_wait_for_half_a_second_while_all_slots_are_at_work() -> None:
    lanes: list[Any] = [FakeLane("thread", 3), FakeLane("async", 0), FakeLane("process", 2, free=1)]
    patience = Patience()
    for lane in lanes:
        patience.begins(lane.name, 10.0)
    assert [] == patience.is_over(lanes, 10.4)
    assert [lanes[0]] == patience.is_over(lanes, 10.6)
    patience.begins("thread", 10.6)
    assert [] == patience.is_over(lanes, 11.0)
    assert [] == Patience().is_over(lanes, 11.0)
