"""A scheduler on a clock that the test moves: outages, steps of the clock, sleeps, and idleness."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Condition, Event
from typing import Any

import pytest
from msgspec.structs import replace

import nuvom
from nuvom.core.record import JobRecord, JobStatus
from nuvom.errors import QueueFull
from nuvom.events import BackendFailed, JobEnqueued, ScheduleFired, ScheduleMissed
from nuvom.inspection.inspector import Inspector
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.scheduler.record import SCHEDULE, SCHEDULED_FOR, ScheduleChange
from nuvom.scheduler.service import LOOK_SECS, Scheduler, SchedulerProcess
from nuvom.testing.clock import FakeClock
from tests.engine import Engine, ToyQueue, make_runtime, wait_until, with_backends

HOUR, DAY = 3600.0, 86_400.0


def jobs(engine: Engine) -> list[JobRecord]:
    """Return all jobs, oldest fire first."""
    page = Inspector(engine.runtime).page(limit=2000)
    return sorted((one.record for one in page), key=fire_time)


def fire_time(job: JobRecord) -> float:
    return float((job.headers or {})[SCHEDULED_FOR])


def fired(engine: Engine) -> list[float]:
    return [fire_time(job) for job in jobs(engine)]


def live(scheduler: Scheduler, clock: FakeClock, secs: float, *, every: float = 60.0) -> None:
    """Let time pass, and the scheduler look each minute."""
    for _ in range(int(secs / every)):
        clock.advance(every)
        scheduler.step()


# ---- fires ----------------------------------------------------------------------------------


def test_a_fire_is_a_job_that_says_where_it_is_from(
    timed: Engine, clock: FakeClock, add: Any
) -> None:
    made = add.options(tags=["nightly"], expires=60).schedule(5, 7, interval=600, name="often")
    clock.advance(600.5)
    assert Scheduler(timed.runtime).step() == pytest.approx(LOOK_SECS)
    (job,) = jobs(timed)
    assert job.headers == {SCHEDULE: "often", SCHEDULED_FOR: repr(clock.now() - 0.5)}
    assert (job.func_name, job.created_at, job.run_at) == ("tests.add", clock.now(), 0.0)
    assert (job.tags, job.expires_at) == (("nightly",), clock.now() + 60)
    (event,) = timed.events(ScheduleFired)
    assert (event.schedule, event.job.id, event.lag_secs) == ("often", job.id, 0.5)
    assert [one.job.id for one in timed.events(JobEnqueued)] == [job.id]
    assert [one.id for one in made.refresh().jobs] == [job.id]
    timed.work()
    assert made.jobs[0].get() == 12


def test_a_schedule_of_one_fire_leaves_its_job(timed: Engine, clock: FakeClock, add: Any) -> None:
    add.schedule(1, 2, in_=5)
    scheduler = Scheduler(timed.runtime)
    assert scheduler.step() == 5.0
    clock.advance(5)
    scheduler.step()
    assert nuvom.schedules() == []
    assert len(jobs(timed)) == 1


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({"misfire": "skip"}, []),
        ({"misfire": "latest"}, [100]),
        ({"misfire": "all"}, range(1, 101)),
        ({"misfire": "all", "misfire_max": 7}, range(94, 101)),
        ({"misfire": "all", "grace": 1830}, range(97, 101)),
        ({"misfire": "latest", "grace": 10}, []),
    ],
)
def test_f39_after_a_hundred_missed_fires_the_policy_decides(
    timed: Engine, clock: FakeClock, add: Any, *, options: dict[str, Any], numbers: Any
) -> None:
    began = clock.now()
    made = add.schedule(1, 2, interval=600, **options)
    clock.advance(100 * 600 + 30)
    scheduler = Scheduler(timed.runtime)
    scheduler.step()
    assert [began + 600 * number for number in numbers] == fired(timed)
    record = made.refresh().record
    assert (record.fired, record.missed) == (len(numbers), 100 - len(numbers))
    assert [one.missed for one in timed.events(ScheduleMissed)] == (
        [record.missed] if record.missed else []
    )
    live(scheduler, clock, 600, every=10)
    assert fired(timed)[-1] == began + 101 * 600, "it goes on as before"


def test_schedulers_that_are_a_little_late_miss_nothing(
    timed: Engine, clock: FakeClock, add: Any
) -> None:
    add.schedule(1, 2, interval=1, misfire="skip")
    clock.advance(9.5)
    Scheduler(timed.runtime).step()
    assert len(jobs(timed)) == 9


# ---- clocks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("misfire", ["skip", "latest", "all"])
@pytest.mark.parametrize("step_secs", [HOUR, -HOUR, DAY, -DAY])
def test_r16_a_step_of_the_clock_repeats_no_fire_and_leaves_none_out(
    timed: Engine, clock: FakeClock, add: Any, *, misfire: str, step_secs: float
) -> None:
    began = clock.now()
    add.schedule(1, 2, interval=600, misfire=misfire, misfire_max=1000)
    scheduler = Scheduler(timed.runtime)
    live(scheduler, clock, 2 * HOUR)
    clock.jump(step_secs)
    live(scheduler, clock, 60)  # the first look afterwards
    after_step = clock.now()
    live(scheduler, clock, max(-step_secs, 0.0) + HOUR)
    all_times = [began + 600 * number for number in range(1, int((clock.now() - began) / 600) + 1)]
    missed = [at for at in all_times if began + 2 * HOUR < at <= after_step]
    kept = {"skip": [], "latest": missed[-1:], "all": missed}[misfire]
    assert fired(timed) == [at for at in all_times if at not in missed or at in kept]


def test_r16_a_laptop_that_slept_fires_when_it_wakes(
    timed: Engine, clock: FakeClock, add: Any
) -> None:
    """While it sleeps its monotonic clock stands still, and so does the scheduler's wait."""
    add.schedule(1, 2, interval=HOUR)
    with running(timed, clock) as waits:
        assert waits() == LOOK_SECS
        clock.jump(8.25 * HOUR)
        clock.advance(LOOK_SECS)
        timed.wait_for(ScheduleFired)
    assert len(fired(timed)) == 1


