"""Queue and results in two stores: the result first, then the queue, and nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from nuvom.core.record import JobStatus
from nuvom.errors import BackendUnavailable, JobFailed
from nuvom.events import BackendFailed
from nuvom.execution import worker_loop
from tests.engine import LIMIT_SECS, Engine, make_runtime

STORES = ("memory", "file", "sqlite")
APART = [(queue, results) for queue, results in product(STORES, STORES) if queue != results]


@pytest.fixture(params=[*APART, ("sqlite", "sqlite, apart")], ids="-".join)
def engine(
    request: pytest.FixtureRequest, project: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Engine]:
    monkeypatch.setattr(worker_loop, "_RETRY_SECS", (0.001, 0.005))
    queue, results = request.param
    settings: dict[str, Any] = {"queue_backend": queue, "result_backend": results}
    if results == "sqlite, apart":
        settings |= {"result_backend": "sqlite", "sqlite_result_path": ".nuvom/results.db"}
    with Engine(make_runtime(project, **settings)) as engine:
        assert not engine.runtime.is_shared
        yield engine


def break_off(backend: Any, name: str, *errors: Exception) -> None:
    """Have a method of ``backend`` raise ``errors``, one at each of its first calls."""
    method, left = getattr(backend, name), list(errors)

    def watched(*args: Any, **options: Any) -> Any:
        if left:
            raise left.pop(0)
        return method(*args, **options)

    setattr(backend, name, watched)


@pytest.mark.parametrize("fails", [True, False])
def test_death_between_the_two_leads_to_no_second_run(engine: Engine, *, fails: bool) -> None:
    runs = list[int]()

    @engine.task
    def once() -> int:
        runs.append(1)
        if fails:
            raise ValueError("once is enough")
        return 8

    job = once.delay()
    death = ZeroDivisionError("the worker dies")
    break_off(engine.runtime.queue, "settle", death, death)
    with pytest.raises(ZeroDivisionError):
        engine.work()
    assert JobStatus.PENDING is job.status

    assert "burst" == engine.work()
    assert [1] == runs
    if fails:
        with pytest.raises(JobFailed, match="ValueError: once is enough"):
            job.get(LIMIT_SECS)
    else:
        assert 8 == job.get(LIMIT_SECS)


def test_retried_job_is_run_though_an_outcome_was_stored(engine: Engine) -> None:
    runs: list[int] = []

    @engine.task
    def twice() -> int:
        runs.append(1)
        if len(runs) == 1:
            raise ValueError("once")
        return 8

    job = twice.delay()
    engine.work()
    assert job.retry()
    engine.work()
    assert (8, [1, 1]) == (job.get(LIMIT_SECS), runs)
    assert job.error is None


def test_trouble_with_the_results_only_delays(engine: Engine) -> None:
    break_off(engine.runtime.results, "set_result", *[BackendUnavailable("results", "down")] * 3)
    jobs = engine.task(lambda number: number, name="tests.give").map([(1,), (2,)])
    engine.work()
    assert [1, 2] == jobs.get(LIMIT_SECS)
    assert {"settle"} == {event.op for event in engine.events(BackendFailed)}
