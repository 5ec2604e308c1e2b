"""Schedules on their way between stores: none is lost, and none ever fires from two stores."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from nuvom.core.ids import new_id
from nuvom.errors import PayloadError
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.queue_backends.store import StoreQueue
from nuvom.queue_backends.transfer import Place, Transfer, TransferReport
from nuvom.scheduler import planner, transfer
from nuvom.scheduler.record import (
    SCHEDULE,
    SCHEDULED_FOR,
    ScheduleChange,
    ScheduleRecord,
    ScheduleRule,
)
from nuvom.scheduler.store import BaseScheduleStore, all_records
from nuvom.scheduler.transfer import (
    ScheduleLoader,
    ScheduleTransfer,
    exported_schedules,
    from_dict,
    to_dict,
)
from nuvom.testing.builders import make_job
from tests.unit.queue_backends.any_store import Open, opening

LOCAL = ("memory", "file", "sqlite")
PAIRS = [(one, other) for one in LOCAL for other in LOCAL if one != other]
PAIRS += [("sqlite", "postgres"), ("postgres", "redis"), ("redis", "file")]
BEGIN = 1_700_000_000.0
EVERY, ONCE = ScheduleRule(interval=60.0), ScheduleRule(at=BEGIN + 60.0)


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Open]:
    """Give a function that opens a new store of a kind."""
    with opening(tmp_path) as opened:
        yield opened


def add(store: StoreQueue, name: str, rule: ScheduleRule = EVERY, **job: Any) -> ScheduleRecord:
    """Store a schedule that was made at ``BEGIN``."""
    template = make_job("tests.probe", 5, headers={"tenant": "a"}, **job).replace(id="")
    change = planner.created(ScheduleRecord(name, new_id(), rule, template), BEGIN)
    assert store.schedules().apply([change]) == [True]
    return found(store, name)


def found(queue: StoreQueue, name: str) -> ScheduleRecord:
    record = queue.schedules().get(name)
    assert record is not None
    return record


def fire(queue: StoreQueue, now: float) -> list[str]:
    """Be a scheduler that looks once; return the ids of the jobs that it has enqueued."""
    store, ids = queue.schedules(), list[str]()
    for seen in store.due(now, 100):
        plan = planner.plan(seen, now)
        jobs = tuple(planner.job_of(seen, at, now) for at in plan.fires)
        if store.apply([ScheduleChange(seen.name, seen.revision, plan.after, jobs)])[0]:
            ids += [one.id for one in jobs]
    return ids


def between(source: StoreQueue, target: StoreQueue, **more: Any) -> ScheduleTransfer:
    places = Place("the old store", source), Place("the new store", target)
    return ScheduleTransfer(*places, TransferReport(), **more)


def move(source: StoreQueue, target: StoreQueue, **more: Any) -> TransferReport:
    """Move schedules, then jobs, as the command does."""
    places = Place("the old store", source), Place("the new store", target)
    jobs = Transfer(*places)
    ScheduleTransfer(*places, jobs.report, **more).run()
    return jobs.run()


def back(source: StoreQueue, target: StoreQueue) -> TransferReport:
    report = TransferReport()
    ScheduleTransfer(Place("the new store", target), Place("the old store", source), report).run()
    return report


@pytest.mark.parametrize(("kind", "other"), PAIRS, ids=str)
def test_a_schedule_goes_on_exactly_where_it_was(open_store: Open, kind: str, other: str) -> None:
    source, target = open_store(kind), open_store(other)
    for name in ("runs", "paused", "disabled", "once"):
        add(source, name, ONCE if name == "once" else EVERY)
    (job_id,) = {*fire(source, BEGIN + 60.0)} & {*found(source, "runs").recent}
    store = source.schedules()
    store.apply([planner.paused(found(source, "paused"), "me", BEGIN + 61.0)])
    store.apply([planner.disabled(found(source, "disabled"), "no longer declared", BEGIN)])
    before = {one.name: one for one in all_records(store)}
    assert {"runs", "paused", "disabled"} == before.keys(), "it has fired, and removed itself"

    report = move(source, target)
    assert (3, 4, {}) == (report.schedules, report.moved, report.refused)
    for name, one in before.items():
        assert replace(found(target, name), revision=one.revision) == one
        assert "moved to the new store" in str(found(source, name).disabled)
    job = target.get(job_id)
    assert job is not None
    assert {"tenant", SCHEDULE, SCHEDULED_FOR} == {*(job.record.headers or {})}
    assert fire(source, BEGIN + 120.0) == []
    assert fire(target, BEGIN + 120.0) == [planner.fire_id(before["runs"], BEGIN + 120.0)]
    comparison = between(source, target).compare()
    assert (3, {}) == comparison

    assert 3 == back(source, target).schedules
    assert "no longer declared" == found(source, "disabled").disabled
    assert 2 == found(source, "runs").fired
    assert (fire(target, BEGIN + 180.0), 1) == ([], len(fire(source, BEGIN + 180.0)))


def test_only_schedules_of_the_queues_that_are_named_are_moved(open_store: Open) -> None:
    source, target = open_store("memory"), open_store("memory")
    for queue in ("mail", "other"):
        add(source, f"of {queue}", queue=queue)
    assert 1 == move(source, target, queues=["mail"]).schedules
    assert ["of mail"] == [one.name for one in all_records(target.schedules())]
    assert "active" == found(source, "of other").state


def test_a_dry_run_counts_and_writes_nothing(open_store: Open) -> None:
    source, target = open_store("memory"), open_store("memory")
    before = add(source, "runs")
    dry = between(source, target)
    dry.plan()
    assert 1 == dry.report.schedules
    assert before == found(source, "runs")
    assert None is target.schedules().get("runs")


# ---- conflicts -------------------------------------------------------------------------------


def test_of_a_schedule_that_both_stores_made_the_new_one_stays(open_store: Open) -> None:
    source, target = open_store("memory"), open_store("memory")
    for store in (source, target):
        add(store, "declared")
    assert {"schedule declared": "both stores have it"} == (
        between(source, target).compare().differences
    )
    mine = found(target, "declared")
    report = move(source, target)
    assert (1, {}) == (report.schedules, report.refused)
    assert mine == found(target, "declared")
    assert fire(source, BEGIN + 60.0) == []


def test_a_schedule_of_another_task_under_the_name_is_a_conflict(open_store: Open) -> None:
    source, target = open_store("memory"), open_store("memory")
    mine = add(source, "nightly")
    other = make_job("tests.other").replace(id="")
    record = ScheduleRecord("nightly", new_id(), EVERY, other)
    target.schedules().apply([planner.created(record, BEGIN)])
    text = "the store has another schedule of this name, of the task tests.other"
    assert {"schedule nightly": text} == move(source, target).refused
    assert mine == found(source, "nightly")


def test_nothing_but_a_move_makes_a_schedule_fire_that_is_away(open_store: Open) -> None:
    """Schedulers and programs declare it again at their start, in both stores."""
    seen = add(open_store("memory"), "declared")
    copy = planner.held(seen, "the old store", None, BEGIN).after
    moved = planner.left_to("the new store", seen, BEGIN).after
    for one in (copy, moved):
        assert one is not None
        assert not planner.differs(one, replace(seen, rule=ScheduleRule(interval=5.0)))
        again = planner.disabled(one, "no longer declared", BEGIN).after
        assert again is not None
        for change in (planner.enabled(again, BEGIN), planner.resumed(again, BEGIN)):
            assert change.after is not None
            assert ("disabled", None) == (change.after.state, change.after.due_at)


def test_a_store_without_schedules_refuses_them(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = open_store("memory"), open_store("memory")
    seen = add(source, "runs")
    monkeypatch.setattr(target, "capabilities", frozenset())
    report = between(source, target)
    report.run()
    text = "the new store keeps no schedules"
    assert {"schedule runs": text} == report.report.refused
    assert seen == found(source, "runs")


# ---- while schedulers run on both stores, and after a death --------------------------------


class Death(BaseException):
    """In place of a kill."""


@contextmanager
def between_writes(stores: list[BaseScheduleStore], act: Callable[[int], None]) -> Iterator[None]:
    """Call ``act`` before and after each write of these stores, with a number that grows."""
    numbers, is_acting = count(), False

    def step() -> None:
        nonlocal is_acting
        if not is_acting:
            is_acting = True
            try:
                act(next(numbers))
            finally:
                is_acting = False

    def watched(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            step()
            answer = method(*args)
            step()
            return answer

        return call

    with pytest.MonkeyPatch.context() as patch:
        for store in stores:
            patch.setattr(store, "apply", watched(store.apply))
        yield


@pytest.fixture
def one_store_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ``schedules()`` return the same object each time, so that it can be watched."""
    schedules = MemoryJobQueue.schedules
    known: dict[int, BaseScheduleStore] = {}
    monkeypatch.setattr(
        MemoryJobQueue,
        "schedules",
        lambda queue: known.setdefault(id(queue), schedules(queue)),
    )


