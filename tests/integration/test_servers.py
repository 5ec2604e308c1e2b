"""What is special about stores on servers: answers are lost, and addresses lead elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nuvom.errors import BackendUnavailable
from nuvom.host.ahead_marks import AheadMarks
from nuvom.queue_backends.leased import ClaimArguments
from nuvom.queue_backends.server import ServerQueue
from nuvom.testing.builders import make_job, make_settlement
from nuvom.testing.clock import FakeClock
from tests.lab import servers as lab
from tests.lab.servers import POSTGRES, REDIS, SERVERS, drop_stores, new_store

Open = Callable[[], ServerQueue]
Patch = pytest.MonkeyPatch

pytestmark = pytest.mark.parametrize("backend", SERVERS)


@pytest.fixture
def store(backend: str) -> Iterator[dict[str, str]]:
    """Return the settings of a store of this test alone."""
    store = new_store(backend)
    yield store
    drop_stores(store)


@pytest.fixture
def open_queue(backend: str, store: dict[str, Any], tmp_path: Path) -> Iterator[Open]:
    """Return what opens the store of this test."""
    opened: list[ServerQueue] = []

    def open_one() -> ServerQueue:
        opened.append(lab.open_queue(backend, tmp_path, store))
        return opened[-1]

    yield open_one
    for queue in opened:
        queue.stop()


@pytest.mark.parametrize("token", [1, 40_000])  # of the two widths that a driver may send
def test_a_claim_whose_answer_is_lost_is_given_back(
    open_queue: Open, monkeypatch: pytest.MonkeyPatch, token: int
) -> None:
    queue, job = open_queue(), make_job()
    queue.enqueue(job)
    monkeypatch.setattr(queue, "_tokens", iter(range(token - 1, token + 9)))
    lend = queue.lend

    @contextmanager
    def lose(claim: Any) -> Iterator[Any]:
        with lend(claim) as receive:

            def cut() -> None:
                receive()
                raise BackendUnavailable("the store", "the connection was cut")

            yield cut

    with monkeypatch.context() as patched:
        patched.setattr(queue, "lend", lose)
        with pytest.raises(BackendUnavailable):
            queue.claim(1, "worker")
    assert [one.running for one in open_queue().stats()] == [1]
    (again,) = queue.claim(1, "worker")
    assert (again.id, again.attempt, again.deliveries) == (job.id, 1, 1)


def test_a_claim_is_given_back_if_settling_fails(
    open_queue: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has received its jobs, and a lease would keep them from everybody else."""
    queue = open_queue()
    for job_id in ("first", "second"):
        queue.enqueue(make_job(id=job_id))
    (first,) = queue.claim(1, "worker")
    with monkeypatch.context() as patch:
        patch.setattr(queue, "settle", _fail)
        with pytest.raises(BackendUnavailable):
            queue.settle_and_claim([make_settlement(first)], ClaimArguments(9, "worker"))
    accepted, jobs = queue.settle_and_claim([make_settlement(first)], ClaimArguments(9, "worker"))
    assert accepted == [True]
    assert [("second", 1, 1)] == [(job.id, job.attempt, job.deliveries) for job in jobs]
    assert queue.settle([make_settlement(jobs[0])]) == [True]


@pytest.mark.parametrize("starts", [False, True])
def test_a_job_that_starts_with_its_claim_needs_no_mark_of_its_own(
    backend: str, store: dict[str, str], tmp_path: Path, monkeypatch: Patch, *, starts: bool
) -> None:
    """Another machine that finds its worker silent knows that its code had started."""
    monkeypatch.setattr(AheadMarks, "_await", _fail)
    clock = FakeClock()
    ours, other = (
        lab.open_queue(backend, tmp_path / name, store, clock) for name in ("ours", "other")
    )
    try:
        ours.enqueue(make_job())
        _, (job,) = ours.settle_and_claim((), ClaimArguments(1, "worker", starts=starts))
        if starts:
            ours.mark_started(job)
        clock.advance(ours.lease_secs + 1)
        (lost,) = other.reap()
        assert lost.deliveries == starts
    finally:
        ours.stop()
        other.stop()


def test_another_store_than_before_is_refused(open_queue: Open, store: dict[str, str]) -> None:
    """A worker that is led to an empty server, or to an older copy, takes no jobs there."""
    queue = open_queue()
    queue.pause("default", "us")
    queue.control_version()
    for change in (make_older, make_another):
        queue.stop()
        change(store)
        with pytest.raises(BackendUnavailable, match="not the store that this process"):
            queue.claim(1, "worker")


def make_older(store: dict[str, str]) -> None:
    """Have a store know less than it did, as an older copy would."""
    change(store, "SET control_version = 0", ("control", "0"))


def make_another(store: dict[str, str]) -> None:
    """Make another store of it, with all its jobs."""
    change(store, "SET control_version = 99, id = gen_random_uuid()", ("id", "another"))


def change(store: dict[str, str], statement: str, field: tuple[str, str]) -> None:
    if "postgres_schema" in store:
        import psycopg  # an extra

        with psycopg.connect(POSTGRES) as connection:
            connection.execute(f'UPDATE "{store["postgres_schema"]}".store {statement}')
        return
    import redis  # as above

    with redis.Redis.from_url(REDIS) as client:
        client.hset(f"{{{store['redis_prefix']}}}:store", *field)


def _fail(*_: object) -> None:
    raise BackendUnavailable("the store", "it is gone")
