"""Periodic tasks of an application become schedules, which fire at Celery's times."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import nuvom as nuvom_package
from nuvom.compat.celery import Celery, CeleryWarning, NotSupported
from nuvom.compat.celery.schedules import crontab, schedule, solar
from nuvom.core.job_context import current
from nuvom.errors import InvalidSchedule
from nuvom.hooks import default_hooks
from nuvom.scheduler.cron import cron
from nuvom.scheduler.schedule import find
from nuvom.testing.isolated_store import IsolatedStore, StoreWorker

SOON = 30.0
BEGIN = datetime(2027, 12, 20, tzinfo=UTC)


def start_worker() -> None:
    """Call what a worker calls when it starts."""
    for hook in default_hooks.worker_start:
        hook()


def names() -> dict[str, str]:
    """Return the state of each schedule."""
    return {one.name: one.state for one in nuvom_package.schedules()}


def schedule_other(name: str) -> None:
    @nuvom_package.task(name="other")
    def other() -> None: ...

    other.schedule(interval=60, name=name)


@pytest.fixture
def shop(nuvom: IsolatedStore) -> Celery:
    app = Celery("shop")

    @app.task(name="greet", queue="mail", expires=50)
    def greet(who: str, *, loud: bool = False) -> str:
        return f"greeted {who} {loud}"

    return app


# ---- when they fire -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "* * * * *"),
        ({"minute": 0, "hour": "*/3"}, "0 */3 * * *"),
        ({"minute": "*/15", "hour": "8-17/3"}, "*/15 8-17/3 * * *"),
        ({"minute": {30, 0}, "hour": [7]}, "0,30 7 * * *"),
        ({"minute": "0", "hour": "22-2"}, "0 22,23,0,1,2 * * *"),
        ({"minute": 5, "hour": 1, "day_of_week": "monday,Wed"}, "5 1 * * 1,3"),
        ({"minute": 5, "hour": 1, "day_of_week": "fri-mon"}, "5 1 * * 5,6,0,1"),
        ({"minute": 5, "hour": 1, "month_of_year": "june-aug/2"}, "5 1 * 6-8/2 *"),
        ({"minute": 5, "hour": 1, "day_of_month": "8-14", "day_of_week": 2}, "5 1 * * 2#2"),
        (
            {"minute": 5, "hour": 1, "day_of_month": "1-14", "day_of_week": "mon,fri"},
            "5 1 * * 1#1,5#1,1#2,5#2",
        ),
        ({"minute": 5, "hour": 1, "day_of_month": "1,3", "day_of_week": 1}, "5 1 */31,1,3 * 1"),
        ({"minute": 5, "hour": 1, "day_of_month": "*/2", "day_of_week": 1}, "5 1 */2 * 1"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_crontab_is_an_expression_that_matches_where_all_of_its_fields_do(
    given: dict[str, Any], text: str
) -> None:
    assert text == crontab(**given).expression
    wanted = [one for one in minutes() if matches(one, given)]
    fires, moment = [], BEGIN.timestamp() - 1
    while (moment := cron(text, "UTC").after(moment) or 0.0) < (BEGIN + SPAN).timestamp():
        fires.append(datetime.fromtimestamp(moment, UTC))
    assert wanted == fires


SPAN = timedelta(days=63)
NAMED = {"monday": "1", "Wed": "3", "fri": "5", "mon": "1", "june": "6", "aug": "8"}
LIMITS = {"minute": (0, 59), "hour": (0, 23), "day_of_month": (1, 31)}
LIMITS |= {"month_of_year": (1, 12), "day_of_week": (0, 6)}


def minutes() -> Iterable[datetime]:
    for number in range(int(SPAN.total_seconds()) // 60):
        yield BEGIN + timedelta(minutes=number)


def matches(moment: datetime, given: dict[str, Any]) -> bool:
    """Whether Celery runs a crontab then: each field is a set, and all have to have the moment."""
    has = {"minute": moment.minute, "hour": moment.hour, "day_of_month": moment.day}
    has |= {"month_of_year": moment.month, "day_of_week": moment.isoweekday() % 7}
    return all(has[name] in members(value, *LIMITS[name]) for name, value in given.items())


def members(value: Any, least: int, most: int) -> set[int]:
    if not isinstance(value, str):
        return {value} if isinstance(value, int) else set(value)
    found: set[int] = set()
    for name, number in NAMED.items():
        value = value.replace(name, number)
    for part in value.split(","):
        body, _, step = part.partition("/")
        first, _, last = body.replace("*", f"{least}-{most}").partition("-")
        end = int(last or first) + (most - least + 1 if int(last or first) < int(first) else 0)
        steps = range(int(first), end + 1, int(step or 1))
        found |= {one if one <= most else one - (most - least + 1) for one in steps}
    return found


def test_what_no_expression_says_is_refused() -> None:
    with pytest.raises(NotSupported, match=r"day_of_month='13', day_of_week='5'"):
        _ = crontab(day_of_month=13, day_of_week=5).expression
    with pytest.raises(NotSupported, match="the sun"):
        solar("sunset", -37.8, 144.9)
    app = Celery("tests")
    with pytest.raises(NotSupported, match="schedule='hourly'"):
        app.conf.beat_schedule = {"x": {"task": "x", "schedule": "hourly"}}
    with pytest.raises(InvalidSchedule, match="minute"):
        app.add_periodic_task(crontab(minute=75), {"task": "x"}, name="x")
    with pytest.raises(InvalidSchedule, match="hour"):
        app.conf.beat_schedule = {"x": {"task": "x", "schedule": crontab(hour="noon")}}


@pytest.mark.parametrize(
    ("settings", "zone"),
    [
        ({}, "UTC"),
        ({"timezone": "Europe/Berlin"}, "Europe/Berlin"),
        ({"timezone": ZoneInfo("Asia/Tokyo"), "enable_utc": False}, "Asia/Tokyo"),
        ({"timezone": UTC}, "UTC"),
    ],
)
def test_crontabs_are_in_the_time_zone_of_the_settings(
    shop: Celery, settings: dict[str, Any], zone: str
) -> None:
    shop.conf.beat_schedule = {"x": {"task": "greet", "schedule": crontab(), "args": ("you",)}}
    shop.conf.update(settings, beat_cron_starting_deadline=900)
    start_worker()
    assert (zone, 900.0) == (find("x").rule.timezone_name, find("x").rule.grace)


def test_an_interval_counts_from_its_store_or_relative_from_midnight(shop: Celery) -> None:
    call = {"task": "greet", "args": ("you",)}
    shop.conf.beat_schedule = {
        "number": {**call, "schedule": 30},
        "delta": {**call, "schedule": timedelta(minutes=5)},
        "object": {**call, "schedule": schedule(7.5)},
        "relative": {**call, "schedule": timedelta(hours=1), "relative": True},
    }
    start_worker()
    rules = {one.name: one.rule for one in nuvom_package.schedules()}
    assert (30.0, 300.0, 7.5) == tuple(
        rules[name].interval for name in ("number", "delta", "object")
    )
    assert {None} == {rules[name].start for name in ("number", "delta", "object")}
    assert 0 == (find("relative").record.next_at or 1) % 3600


# ---- what becomes of them -------------------------------------------------------------------


def test_an_entry_is_a_schedule_with_the_options_of_its_calls(
    shop: Celery, nuvom_worker: StoreWorker
) -> None:
    shop.conf.update(task_default_priority=3, timezone="Europe/Berlin")
    shop.conf.beat_schedule = {
        "morning": {
            "task": "greet",
            "schedule": crontab(hour=7, minute=30, day_of_week="mon-fri"),
            "args": ("you",),
            "kwargs": {"loud": True},
            "options": {"queue": "early", "expires": 600},
        },
    }
    assert names() == {}, "programs that only send store nothing"
    start_worker()
    seen = find("morning")
    assert ("greet", "30 7 * * 1-5", "celery") == (seen.task, seen.rule.cron, seen.record.origin)
    assert (600.0, "early", 2) == (
        seen.record.expires_secs,
        seen.record.job.queue,
        seen.record.job.priority,
    )
    assert "greeted you True" == seen.run_now().get(SOON)
    before = seen.refresh().record
    start_worker()
    assert before == find("morning").record, "nothing has changed"


def test_what_is_removed_is_disabled_and_comes_back(shop: Celery) -> None:
    call = {"task": "greet", "schedule": 60, "args": ("you",)}
    shop.conf.beat_schedule = {"one": call, "two": call}
    start_worker()
    find("two").pause()
    schedule_other("own")
    shop.conf.beat_schedule = {"two": {**call, "schedule": 90}}
    start_worker()
    assert {"one": "disabled", "two": "paused", "own": "active"} == names()
    assert 90.0 == find("two").rule.interval
    shop.conf.beat_schedule["one"] = call
    start_worker()
    assert "active" == find("one").state


def test_those_of_another_project_in_the_store_are_left_alone(
    shop: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = {"task": "greet", "schedule": 60, "args": ("you",)}
    shop.conf.beat_schedule = {"one": call}
    start_worker()
    monkeypatch.setattr("nuvom.compat.celery.calls.project_name", lambda _: "another")
    shop.conf.beat_schedule = {"two": call}
    start_worker()
    assert {"one": "active", "two": "active"} == names()


def test_periodic_tasks_of_all_applications_are_stored_at_once(shop: Celery) -> None:
    other = Celery("other")
    other.conf.beat_schedule["added"] = {"task": "greet", "schedule": 60, "args": ("you",)}
    assert {} == shop.conf.beat_schedule

    @other.on_after_finalize.connect
    def add_all(sender: Celery, **_: Any) -> None:
        greet = sender.tasks["greet"]
        sender.add_periodic_task(10.0, greet.s("you"), name="every ten", expires=5)
        sender.add_periodic_task(crontab(), greet.s("me").set(queue="slow"))

    shop.conf.beat_schedule = {"one": {"task": "greet", "schedule": 60, "args": ("you",)}}
    start_worker()
    start_worker()
    found = {one.name: one.record for one in nuvom_package.schedules()}
    unnamed = found.keys() - {"one", "added", "every ten"}
    assert {"active"} == {*names().values()}
    assert 5.0 == found["every ten"].expires_secs
    (by_default,) = unnamed
    assert ("slow", 50.0) == (found[by_default].job.queue, found[by_default].expires_secs)


def test_one_that_cannot_be_stored_is_logged_and_others_are(
    shop: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    good = {"task": "greet", "schedule": 60, "args": ("you",)}
    schedule_other("taken")
    shop.conf.beat_schedule = {
        "arguments": {**good, "args": ()},
        "task": {"schedule": 60},
        "link": {**good, "options": {"link": {"task": "greet"}}},
        "countdown": {**good, "options": {"countdown": 5}},
        "taken": good,
        "good": good,
    }
    start_worker()
    assert {"good": "active", "taken": "active"} == names()
    assert "other" == find("taken").task
    for name in ("arguments", "task", "link", "countdown", "taken"):
        assert f"The periodic task {name!r} does not run" in caplog.text
    assert "Fix:" not in caplog.text  # a line of the log is one sentence


def test_what_comes_too_late_for_a_worker_is_named(shop: Celery) -> None:
    token = current.set(object())  # type: ignore[arg-type]  # whatever runs
    try:
        with pytest.warns(CeleryWarning, match="beat_schedule counts from the next start"):
            shop.conf.beat_schedule = {}
        with pytest.warns(CeleryWarning, match="add_all counts from"):

            @shop.on_after_configure.connect
            def add_all(sender: Celery, **_: Any) -> None: ...
    finally:
        current.reset(token)
