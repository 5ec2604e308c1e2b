"""What a second instance on the same store sees, and what outlives the first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.core.record import JobStatus
from nuvom.queue_backends.base import Capability
from nuvom.testing.conformance.law import law
from nuvom.testing.conformance.queue_bench import A, B
from nuvom.testing.conformance.queue_kit import QueueKit

if TYPE_CHECKING:
    from nuvom.testing.conformance.queue_bench import QueueBench


class Persistence(QueueKit):
    """They apply where ``reopen`` gives a second instance."""

    @law()
    def test_another_instance_hands_out_the_jobs(self, bench: QueueBench) -> None:
        """What one instance enqueues another one hands out, once among them both."""
        other = bench.reopen()
        jobs = [bench.put().id, bench.put().id]
        handed = [job.id for job in other.pop_batch(1)]
        handed += [job.id for job in bench.queue.pop_batch(5)]
        assert sorted(jobs) == sorted(handed), f"two instances handed out {handed} of {jobs}"
        assert other.qsize() == 0, f"another instance still counts {other.qsize()} jobs"

    @law()
    def test_jobs_outlive_the_instance(self, bench: QueueBench) -> None:
        """Jobs are there when the instance that stored them has stopped."""
        job = bench.put("shop.send", b"\x00" * 5000)
        bench.queue.stop()
        other = bench.reopen()
        handed = other.dequeue()
        assert handed is not None, "a job is gone after its instance stopped"
        same = (handed.id, bytes(handed.args)) == (job.id, bytes(job.args))
        assert same, f"{handed.id} came back instead of {job.id}, or its arguments changed"

    @law(Capability.LEASES)
    def test_a_lease_binds_all_instances(self, bench: QueueBench) -> None:
        """A lease that is given by one instance is kept, ended and fenced by all."""
        bench.open()
        other = bench.reopen_leased()
        job = bench.put_and_claim(A)
        assert other.claim(1, B) == [], "another instance handed out a claimed job"
        bench.end_leases()
        reaped = [one.id for one in other.reap()]
        assert [job.id] == reaped, f"another instance's reap gave {reaped}"
        assert not bench.settle(job), "a settlement was accepted after another instance's reap"

    @law(Capability.INSPECTION, Capability.LEASES)
    def test_what_was_settled_outlives_the_instance(self, bench: QueueBench) -> None:
        """Status, error and attempts are there when the instance that settled has stopped."""
        job = bench.put_and_claim(A)
        bench.settle(job, JobStatus.FAILED)
        bench.queue.stop()
        other = bench.reopen_leased()
        snapshot = other.get(job.id)
        assert snapshot is not None, "a settled job is gone after its instance stopped"
        assert snapshot.status is JobStatus.FAILED, f"a FAILED job became {snapshot.status}"
        assert snapshot.error is not None, "the error of a FAILED job is gone"
        outcomes = [one.outcome for one in other.attempts(job.id)]
        assert outcomes == ["failure"], f"the attempts are {outcomes}"

    @law(Capability.CONTROL)
    def test_a_pause_outlives_the_instance(self, bench: QueueBench) -> None:
        """A paused queue is paused when the instance that paused it has stopped."""
        bench.put()
        bench.leased.pause("default", by="ann")
        bench.queue.stop()
        other = bench.reopen()
        assert other.dequeue() is None, "a paused queue is not paused any more"
