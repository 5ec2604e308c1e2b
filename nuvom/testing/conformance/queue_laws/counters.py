"""The table of counters, row by row: what each event does to ``attempt`` and ``deliveries``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.core.record import JobStatus
from nuvom.queue_backends.base import Capability
from nuvom.testing.conformance.law import law
from nuvom.testing.conformance.queue_bench import A, B
from nuvom.testing.conformance.queue_kit import QueueKit

if TYPE_CHECKING:
    from nuvom.core.record import JobRecord
    from nuvom.testing.conformance.queue_bench import QueueBench


class Counters(QueueKit):
    """Each law looks at the next claim, which adds one to both."""

    @law(Capability.LEASES)
    def test_a_settled_attempt_is_not_a_charge(self, bench: QueueBench) -> None:
        """Settled: ``attempt`` stays, ``deliveries`` is given back."""
        bench.open()
        bench.settle(bench.put_and_claim(), JobStatus.PENDING)
        _assert_counts(bench.claim(), attempt=2, deliveries=1)

    @law(Capability.LEASES)
    def test_a_snooze_gives_the_attempt_back(self, bench: QueueBench) -> None:
        """Settled without keeping the attempt: both are given back."""
        bench.open()
        bench.settle(bench.put_and_claim(), JobStatus.PENDING, keeps_attempt=False)
        _assert_counts(bench.claim(), attempt=1, deliveries=1)

    @law(Capability.LEASES)
    def test_a_release_is_not_charged(self, bench: QueueBench) -> None:
        """Released: both are given back, started or not."""
        bench.open()
        bench.settle(bench.put_and_claim(), JobStatus.PENDING)
        second = bench.claim()
        _assert_counts(second, attempt=2, deliveries=1)
        bench.leased.release([second])
        third = bench.claim()
        _assert_counts(third, attempt=2, deliveries=1)
        bench.leased.mark_started(third)
        bench.leased.release([third])
        _assert_counts(bench.claim(), attempt=2, deliveries=1)

    @law(Capability.LEASES)
    def test_a_lost_start_is_charged(self, bench: QueueBench) -> None:
        """Recovered after it had started: ``attempt`` is given back, ``deliveries`` stays."""
        bench.open()
        bench.leased.mark_started(bench.put_and_claim(A))
        (reaped,) = bench.lose_workers()
        _assert_counts(reaped, attempt=0, deliveries=1)
        _assert_counts(bench.claim(B), attempt=1, deliveries=2)

    @law(Capability.LEASES)
    def test_a_lost_claim_that_never_started_is_not_charged(self, bench: QueueBench) -> None:
        """Recovered without a start mark: both are given back, if the backend keeps marks."""
        bench.open()
        bench.put_and_claim(A)
        (reaped,) = bench.lose_workers()
        charge = 0 if bench.has_start_marks else 1
        _assert_counts(reaped, attempt=0, deliveries=charge)
        _assert_counts(bench.claim(B), attempt=1, deliveries=1 + charge)

    @law(Capability.LEASES, Capability.INSPECTION)
    def test_a_release_is_in_the_history_once_it_started(self, bench: QueueBench) -> None:
        """A ``released`` attempt is kept where user code had started, and nothing elsewhere."""
        bench.open()
        if not bench.has_start_marks:
            return
        job = bench.put_and_claim(A)
        bench.leased.release([job])
        history = bench.leased.attempts(job.id)
        assert history == [], f"a release before the start is kept as {history}"
        again = bench.claim(A)
        bench.leased.mark_started(again)
        bench.leased.release([again])
        shown = [(one.number, one.outcome) for one in bench.leased.attempts(job.id)]
        assert shown == [(1, "released")], f"a release after the start is kept as {shown}"

    @law(Capability.LEASES, Capability.CONTROL)
    def test_a_manual_retry_starts_from_nothing(self, bench: QueueBench) -> None:
        """Manual retry: both are 0, whatever happened before."""
        bench.open()
        job = bench.put_and_claim()
        bench.leased.mark_started(job)
        bench.lose_workers()
        bench.settle(bench.claim(), JobStatus.FAILED)
        bench.leased.retry(job.id)
        _assert_counts(bench.claim(), attempt=1, deliveries=1)

    @law(Capability.LEASES)
    def test_a_job_that_kills_its_workers_ends_dead(self, bench: QueueBench) -> None:
        """A job is DEAD when ``max_deliveries`` workers were lost with it, and not before."""
        queue = bench.open_leased(max_deliveries=3)
        job = bench.put()
        for death in (1, 2, 3):
            claimed = bench.claim(f"worker-{death}")
            queue.mark_started(claimed)
            (reaped,) = bench.lose_workers()
            expected = JobStatus.DEAD if death == 3 else JobStatus.PENDING
            assert reaped.status is expected, f"the job is {reaped.status} after {death} deaths"
            bench.advance(4.0)  # later recoveries wait for as many seconds as there are charges
        assert reaped.id == job.id, "another job died"
        assert queue.claim(1, A) == [], "a DEAD job was handed out"
        assert queue.qsize() == 0, "a DEAD job counts as waiting"

    @law(Capability.LEASES)
    def test_only_lost_deliveries_lead_to_dead(self, bench: QueueBench) -> None:
        """Settled and released deliveries never make a job DEAD, however many there are."""
        queue = bench.open_leased(max_deliveries=2)
        claimed = bench.put_and_claim()
        for _ in range(3):
            queue.mark_started(claimed)
            bench.settle(claimed, JobStatus.PENDING)
            claimed = bench.claim()
            queue.release([claimed])
            claimed = bench.claim()
        queue.mark_started(claimed)
        (reaped,) = bench.lose_workers()
        assert reaped.status is JobStatus.PENDING, f"one loss of two made the job {reaped.status}"

    @law(Capability.LEASES)
    def test_charges_outlast_a_settlement(self, bench: QueueBench) -> None:
        """Losses before a settled attempt still count after it."""
        queue = bench.open_leased(max_deliveries=2)
        queue.mark_started(bench.put_and_claim())
        bench.lose_workers()
        bench.settle(bench.claim(), JobStatus.PENDING)
        queue.mark_started(bench.claim())
        (reaped,) = bench.lose_workers()
        assert reaped.status is JobStatus.DEAD, f"two losses of two left the job {reaped.status}"

    @law(Capability.LEASES)
    def test_a_job_that_never_starts_never_dies(self, bench: QueueBench) -> None:
        """A job whose deliveries are lost before it starts is handed out again and again."""
        bench.open_leased(max_deliveries=2)
        bench.put()
        if not bench.has_start_marks:
            return
        for _ in range(5):
            bench.claim()
            (reaped,) = bench.lose_workers()
            assert reaped.status is JobStatus.PENDING, f"an unstarted job became {reaped.status}"


def _assert_counts(job: JobRecord, *, attempt: int, deliveries: int) -> None:
    got = (job.attempt, job.deliveries)
    assert got == (attempt, deliveries), (
        f"attempt and deliveries are {got} instead of {(attempt, deliveries)}"
    )
