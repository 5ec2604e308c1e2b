"""Cron expressions fire when a walk along the wall clock says so, around every change of clocks.

The rule: see ``nuvom/scheduler/cron.py``. What is compared with is ``oracle.py``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import product
from zoneinfo import ZoneInfo

import pytest

from nuvom.scheduler.cron import cron
from tests.unit.scheduler.oracle import Oracle, transitions, walk

ZONES = (
    "America/New_York",
    "Europe/London",
    "Australia/Lord_Howe",  # by half an hour
    "Pacific/Chatham",  # 45 minutes off, at 2:45
    "America/Santiago",  # at midnight
    "Antarctica/Troll",  # by two hours
    "Asia/Kathmandu",  # never, 15 minutes off
    "UTC",
)
FIRST_YEAR, LAST_YEAR = 2025, 2035
_MINUTES = ("0", "30", "15,45", "*/5", "*/7", "0-59/10", "5-20", "59", "10/25")
_HOURS = ("0", "1", "2", "*", "*/2", "1-3", "23", "2,3", "0-23/3")
_TIMES = ("0 2", "30 2", "*/15 *", "0 0", "30 23", "45 1-3", "10 */3")
_DAYS = (
    "L * *",
    "LW * *",
    "1,L * *",
    "1 * *",
    "31 * *",
    "29 2 *",
    "*/2 * *",
    "1-7 * SUN",  # either is enough
    "13 * FRI",
    "L * MON",
    "*/2 * SUN",  # both, since one begins with a star
    "* * SUN",
    "* * 7",
    "* * MON-FRI",
    "* * 1-5/2",
    "* * sun#2,SUN#1",
    "* * SUN#5",
    "* * 0L",
    "* * 7L,3",
    "* MAR,apr,SEP-NOV SUN",
    "8-14 3,11 *",
    "25-31/2 MAR-NOV/7 0",
)
_WITH_SECONDS = (
    "0 30 2 * * *",
    "*/10 30 2 * * *",
    "15,45 */20 * * * *",
    "30 0 0 * * *",
    "0-59/7 59 1,23 * * SUN",
    "59 59 */2 L * *",
    "* 0 3 * * *",
    "20/20 5-7 * * * MON#1",
)
EXPRESSIONS = (
    *(f"{minute} {hour} * * *" for minute, hour in product(_MINUTES, _HOURS)),
    *(f"{time} {day}" for time, day in product(_TIMES, _DAYS)),
    *_WITH_SECONDS,
)
_BEFORE, _AFTER = 30 * 3600, 40 * 3600
_SAMPLE = 300


@cache
def around(zone_name: str, moment: int) -> list[tuple[int, datetime]]:
    """Return the walk around a change, which begins early enough to know what was shown before."""
    return walk(ZoneInfo(zone_name), moment - _BEFORE, moment + _AFTER)


def compare(expression: str, zone_name: str, moment: int, rng: random.Random) -> int:
    """Hold the fires around a change against the oracle's; return how many there are."""
    walked = around(zone_name, moment)
    first, last = walked[0][0] + 6 * 3600, walked[-1][0]
    wanted = [one for one in oracle(expression).fires(walked) if first <= one < last]
    found = list(fires(expression, zone_name, first, last))
    assert wanted == found, f"{expression} {zone_name} {moment}"
    after = cron(expression, zone_name).after
    for _ in range(5):  # it does not matter from where one looks
        start = rng.uniform(first, last)
        later = [one for one in wanted if one > start]
        if later:
            assert later[0] == after(start), f"{expression} {zone_name} {start}"
    return len(wanted)


@cache
def oracle(expression: str) -> Oracle:
    return Oracle(expression)


def fires(expression: str, zone_name: str, first: float, last: float) -> Iterator[int]:
    after = cron(expression, zone_name).after
    fire = after(first - 1)
    while fire is not None and fire < last:
        yield int(fire)
        fire = after(fire)


@cache
def places(zone_name: str) -> list[int]:
    return transitions(ZoneInfo(zone_name), FIRST_YEAR, LAST_YEAR)


def test_the_grid_is_as_large_as_promised() -> None:
    assert len(set(EXPRESSIONS)) >= 200
    changes = {zone: len(places(zone)) for zone in ZONES}
    assert set(changes.values()) == {22}


def test_r16_f32_a_sample_fires_as_the_wall_clock_says(
    figures: Callable[[str], None], seed: int
) -> None:
    rng = random.Random(seed)
    total = 0
    for _ in range(_SAMPLE):
        zone_name = rng.choice(ZONES)
        moment = rng.choice(places(zone_name))
        total += compare(rng.choice(EXPRESSIONS), zone_name, moment, rng)
    figures(f"seed {seed}: {_SAMPLE} of the grid, {total} fires, 0 differ")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("zone_name", ZONES)
def test_r16_f32_all_expressions_fire_as_the_wall_clock_says(
    figures: Callable[[str], None], zone_name: str
) -> None:
    rng = random.Random(0)
    moments = places(zone_name)
    total = sum(
        compare(expression, zone_name, moment, rng)
        for moment in moments
        for expression in EXPRESSIONS
    )
    figures(
        f"{zone_name}: {len(EXPRESSIONS)} expressions, {len(moments)} changes, {total} fires, "
        "0 differ"
    )


@pytest.mark.parametrize("day", _DAYS)
def test_r16_an_expression_fires_on_the_days_of_the_calendar(day: str) -> None:
    expression, one = f"0 12 {day}", date(FIRST_YEAR, 1, 1)
    days = [one + timedelta(days=number) for number in range(4 * 366)]
    wanted = [each for each in days if oracle(expression).is_on(each)]
    first = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC).timestamp()
    found = fires(expression, "UTC", first, first + len(days) * 86_400)
    assert wanted == [datetime.fromtimestamp(fire, UTC).date() for fire in found]


def test_f32_a_time_of_a_repeated_hour_has_passed_when_the_hour_comes_again() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    second_pass = datetime(2026, 10, 25, 2, 10, fold=1, tzinfo=berlin).timestamp()
    next_day = datetime(2026, 10, 26, 2, 30, tzinfo=berlin).timestamp()
    assert cron("30 2 * * *", berlin.key).after(second_pass) == next_day
