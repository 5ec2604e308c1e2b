"""What goes along with jobs, and what becomes of its faults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from nuvom.core.record import PARENT, JobRecord
from nuvom.execution.attempts import current_job
from tests.engine import Engine, make_runtime


class Tagging:
    """Gives headers: one for a call, and one for each job of a ``.map()``."""

    in_child = ""

    @contextmanager
    def sending(self, job: JobRecord) -> Iterator[Mapping[str, str]]:
        yield {"call": "1"}

    def creating(self, job: JobRecord) -> Mapping[str, str]:
        return {"own": job.id}

    def handing_over(self, job: JobRecord) -> Mapping[str, str]:
        return {}

    @contextmanager
    def running(self, job: JobRecord) -> Iterator[None]:
        yield


class Failing(Tagging):
    def creating(self, job: JobRecord) -> Mapping[str, str]:
        raise ValueError(job.id)


@pytest.mark.parametrize("backend", ["memory", "file", "sqlite"])
def test_each_job_of_a_map_can_have_headers_of_its_own(project: Path, backend: str) -> None:
    runtime = make_runtime(project, queue_backend=backend, result_backend=backend)
    with Engine(runtime, listens=False) as engine:
        task = engine.task(lambda number: number, name="tests.same")
        end = runtime.bus.accompany(Tagging())
        single = task.delay(0)
        with_own = task.map([(number,) for number in range(3)])
        end()
        without = task.map([(4,)])
        found = {job.id: job.headers for job in runtime.queue.pop_batch(9)}
    assert {"call": "1"} == found.pop(single.id)
    assert found.pop(without[0].id) is None
    assert {job.id: {"call": "1", "own": job.id} for job in with_own} == found


@pytest.mark.parametrize("backend", ["memory", "file", "sqlite"])
def test_a_job_enqueued_with_the_success_of_another_has_its_headers(
    project: Path, backend: str
) -> None:
    runtime = make_runtime(project, queue_backend=backend, result_backend=backend)
    with Engine(runtime, listens=False) as engine:
        later = engine.task(lambda: None, name="tests.later")

        def first() -> str:
            return current_job().enqueue(later)

        runtime.bus.accompany(Tagging())
        job = engine.task(first).delay()
        engine.work(max_jobs=1)
        (child,) = runtime.queue.pop_batch(9)
        assert job.get(0) == child.id
    assert {"call": "1", PARENT: job.id} == child.headers


def test_a_middleware_that_raises_is_counted_and_harms_no_job(project: Path) -> None:
    runtime = make_runtime(project)
    with Engine(runtime, listens=False) as engine:
        runtime.bus.accompany(Failing())
        task = engine.task(lambda number: number, name="tests.same")
        task.map([(number,) for number in range(3)])
        headers = [job.headers for job in runtime.queue.pop_batch(9)]
    assert [{"call": "1"}] * 3 == headers
    assert {"Failing.creating": 3} == runtime.bus.failures