def test_a_wall_clock_by_which_a_change_of_offset_is_near_fires_once_a_day(
    timed: Engine, clock: FakeClock, add: Any
) -> None:
    """In the night to 26 October 2025 Berlin has 2:30 twice; to 30 March 2025 it has none."""
    clock.jump(datetime(2025, 10, 25, 12, tzinfo=UTC).timestamp() - clock.now())
    add.schedule(1, 2, cron="30 2 * * *", timezone_name="Europe/Berlin")
    live(Scheduler(timed.runtime), clock, 2 * DAY, every=300)
    assert [datetime.fromtimestamp(at, UTC).isoformat() for at in fired(timed)] == [
        "2025-10-26T00:30:00+00:00",
        "2025-10-27T01:30:00+00:00",
    ]


# ---- overlap --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overlap", "made", "skipped"),
    [("allow", [3, 1], 0), ("skip", [1, 1], 2), ("queue", [1, 1], 1)],
)
def test_overlap_decides_while_the_last_job_is_not_final(
    timed: Engine, clock: FakeClock, add: Any, *, overlap: str, made: list[int], skipped: int
) -> None:
    schedule = add.schedule(1, 2, interval=60, overlap=overlap)
    scheduler = Scheduler(timed.runtime)
    live(scheduler, clock, 180)
    counts = [len(fired(timed))]
    while_busy = schedule.refresh().record
    timed.work()  # all are final now
    clock.advance(1 if overlap == "queue" else 60)
    scheduler.step()
    counts.append(len(fired(timed)) - counts[0])
    assert (counts, while_busy.skipped) == (made, skipped)


def test_a_fire_that_waits_is_made_within_a_second_of_the_end(
    timed: Engine, clock: FakeClock, add: Any
) -> None:
    add.schedule(1, 2, interval=600, overlap="queue")
    scheduler = Scheduler(timed.runtime)
    live(scheduler, clock, 1200)
    assert scheduler.step() <= 1.0
    timed.work()
    clock.advance(1.0)
    assert scheduler.step() > 1.0
    assert [one.status for one in jobs(timed)] == [JobStatus.SUCCESS, JobStatus.PENDING]


@pytest.mark.parametrize("overlap", ["skip", "queue"])
def test_a_job_that_is_not_kept_any_more_is_not_in_the_way(
    timed: Engine, clock: FakeClock, add: Any, *, overlap: str
) -> None:
    made = add.schedule(1, 2, interval=60, overlap=overlap)
    scheduler = Scheduler(timed.runtime)
    live(scheduler, clock, 60)
    timed.work()
    assert timed.runtime.control.discard(made.refresh().jobs[0].id)
    live(scheduler, clock, 60)
    assert made.refresh().record.fired == 2


