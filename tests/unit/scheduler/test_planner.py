"""What becomes of a schedule, whenever somebody looks: random rules, looks and clocks."""

from __future__ import annotations

from math import inf, nextafter
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from nuvom.core.ids import new_id
from nuvom.scheduler import planner
from nuvom.scheduler.planner import ON_TIME_SECS, WAIT_SECS, plan
from nuvom.scheduler.record import RECENT, ScheduleRecord, ScheduleRule
from nuvom.scheduler.trigger import fire_after
from nuvom.testing.builders import make_schedule

BORN = 1_700_000_100.0
CRONS = {"* * * * *": 60, "*/5 * * * *": 300, "0 * * * *": 3600, "*/20 * * * * *": 20}
"""Expressions in UTC, and after how many seconds they fire again: nothing else is needed here."""

intervals = st.sampled_from([0.3, 1.0, 7.5, 60.0, 600.0]) | st.floats(0.25, 1e5)
triggers = st.fixed_dictionaries({"interval": intervals}) | st.fixed_dictionaries(
    {"cron": st.sampled_from(sorted(CRONS))}
)
spans = st.sampled_from([0.0, 0.1, 5.0, ON_TIME_SECS, 11.0, 60.0, 299.0]) | st.floats(0.0, 3600.0)


@st.composite
def rules(draw: st.DrawFn) -> ScheduleRule:
    options: dict[str, Any] = dict(draw(triggers))
    options["misfire"] = draw(st.sampled_from(["skip", "latest", "all"]))
    options["misfire_max"] = draw(st.integers(1, 5))
    options["grace"] = draw(st.none() | st.floats(1.0, 7200.0))
    options["overlap"] = draw(st.sampled_from(["allow", "skip", "queue"]))
    if draw(st.booleans()):
        options["start"] = BORN + draw(st.floats(-5000.0, 5000.0))
    if draw(st.booleans()):
        options["end"] = BORN + draw(st.floats(6000.0, 20_000.0))
    return ScheduleRule(**options)


@st.composite
def looks(draw: st.DrawFn) -> list[float]:
    """Return moments at which somebody looks; now and then the clock was set in between."""
    moments, now = [], BORN
    for _ in range(draw(st.integers(1, 12))):
        now += draw(spans)
        now += draw(st.sampled_from([0.0] * 6 + [3600.0, -3600.0, 86_400.0, -86_400.0]))
        moments.append(now)
    return moments


def born(rule: ScheduleRule) -> ScheduleRecord:
    change = planner.created(make_schedule(rule=rule), BORN)
    assert change.after is not None
    return change.after


