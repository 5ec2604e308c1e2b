"""Stores on servers, used by processes whose wall clocks are wrong by a day."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.testing import history
from nuvom.testing.torture import Storm
from tests.engine import LIMIT_SECS, wait_until
from tests.lab.clocks import wrong_clock
from tests.lab.iofaults import why_not
from tests.lab.servers import SERVERS, drop_stores, new_store
from tests.reliability import tasks
from tests.reliability.test_kill_storm import at_length, prove
from tests.reliability.workspace import Workspace

DAY = 86_400.0
HOUR = 3600.0

# Redis in turn with other slow tests: what is shown of links and clocks is the worker's part.
pytestmark = pytest.mark.parametrize(
    "backend",
    [pytest.param(one, marks=pytest.mark.slow) if one == "redis" else one for one in SERVERS],
)


@pytest.fixture
def store(backend: str) -> Iterator[dict[str, str]]:
    """Return the settings of a store of this test alone."""
    reason = why_not()
    if reason is not None:
        pytest.skip(f"NOT PROVED HERE: {reason}")
    store = new_store(backend)
    yield store
    drop_stores(store)


@pytest.mark.parametrize(("secs", "kills", "jobs"), [at_length(60, 100, 2000, limit_secs=420)])
def test_a_kill_storm_with_wrong_clocks_balances(
    backend: str,
    store: dict[str, str],
    tmp_path: Path,
    seed: int,
    *,
    figures: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    secs: int,
    kills: int,
    jobs: int,
) -> None:
    """Some workers and producers are a day ahead, others are right, others a day behind."""
    for name, value in wrong_clock(tmp_path, "pid").items():
        monkeypatch.setenv(name, value)
    storm = Storm(
        tmp_path / "storm",
        backend=backend,
        settings=store,
        secs=secs,
        seed=seed,
        kills=kills,
        least_jobs=jobs,
    )
    prove(figures, storm, jobs=jobs, kills=kills)


@pytest.mark.parametrize("secs", [DAY, -DAY], ids=["ahead", "behind"])
def test_jobs_run_at_the_servers_time(
    backend: str, store: dict[str, str], tmp_path: Path, secs: float
) -> None:
    """Neither delays, retries and results nor leases follow the clock of a worker or a caller."""
    settings = {"lease_secs": 2.0, "result_ttl_secs": HOUR, **store}
    workspace = Workspace(tmp_path / "project", backend, settings)
    wrong = wrong_clock(tmp_path, secs)
    with workspace.open() as runtime:
        worker = workspace.child("work", wrong, talks=True)
        assert next(worker.said(), "") == "up", workspace.errors()
        later = tasks.plain.options(delay=HOUR).delay(1)
        jobs = [
            tasks.plain.options(delay=1.0).delay(2),
            tasks.retried_soon.delay(3),
            tasks.slow.delay(4, 3.0),  # longer than its lease
        ]
        enqueuer = workspace.child("delay", wrong, talks=True, secs=1.0)
        (delayed,) = enqueuer.said()
        wait_until(lambda: set(jobs_ended(workspace)) >= {delayed, *(job.id for job in jobs)})
        assert isinstance(runtime.queue, LeasedJobQueue)
        runtime.queue.prune(success_before=time.time() - HOUR, failed_before=0.0)
        assert [job.get(timeout=LIMIT_SECS) for job in jobs] == [3, 4, 5]
        found = workspace.snapshots(runtime)
        for job_id in (delayed, *(job.id for job in jobs)):
            one = found[job_id]
            assert one.finished_at is not None
            assert abs(one.finished_at - time.time()) < HOUR / 2
            assert abs(one.record.created_at - time.time()) < HOUR / 2
        assert workspace.starts()[later.id] == 0
        assert workspace.starts()[jobs[2].id] == 1
        worker.term()
        assert worker.wait(LIMIT_SECS), workspace.errors()


def jobs_ended(workspace: Workspace) -> list[str]:
    """Return the ids of the jobs that have ended."""
    return [one["job"] for one in workspace.events(history.FINISH_OK)]
