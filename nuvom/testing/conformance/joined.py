"""Laws of a result backend beside a queue whose store it shares."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest import SkipTest

from nuvom.core.record import JobStatus, StoredError
from nuvom.testing.builders import make_job, make_settlement
from nuvom.testing.conformance.crew import Hand
from nuvom.testing.conformance.law import Kit, law

if TYPE_CHECKING:
    from nuvom.core.record import JobRecord
    from nuvom.queue_backends.leased import LeasedJobQueue
    from nuvom.result_backends.base import BaseResultBackend
    from nuvom.testing.conformance.result_bench import ResultBench


class Joined(Kit):
    """They apply where ``queue_beside`` gives a queue."""

    def queue_beside(self, backend: BaseResultBackend) -> LeasedJobQueue | None:
        """Return a queue whose store ``backend`` can join, None where there is none."""
        del backend
        return None

    @law()
    def test_what_a_joined_queue_settles_can_be_read(self, bench: ResultBench) -> None:
        """After ``joins`` returned True, what the queue settles is read here."""
        queue = _joined(self, bench)
        success, failure = _claimed(queue), _claimed(queue)
        error = StoredError("KeyError", "'x'", "Traceback ...")
        queue.settle([make_settlement(success, value={"n": (1,)})])
        queue.settle([make_settlement(failure, JobStatus.FAILED, error=error)])
        queue.stop()
        result = bench.backend.get_result(success.id)
        assert result == {"n": (1,)}, f"the queue settled a result that is read as {result!r}"
        got = bench.backend.get_error(failure.id)
        assert got is not None, "the queue settled an error that is not read"
        assert (got.type, got.message) == ("KeyError", "'x'"), f"the error is read as {got}"
        statuses = [bench.full(job.id)["status"] for job in (success, failure)]
        assert statuses == ["SUCCESS", "FAILED"], f"the statuses are read as {statuses}"

    @law()
    def test_what_a_joined_queue_refuses_cannot_be_read(self, bench: ResultBench) -> None:
        """A settlement that the queue refuses leaves nothing to read."""
        queue = _joined(self, bench)
        job = _claimed(queue)
        queue.release([job])
        queue.settle([make_settlement(job, value="late")])
        queue.stop()
        result = bench.backend.get_result(job.id)
        assert result is None, f"a refused settlement left the result {result!r}"

    @law()
    def test_a_joined_queue_wakes_waiters(self, bench: ResultBench) -> None:
        """What ``waiter`` gives is set once the queue settled a job."""
        queue = _joined(self, bench)
        job = _claimed(queue)
        with bench.backend.waiter() as waiter:
            if waiter is not None:
                queue.settle([make_settlement(job)])
                hand = Hand(lambda: waiter.wait(20 * bench.patience_secs))
                hand.start()
                hand.finish(bench.patience_secs)
        queue.stop()


def _joined(kit: Joined, bench: ResultBench) -> LeasedJobQueue:
    queue = kit.queue_beside(bench.backend)
    if queue is None:
        raise SkipTest("there is no queue whose store it joins")
    joins = bench.backend.joins(queue)
    assert joins is True, f"joins returned {joins!r} for the queue beside it"
    return queue


def _claimed(queue: LeasedJobQueue) -> JobRecord:
    queue.enqueue(make_job())
    (job,) = queue.claim(1, "worker-a")
    return job