def scene(open_store: Open) -> tuple[StoreQueue, StoreQueue, list[ScheduleRecord]]:
    source, target = open_store("memory"), open_store("memory")
    made = [add(source, f"every-{number}") for number in range(3)]
    return source, target, [*made, add(source, "once", ONCE)]


def assert_each_fires_once(
    source: StoreQueue, target: StoreQueue, made: list[ScheduleRecord], fires: Counter[str]
) -> None:
    """Finish the move, go on to the third minute, and look at what has fired."""
    assert not move(source, target).refused
    for minute in (1, 2, 3):
        for store in (source, target):
            fires.update(fire(store, BEGIN + 60.0 * minute))
    wanted = {
        planner.fire_id(one, BEGIN + 60.0 * minute)
        for one in made
        for minute in (1, 2, 3)
        if one.rule is EVERY or minute == 1
    }
    assert dict.fromkeys(wanted, 1) == fires
    names = {one.name for one in made if one.rule is EVERY}
    assert names == {one.name for one in all_records(target.schedules())}
    assert {"active"} == {one.state for one in all_records(target.schedules())}
    assert {"disabled"} >= {one.state for one in all_records(source.schedules())}
    assert {} == between(source, target).compare().differences


@pytest.mark.usefixtures("one_store_each")
@pytest.mark.parametrize("busy", [False, True])
def test_a_death_at_any_moment_loses_nothing_and_repeats_nothing(
    open_store: Open, monkeypatch: pytest.MonkeyPatch, *, busy: bool
) -> None:
    monkeypatch.setattr(transfer, "PAGE", 2)
    for fatal in count():
        source, target, made = scene(open_store)
        fires, has_died = Counter[str](), False

        def act(number: int, *, fatal: int = fatal) -> None:
            if number == fatal:
                raise Death

        try:
            with between_writes([source.schedules(), target.schedules()], act):
                move(source, target)
        except Death:
            has_died = True
        if busy:
            for store in (source, target):
                fires.update(fire(store, BEGIN + 60.0))
        assert_each_fires_once(source, target, made, fires)
        if not has_died:
            break
    assert fatal > 10


