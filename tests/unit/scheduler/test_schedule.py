"""The handle of a schedule: what can be done with it, on any store, and what others see of it."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest

import nuvom
from nuvom.core.ids import new_id
from nuvom.errors import CapabilityMissing, ScheduleNotFound
from nuvom.scheduler import planner, schedule
from nuvom.scheduler.service import Scheduler
from nuvom.testing.clock import FakeClock
from tests.engine import Engine, ToyQueue, in_use, with_backends


def utc(moment: float) -> datetime:
    return datetime.fromtimestamp(moment, UTC)


def test_a_name_is_an_identity(add: Any) -> None:
    one = add.schedule(1, 2, interval=600, name="often")
    other = add.schedule(3, 4, interval=600, name="often")
    assert one == other
    assert nuvom.schedules() == [one]
    assert one.refresh().record == other.record
    assert len({add.schedule(1, 2, interval=60), add.schedule(1, 2, interval=60)}) == 1
    names = {add.schedule(1, 2, interval=60).name, add.schedule(1, 3, interval=60).name}
    assert len(names | {add.schedule(1, 2, interval=61).name}) == 3
    assert all(name.startswith("tests.add-") for name in names)


def test_a_deploy_that_changes_nothing_writes_nothing(add: Any) -> None:
    one = add.schedule(1, 2, interval=600, name="often")
    assert add.schedule(1, 2, interval=600, name="often").record == one.record


def test_an_update_keeps_the_next_fire_unless_the_trigger_changes(
    add: Any, clock: FakeClock
) -> None:
    one, began = add.schedule(1, 2, interval=600), clock.now()
    clock.advance(700)  # a fire is due that nobody has made yet
    one.update(misfire="all", jitter=5)
    assert (one.rule.misfire, one.rule.jitter) == ("all", 5.0)
    assert one.next_at == utc(began + 600)
    one.update(interval=30)
    assert one.next_at == utc(began + 730)
    one.update(cron="@hourly")
    assert (one.rule.interval, one.rule.misfire) == (None, "all")
    assert one.next_at is not None
    assert one.next_at.minute == 0


def test_a_paused_schedule_does_not_fire_and_is_not_made_up_for(
    timed: Engine, add: Any, clock: FakeClock
) -> None:
    one, began = add.schedule(1, 2, interval=600, misfire="all"), clock.now()
    one.pause(by="ann")
    assert (one.state, one.next_at, one.next(3)) == ("paused", None, [])
    clock.advance(6100)
    scheduler = Scheduler(timed.runtime)
    scheduler.step()
    one.update(grace=60)
    assert (one.state, one.record.paused_by) == ("paused", "ann")
    one.resume()
    assert one.next_at == utc(began + 6600)
    scheduler.step()
    assert one.refresh().record.fired == 0
    clock.advance(500)
    scheduler.step()
    assert one.refresh().record.fired == 1


def test_to_resume_what_is_not_paused_drops_no_fire(
    timed: Engine, add: Any, clock: FakeClock
) -> None:
    one = add.schedule(1, 2, interval=600)
    clock.advance(601)
    one.resume()
    Scheduler(timed.runtime).step()
    assert one.refresh().record.fired == 1


def test_run_now_fires_besides_the_fire_times_in_any_state(
    timed: Engine, add: Any, clock: FakeClock
) -> None:
    one = add.schedule(5, 7, interval=600)
    one.pause()
    job = one.run_now()
    assert (one.refresh().state, one.jobs) == ("paused", [job])
    one.resume()
    clock.advance(600)
    Scheduler(timed.runtime).step()
    timed.work()
    assert [each.get() for each in one.refresh().jobs] == [12, 12]


def test_run_now_at_a_fire_time_makes_a_job_of_its_own(
    timed: Engine, add: Any, clock: FakeClock
) -> None:
    one = add.schedule(5, 7, interval=600)
    clock.advance(600)
    Scheduler(timed.runtime).step()
    one.run_now()
    one.run_now()
    assert timed.runtime.queue.qsize() == len({job.id for job in one.refresh().jobs}) == 3


def test_run_now_makes_one_job_also_if_the_schedule_changes_meanwhile(
    timed: Engine, add: Any, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where schedules have a store of their own, the job is enqueued before."""
    one, store = add.schedule(5, 7, interval=600), timed.runtime.queue.schedules()
    store.inserts_jobs = False
    runtime = dataclasses.replace(timed.runtime, separate_schedules=store)
    apply = store.apply

    def refused_at_first(changes: Any) -> Any:
        monkeypatch.setattr(store, "apply", apply)
        clock.advance(1)
        one.pause()
        return apply(changes)

    monkeypatch.setattr(store, "apply", refused_at_first)
    job = schedule.Schedule(one.record, runtime).run_now()
    assert (timed.runtime.queue.qsize(), one.refresh().jobs) == (1, [job])