def times(rule: ScheduleRule, last: float, first: float = nextafter(BORN, inf)) -> list[float]:
    """Return the fire times of a rule between two moments, from arithmetic alone."""
    step = rule.interval or CRONS[rule.cron or ""]
    origin = BORN // step * step if rule.cron is not None else rule.start or BORN
    begins = BORN if rule.cron is not None or rule.start is None else -inf  # else it has a first
    numbers = range(int((first - origin) // step) - 1, int((last - origin) // step) + 2)
    least, most = max(first, rule.start or -inf), min(last, rule.end or inf)
    fires = (origin + number * step for number in numbers)
    return [one for one in fires if least <= one <= most and one > begins]


def due_of(seen: ScheduleRecord, now: float) -> list[float]:
    """Return what has come due since the last look."""
    return [] if seen.next_at is None else times(seen.rule, now, seen.next_at)


def made_of(rule: ScheduleRule, due: list[float], now: float) -> list[float]:
    """Return which of those that are due are made, by the words of the documentation."""
    was_outage = bool(due) and now - due[0] > ON_TIME_SECS
    if was_outage:
        due = due[-rule.misfire_max :] if rule.misfire == "all" else due[-1:]
        if rule.misfire == "skip":
            due = [one for one in due if now - one <= ON_TIME_SECS]
    return [one for one in due if rule.grace is None or now - one <= rule.grace]


def short(rule: ScheduleRule) -> bool:
    return rule.interval is None or rule.interval >= 15.0


# ---- fires ----------------------------------------------------------------------------------


@given(rules().filter(short), looks())
def test_each_fire_time_is_made_or_counted_once_whatever_the_clock_does(
    rule: ScheduleRule, moments: list[float]
) -> None:
    seen, latest = born(replace(rule, overlap="allow")), BORN
    fires: list[float] = []
    for now in moments:
        due = due_of(seen, now)
        found = plan(seen, now)
        assert found.after is not None
        assert list(found.fires) == made_of(rule, due, now)
        assert found.missed == len(due) - len(found.fires)
        assert found.skipped == 0
        fires += found.fires
        seen, latest = found.after, max(latest, now)
        assert seen.next_at is None or seen.next_at > now
    assert fires == sorted(set(fires)), "one was made twice, or after a later one"
    assert len(times(rule, latest)) == seen.fired + seen.missed, "one was forgotten"
    assert len(fires) == seen.fired
    assert list(seen.recent) == [planner.fire_id(seen, at) for at in fires[-RECENT:]]


@given(rules().filter(short), looks())
def test_time_goes_on_and_never_back(rule: ScheduleRule, moments: list[float]) -> None:
    seen = born(rule)
    for now in moments:
        found = plan(seen, now)
        assert found.after is not None
        before, after = seen, found.after
        assert after.revision > before.revision
        assert (after.last_at or 0.0) >= (before.last_at or 0.0)
        assert (after.next_at or inf) >= (before.next_at or inf)
        assert after.last_at is None or after.last_at < (after.next_at or inf)
        made = [at for at in found.fires if at != before.waiting_at]
        assert all(at > (before.last_at or 0.0) for at in made)
        seen = after


@given(rules().filter(short), looks(), st.lists(st.booleans(), min_size=12, max_size=12))
def test_fires_overlap_only_where_they_may(
    rule: ScheduleRule, moments: list[float], busy: list[bool]
) -> None:
    rule = replace(rule, misfire="all", misfire_max=10_000, grace=None)
    seen, latest = born(rule), BORN
    for now, is_busy in zip(moments, busy, strict=False):
        found = plan(seen, now, is_busy=is_busy)
        assert found.after is not None
        if rule.overlap != "allow":
            assert len(found.fires) <= (not is_busy)
        if rule.overlap != "queue":
            assert found.after.waiting_at is None
        elif not is_busy and seen.waiting_at is not None:
            assert found.fires == (seen.waiting_at,), "what waits comes first"
        if found.after.waiting_at is not None:
            assert found.after.due_at is not None
            assert found.after.due_at <= now + WAIT_SECS
        seen, latest = found.after, max(latest, now)
    waiting = seen.waiting_at is not None
    assert len(times(rule, latest)) == seen.fired + seen.skipped + waiting


@given(rules(), looks())
def test_whoever_plans_the_same_makes_the_same_jobs(
    rule: ScheduleRule, moments: list[float]
) -> None:
    """Of two schedulers, of which one looks a little later."""
    seen = replace(born(replace(rule, jitter=30.0)), expires_secs=60.0)
    fires = [at for now in moments for at in plan(seen, now).fires]
    for at in fires:
        one, other = (planner.job_of(seen, at, at + late) for late in (0.0, 1.0))
        assert (one.id, one.run_at, one.headers) == (other.id, other.run_at, other.headers)
        assert at <= one.run_at <= at + 30.0
        assert one.expires_at is not None
        assert one.expires_at >= one.run_at + 60.0
    ids = {planner.fire_id(seen, at) for at in fires}
    others = {planner.fire_id(replace(seen, id="another"), at) for at in fires}
    assert len(ids) == len(set(fires))
    assert not ids & others, "a schedule that was made anew has other jobs"


def test_jitter_spreads_jobs() -> None:
    seen = make_schedule(rule=ScheduleRule(interval=60.0, jitter=30.0))
    delays = [planner.job_of(seen, at, at).run_at - at for at in range(0, 60_000, 60)]
    assert 0.0 <= min(delays) < 3.0
    assert 27.0 < max(delays) <= 30.0


@given(st.floats(0.01, 1e5), st.integers(1, 10**6), st.floats(0.0, 2e9))
def test_no_fire_of_an_interval_is_stepped_over(secs: float, number: int, born_at: float) -> None:
    rule, at = ScheduleRule(interval=secs), born_at + number * secs
    assert fire_after(rule, born_at, nextafter(at, -inf)) in (at, born_at + (number - 1) * secs)
    after = fire_after(rule, born_at, at)
    assert after is not None
    assert after > at


def test_many_missed_fires_are_counted_up_to_a_limit_and_the_latest_are_made() -> None:
    seen = born(ScheduleRule(interval=1.0, misfire="all", misfire_max=3))
    found = plan(seen, BORN + 1e6 + 0.5)
    assert found.fires == (BORN + 1e6 - 2, BORN + 1e6 - 1, BORN + 1e6)
    assert 9_000 < found.missed < 11_000


# ---- once -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("late_secs", "options", "fires"),
    [
        (0.0, {}, True),
        (1e6, {}, True),
        (1e6, {"misfire": "all"}, True),
        (ON_TIME_SECS, {"misfire": "skip"}, True),
        (11.0, {"misfire": "skip"}, False),
        (60.0, {"grace": 60.0}, True),
        (61.0, {"grace": 60.0}, False),
    ],
)
def test_a_schedule_of_one_fire_removes_itself(
    late_secs: float, options: dict[str, Any], *, fires: bool
) -> None:
    at = BORN + 100.0
    seen = born(ScheduleRule(at=at, **options))
    assert plan(seen, at - 0.1).fires == ()
    found = plan(seen, at + late_secs)
    assert found.after is None
    assert (found.fires, found.missed) == (((at,), 0) if fires else ((), 1))


def test_a_fire_that_waits_keeps_its_schedule_until_it_is_made() -> None:
    seen = replace(born(ScheduleRule(at=BORN + 9.0, overlap="queue")), recent=("of run_now",))
    waits = plan(seen, BORN + 9.0, is_busy=True)
    assert (waits.fires, waits.skipped) == ((), 0)
    assert waits.after is not None
    assert waits.after.state == "active"
    assert waits.after.due_at == BORN + 9.0 + WAIT_SECS
    made = plan(waits.after, BORN + 10.0)
    assert (made.fires, made.after) == ((BORN + 9.0,), None)


# ---- what people change -----------------------------------------------------------------------


@given(rules(), looks(), st.sampled_from(["ann", "program"]))
def test_a_pause_makes_nothing_and_nothing_is_made_up_for(
    rule: ScheduleRule, moments: list[float], by: str
) -> None:
    seen = born(rule)
    assume(seen.next_at is not None)  # else it was refused
    paused = planner.paused(seen, by, BORN).after
    assert paused is not None
    assert (paused.due_at, paused.state, paused.paused_by) == (None, "paused", by)
    now = moments[-1]
    resumed = planner.resumed(paused, now).after
    assert resumed is not None
    assert (resumed.paused_by, resumed.paused_at) == (None, None)
    assert resumed.next_at == resumed.due_at == fire_after(rule, BORN, now)
    assert plan(resumed, now).fires == ()


@given(rules().filter(short), rules().filter(short), looks())
def test_an_update_keeps_the_next_fire_unless_the_trigger_changes(
    rule: ScheduleRule, other: ScheduleRule, moments: list[float]
) -> None:
    seen = born(rule)
    for now in moments[:-1]:
        seen = plan(seen, now).after or seen
    now = moments[-1]
    trigger = {
        name: getattr(rule, name)
        for name in ("at", "interval", "cron", "timezone_name", "start", "end")
    }
    same = planner.updated(seen, rule=replace(other, **trigger), now=now).after
    assert same is not None
    assert (same.next_at, same.created_at) == (seen.next_at, seen.created_at)
    after = planner.updated(seen, rule=other, now=now).after
    assert after is not None
    if other.trigger != rule.trigger:
        assert after.next_at is None or after.next_at > max(now, seen.last_at or now)


@given(rules().filter(short), looks())
def test_run_now_fires_besides_the_fire_times(rule: ScheduleRule, moments: list[float]) -> None:
    seen = born(rule)
    for now in dict.fromkeys(moments):
        change = planner.fired_now(seen, new_id(), now)
        assert change.after is not None
        assert change.after.next_at == seen.next_at
        assert change.after.fired == seen.fired + 1
        assert [job.id for job in change.jobs] == [change.after.recent[-1]]
        seen = change.after