@pytest.mark.usefixtures("one_store_each")
@pytest.mark.parametrize("act_again", [False, True], ids=["fires", "is moved by another, too"])
def test_a_schedule_may_fire_at_any_moment(
    open_store: Open, monkeypatch: pytest.MonkeyPatch, *, act_again: bool
) -> None:
    monkeypatch.setattr(transfer, "PAGE", 2)
    for moment in range(30):
        source, target, made = scene(open_store)
        fires = Counter[str]()

        def act(
            number: int,
            *,
            moment: int = moment,
            stores: Any = (source, target),
            fires: Counter[str] = fires,
        ) -> None:
            if number == moment:
                for store in stores:
                    fires.update(fire(store, BEGIN + 60.0))
                if act_again:
                    move(*stores)

        with between_writes([source.schedules(), target.schedules()], act):
            assert not move(source, target).refused
        assert not any(map(planner.source_of, all_records(target.schedules())))
        assert_each_fires_once(source, target, made, fires)


def test_a_copy_that_is_older_than_what_the_old_store_gave_up_does_no_harm(
    open_store: Open,
) -> None:
    """Of two transfers at once, one may replace the other's copy by what it has read before."""
    source, target = open_store("memory"), open_store("memory")
    change = planner.held(add(source, "runs"), "the old store", None, BEGIN)
    target.schedules().apply([change])
    assert 1 == len(fire(source, BEGIN + 60.0))
    moved = planner.left_to("the new store", found(source, "runs"), BEGIN + 60.0)
    source.schedules().apply([moved])
    assert 1 == move(source, target).schedules
    assert fire(target, BEGIN + 60.0) == []