# ---- idleness, wake-ups, the end --------------------------------------------------------------


class CountingStore:
    """A store of schedules that counts the calls."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found) or name == "waiter":
            return found

        def count(*args: Any) -> Any:
            self.calls[name] += 1
            return found(*args)

        return count


@contextmanager
def running(engine: Engine, clock: FakeClock, **changes: Any) -> Iterator[Callable[[], float]]:
    """Run a scheduler in its thread; yield what returns how long its present sleep is to last."""
    slept: list[float] = []
    sleeps, wait = Event(), clock.wait

    def noted(event: Any, secs: float | None = None) -> bool:
        if not isinstance(event, Condition):  # else it is the waiter's own wait
            slept.append(secs or 0.0)
            sleeps.set()
        return wait(event, secs)

    def next_sleep() -> float:
        assert sleeps.wait(30), "it does not sleep"
        sleeps.clear()
        return slept[-1]

    clock.wait = noted  # type: ignore[method-assign]  # whoever waits by it is the scheduler
    scheduler = Scheduler(runtime_with(engine, changes))
    scheduler.start()
    try:
        yield next_sleep
    finally:
        scheduler.stop()
        clock.wait = wait  # type: ignore[method-assign]  # as above


def runtime_with(engine: Engine, changes: dict[str, Any]) -> Any:
    return dataclasses.replace(engine.runtime, **changes)


def test_an_idle_scheduler_makes_no_call_until_its_next_look(
    timed: Engine, clock: FakeClock, add: Any
) -> None:
    add.schedule(1, 2, interval=45)
    store = CountingStore(timed.runtime.schedule_store)
    with running(timed, clock, separate_schedules=store) as next_sleep:
        assert next_sleep() == LOOK_SECS
        assert dict(store.calls) == {"due": 1, "next_due_at": 1}
        clock.advance(29.5)
        assert not wait_a_moment(lambda: store.calls.total() > 2)
        clock.advance(0.5)
        assert next_sleep() == 15.0
        assert dict(store.calls) == {"due": 2, "next_due_at": 2}
        clock.advance(15)
        assert next_sleep() == LOOK_SECS
    assert dict(store.calls) == {"due": 4, "next_due_at": 3, "apply": 1}


def wait_a_moment(is_so: Callable[[], bool]) -> bool:
    """Return whether something comes true though nothing is to happen."""
    return Event().wait(0.05) or is_so()


def test_a_schedule_that_is_due_earlier_wakes_the_scheduler(
    timed: Engine, clock: FakeClock, add: Any
) -> None:
    with running(timed, clock) as next_sleep:
        assert next_sleep() == LOOK_SECS
        add.schedule(1, 2, in_=20)
        assert next_sleep() == 20.0
        add.schedule(3, 4, in_=0)
        timed.wait_for(ScheduleFired)
    assert len(jobs(timed)) == 1


def test_a_scheduler_that_sleeps_stops_at_once(timed: Engine, clock: FakeClock) -> None:
    with running(timed, clock) as next_sleep:
        next_sleep()


def test_a_schedule_whose_zone_is_gone_is_disabled_and_holds_up_no_other(
    timed: Engine, clock: FakeClock, add: Any
) -> None:
    broken = add.schedule(1, 2, cron="* * * * *", name="broken")
    add.schedule(1, 2, interval=60)
    store = timed.runtime.schedule_store
    assert store is not None
    rule = replace(broken.rule, timezone_name="Mars/Olympus")
    after = replace(broken.record, rule=rule, revision=broken.record.revision + 1)
    assert store.apply([changed(broken.record, after)]) == [True]
    live(Scheduler(timed.runtime), clock, 120)
    assert len(jobs(timed)) == 2
    assert broken.refresh().state == "disabled"
    assert "Mars/Olympus" in (broken.record.disabled or "")


def test_a_damaged_schedule_is_reported_and_holds_up_no_other(project: Path) -> None:
    """Not even while what is declared cannot be compared with what is stored."""
    runtime = make_runtime(project, queue_backend="sqlite", result_backend="sqlite")
    manifest = runtime.settings.manifest_file
    manifest.parent.mkdir(exist_ok=True)
    manifest.write_text('{"version": 1, "tasks": []}')
    with Engine(runtime) as engine:

        @engine.task
        def add(x: int, y: int) -> int:
            return x + y

        add.schedule(1, 2, in_=0, name="damaged")
        with closing(sqlite3.connect(runtime.settings.db_path)) as connection, connection:
            connection.execute("UPDATE schedules SET record = x'00'")
        add.schedule(3, 4, in_=0.01, name="sound")
        scheduler = Scheduler(runtime)
        scheduler.start()
        try:
            assert engine.wait_for(ScheduleFired).schedule == "sound"
            assert "a schedule cannot be read" in str(engine.wait_for(BackendFailed).error.message)
        finally:
            scheduler.stop()
        assert runtime.queue.qsize() == 1


def changed(seen: Any, after: Any) -> Any:
    return ScheduleChange(seen.name, seen.revision, after)


def test_two_schedulers_that_saw_the_same_make_one_job(
    timed: Engine, clock: FakeClock, add: Any
) -> None:
    """The second one plans on what the first has just changed."""
    for number in range(20):
        add.schedule(number, 0, interval=60, name=f"s{number}")
    store = timed.runtime.schedule_store
    assert store is not None
    clock.advance(60)
    seen = store.due(clock.now(), 100)

    class Stale(CountingStore):
        def due(self, now: float, limit: int) -> Any:
            self.calls["due"] += 1
            return seen if self.calls["due"] == 1 else self._store.due(now, limit)

    Scheduler(timed.runtime).step()
    Scheduler(runtime_with(timed, {"separate_schedules": Stale(store)})).step()
    assert len(jobs(timed)) == 20
    assert len(timed.events(ScheduleFired)) == 20


def test_a_store_of_its_own_gets_the_jobs_first_and_once(
    timed: Engine, clock: FakeClock, add: Any
) -> None:
    """After a death in between the fire is made again, and its job is there once."""

    class Apart(CountingStore):
        inserts_jobs = False
        dies = True

        def apply(self, changes: Any) -> Any:
            if self.dies:
                self.dies = False
                raise KeyboardInterrupt
            return self._store.apply([ScheduleChange(*one[:3]) for one in changes])

    add.schedule(1, 2, interval=60)
    runtime = runtime_with(timed, {"separate_schedules": Apart(timed.runtime.schedule_store)})
    clock.advance(60)
    with pytest.raises(KeyboardInterrupt):
        Scheduler(runtime).step()
    assert len(jobs(timed)) == 1
    Scheduler(runtime).step()
    assert len(jobs(timed)) == 1
    wait_until(lambda: len(timed.events(ScheduleFired)) == 1)


@pytest.mark.parametrize("queue", ["memory", "file", "toy"])
def test_jobs_go_to_the_queue_also_where_schedules_have_another_queue_s_store(
    project: Path, queue: str
) -> None:
    """The store of ``scheduler_backend`` could hold jobs, too, and no worker would find them."""
    name = "memory" if queue == "toy" else queue
    runtime = make_runtime(project, queue_backend=name, scheduler_backend="sqlite")
    with Engine(with_backends(runtime, ToyQueue() if queue == "toy" else None)) as engine:

        @engine.task
        def add(x: int, y: int) -> int:
            return x + y

        made = add.schedule(5, 7, in_=0, name="once")
        by_hand = made.run_now()
        Scheduler(engine.runtime).step()
        assert engine.runtime.queue.qsize() == 2
        assert by_hand.status == JobStatus.PENDING
        assert {one.job.id for one in engine.events(JobEnqueued)} > {by_hand.id}


def test_a_full_queue_of_another_store_holds_up_no_other_schedule(
    timed: Engine, clock: FakeClock, add: Any
) -> None:
    class Apart(CountingStore):
        inserts_jobs = False

    class Full(MemoryJobQueue):
        def enqueue(self, job: JobRecord) -> str | None:
            if job.queue == "full":
                raise QueueFull("full", 1, 1)
            return super().enqueue(job)

    changes = {"separate_schedules": Apart(timed.runtime.schedule_store)}
    engine = with_backends(runtime_with(timed, changes), Full(clock=clock))
    blocked = add.options(queue="full").schedule(1, 2, in_=30)
    add.schedule(3, 4, interval=60)
    clock.advance(60)
    with pytest.raises(QueueFull):
        Scheduler(engine).step()
    assert engine.queue.qsize() == 1
    assert blocked.refresh().state == "active", "it is made once there is room"


def test_an_interrupted_start_leaves_no_scheduler_behind_for_readers(
    timed: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: Scheduler) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Scheduler, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        SchedulerProcess(timed.runtime).run()
    assert Inspector(timed.runtime).schedulers() == []
