"""What a store of schedules promises: guarded changes, fires in one step with their jobs, wake-ups.

The rules of a schedule's life are the planner's; a store knows names, revisions and due times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from nuvom.queue_backends.base import Capability
from nuvom.scheduler.record import ScheduleChange, ScheduleRecord, ScheduleRule
from nuvom.testing.builders import make_schedule
from nuvom.testing.conformance.law import Hand, all_at_once, needs
from nuvom.testing.conformance.laws.basics import assert_same
from nuvom.testing.conformance.laws.bench import QueueKit

if TYPE_CHECKING:
    from nuvom.core.record import JobRecord
    from nuvom.scheduler.store import BaseScheduleStore
    from nuvom.testing.conformance.laws.bench import QueueBench

_MANY = 8
_LONG_SECS = 600.0  # so long that only a wake-up can have ended the wait
_MOMENT_SECS = 0.2
_NAMES = ("Zug", "a", "a b", "ab", "zug", "Ärger", "été", "плановый", "日報", "🕰")
"""In the order of their UTF-8, in which capitals come first and no language's rules count."""


@needs(Capability.SCHEDULES)
class ScheduleStoreLaws(QueueKit):
    """Schedules in the store of a queue, of which any number of schedulers may fire."""

    # ---- changes ------------------------------------------------------------------------

    def test_a_schedule_comes_back_as_it_was_stored(self, bench: QueueBench) -> None:
        """``get``, ``page`` and ``due`` give a schedule with all its fields, whatever its name."""
        store = bench.queue.schedules()
        for name in ("it's; DROP TABLE jobs --", "%_*?[a]", "a/../b", "ß" * 200, "🕰 ein Plan"):
            wanted = _full(bench, name)
            assert store.apply([_added(wanted)]) == [True]
            assert store.get(name) == wanted
            assert store.page() == store.due(bench.after(60.0), 9) == [wanted]
            assert store.apply([_removed(wanted)]) == [True]
        assert (store.get("unknown"), store.next_due_at()) == (None, None)
        assert store.page() == store.due(bench.after(60.0), 9) == []

    def test_a_change_needs_the_revision_that_was_seen(self, bench: QueueBench) -> None:
        """``apply`` writes a change only if its schedule has the revision that was seen."""
        store, first = bench.queue.schedules(), make_schedule("s", revision=4)
        second = replace(first, fired=1, revision=5)
        assert store.apply([ScheduleChange("s", 4, second)]) == [False], "there is none"
        assert store.apply([_added(first)]) == [True]
        assert store.apply([_added(replace(second, id="other"))]) == [False], "there is one"
        stale = [ScheduleChange("s", seen, second) for seen in (3, 5)]
        assert store.apply([*stale, *(one._replace(after=None) for one in stale)]) == 4 * [False]
        assert store.get("s") == first
        assert store.apply([_changed(first, second)]) == [True]
        assert store.apply([_changed(first, second), _removed(first)]) == [False, False]
        assert store.get("s") == second
        assert store.apply([_removed(second), _removed(second)]) == [True, False]
        assert store.page() == []

    def test_a_refused_change_leaves_others_alone(self, bench: QueueBench) -> None:
        """A refused change writes nothing, no job either; what stands beside it is written."""
        store = bench.queue.schedules()
        one, other = (make_schedule(name, due_at=bench.clock.now()) for name in "ab")
        assert store.apply([_added(one), _added(one), _added(other)]) == [True, False, True]
        jobs = [bench.job() for _ in range(3)]
        changes = [
            _changed(one, replace(one, revision=2), jobs[0]),
            _changed(one, replace(one, revision=2, fired=9), jobs[1]),
            _changed(other, replace(other, revision=2), jobs[2]),
        ]
        assert store.apply(changes) == [True, False, True]
        assert sorted(bench.popped()) == sorted([jobs[0].id, jobs[2].id])
        assert [found.fired for found in store.page()] == [0, 0]
        assert store.apply([]) == []

    def test_changes_of_one_call_follow_each_other(self, bench: QueueBench) -> None:
        """Each change of an ``apply`` sees what those before it have written."""
        store, first = bench.queue.schedules(), make_schedule("s")
        second = replace(first, revision=2)
        changes = [_added(first), _changed(first, second), _removed(second), _added(first)]
        assert store.apply(changes) == 4 * [True]
        assert store.page() == [first]

    def test_a_former_schedule_of_a_name_fires_no_more(self, bench: QueueBench) -> None:
        """Whoever saw a schedule that was removed cannot change the next one of its name."""
        store, now = bench.queue.schedules(), bench.clock.now()
        former, latter = make_schedule("s", due_at=now), make_schedule("s", revision=7, due_at=now)
        assert store.apply([_added(former), _removed(former), _added(latter)]) == 3 * [True]
        late = _changed(former, replace(former, revision=2), bench.job())
        assert store.apply([late, _removed(former), _added(former)]) == 3 * [False]
        assert (store.due(now, 9), bench.popped()) == ([latter], [])
        assert store.apply([_removed(latter), _added(latter)]) == [True, True]
        assert store.due(now, 9) == [latter], "it is due once, also if it is as it was"

    # ---- fires --------------------------------------------------------------------------

    def test_a_fire_brings_its_jobs(self, bench: QueueBench) -> None:
        """``apply`` of a queue's own store enqueues the jobs of a change in the same step."""
        store, seen = _stored(bench)
        assert store.inserts_jobs
        jobs = [bench.job("shop.send", 1, tags=("a",), headers={"h": "1"}) for _ in range(2)]
        jobs.sort(key=lambda job: job.id)  # as the ids of fires follow each other
        fired = replace(seen, fired=2, revision=2)
        assert store.apply([_changed(seen, fired, *jobs)]) == [True]
        last = bench.job(priority=9)
        assert store.apply([_removed(fired)._replace(jobs=(last,))]) == [True]
        found = bench.queue.pop_batch(9)
        assert [job.id for job in (*jobs, last)] == [job.id for job in found]
        counters = {"ref", "status", "attempt", "deliveries", "lease_epoch"}
        assert_same(jobs[0], found[0], without=counters)
        assert store.page() == []

    @needs(Capability.LEASES)
    def test_a_job_that_is_known_is_not_enqueued_again(self, bench: QueueBench) -> None:
        """A fire whose job's id is known already, in whatever status, leaves that job alone."""
        store, seen = _stored(bench)
        waiting, done = bench.job(), bench.job()
        bench.queue.enqueue(done)
        assert bench.settle(bench.claim())
        bench.queue.enqueue(waiting)
        again = [job.replace(priority=1) for job in (waiting, done, waiting)]
        assert store.apply([_changed(seen, replace(seen, revision=2), *again)]) == [True]
        (found,) = bench.queue.claim(9, "worker")
        assert (found.id, found.priority) == (waiting.id, waiting.priority)

    @needs(Capability.UNIQUE)
    def test_a_taken_key_holds_no_schedule_up(self, bench: QueueBench) -> None:
        """The job of a fire whose ``unique_key`` is taken is left out; the schedule advances."""
        store, seen = _stored(bench)
        holder = bench.put(unique_key="once")
        jobs = bench.job(unique_key="once"), bench.job(unique_key="other")
        assert store.apply([_changed(seen, replace(seen, revision=2), *jobs)]) == [True]
        assert bench.popped() == [holder.id, jobs[1].id]
        found = store.get("s")
        assert found is not None
        assert found.revision == 2

    def test_a_full_queue_holds_no_schedule_up(self, bench: QueueBench) -> None:
        """A fire is enqueued although its queue has ``max_queue_size`` jobs already."""
        bench.open(max_queue_size=1)
        store, seen = _stored(bench)
        jobs = bench.put(), bench.job()
        assert store.apply([_changed(seen, replace(seen, revision=2), jobs[1])]) == [True]
        assert bench.popped() == [job.id for job in jobs]

    @needs(Capability.WAKE_UP)
    def test_a_fire_wakes_a_worker(self, bench: QueueBench) -> None:
        """``wait_for_work`` returns when a fire has brought a job."""
        queue = bench.open(real_time=True)
        store, seen = _stored(bench)
        fire = _changed(seen, replace(seen, revision=2), bench.job())

        def comes_late() -> bool:
            assert store.apply([fire]) == [True]
            return False

        Hand(lambda: queue.wait_for_work(_LONG_SECS, comes_late)).end(bench.patience_secs)

    # ---- reads --------------------------------------------------------------------------

    def test_due_schedules_come_by_their_times(self, bench: QueueBench) -> None:
        """``due`` gives those whose ``due_at`` has come, the earliest first, at most ``limit``."""
        store, now = bench.queue.schedules(), bench.clock.now()
        dues = {"d": now, "a": now - 1.5, "e": now + 0.25, "c": now - 3600.0, "b": None}
        schedules = [make_schedule(name, due_at=due_at) for name, due_at in dues.items()]
        assert store.apply([*map(_added, schedules)]) == 5 * [True]
        assert _names(store.due(now, 9)) == ["c", "a", "d"]
        assert _names(store.due(now, 2)) == ["c", "a"]
        assert _names(store.due(now + 0.25, 9)) == ["c", "a", "d", "e"]
        assert store.due(now - 7200.0, 9) == []
        moved = replace(schedules[3], due_at=now - 1.0, revision=2)
        assert store.apply([_changed(schedules[3], moved), _removed(schedules[1])]) == [True, True]
        assert _names(store.due(now, 9)) == ["c", "d"]

    def test_the_earliest_due_time_is_known(self, bench: QueueBench) -> None:
        """``next_due_at`` tells the earliest ``due_at``, past or not, exactly; None without any."""
        store, at = bench.queue.schedules(), bench.clock.now() + 1 / 3
        late, early = make_schedule("late", due_at=at), make_schedule("early", due_at=at - 9e4)
        told = []
        for change in (
            _added(make_schedule("never")),
            _added(late),
            _added(early),
            _changed(early, replace(early, due_at=None, revision=2)),
            _removed(late),
        ):
            assert store.apply([change]) == [True]
            told.append(store.next_due_at())
        assert told == [None, at, early.due_at, at, None]

    def test_pages_give_each_schedule_once(self, bench: QueueBench) -> None:
        """``page`` gives schedules by name in the order of UTF-8, whatever is removed meanwhile."""
        store = bench.queue.schedules()
        schedules = {name: make_schedule(name) for name in _NAMES}
        backwards = [_added(schedules[name]) for name in reversed(_NAMES)]
        assert store.apply(backwards) == len(_NAMES) * [True]
        assert _names(store.page()) == list(_NAMES)
        seen = _names(store.page(limit=3))
        assert store.apply([_removed(schedules[seen[-1]])]) == [True]
        while page := _names(store.page(seen[-1], 3)):
            seen += page
        assert seen == list(_NAMES)
        assert _names(store.page("a", 2)) == ["ab", "zug"]

    # ---- several who use it ---------------------------------------------------------------

    def test_of_those_who_fire_at_once_one_does(self, bench: QueueBench) -> None:
        """Of schedulers that apply the same changes at once exactly one is told True for each."""
        bench.open(real_time=True)
        store, now = bench.queue.schedules(), bench.clock.now()
        schedules = [make_schedule(f"s{number}", due_at=now) for number in range(20)]
        assert all(store.apply([*map(_added, schedules)]))
        jobs = [bench.job() for _ in schedules]
        told: list[list[bool]] = []

        def fire(number: int) -> None:
            fires = [
                _changed(one, replace(one, due_at=None, fired=number, revision=2), job)
                for one, job in zip(schedules, jobs, strict=True)
            ]
            told.append([store.apply([one])[0] for one in fires[::2]] + store.apply(fires[1::2]))

        all_at_once(fire, threads=_MANY, limit_secs=2 * bench.patience_secs)
        assert [sum(each) for each in zip(*told, strict=True)] == len(schedules) * [1]
        assert sorted(bench.popped()) == sorted(job.id for job in jobs)
        assert {one.revision for one in store.page()} == {2}
        assert store.next_due_at() is None

    def test_schedules_outlive_the_instance(self, bench: QueueBench) -> None:
        """What one instance has written others see at once, and when it has stopped."""
        earlier = bench.reopen().schedules()
        seen = _full(bench, "s")
        store = bench.queue.schedules()
        assert store.apply([_added(seen)]) == [True]
        fired, job = replace(seen, fired=1, revision=seen.revision + 1), bench.job()
        assert earlier.apply([_changed(seen, fired, job)]) == [True]
        assert store.apply([_changed(seen, fired, bench.job())]) == [False]
        bench.queue.stop()
        other = bench.reopen()
        for found in (earlier, other.schedules()):
            assert found.get("s") == fired
            assert found.next_due_at() == fired.due_at
        assert [job.id] == [one.id for one in other.pop_batch(9)]

    def test_an_earlier_due_time_wakes_schedulers(self, bench: QueueBench) -> None:
        """A waiter is woken when the earliest ``due_at`` gets earlier, even before it waits."""
        store, at = bench.open(real_time=True).schedules(), bench.after(3600.0)
        with store.waiter() as waiter, store.waiter() as another:
            for number in range(3):
                due = make_schedule(f"s{number}", due_at=at - number)
                assert store.apply([_added(due)]) == [True]
                Hand(lambda: waiter.wait(_LONG_SECS)).end(bench.patience_secs)
                Hand(lambda: another.wait(_LONG_SECS)).end(bench.patience_secs)

    def test_a_later_due_time_wakes_nobody(self, bench: QueueBench) -> None:
        """No waiter is woken by what makes the earliest ``due_at`` no earlier, such as a fire."""
        store, at = bench.open(real_time=True).schedules(), bench.after(3600.0)
        first = make_schedule("first", due_at=at)
        assert store.apply([_added(first)]) == [True]
        advanced = replace(first, due_at=at + 60.0, revision=2)
        with store.waiter() as waiter:
            assert store.apply([_added(make_schedule("later", due_at=at + 90.0))]) == [True]
            assert store.apply([_changed(first, advanced, bench.job())]) == [True]
            assert store.apply([_removed(advanced), _added(make_schedule("never"))]) == [True, True]
            assert store.apply([_changed(first, replace(first, revision=2))]) == [False]
            assert not waiter.wait(_MOMENT_SECS)

    def test_a_poke_ends_a_wait(self, bench: QueueBench) -> None:
        """``poke`` ends the wait of a scheduler that is to stop, or its next one."""
        store = bench.open(real_time=True).schedules()
        with store.waiter() as waiter:
            for _ in range(3):
                hand = Hand(lambda: waiter.wait(_LONG_SECS))
                hand.start()
                waiter.poke()
                hand.finish(bench.patience_secs)

    def test_another_instance_wakes_schedulers(self, bench: QueueBench) -> None:
        """A waiter is woken by what another instance on the store has written."""
        store = bench.open(real_time=True).schedules()
        other = bench.reopen().schedules()
        with store.waiter() as waiter:
            assert other.apply([_added(make_schedule("s", due_at=bench.after(9.0)))]) == [True]
            Hand(lambda: waiter.wait(_LONG_SECS)).end(bench.patience_secs)


