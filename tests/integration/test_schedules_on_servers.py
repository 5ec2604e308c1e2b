"""What is special about schedules on servers: answers are lost, and waking goes over a network."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from nuvom.discovery.auto_register import refresh
from nuvom.queue_backends.server import ServerQueue
from nuvom.scheduler import planner
from nuvom.scheduler.declared import reconcile
from nuvom.scheduler.record import ScheduleChange, ScheduleRecord, ScheduleRule
from nuvom.testing.builders import make_job
from tests.engine import make_runtime, with_backends
from tests.lab.servers import SERVERS, drop_stores, new_store, open_queue

HOUR = 3600.0
LIMIT_SECS = 30.0


@pytest.fixture(params=SERVERS)
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerQueue]:
    """Return the queue of a store of this test alone."""
    store = new_store(request.param)
    queue = open_queue(request.param, tmp_path, store)
    yield queue
    queue.stop()
    drop_stores(store)


def created(name: str, now: float, in_secs: float = 0.0) -> ScheduleChange:
    """Return the change that stores a schedule which fires once."""
    rule = ScheduleRule(at=now + in_secs)
    return planner.created(ScheduleRecord(name, f"{name}'s id", rule, make_job(id="")), now)


def fired(seen: ScheduleRecord | None, now: float) -> ScheduleChange:
    """Return the change that fires a schedule, and removes it."""
    assert seen is not None
    found = planner.plan(seen, now)
    jobs = tuple(planner.job_of(seen, at, now) for at in found.fires)
    return ScheduleChange(seen.name, seen.revision, found.after, jobs)


def lose_an_answer(queue: ServerQueue, patch: pytest.MonkeyPatch) -> list[object]:
    """Have the connection cut once the server has done what it was asked; return all answers."""
    store: Any = queue.db if queue.name == "postgres" else queue.store  # type: ignore[attr-defined]
    reach, answers = store.reach, list[object]()

    def lossy(work: Callable[[], object]) -> object:
        def once() -> object:
            answers.append(work())
            if len(answers) > 1:
                return answers[-1]
            if queue.name == "postgres":
                from psycopg import OperationalError  # an extra

                raise OperationalError("cut")
            raise OSError("cut")

        return reach(once)

    patch.setattr(store, "reach", lossy)
    return answers


def test_who_repeats_a_change_learns_that_it_was_written(
    queue: ServerQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a fire would count as somebody else's, and nobody would announce it."""
    store, now = queue.schedules(), queue.now()
    first = created("first", now)
    assert store.apply([first]) == [True]
    fire = fired(first.after, now)
    changes = [created("second", now), fire, created("second", now)]
    with monkeypatch.context() as patch:
        answers = lose_an_answer(queue, patch)
        assert store.apply(changes) == [True, True, False]
    assert len(answers) == 2, "the call was not repeated"
    assert [one.name for one in store.page()] == ["second"]
    assert [one.record.id for one in queue.page()] == [job.id for job in fire.jobs]
    assert store.apply([fire]) == [False], "another scheduler that has planned the same"


def test_a_change_of_what_has_changed_is_refused(queue: ServerQueue) -> None:
    """Neither it nor its job is stored, and the others of its batch are."""
    store, now = queue.schedules(), queue.now()
    one, other = created("one", now), created("other", now)
    assert store.apply([one, other]) == [True, True]
    assert one.after is not None
    pause = planner.paused(one.after, "somebody", now)
    assert store.apply([pause, fired(other.after, now)]) == [True, True]
    assert store.apply([fired(one.after, now), pause, one, created("new", now)]) == [
        *[False] * 3,
        True,
    ]
    assert [record.name for record in store.page()] == ["new", "one"]
    assert store.get("one") == pause.after
    assert queue.qsize() == 1


def test_schedulers_that_start_at_once_make_what_is_declared_once(
    queue: ServerQueue, project: Path
) -> None:
    runtime = with_backends(make_runtime(project), queue)
    for names in ("abc", "bcd"):
        tasks = (f"@task(schedule=9000)\ndef {name}(): ...\n" for name in names)
        (project / "tasks.py").write_text("from nuvom import task\n" + "".join(tasks))
        refresh(project, runtime.settings.manifest_file)
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: reconcile(runtime), range(8)))
        done = sorted(step.name for one in found for step in one.steps if step.what != "same")
    assert done == ["tasks.a", "tasks.d"]
    states = {one.name: one.state for one in queue.schedules().page()}
    assert states == {
        "tasks.a": "disabled",
        "tasks.b": "active",
        "tasks.c": "active",
        "tasks.d": "active",
    }


def test_schedulers_are_woken_when_something_is_due_earlier(queue: ServerQueue) -> None:
    store, now = queue.schedules(), queue.now()
    with store.waiter() as one, store.waiter() as other:
        assert store.next_due_at() is None
        for secs in (2 * HOUR, HOUR):
            store.apply([created(f"in {secs} s", now, secs)])
            assert one.wait(LIMIT_SECS)
            assert other.wait(LIMIT_SECS)
        store.apply([created("later", now, 3 * HOUR), created("much later", now, 4 * HOUR)])
        (seen, *_) = store.due(now + HOUR, 1)
        postponed = replace(seen, due_at=now + HOUR + 1, revision=seen.revision + 1)
        assert store.apply([ScheduleChange(seen.name, seen.revision, postponed)]) == [True]
        queue.enqueue(make_job())
        assert not one.wait(0.2)
        one.poke()
        assert one.wait(LIMIT_SECS)


def test_a_worker_is_woken_by_a_fire(queue: ServerQueue) -> None:
    store, now = queue.schedules(), queue.now()
    change = created("one", now)
    store.apply([change])

    def fire() -> bool:
        store.apply([fired(change.after, now)])
        return False  # asleep by now, for all that the server knows

    assert queue.wait_for_work(LIMIT_SECS, fire)


def test_whoever_asks_for_the_next_fire_follows_the_clock_of_the_server(
    queue: ServerQueue,
) -> None:
    """Otherwise a scheduler that sends no heartbeats would never learn that it was set."""
    clock: Any = queue.clock
    clock.set(queue.now() - 24 * HOUR)
    queue.schedules().next_due_at()
    assert abs(queue.now() - time.time()) < HOUR


def test_many_changes_are_made_part_by_part(
    queue: ServerQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis does nothing else meanwhile. No change is torn apart, and PostgreSQL needs no parts."""
    if queue.name == "redis":
        from nuvom.contrib.redis import schedules  # needs redis

        monkeypatch.setattr(schedules, "_PART", 2)
    store, now = queue.schedules(), queue.now()
    changes = [created(str(number), now) for number in range(5)]
    assert store.apply([*changes, changes[0]]) == [True] * 5 + [False]
    fires = [fired(change.after, now) for change in changes]
    several = fires[0]._replace(jobs=(*fires[0].jobs, make_job(), make_job()))
    assert store.apply([several, *fires[1:]]) == [True] * 5
    assert queue.qsize() == 7
    assert store.apply([]) == []
