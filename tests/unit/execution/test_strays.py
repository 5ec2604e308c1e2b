"""Jobs that the store holds for a worker, and that the worker knows nothing of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nuvom.core.record import JobRecord
from nuvom.errors import BackendUnavailable
from nuvom.execution.running import InHand, RunningJob
from nuvom.execution.strays import Strays
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.testing import make_job, make_settlement
from tests.engine import LIMIT_SECS, Engine, make_runtime, with_backends

ME = "me"


@pytest.fixture
def queue() -> MemoryJobQueue:
    return MemoryJobQueue()


def claimed(queue: MemoryJobQueue) -> JobRecord:
    queue.enqueue(make_job())
    (job,) = queue.claim(1, ME)
    return job


def test_only_what_nobody_has_is_a_stray(queue: MemoryJobQueue) -> None:
    in_hand = InHand()
    strays = Strays(queue, in_hand)
    running, returning, stray = (claimed(queue) for _ in range(3))
    in_hand.add(RunningJob(running, ME, None, 0.0))
    strays.suspect(queue.extend(ME))
    assert [stray] == strays.found([], [returning])
    assert [] == strays.found([], [])


def test_what_was_closed_meanwhile_is_none(queue: MemoryJobQueue) -> None:
    strays = Strays(queue, InHand())
    settled, released, again = (claimed(queue) for _ in range(3))
    strays.suspect(queue.extend(ME))
    queue.settle([make_settlement(settled)])
    queue.cancel(released.id)
    queue.release([again])
    assert again.id in {job.id for job in queue.claim(1, ME)}
    assert [] == strays.found([], [])


class ForgetfulQueue(MemoryJobQueue):
    """A queue of which the answer to the first claim is lost."""

    lost = 0

    def claim(self, *args: Any, **options: Any) -> list[JobRecord]:
        jobs = super().claim(*args, **options)
        if jobs and not self.lost:
            self.lost = len(jobs)
            raise BackendUnavailable("of this test", "the answer was lost")
        return jobs


def test_jobs_whose_claim_was_not_answered_are_handed_back_and_done(project: Path) -> None:
    runtime = make_runtime(project, lease_secs=0.6)  # six beats in that time
    queue = ForgetfulQueue(runtime.settings)
    with Engine(with_backends(runtime, queue)) as engine:
        jobs = engine.task(lambda x: x, name="tests.same").map([(1,), (2,)])
        with engine.worker(threads=2):
            assert [1, 2] == jobs.get(timeout=LIMIT_SECS)
        assert queue.lost
        assert {1} == {job.attempt for job in jobs}
