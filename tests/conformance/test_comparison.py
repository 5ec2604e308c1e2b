"""Holds the queues that come with Nuvom to one another: the same calls, the same answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nuvom.config.settings import Settings
from nuvom.core.clock import Clock
from nuvom.queue_backends.base import BaseJobQueue
from nuvom.queue_backends.file import FileJobQueue
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from tests.conformance import broken_queues as broken
from tests.lab.comparison.history import compare_stores, draw, play
from tests.lab.comparison.stores import Difference
from tests.lab.servers import (
    POSTGRES,
    drop_prefixes,
    drop_schemas,
    need_postgres,
    need_redis,
    new_prefix,
    new_schema,
)


def maker(cls: type[Any]) -> Any:
    def make(tmp_path: Path, *, clock: Clock, **settings: Any) -> BaseJobQueue:
        # Nothing here cuts the power, and flushes would take most of the time.
        queue: BaseJobQueue = cls(
            Settings(root=tmp_path, durability="normal", **settings), clock=clock
        )
        return queue

    return make


MEMORY = {"memory": maker(MemoryJobQueue)}
LOCAL = {**MEMORY, "file": maker(FileJobQueue), "sqlite": maker(SQLiteJobQueue)}


def test_local_queues_answer_alike(tmp_path: Path) -> None:
    compare_stores(LOCAL, tmp_path, range(40), steps=60)


# Two thousand histories, in parts that run beside one another: four to seven minutes in all on
# one core, depending on the disk.
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(8))
def test_local_queues_answer_alike_for_long(tmp_path: Path, part: int) -> None:
    compare_stores(LOCAL, tmp_path, range(250 * part, 250 * (part + 1)), steps=200)


@pytest.fixture
def servers() -> Iterator[dict[str, Any]]:
    """Return how to make the stores on servers, beside the one in memory; remove them all."""
    need_postgres()
    schemas: list[str] = []
    prefixes: list[str] = []

    def make_postgres(tmp_path: Path, *, clock: Clock, **settings: Any) -> BaseJobQueue:
        from nuvom.contrib.postgres import PostgresJobQueue  # needs psycopg

        schemas.append(new_schema())
        given = {"postgres_dsn": POSTGRES, "postgres_schema": schemas[-1], **settings}
        return PostgresJobQueue(Settings(root=tmp_path, **given), clock=clock)

    def make_redis(tmp_path: Path, *, clock: Clock, **settings: Any) -> BaseJobQueue:
        from nuvom.contrib.redis import RedisJobQueue  # needs redis

        prefixes.append(new_prefix())
        given = {"redis_url": need_redis(), "redis_prefix": prefixes[-1], **settings}
        return RedisJobQueue(Settings(root=tmp_path, **given), clock=clock)

    yield {**MEMORY, "postgres": make_postgres, "redis": make_redis}
    drop_schemas(*schemas)
    drop_prefixes(*prefixes)


def test_stores_on_servers_answer_alike(tmp_path: Path, servers: dict[str, Any]) -> None:
    compare_stores(servers, tmp_path, range(8), steps=60)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_stores_on_servers_answer_alike_for_long(tmp_path: Path, servers: dict[str, Any]) -> None:
    compare_stores(servers, tmp_path, range(200), steps=200)


# ---- a comparison finds faults -------------------------------------------------------------

FAULTY = [
    broken.AcceptsStaleSettlements,
    broken.DropsChildren,
    broken.HandsOutTwice,
]


def differs(faulty: type, folder: Path, seed: int) -> bool:
    makes = {**MEMORY, "faulty": maker(faulty)}
    try:
        play(makes, folder / str(seed), draw(seed, 100))
    except Difference:
        return True
    return False


@pytest.mark.parametrize("faulty", FAULTY)
def test_a_faulty_store_is_found(tmp_path: Path, faulty: type) -> None:
    assert any(differs(faulty, tmp_path, seed) for seed in range(20))


def test_a_difference_tells_the_shortest_way_to_it(tmp_path: Path) -> None:
    with pytest.raises(Difference) as caught:
        compare_stores(
            {**MEMORY, "faulty": maker(broken.DropsChildren)}, tmp_path, range(9), steps=60
        )
    told = str(caught.value)
    assert told.startswith("seed ")
    assert "faulty: None" in told
    assert told.count("\n  settle(") == 1
    assert len(told[told.index("\nafter\n") :].splitlines()) <= 10
