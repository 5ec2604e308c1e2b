"""Totals that the database keeps itself: each kind once, whoever writes, and never pruned."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from nuvom import Retry, Snooze
from nuvom.core.record import JobStatus
from nuvom.core.views import TOOK_BOUNDS, WAITED_BOUNDS
from nuvom.inspection import Inspector
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.testing import make_job, make_settlement
from tests.engine import LIMIT_SECS, Engine, make_runtime


@pytest.fixture
def engine(project: Path) -> Iterator[Engine]:
    runtime = make_runtime(
        project,
        queue_backend="sqlite",
        result_backend="sqlite",
        retry_delay_secs=0.0,
        max_deliveries=2,  # the second loss would make the job wait
    )
    with Engine(runtime) as engine:
        yield engine


def counted(engine: Engine) -> Counter[str]:
    """Return the totals by kind and outcome."""
    found: Counter[str] = Counter()
    for one in Inspector(engine.runtime).totals():
        found[f"{one.kind} {one.outcome}".strip()] += one.count
    return found


def drain(engine: Engine) -> None:
    """Work until every job has ended, those that are tried again, too."""
    while any(one.waiting for one in Inspector(engine.runtime).stats()):
        engine.work()


def test_nothing_is_counted_unless_somebody_wants_it(engine: Engine) -> None:
    engine.task(lambda: None, name="noop").delay()
    assert Counter() == counted(engine)
    engine.runtime.control.keep_totals()
    assert Counter() == counted(engine)
    engine.task(lambda: None, name="noop").delay()
    assert Counter(enqueued=1) == counted(engine)


def test_every_way_to_end_is_counted_once(engine: Engine) -> None:
    engine.runtime.control.keep_totals()
    asked = threading.Event()

    def picky(word: str) -> str:
        if word == "fail":
            raise ValueError(word)
        if word == "snooze" and not asked.is_set():
            asked.set()
            raise Snooze(0.0)
        if word == "retry":
            raise Retry
        return word

    task = engine.task(picky, retries=1)
    task.map([("good",), ("good",), ("snooze",), ("fail",), ("retry",)])
    task.options(queue="other", delay=3600).delay("never").cancel()
    drain(engine)
    assert counted(engine) == Counter(
        {
            "enqueued": 6,
            "attempt success": 3,
            "attempt": 5,  # fail and retry twice each, and the snoozed one
            "retried": 2,
            "finished failure": 2,
            "finished cancelled": 1,
        }
    )


def test_timeouts_are_told_from_failures(engine: Engine) -> None:
    engine.runtime.control.keep_totals()
    go = threading.Event()
    for policy in ("fail", "ignore"):
        engine.task(
            lambda: go.wait(LIMIT_SECS), name=policy, timeout_secs=0.01, timeout_policy=policy
        ).delay()
    drain(engine)
    go.set()
    assert counted(engine) == Counter(
        {"enqueued": 2, "attempt timeout": 1, "attempt": 1, "finished timeout": 1}
    )


def test_lost_and_dead_are_counted(engine: Engine) -> None:
    engine.runtime.control.keep_totals()
    queue = engine.runtime.queue
    assert isinstance(queue, SQLiteJobQueue)
    queue.enqueue(make_job("tests.probe"))
    deaths = engine.runtime.settings.max_deliveries
    for owner in range(deaths):
        (job,) = queue.claim(1, f"owner-{owner}")
        queue.mark_started(job)
        queue.store.workers.leave(f"owner-{owner}")  # its lock is free: it counts as dead
        assert 1 == len(queue.reap())
    assert counted(engine) == Counter(
        {"enqueued": 1, "lost": deaths, "redelivered": deaths - 1, "finished dead": 1}
    )


def test_pruning_and_purging_take_nothing_away(engine: Engine) -> None:
    engine.runtime.control.keep_totals()
    task = engine.task(lambda: None, name="noop")
    task.delay()
    engine.work()
    task.delay()
    engine.runtime.control.purge("default")
    engine.runtime.control.prune(success_before=float("inf"), failed_before=float("inf"))
    assert [] == Inspector(engine.runtime).page()
    assert Counter({"enqueued": 2, "attempt success": 1}) == counted(engine)


def test_a_settlement_that_is_refused_is_not_counted(engine: Engine) -> None:
    engine.runtime.control.keep_totals()
    queue = engine.runtime.queue
    assert isinstance(queue, SQLiteJobQueue)
    queue.enqueue(make_job("tests.probe"))
    (job,) = queue.claim(1, "me")
    settlement = make_settlement(job, value=1)
    assert [True] == queue.settle([settlement])
    assert [True] == queue.settle([settlement])  # said again: nothing happens
    assert [False] == queue.settle([make_settlement(job.replace(lease_epoch=9), value=1)])
    assert Counter({"enqueued": 1, "attempt success": 1}) == counted(engine)


def test_durations_and_waits_fall_into_their_buckets(engine: Engine) -> None:
    engine.runtime.control.keep_totals()
    queue = engine.runtime.queue
    assert isinstance(queue, SQLiteJobQueue)
    now = engine.runtime.clock.now()
    for took, waited in ((0.02, 0.7), (7200.0, 100_000.0)):
        queue.enqueue(make_job("tests.probe", created_at=now))
        (job,) = queue.claim(1, "me")
        started = now + waited
        done = make_settlement(
            job, JobStatus.FAILED, started_at=started, finished_at=started + took
        )
        assert [True] == queue.settle([done])
    rows = {(one.took, one.waited): one for one in queue.totals() if one.kind == "attempt"}
    short, long = (TOOK_BOUNDS.index(0.025), WAITED_BOUNDS.index(1.0)), (16, 18)
    assert {short, long} == set(rows)
    assert 0.02 == pytest.approx(rows[short].took_secs, abs=1e-4)
    assert 0.7 == pytest.approx(rows[short].waited_secs, abs=1e-4)


def test_another_process_that_knows_nothing_counts_as_well(project: Path, engine: Engine) -> None:
    engine.runtime.control.keep_totals()
    other = SQLiteJobQueue(engine.runtime.settings)
    other.enqueue_many([make_job("tests.probe", number) for number in range(3)])
    other.stop()
    assert Counter(enqueued=3) == counted(engine)
    engine.runtime.control.keep_totals()  # twice is fine
    assert Counter(enqueued=3) == counted(engine)


def test_the_size_of_the_store_is_told(engine: Engine) -> None:
    engine.task(lambda: None, name="noop").delay()
    size = Inspector(engine.runtime).store_size()
    assert size is not None
    assert 0 < size.used
    assert 0 < size.free <= size.disk
