"""How many jobs a worker claims at once."""

from __future__ import annotations

import pytest

from nuvom.execution.pace import Pace


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
