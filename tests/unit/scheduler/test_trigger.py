"""Options of a schedule: what they mean, and what is refused, before anything is stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import nuvom
from nuvom.errors import InvalidSchedule
from nuvom.scheduler.trigger import describe
from nuvom.testing.clock import FakeClock


@pytest.mark.parametrize(
    ("expression", "mark", "column", "field"),
    [
        ("0 25 * * *", "^^", 3, "hour"),
        ("0 9 * * MON-FRY", "^^^^^^^", 9, "day of week"),
        ("0 9,1O * * *", "^^", 5, "hour"),
        ("*/0 * * * *", "^^^", 1, "minute"),
        ("0  9   32 * *", "^^", 8, "day of month"),
        ("0 9 * 13 *", "^^", 7, "month"),
        ("60 0 9 * * *", "^^", 1, "second"),
        ("0 9 * * 1#6", "^^^", 9, "day of week"),
        ("5-1 9 * * *", "^^^", 1, "minute"),
        ("0 9 W * *", "^", 5, "day of month"),
        ("0 9, * * *", "^", 5, "hour"),
    ],
)
def test_a_wrong_expression_is_refused_with_the_place_of_the_fault(
    add: Any, *, expression: str, mark: str, column: int, field: str
) -> None:
    with pytest.raises(InvalidSchedule) as caught:
        add.schedule(1, 2, cron=expression)
    told = str(caught.value)
    assert f"expected a valid {field}." in told
    shown, below = told[told.index("\n") + 1 :].splitlines()[:2]
    assert shown == f"    {expression}"
    assert below[4:] == f"{' ' * (column - 1)}{mark} column {column}"
    assert nuvom.schedules() == []


@pytest.mark.parametrize("expression", ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 0 30 FEB *"])
def test_an_expression_that_never_fires_is_refused(add: Any, expression: str) -> None:
    with pytest.raises(InvalidSchedule, match="a day that some month has"):
        add.schedule(1, 2, cron=expression)
    assert nuvom.schedules() == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"cron": "@fortnightly"}, "one of @yearly"),
        ({"cron": "* * * *"}, "five fields, or six with seconds first, not 4"),
        ({"cron": ""}, "not 0"),
        ({"cron": "*/90 * * * *"}, "a valid minute, with a step of at most 60"),
        ({"cron": "0 9 * * *", "timezone_name": "Europe/Berlni"}, 'you mean "Europe/Berlin"'),
        ({"cron": "0 9 * * *", "timezone_name": "../etc/passwd"}, "IANA name of a time zone"),
        ({}, "exactly one of at, in_, interval and cron"),
        ({"cron": "0 9 * * *", "interval": 5}, "exactly one of at, in_, interval and cron"),
        ({"interval": 0}, "at least 0.01 s"),
        ({"interval": True}, "seconds, 0 or more, or a timedelta"),
        ({"interval": float("nan")}, "seconds, 0 or more, or a timedelta"),
        ({"in_": -1}, "seconds, 0 or more, or a timedelta"),
        ({"in_": timedelta(seconds=-1)}, "seconds, 0 or more, or a timedelta"),
        ({"at": 17}, "a datetime"),
        ({"at": "tomorrow"}, "a date and time as in RFC 3339"),
        ({"at": datetime.min.replace(tzinfo=UTC)}, "a year from 1900 to 8999"),
        ({"cron": "* * * * *", "start": datetime.max.replace(tzinfo=UTC)}, "a year from 1900 to"),
        ({"interval": 5, "misfire": "sometimes"}, "one of skip, latest, all"),
        ({"interval": 5, "overlap": "never"}, "one of allow, skip, queue"),
        ({"interval": 5, "misfire_max": 0}, "a whole number from 1"),
        ({"interval": 5, "grace": 0.5}, "at least 1 s"),
        ({"interval": 5, "jitter": -1}, "seconds, 0 or more, or a timedelta"),
        ({"interval": 5, "end": datetime(2001, 1, 1, tzinfo=UTC)}, "between which it fires"),
        (
            {"at": "2040-01-01T00:00Z", "start": "2041-01-01T00:00Z"},
            "bounds between which it fires",
        ),
        ({"interval": 5, "name": "two\nlines"}, "without line breaks"),
        ({"interval": 5, "name": ""}, "a text of 1 to 200 characters"),
    ],
)
def test_a_wrong_option_is_refused_and_says_what_is_expected(
    add: Any, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidSchedule) as caught:
        add.schedule(1, 2, **options)
    assert told in str(caught.value)
    assert nuvom.schedules() == []


def test_wrong_arguments_are_refused_as_by_a_call(add: Any) -> None:
    with pytest.raises(TypeError):
        add.schedule(1, interval=5)
    assert nuvom.schedules() == []


def test_a_time_without_a_zone_is_in_that_of_the_schedule_else_in_utc(add: Any) -> None:
    naive = datetime(2040, 7, 1, 9)  # noqa: DTZ001  # it is what is tested
    berlin = add.schedule(1, 2, at=naive, timezone_name="Europe/Berlin")
    with pytest.warns(UserWarning, match="has no time zone and is taken as UTC"):
        utc = add.schedule(1, 2, at=naive)
    aware = add.schedule(1, 2, at="2040-07-01T09:00:00-05:00", timezone_name="Europe/Berlin")
    assert datetime(2040, 7, 1, 7, tzinfo=UTC) == berlin.next_at
    assert datetime(2040, 7, 1, 9, tzinfo=UTC) == utc.next_at
    assert datetime(2040, 7, 1, 14, tzinfo=UTC) == aware.next_at


def test_seconds_may_be_a_timedelta(add: Any, clock: FakeClock) -> None:
    soon = add.schedule(1, 2, in_=timedelta(hours=2))
    often = add.schedule(1, 2, interval=timedelta(minutes=10))
    assert soon.next_at.timestamp() == clock.now() + 7200
    assert [one.timestamp() - clock.now() for one in often.next(3)] == [600, 1200, 1800]


@pytest.mark.parametrize(
    ("name", "same"),
    [("@hourly", "0 * * * *"), ("@Daily", "0 0 * * *"), ("@weekly", "0 0 * * SUN")],
)
def test_a_nickname_stands_for_an_expression(add: Any, name: str, same: str) -> None:
    assert add.schedule(1, 2, cron=name).next(5) == add.schedule(1, 2, cron=same).next(5)


def test_start_and_end_bound_the_fires_and_are_fire_times_themselves(
    add: Any, clock: FakeClock
) -> None:
    start = datetime.fromtimestamp(clock.now() + 3600.5, UTC)
    end = start + timedelta(seconds=20)
    bounds: dict[str, Any] = {"start": start, "end": end}
    assert add.schedule(1, 2, interval=10, **bounds).next(9) == [
        start,
        start + timedelta(seconds=10),
        end,
    ]
    minute = datetime(2040, 1, 1, tzinfo=UTC)
    found = add.schedule(1, 2, cron="* * * * *", start=minute, end=minute + timedelta(seconds=60))
    assert found.next(9) == [minute, minute + timedelta(seconds=60)]


def test_a_schedule_that_has_ended_can_be_changed(add: Any, clock: FakeClock) -> None:
    end = datetime.fromtimestamp(clock.now() + 90, UTC)
    made = add.schedule(1, 2, interval=60, end=end)
    clock.advance(100)
    made.update(misfire="all")
    assert made.rule.misfire == "all"


def test_no_fire_is_later_than_a_datetime_can_be(add: Any) -> None:
    start = datetime(8999, 12, 31, tzinfo=UTC)
    made = add.schedule(1, 2, interval=timedelta(days=365_000), start=start)
    assert made.next(3) == [start]


def test_a_description_is_plain_english(add: Any) -> None:
    described = {
        describe(add.schedule(1, 2, **options).rule)
        for options in (
            {"interval": 5400},
            {"interval": 1.5},
            {"at": datetime(2040, 1, 2, 3, 4, 5, tzinfo=ZoneInfo("UTC"))},
            {"cron": "0 9 * * MON-FRI", "timezone_name": "Europe/Berlin"},
            {"cron": "*/20 9-17 * * *"},
            {"cron": "*/30 * * * * *"},
            {"cron": "0 */6 * * SAT"},
            {"cron": "0 */5 * * * *"},
            {"cron": "*/7 * * * *"},
        )
    }
    assert described == {
        "every 90 min",
        "every 1.5 s",
        "once, at 2040-01-02 03:04:05 UTC",
        "at 09:00 on Monday through Friday (Europe/Berlin)",
        "every 20 minutes from 09:00 through 17:59 (UTC)",
        "every 30 seconds (UTC)",
        "every 6 hours on Saturday (UTC)",
        "every 5 minutes (UTC)",
        "every seventh minute of every hour (UTC)",  # and four minutes after it, the next hour
    }
