"""What is special about a store on Redis: its server crashes, is set wrong, or is another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nuvom.config.settings import Settings
from nuvom.core.record import JobStatus
from nuvom.errors import BackendUnavailable, InvalidSetting, QueueFull, StorageFull
from nuvom.testing.builders import make_job, make_settlement
from nuvom.testing.clock import FakeClock
from tests.lab.servers import OwnRedis, drop_prefixes, need_redis, new_prefix, own_server

if TYPE_CHECKING:
    from nuvom.contrib.redis import RedisJobQueue

Open = Callable[..., "RedisJobQueue"]
MANY = 1200  # more than one script takes


@pytest.fixture
def open_queue(tmp_path: Path) -> Iterator[Open]:
    """Return what opens the store of this test."""
    from nuvom.contrib.redis import RedisJobQueue  # needs redis

    prefix, opened = new_prefix(), []

    def open_one(clock: Any = None, **settings: Any) -> RedisJobQueue:
        given = {"redis_url": need_redis(), "redis_prefix": prefix, **settings}
        opened.append(RedisJobQueue(Settings(root=tmp_path, **given), clock=clock))
        return opened[-1]

    need_redis()
    yield open_one
    for queue in opened:
        queue.stop()
    drop_prefixes(prefix)


# ---- large bulks ----------------------------------------------------------------------------


def test_a_large_bulk_keeps_its_order_and_tells_of_taken_keys(open_queue: Open) -> None:
    queue = open_queue()
    jobs = [make_job() for _ in range(MANY)]
    jobs[700] = make_job(unique_key="once")
    jobs[900] = make_job(unique_key="once")
    assert queue.enqueue_many(jobs) == {jobs[900].id: jobs[700].id}
    claimed = [job.id for job in (*queue.claim(1000, "one"), *queue.claim(1000, "one"))]
    assert claimed == [job.id for job in jobs if job is not jobs[900]]


def test_a_large_bulk_that_does_not_fit_stores_nothing(open_queue: Open) -> None:
    queue = open_queue(max_queue_size=MANY - 1)
    with pytest.raises(QueueFull):
        queue.enqueue_many(make_job() for _ in range(MANY))
    assert queue.qsize() == 0


def test_whoever_reaps_goes_on_with_the_bulk_of_a_dead_caller(
    open_queue: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    queue, other = open_queue(clock), open_queue(clock)
    monkeypatch.setattr(queue, "_unstage", _die)
    with pytest.raises(KeyboardInterrupt):
        queue.enqueue_many(make_job() for _ in range(MANY))
    other.reap()
    assert other.qsize() == 0, "its caller may be alive"
    clock.advance(10.0)
    other.reap()
    assert other.qsize() == MANY


def _die(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_large_purge_leaves_other_queues_alone(open_queue: Open) -> None:
    queue, later = open_queue(), 4e9
    queue.enqueue_many(make_job(run_at=later * (n % 2)) for n in range(MANY))
    queue.enqueue_many(make_job(queue="other", run_at=later * (n % 2)) for n in range(MANY))
    assert queue.purge("default") == MANY
    assert queue.qsize() == MANY


# ---- names ----------------------------------------------------------------------------------


def test_a_queue_may_be_called_as_a_key_is(open_queue: Open) -> None:
    queue, names = open_queue(), ("queues", "later", "ready", "tasks", "store")
    for name in names:
        queue.enqueue_many([make_job(queue=name), make_job(name, queue=name, run_at=4e9)])
    queue.settle([make_settlement(job, JobStatus.PARKED) for job in queue.claim(9, "queues")])
    assert [(one.queue, one.parked, one.scheduled) for one in queue.stats()] == [
        (name, 1, 1) for name in sorted(names)
    ]


# ---- damage ---------------------------------------------------------------------------------


def test_a_job_that_cannot_be_read_ends_and_holds_nobody_up(open_queue: Open) -> None:
    queue, jobs = open_queue(), [make_job() for _ in range(3)]
    queue.enqueue_many(jobs)
    damaged, deleted = (queue.store.tag + f"j:{job.id}".encode() for job in jobs[:2])
    record_at = int.from_bytes(queue.store.command(b"GETRANGE", damaged, b"8", b"11"), "big")
    queue.store.command(b"SETRANGE", damaged, str(record_at).encode(), b"\xc1" * 20)
    queue.store.command(b"DEL", deleted)
    assert [job.id for job in queue.claim(9, "one")] == [jobs[2].id]
    (stats,) = queue.stats()
    assert (stats.ready, stats.running, stats.failed) == (0, 1, 1)


# ---- another store --------------------------------------------------------------------------


def test_an_emptied_store_is_refused(open_queue: Open) -> None:
    queue = open_queue()
    queue.enqueue(make_job())
    drop_prefixes(queue.store.tag.decode().strip("{}:"))
    with pytest.raises(BackendUnavailable, match="not the store that this process"):
        queue.control_version()
    queue.store.close()
    with pytest.raises(BackendUnavailable, match="not the store that this process"):
        queue.enqueue(make_job())


def test_an_address_is_needed(open_queue: Open) -> None:
    for url in (None, "http://localhost"):
        with pytest.raises(InvalidSetting, match="redis_url"):
            open_queue(redis_url=url)


# ---- the server -----------------------------------------------------------------------------


def test_a_killed_server_keeps_what_it_has_flushed(open_queue: Open, tmp_path: Path) -> None:
    with own_server("redis", tmp_path / "server") as server:
        queue = open_queue(**server.settings())
        jobs = [make_job() for _ in range(5)]
        queue.enqueue_many(jobs)
        first, *_ = claimed = queue.claim(3, "one")
        queue.mark_started(first)
        assert queue.settle([make_settlement(first)]) == [True]
        server.crash()
        server.start()
        assert queue.settle([make_settlement(job) for job in claimed]) == [True] * 3
        assert [job.id for job in queue.claim(9, "one")] == [job.id for job in jobs[3:]]


def test_a_claim_that_a_crash_undoes_is_fenced(open_queue: Open, tmp_path: Path) -> None:
    with OwnRedis(tmp_path) as server:
        queue = open_queue(**server.settings())
        job = make_job()
        queue.enqueue(job)
        queue.store.command(b"SAVE")
        (lost,) = queue.claim(1, "one")
        server.crash()
        server.start()
        queue.control_version()  # a claim is not repeated once the connection is cut
        (again,) = queue.claim(1, "two")
        assert again.lease_epoch == lost.lease_epoch
        assert queue.settle([make_settlement(lost)]) == [False]
        assert queue.settle([make_settlement(again)]) == [True]


def test_a_server_that_is_down_is_told_of(open_queue: Open, tmp_path: Path) -> None:
    with OwnRedis(tmp_path) as server:
        queue = open_queue(**server.settings())
        queue.enqueue(make_job())
    with pytest.raises(BackendUnavailable, match="cannot be reached") as raised:
        queue.enqueue(make_job())
    assert "redis_url" in raised.value.fix


def test_a_full_server_refuses_jobs_and_loses_none(open_queue: Open, tmp_path: Path) -> None:
    with OwnRedis(tmp_path, "--maxmemory", "8mb") as server:
        queue, stored = open_queue(**server.settings()), []

        def fill() -> None:
            for _ in range(1000):
                job = make_job("tests.probe", "x" * 50_000)
                queue.enqueue(job)
                stored.append(job.id)

        with pytest.raises(StorageFull):
            fill()
        assert stored == [one.record.id for one in islice(queue.every_job(), 1000)][::-1]
        (job, *_) = queue.claim(1, "one")
        assert queue.get(job.id) is not None
        assert queue.cancel(stored[-1]) is JobStatus.PENDING
