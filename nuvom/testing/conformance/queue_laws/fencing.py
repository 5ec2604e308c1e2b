"""Who lost a lease can change nothing any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.core.record import JobStatus
from nuvom.queue_backends.base import Capability
from nuvom.testing.builders import make_settlement
from nuvom.testing.conformance.law import law
from nuvom.testing.conformance.queue_bench import A, B
from nuvom.testing.conformance.queue_kit import QueueKit

if TYPE_CHECKING:
    from nuvom.core.record import JobRecord
    from nuvom.testing.conformance.queue_bench import QueueBench


class Fencing(QueueKit):
    """Every write of an attempt is conditional on its ``lease_epoch``."""

    @law(Capability.LEASES)
    def test_a_reaped_worker_cannot_settle(self, bench: QueueBench) -> None:
        """A settlement is refused, and changes nothing, once ``reap`` took the job back."""
        bench.open()
        job = bench.put_and_claim(A)
        bench.lose_workers()
        _assert_fenced(bench, job, "reap took the job back")
        assert bench.claim(B).id == job.id, "a fenced settlement ended the job"

    @law(Capability.LEASES)
    def test_a_late_worker_cannot_settle_anothers_attempt(self, bench: QueueBench) -> None:
        """A settlement is refused, and changes nothing, once another worker has the job."""
        bench.open()
        late = bench.put_and_claim(A)
        bench.lose_workers()
        current = bench.claim(B)
        assert current.lease_epoch > late.lease_epoch, "the next claim did not raise the epoch"
        _assert_fenced(bench, late, "another worker has the job")
        assert bench.settle(current), "the rightful worker's settlement was refused"
        _assert_fenced(bench, late, "another worker settled the job")

    @law(Capability.LEASES)
    def test_settlements_of_a_batch_are_refused_one_by_one(self, bench: QueueBench) -> None:
        """Of a batch just those are refused, and change nothing, whose lease is lost."""
        bench.open()
        late = [bench.put_and_claim(A), bench.put_and_claim(A)]
        bench.lose_workers()
        current = [bench.claim(B), bench.claim(B)]
        for status in (JobStatus.SUCCESS, JobStatus.FAILED):  # the second batch is a mixed one
            mine = bench.put_and_claim(A)
            batch = [make_settlement(late[0]), make_settlement(mine)]
            batch.append(make_settlement(late[1], status))
            accepted = bench.leased.settle(batch)
            assert accepted == [False, True, False], f"settled as {accepted}: others have two"
        for job in current:
            assert bench.settle(job), "the rightful worker's settlement was refused"

    @law(Capability.LEASES)
    def test_two_deliveries_of_one_job_are_told_apart(self, bench: QueueBench) -> None:
        """Where a batch has a lost and the current delivery of one job, the lost one is refused."""
        bench.open()
        late = bench.put_and_claim(A)
        bench.lose_workers()
        current = bench.claim(A)
        released = bench.leased.release([late, current])
        assert released == [False, True], f"release of the lost, then the current: {released}"
        again = bench.claim(A)
        settled = bench.leased.settle([make_settlement(one) for one in (current, again, late)])
        assert settled == [False, True, False], f"settle with one current between lost: {settled}"

    @law(Capability.LEASES)
    def test_the_same_worker_can_lose_a_job_to_itself(self, bench: QueueBench) -> None:
        """An earlier delivery is fenced also where the same worker claimed the job again."""
        bench.open()
        late = bench.put_and_claim(A)
        bench.lose_workers()
        current = bench.claim(A)
        _assert_fenced(bench, late, "the worker claimed the job again")
        assert bench.settle(current), "the current delivery's settlement was refused"

    @law(Capability.LEASES)
    def test_a_released_job_cannot_be_settled(self, bench: QueueBench) -> None:
        """A settlement is refused, and changes nothing, once the job was given back."""
        bench.open()
        job = bench.put_and_claim(A)
        bench.leased.release([job])
        _assert_fenced(bench, job, "the job was given back")
        assert bench.claim(B).id == job.id, "a settlement after the release ended the job"

    @law(Capability.LEASES)
    def test_a_settlement_is_not_repeated_into_the_next_attempt(self, bench: QueueBench) -> None:
        """A settlement that is repeated is refused once the job was claimed anew."""
        bench.open()
        first = bench.put_and_claim(A)
        bench.settle(first, JobStatus.PENDING)
        second = bench.claim(B)
        _assert_fenced(bench, first, "the next attempt runs", JobStatus.PENDING)
        assert bench.settle(second), "the next attempt's settlement was refused"

    @law(Capability.LEASES, Capability.CONTROL)
    def test_a_cancelled_job_cannot_be_settled(self, bench: QueueBench) -> None:
        """A settlement is refused, and changes nothing, once the job was cancelled."""
        bench.open()
        job = bench.put_and_claim()
        bench.leased.cancel(job.id)
        _assert_fenced(bench, job, "the job was cancelled")
        if Capability.INSPECTION in bench.queue.capabilities:
            status = bench.status(job)
            assert status is JobStatus.CANCELLED, f"a cancelled job became {status}"

    @law(Capability.LEASES, Capability.CONTROL)
    def test_a_retried_job_cannot_be_settled(self, bench: QueueBench) -> None:
        """A settlement of before a manual retry is refused, and changes nothing, after it."""
        bench.open()
        job = bench.put_and_claim()
        bench.settle(job, JobStatus.FAILED)
        bench.leased.retry(job.id)
        _assert_fenced(bench, job, "the job was retried by hand", JobStatus.FAILED)
        again = bench.claim(B)
        assert again.lease_epoch > job.lease_epoch, "retry and claim did not raise the epoch"

    @law(Capability.LEASES)
    def test_a_job_that_is_gone_cannot_be_settled(self, bench: QueueBench) -> None:
        """A settlement of a job that is not stored is refused, and stores nothing."""
        bench.open()
        stranger = bench.job(status=JobStatus.RUNNING, lease_epoch=1, attempt=1, deliveries=1)
        accepted = bench.settle(stranger)
        assert not accepted, "the settlement of an unknown job was accepted"
        assert bench.queue.qsize() == 0, "the settlement of an unknown job stored one"

    @law(Capability.LEASES)
    def test_a_late_release_is_refused(self, bench: QueueBench) -> None:
        """``release`` is refused, and changes nothing, once the lease is lost."""
        bench.open()
        late = bench.put_and_claim(A)
        bench.lose_workers()
        assert bench.leased.release([late]) == [False], "a release after reap was accepted"
        current = bench.claim(B)
        assert bench.leased.release([late]) == [False], "a release of another's job was accepted"
        assert bench.settle(current), "a late release took the job from another worker"
        assert bench.leased.release([current]) == [False], "a settled job was given back"

    @law(Capability.LEASES)
    def test_a_release_raises_no_epoch(self, bench: QueueBench) -> None:
        """``release`` leaves ``lease_epoch`` as it is; the next claim raises it by one."""
        bench.open()
        job = bench.put_and_claim(A)
        bench.leased.release([job])
        epoch = bench.claim(B).lease_epoch
        assert epoch == job.lease_epoch + 1, f"the epoch is {epoch} after {job.lease_epoch}"

    @law(Capability.LEASES)
    def test_extend_keeps_no_lost_job(self, bench: QueueBench) -> None:
        """``extend`` of a worker that lost a job does not give it back."""
        bench.open()
        job = bench.put_and_claim(A)
        bench.lose_workers()
        held = bench.leased.extend(A)
        assert held == {}, f"extend gave {held} after the job was taken back"
        assert bench.claim(B).id == job.id, "extend took a recovered job again"

    @law(Capability.LEASES, Capability.CONTROL)
    def test_extend_tells_of_a_cancelled_job(self, bench: QueueBench) -> None:
        """``extend`` leaves out jobs that were cancelled, so that their worker learns of it."""
        kept, cancelled = bench.put_and_claim(A), bench.put_and_claim(A)
        bench.leased.cancel(cancelled.id)
        held = bench.leased.extend(A)
        assert held == {kept.id: kept.lease_epoch}, f"extend gave {held} after a cancel"

    @law(Capability.LEASES)
    def test_progress_is_kept_while_the_lease_holds(self, bench: QueueBench) -> None:
        """``report_progress`` is True while the lease holds, and False afterwards."""
        queue = bench.open_leased()
        job = bench.put_and_claim(A)
        kept = queue.report_progress(job, 3.0, 10.0, "three of ten")
        assert kept, "progress was refused although the lease holds"
        if Capability.INSPECTION in queue.capabilities:
            progress = bench.seen(job).progress
            assert progress == (3.0, 10.0, "three of ten"), f"progress is shown as {progress}"
        bench.lose_workers()
        kept = queue.report_progress(job, 4.0, None, "")
        assert not kept, "progress was accepted after the lease was lost"

    @law(Capability.LEASES, Capability.INSPECTION)
    def test_progress_ends_with_the_attempt(self, bench: QueueBench) -> None:
        """Progress is shown while the attempt runs, and not of one that is over."""
        queue = bench.open_leased()
        for end in (queue.release, lambda jobs: [bench.settle(job) for job in jobs]):
            job = bench.put_and_claim(A)
            queue.report_progress(job, 3.0, None, "")
            end([job])
            progress = bench.seen(job).progress
            assert progress is None, f"progress is {progress} after the attempt"
            queue.clear()

    @law(Capability.LEASES)
    def test_a_stale_start_mark_charges_nobody(self, bench: QueueBench) -> None:
        """``mark_started`` of a lost delivery does not mark the next one."""
        bench.open_leased(max_deliveries=1)
        stale = bench.put_and_claim(A)
        if not bench.has_start_marks:
            return
        bench.lose_workers()
        bench.claim(A)
        bench.leased.mark_started(stale)
        (reaped,) = bench.lose_workers()
        assert reaped.status is JobStatus.PENDING, (
            f"a delivery that never started made the job {reaped.status}"
        )


def _assert_fenced(
    bench: QueueBench, job: JobRecord, why: str, status: JobStatus = JobStatus.SUCCESS
) -> None:
    size = bench.queue.qsize()
    # A store may have one way for plain settlements and another for those with children.
    for children in ((), (bench.job(),)):
        accepted = bench.settle(job, status, children=children)
        assert not accepted, (
            f"a settlement with epoch {job.lease_epoch} was accepted although {why}"
        )
    now = bench.queue.qsize()
    assert now == size, f"a fenced settlement changed the size of the queue from {size} to {now}"