def test_what_was_deleted_is_gone_and_its_jobs_are_not(
    timed: Engine, add: Any, clock: FakeClock
) -> None:
    one = add.schedule(5, 7, interval=600, name="often")
    job = one.run_now()
    assert (one.delete(), one.delete()) == (True, False)
    assert nuvom.schedules() == []
    timed.work()
    assert job.get() == 12
    for act in (one.pause, one.resume, one.run_now, one.refresh, one.next):
        with pytest.raises(ScheduleNotFound, match='no schedule named "often"'):
            act()


def test_a_name_that_was_given_anew_is_another_schedule(
    timed: Engine, add: Any, clock: FakeClock
) -> None:
    """Whoever planned for the former one has no effect on the latter."""
    former = add.schedule(5, 7, interval=600, name="often").record
    nuvom.Schedule(former, timed.runtime).delete()
    latter = add.schedule(5, 7, interval=900, name="often")
    store = timed.runtime.schedule_store
    assert store is not None
    assert store.apply([planner.fired_now(former, new_id(), clock.now())]) == [False]
    assert latter.refresh().record.fired == 0


def test_a_change_of_somebody_else_in_between_is_kept(
    timed: Engine, add: Any, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = add.schedule(1, 2, interval=600)
    store, others = timed.runtime.schedule_store, iter([planner.fired_now])
    assert store is not None
    paused = planner.paused

    def interrupted(seen: Any, by: str, now: float) -> Any:
        for act in others:
            assert store.apply([act(seen, new_id(), now)]) == [True]
        return paused(seen, by, now)

    monkeypatch.setattr(planner, "paused", interrupted)
    one.pause()
    assert (one.record.fired, one.state) == (1, "paused")


@pytest.mark.parametrize("option", ["delay", "run_at"])
def test_options_that_a_fire_decides_on_are_refused(add: Any, option: str) -> None:
    given = {"delay": 5, "run_at": datetime(2040, 1, 1, tzinfo=UTC)}[option]
    with pytest.raises(nuvom.errors.InvalidSchedule, match="a fire decides when a job starts"):
        add.options(**{option: given}).schedule(1, 2, interval=60)


def test_schedules_are_found_by_name_and_a_misspelt_one_is_guessed(add: Any) -> None:
    add.schedule(1, 2, interval=600, name="nightly report")
    assert schedule.find("nightly report").task == "tests.add"
    with pytest.raises(ScheduleNotFound, match="nightly report"):
        schedule.find("nihgtly report")


def test_a_store_that_keeps_no_schedules_says_which_ones_do(timed: Engine, add: Any) -> None:
    with in_use(with_backends(timed.runtime, ToyQueue())):
        with pytest.raises(CapabilityMissing, match="memory, file, sqlite, postgres and redis"):
            add.schedule(1, 2, interval=600)
        with pytest.raises(CapabilityMissing, match="schedules"):
            nuvom.schedules()