def test_a_held_copy_that_the_old_store_knows_nothing_of_is_named(open_store: Open) -> None:
    """Somebody may have deleted it after the kill; a schedule that fires once has fired."""
    source, target = open_store("memory"), open_store("memory")
    for name, rule in (("deleted", EVERY), ("fired", ONCE)):
        change = planner.held(add(source, name, rule), "the old store", None, BEGIN)
        target.schedules().apply([change])
        store = source.schedules()
        store.apply([ScheduleChange(name, found(source, name).revision, None)])
    text = "held there, and the old store has no such schedule"
    assert {"schedule deleted": text} == move(source, target).refused
    assert ["deleted"] == [one.name for one in all_records(target.schedules())]


# ---- a file in between -----------------------------------------------------------------------


def test_an_export_is_everything_of_a_schedule(open_store: Open) -> None:
    source, target = open_store("sqlite"), open_store("memory")
    add(source, "moved")
    move(source, open_store("memory"))
    add(source, "runs", replace(EVERY, jitter=3.0, grace=9.0))
    fire(source, BEGIN + 60.0)
    report = TransferReport()
    lines = [json.dumps(to_dict(one)) for one in exported_schedules(source, report)]
    assert (1, 1) == (report.schedules, len(lines))

    for known in (0, 1):
        report = TransferReport()
        loader = ScheduleLoader(target, report)
        for line in lines:
            loader.add(from_dict(json.loads(line)))
        loader.flush()
        assert (1 - known, known, {}) == (report.schedules, report.known, report.refused)
    assert found(source, "runs") == found(target, "runs")


def test_an_import_brings_no_schedule_back_that_was_moved_since(open_store: Open) -> None:
    source = open_store("memory")
    seen = add(source, "runs")
    move(source, open_store("memory"))
    report = TransferReport()
    loader = ScheduleLoader(source, report)
    loader.add(seen)
    loader.flush()
    assert {"schedule runs": "it was moved from here to the new store"} == report.refused
    assert "disabled" == found(source, "runs").state


@pytest.mark.parametrize("rule", [{"interval": 0}, {"interval": -60}, {"cron": "x"}, {"at": "x"}])
def test_a_line_whose_rule_nobody_could_follow_is_refused(
    open_store: Open, rule: dict[str, object]
) -> None:
    source = open_store("memory")
    add(source, "runs")
    (one,) = exported_schedules(source, TransferReport())
    line = to_dict(one)
    line["schedule"]["rule"] = rule
    with pytest.raises(PayloadError, match="cannot be used: expected"):
        from_dict(line)


@pytest.mark.parametrize(
    "line",
    ['{"schedule": {}}', '{"schedule": {"name": 5}}', '{"schedule": []}'],
)
def test_a_line_that_is_no_schedule_is_refused(line: str) -> None:
    with pytest.raises(PayloadError, match="it is not a schedule of an export"):
        from_dict(json.loads(line))