def _full(bench: QueueBench, name: str) -> ScheduleRecord:
    """Return a schedule with a value in each field."""
    now = bench.clock.now()
    rule = ScheduleRule(
        cron="*/5 * * * *",
        timezone_name="Asia/Kathmandu",
        misfire="all",
        misfire_max=7,
        grace=60.0,
        overlap="queue",
        jitter=2.5,
        start=now - 1e6 / 3,
        end=now + 1e6 / 3,
    )
    job = bench.job("shop.send", "naïve", kwargs={"n": b"\x00"}, headers={"h": "1"}, metadata={})
    return make_schedule(
        name,
        rule=rule,
        job=job,
        expires_secs=9.5,
        origin="code",
        created_at=now - 1 / 3,
        next_at=now + 1 / 3,
        due_at=now + 1 / 3,
        last_at=now - 2 / 3,
        waiting_at=now - 1.0,
        recent=("one", "two"),
        fired=2,
        missed=3,
        skipped=4,
        paused_by="ann",
        paused_at=now,
        disabled="it is gone",
        revision=2**30 + 1,
    )


def _stored(bench: QueueBench) -> tuple[BaseScheduleStore, ScheduleRecord]:
    """Return the store with a schedule that is due, and that schedule."""
    store, seen = bench.queue.schedules(), make_schedule("s", due_at=bench.clock.now())
    assert store.apply([_added(seen)]) == [True]
    return store, seen


def _added(schedule: ScheduleRecord) -> ScheduleChange:
    return ScheduleChange(schedule.name, 0, schedule)


def _changed(seen: ScheduleRecord, after: ScheduleRecord, *jobs: JobRecord) -> ScheduleChange:
    return ScheduleChange(seen.name, seen.revision, after, jobs)


def _removed(seen: ScheduleRecord) -> ScheduleChange:
    return ScheduleChange(seen.name, seen.revision, None)


def _names(schedules: list[ScheduleRecord]) -> list[str]:
    return [one.name for one in schedules]
