"""Jobs with a ``run_at``: not before, and not forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.core.record import JobStatus
from nuvom.queue_backends.base import Capability
from nuvom.testing.conformance.law import law
from nuvom.testing.conformance.queue_bench import B
from nuvom.testing.conformance.queue_kit import QueueKit

if TYPE_CHECKING:
    from nuvom.testing.conformance.queue_bench import QueueBench


class Scheduled(QueueKit):
    """``run_at``, on the wall clock."""

    @law(Capability.SCHEDULED)
    def test_a_job_is_not_handed_out_before_its_time(self, bench: QueueBench) -> None:
        """A job whose ``run_at`` lies ahead waits and is not handed out."""
        queue = bench.open()
        bench.put(run_at=bench.clock.now() + 3600.0)
        handed = queue.dequeue()
        assert handed is None, "a job was handed out an hour before its time"
        assert queue.qsize() == 1, f"qsize() is {queue.qsize()}; a job that is not due waits, too"

    @law(Capability.SCHEDULED)
    def test_a_job_is_handed_out_once_it_is_due(self, bench: QueueBench) -> None:
        """A job whose ``run_at`` has passed is handed out, without anybody's help."""
        queue = bench.open()
        job = bench.put(run_at=bench.clock.now() + bench.soon_secs)
        bench.advance(bench.soon_secs * 1.1)
        handed = queue.dequeue()
        assert handed is not None, "a job that became due is not handed out"
        assert handed.id == job.id, f"{handed.id} was handed out instead of {job.id}"

    @law(Capability.SCHEDULED, Capability.LEASES, Capability.INSPECTION)
    def test_a_due_job_is_ready(self, bench: QueueBench) -> None:
        """A job that became due is ready in ``stats``, and not scheduled, whoever has reaped."""
        queue = bench.open_leased()
        bench.put(run_at=bench.clock.now() + bench.soon_secs)
        bench.advance(bench.soon_secs * 1.1)
        due = queue.next_due_secs()
        assert due is None, f"next_due_secs() gave {due} for a job that is due"
        (stats,) = queue.stats()
        counts = (stats.ready, stats.scheduled)
        assert counts == (1, 0), f"ready and scheduled are {counts} for one due job"

    @law(Capability.SCHEDULED, Capability.LEASES)
    def test_a_retry_is_handed_out_with_its_own_time(self, bench: QueueBench) -> None:
        """A claimed record has the ``run_at`` that the last settlement or retry has set."""
        bench.open()
        job = bench.put_and_claim(run_at=bench.clock.now() - 5.0)
        due_at = bench.clock.now() - 1.0
        bench.settle(job, JobStatus.PENDING, run_at=due_at)
        again = bench.claim(B)
        assert again.run_at == due_at, f"run_at is {again.run_at} instead of {due_at}"

    @law(Capability.SCHEDULED)
    def test_a_past_time_is_due_at_once(self, bench: QueueBench) -> None:
        """A job whose ``run_at`` lies in the past is due at once."""
        queue = bench.open()
        job = bench.put(run_at=bench.clock.now() - 5.0)
        handed = queue.dequeue()
        assert handed is not None, "a job with a past run_at is not handed out"
        assert handed.id == job.id, f"{handed.id} was handed out instead of {job.id}"

    @law(Capability.SCHEDULED)
    def test_a_job_that_is_not_due_holds_nobody_up(self, bench: QueueBench) -> None:
        """Jobs that are due come although others before them in the order are not."""
        bench.open()
        bench.put(priority=0, run_at=bench.clock.now() + 3600.0)
        due = bench.put(priority=9)
        handed = bench.queue.dequeue()
        assert handed is not None, "a job that is due is held up by one that is not"
        assert handed.id == due.id, f"{handed.id} was handed out instead of {due.id}"

    @law(Capability.SCHEDULED, Capability.PRIORITY)
    def test_due_jobs_come_in_the_order_of_enqueueing(self, bench: QueueBench) -> None:
        """Once due, a job's place is that of its enqueueing, not that of its ``run_at``."""
        bench.open()
        later = bench.put(run_at=bench.clock.now() + bench.soon_secs)
        plain = bench.put()
        bench.advance(bench.soon_secs * 1.1)
        handed = [job.id for job in bench.queue.pop_batch(5)]
        assert [later.id, plain.id] == handed, "due jobs came in another order than enqueued"

    @law(Capability.SCHEDULED)
    def test_clear_removes_jobs_that_are_not_due(self, bench: QueueBench) -> None:
        """``clear`` removes waiting jobs whether they are due or not."""
        bench.open()
        bench.put(run_at=bench.clock.now() + bench.soon_secs)
        bench.queue.clear()
        assert bench.queue.qsize() == 0, f"qsize() is {bench.queue.qsize()} after clear()"
        bench.advance(bench.soon_secs * 1.1)
        assert bench.queue.dequeue() is None, "a cleared job came back when it was due"

    @law(Capability.SCHEDULED)
    def test_dequeue_waits_for_a_job_to_become_due(self, bench: QueueBench) -> None:
        """``dequeue`` with a timeout gives a job that becomes due meanwhile."""
        queue = bench.open(real_time=True)
        job = bench.put(run_at=bench.clock.now() + 0.2)
        handed = queue.dequeue(bench.patience_secs)
        assert handed is not None, f"nothing was handed out within {bench.patience_secs:g} s"
        assert handed.id == job.id, f"{handed.id} was handed out instead of {job.id}"

    @law(Capability.SCHEDULED, Capability.LEASES)
    def test_the_next_due_time_is_known(self, bench: QueueBench) -> None:
        """``next_due_secs`` tells how long it is until the first scheduled job, else None."""
        queue = bench.open_leased()
        bench.put()
        assert queue.next_due_secs() is None, "a job that is due already counts as scheduled"
        for secs in (500.0, 100.0, 300.0):
            bench.put(run_at=bench.clock.now() + secs)
        left = queue.next_due_secs()
        assert left is not None, "next_due_secs() gave None although jobs are scheduled"
        assert 90.0 < left <= 100.0, f"next_due_secs() gave {left}, the first is due in 100 s"

    @law(Capability.SCHEDULED, Capability.LEASES)
    def test_a_retry_waits_until_its_time(self, bench: QueueBench) -> None:
        """A job that is settled PENDING comes again at the settlement's ``run_at``, not before."""
        queue = bench.open_leased()
        claimed = bench.put_and_claim()
        bench.settle(claimed, JobStatus.PENDING, run_at=bench.clock.now() + bench.soon_secs)
        assert queue.claim(1, B) == [], "a retry came before its time"
        bench.advance(bench.soon_secs * 1.1)
        again = bench.claim(B)
        assert again.id == claimed.id, f"{again.id} came instead of the retry"
