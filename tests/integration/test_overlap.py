"""A claim that is made while outcomes are settled, on the stores that make both at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nuvom.config.settings import Settings
from nuvom.core.record import JobRecord
from nuvom.errors import BackendUnavailable
from nuvom.queue_backends.leased import ClaimArguments
from nuvom.queue_backends.server import ServerQueue
from nuvom.testing.builders import make_settlement
from tests.lab.servers import (
    POSTGRES,
    drop_prefixes,
    drop_schemas,
    need_redis,
    new_prefix,
    new_schema,
)


@pytest.fixture(params=["postgres", "redis"])
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerQueue]:
    """Return a queue on a store of this test alone."""
    found: ServerQueue
    if request.param == "postgres":
        name, drop = new_schema(), drop_schemas
        from nuvom.contrib.postgres import PostgresJobQueue  # needs psycopg

        found = PostgresJobQueue(
            Settings(root=tmp_path, postgres_dsn=POSTGRES, postgres_schema=name)
        )
    else:
        url, name, drop = need_redis(), new_prefix(), drop_prefixes
        from nuvom.contrib.redis import RedisJobQueue  # needs redis

        found = RedisJobQueue(Settings(root=tmp_path, redis_url=url, redis_prefix=name))
    try:
        yield found
    finally:
        found.stop()
        drop(name)


def test_a_claim_is_given_back_if_settling_fails(
    queue: ServerQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has received its jobs, and a lease would keep them from everybody else."""
    for job_id in ("first", "second"):
        queue.enqueue(JobRecord(job_id, "shop.f"))
    (first,) = queue.claim(1, "worker")
    with monkeypatch.context() as patch:
        patch.setattr(queue, "settle", _fail)
        with pytest.raises(BackendUnavailable):
            queue.settle_and_claim([make_settlement(first)], ClaimArguments(9, "worker"))
    accepted, jobs = queue.settle_and_claim([make_settlement(first)], ClaimArguments(9, "worker"))
    assert accepted == [True]
    assert [("second", 1, 1)] == [(job.id, job.attempt, job.deliveries) for job in jobs]
    assert queue.settle([make_settlement(jobs[0])]) == [True]


def _fail(_: object) -> None:
    raise BackendUnavailable("the store", "it is gone")
