"""Stores on servers through which many jobs have passed, or in which many wait.

``TEST_GROWTH_JOBS`` sets how many; the full count is 1,000,000.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import quantiles

import pytest

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.queue_backends.server import ServerQueue
from nuvom.runtime import Runtime
from nuvom.testing.builders import make_settlement
from tests.lab.servers import SERVERS, OwnServer, own_server
from tests.reliability import tasks
from tests.reliability.workspace import Workspace

JOBS = int(os.environ.get("TEST_GROWTH_JOBS", "100000"))
FEW = 1000
MOST_WAITING = 10_000
MOST_TIMES = 1.3
CLAIMS = 200  # of one job each, of which the mean is taken
BATCH = 100
_EXPLAINED_CLAIM = """EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)
    SELECT * FROM nuvom.claim(1, 'worker', 1, NULL::text[], '{}', '{}', 0, 1, false, NULL)"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.timeout(1200),
    pytest.mark.parametrize("backend", SERVERS),
]


@pytest.fixture
def server(backend: str, server_folder: Path) -> Iterator[OwnServer]:
    """Return a server of this test alone."""
    with own_server(backend, server_folder / "server", is_durable=False) as server:
        yield server


def test_a_claim_among_many_jobs_costs_what_it_costs_among_few(
    backend: str, server: OwnServer, tmp_path: Path, figures: Callable[[str], None]
) -> None:
    workspace = Workspace(tmp_path / "project", backend, server.settings())
    cost = {"postgres": pages_of_claims, "redis": micros_of_claims}[backend]
    with workspace.open() as runtime:
        queue = queue_of(runtime)
        store(FEW + CLAIMS)
        few = cost(queue, server)
        store(JOBS)
        waiting = cost(queue, server)
        for _ in range((JOBS - CLAIMS) // BATCH):
            work_off(queue, BATCH)
        queue.reap()  # as workers do all the time; it vacuums, if there were enough claims
        finished = cost(queue, server)
    unit = {"postgres": "pages", "redis": "us"}[backend]
    figures(
        f"a claim took {few:.1f} {unit} among {FEW} waiting jobs, {waiting:.1f} among {JOBS}, "
        f"{finished:.1f} after {JOBS} had finished"
    )
    assert waiting <= MOST_TIMES * few
    assert finished <= MOST_TIMES * few


def test_claims_stay_as_quick_as_they_were(
    backend: str, server: OwnServer, tmp_path: Path, figures: Callable[[str], None]
) -> None:
    """Twice as many jobs pass through a store in which few wait."""
    workspace = Workspace(tmp_path / "project", backend, server.settings())
    secs: list[float] = []
    with workspace.open() as runtime:
        queue = queue_of(runtime)
        store(MOST_WAITING // 2)
        for _ in range(4 * JOBS // MOST_WAITING):
            store(MOST_WAITING // 2)
            secs += [work_off(queue, BATCH) for _ in range(MOST_WAITING // 2 // BATCH)]
            queue.reap()
    tenth = len(secs) // 10
    first, last = (quantiles(part, n=20)[-1] for part in (secs[:tenth], secs[-tenth:]))
    figures(
        f"{len(secs) * BATCH} jobs passed; 95 % of the claims of {BATCH} took up to "
        f"{first * 1000:.2f} ms in the first tenth, {last * 1000:.2f} ms in the last"
    )
    assert last <= MOST_TIMES * first


def queue_of(runtime: Runtime) -> ServerQueue:
    assert isinstance(runtime.queue, ServerQueue)
    return runtime.queue


def store(count: int) -> None:
    """Store jobs."""
    tasks.bare.map((number,) for number in range(count))


def work_off(queue: ServerQueue, most: int) -> float:
    """Claim jobs and close them; return how many seconds the claim took."""
    began = SYSTEM_CLOCK.monotonic()
    jobs = queue.claim(most, "worker")
    secs = SYSTEM_CLOCK.monotonic() - began
    queue.settle([make_settlement(job, value=1) for job in jobs])
    return secs


def pages_of_claims(queue: ServerQueue, server: OwnServer) -> float:
    """Return how many pages PostgreSQL reads or writes for a claim."""
    import psycopg  # an extra

    del queue
    pages = 0
    with psycopg.connect(server.settings()["postgres_dsn"], autocommit=True) as connection:
        for _ in range(CLAIMS):
            ((plans,),) = connection.execute(_EXPLAINED_CLAIM).fetchall()
            plan = plans[0]["Plan"]
            pages += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return pages / CLAIMS


def micros_of_claims(queue: ServerQueue, server: OwnServer) -> float:
    """Return how many microseconds Redis is busy with a claim."""
    import redis  # an extra

    with redis.Redis.from_url(server.settings()["redis_url"]) as watcher:
        watcher.config_resetstat()
        for _ in range(CLAIMS):
            assert queue.claim(1, "worker")
        spent = watcher.info("commandstats")
    return float(spent["cmdstat_evalsha"]["usec"]) / CLAIMS
