"""The attempts that a worker has open, and the jobs that it holds without knowing of them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from nuvom.core.record import JobRecord
from nuvom.errors import BackendUnavailable
from nuvom.execution.attempts import OpenAttempt, OpenAttempts
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.testing import make_job, make_settlement
from tests.engine import LIMIT_SECS, Engine, make_runtime, with_backends

NOBODY: Any = None


def make_attempt(record: JobRecord | None = None) -> OpenAttempt:
    return OpenAttempt(record or make_job(), "worker", NOBODY, 5.0)


def test_an_attempt_is_closed_once() -> None:
    attempts, attempt = OpenAttempts(), make_attempt()
    attempts.add([attempt])
    assert [True, False] == [attempts.close(attempt), attempts.close(attempt)]
    assert attempt in attempts.open  # until it is settled


def test_a_suspect_counts_until_its_attempt_is_closed() -> None:
    attempts = OpenAttempts()
    suspect = make_attempt(make_job().replace(suspect=True))
    attempts.add([make_attempt()])
    assert not attempts.has_suspect
    attempts.add([suspect])
    assert attempts.has_suspect
    attempts.close(suspect)
    assert not attempts.has_suspect


def claimed(queue: MemoryJobQueue, worker: str = "worker") -> OpenAttempt:
    queue.enqueue(make_job())
    (record,) = queue.claim(1, worker)
    return make_attempt(record)


def test_only_what_no_attempt_is_open_for_is_an_orphan() -> None:
    attempts, queue = OpenAttempts(), MemoryJobQueue()
    running, settling, returning, orphan = (claimed(queue) for _ in range(4))
    attempts.add([running, settling])
    attempts.close(settling)
    attempts.suspected_orphans = queue.extend("worker")
    assert [orphan.record] == attempts.orphans(queue, "worker", [returning.record])
    assert [] == attempts.orphans(queue, "worker", [])  # until the next heartbeat


def test_what_was_closed_since_the_heartbeat_is_no_orphan() -> None:
    attempts, queue = OpenAttempts(), MemoryJobQueue()
    settled, cancelled, again = (claimed(queue).record for _ in range(3))
    attempts.suspected_orphans = queue.extend("worker")
    queue.settle([make_settlement(settled)])
    queue.cancel(cancelled.id)
    queue.release([again])
    assert again.id in {job.id for job in queue.claim(1, "worker")}
    assert [] == attempts.orphans(queue, "worker", [])


class ForgetfulQueue(MemoryJobQueue):
    """A queue of which the answer to the first claim is lost."""

    lost = 0
    error: BaseException = BackendUnavailable("of this test", "the answer was lost")

    def claim(self, *args: Any, **options: Any) -> list[JobRecord]:
        jobs = super().claim(*args, **options)
        if jobs and not self.lost:
            self.lost = len(jobs)
            raise self.error
        return jobs


def test_jobs_whose_claim_was_not_answered_are_handed_back_and_done(project: Path) -> None:
    runtime = make_runtime(project, lease_secs=0.6)  # six heartbeats in that time
    queue = ForgetfulQueue(runtime.settings)
    with Engine(with_backends(runtime, queue)) as engine:
        jobs = engine.task(lambda x: x, name="tests.same").map([(1,), (2,)])
        with engine.worker(threads=2):
            assert [1, 2] == jobs.get(timeout=LIMIT_SECS)
        assert queue.lost
        assert {1} == {job.attempt for job in jobs}


@pytest.mark.parametrize("kind", [BackendUnavailable, MemoryError])
def test_a_worker_that_ends_keeps_no_lease_of_a_claim_that_was_not_answered(
    project: Path, kind: type[Exception]
) -> None:
    queue = ForgetfulQueue()
    if kind is MemoryError:
        queue.error = MemoryError("no room for the answer")
    with Engine(with_backends(make_runtime(project), queue)) as engine:
        job = engine.task(lambda: 1, name="tests.one").delay()
        with suppress(MemoryError):
            engine.work(burst=False, max_secs=0.01)
        assert queue.lost
        assert ("PENDING", 0) == (str(job.status), job.attempt)
