"""Jobs during which a worker died: run one at a time, and charged alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.core.record import JobStatus
from nuvom.queue_backends.base import Capability
from nuvom.testing.conformance.law import law
from nuvom.testing.conformance.queue_bench import A, B, C
from nuvom.testing.conformance.queue_kit import QueueKit

if TYPE_CHECKING:
    from nuvom.core.record import JobRecord
    from nuvom.testing.conformance.queue_bench import QueueBench


class Suspects(QueueKit):
    """So that a poisonous job never drags its neighbours to DEAD."""

    @law(Capability.LEASES)
    def test_a_lost_start_makes_a_suspect(self, bench: QueueBench) -> None:
        """A job that had started when its worker was lost is a suspect from then on."""
        bench.open()
        assert not bench.put_and_claim(A).suspect, "a fresh job is a suspect"
        job = bench.put_and_claim(B)
        bench.leased.mark_started(job)
        suspects = {one.id: one.suspect for one in bench.lose_workers()}
        assert suspects[job.id], "a job that had started is no suspect"
        if bench.has_start_marks:
            others = [one for job_id, one in suspects.items() if job_id != job.id]
            assert others == [False], "a job that had not started is a suspect"

    @law(Capability.LEASES)
    def test_a_settlement_clears_the_suspicion(self, bench: QueueBench) -> None:
        """A suspect that settles is no suspect any more."""
        bench.open()
        _make_suspect(bench)
        suspect = bench.claim(B)
        assert suspect.suspect, "a recovered job that had started is claimed as no suspect"
        bench.settle(suspect, JobStatus.PENDING)
        assert not bench.claim(B).suspect, "a suspect that settled is still one"

    @law(Capability.LEASES)
    def test_a_release_keeps_the_suspicion(self, bench: QueueBench) -> None:
        """A suspect that is given back stays one."""
        bench.open()
        _make_suspect(bench)
        bench.leased.release([bench.claim(B)])
        assert bench.claim(B).suspect, "a suspect that was given back is none any more"

    @law(Capability.LEASES)
    def test_a_claim_takes_no_suspects_if_told_so(self, bench: QueueBench) -> None:
        """``claim(suspects=0)`` gives fresh jobs only."""
        bench.open()
        _make_suspect(bench)
        fresh = bench.put()
        claimed = [job.id for job in bench.leased.claim(5, B, suspects=0)]
        assert [fresh.id] == claimed, f"a claim without suspects gave {len(claimed)} jobs"

    @law(Capability.LEASES)
    def test_a_claim_takes_one_suspect_at_most(self, bench: QueueBench) -> None:
        """``claim`` gives at most one suspect, and gives it first."""
        bench.open()
        first = _make_suspect(bench)
        _make_suspect(bench, first)
        fresh = {bench.put(priority=0).id, bench.put(priority=0).id}
        claimed = bench.leased.claim(5, B)
        kinds = [job.suspect for job in claimed]
        assert kinds == [True, False, False], f"suspects among the claimed jobs: {kinds}"
        assert fresh == {job.id for job in claimed[1:]}, "fresh jobs are missing in the claim"
        assert len(bench.leased.claim(5, C)) == 1, "the second suspect is not left to others"

    @law(Capability.LEASES)
    def test_only_the_suspect_is_charged(self, bench: QueueBench) -> None:
        """When a worker is lost with a suspect started, fresh jobs beside it are not charged."""
        bench.open()
        suspect_id = _make_suspect(bench).id
        fresh = bench.put()
        for job in bench.leased.claim(5, B):
            bench.leased.mark_started(job)
        reaped = {job.id: job for job in bench.lose_workers()}
        charges = (reaped[suspect_id].deliveries, reaped[fresh.id].deliveries)
        assert charges == (2, 0), f"suspect and neighbour have {charges} charges"
        assert reaped[fresh.id].suspect, "a neighbour that had started did not become a suspect"

    @law(Capability.LEASES)
    def test_without_a_suspect_all_that_started_are_charged(self, bench: QueueBench) -> None:
        """When a worker is lost with fresh jobs only, each that had started is charged once."""
        bench.open()
        for _ in range(3):
            bench.put()
        claimed = bench.leased.claim(3, A)
        for job in claimed[:2]:
            bench.leased.mark_started(job)
        charges = {job.id: job.deliveries for job in bench.lose_workers()}
        unstarted = 0 if bench.has_start_marks else 1
        expected = [1, 1, unstarted]
        got = [charges[job.id] for job in claimed]
        assert got == expected, f"charges are {got} instead of {expected}"

    @law(Capability.LEASES)
    def test_recoveries_slow_down(self, bench: QueueBench) -> None:
        """The first recovery is due at once, the second only after as many seconds as charges."""
        bench.open_leased(max_deliveries=5)
        _make_suspect(bench)
        bench.leased.mark_started(bench.claim(B))  # at once
        bench.lose_workers()
        early = bench.leased.claim(1, B)
        assert early == [], "a job that cost two workers was handed out at once"
        bench.advance(2.2)
        bench.claim(B)

    @law(Capability.LEASES)
    def test_neighbours_of_a_poisonous_job_survive(self, bench: QueueBench) -> None:
        """While a job kills worker after worker until it is DEAD, jobs beside it never die."""
        queue = bench.open_leased(max_deliveries=2)
        poison = bench.put(priority=0)
        neighbours = {bench.put().id for _ in range(4)}
        fate: dict[str, JobStatus] = {}
        for death in range(8):
            bench.advance(3.0)
            claimed = queue.claim(5, f"worker-{death}")
            if poison.id not in {job.id for job in claimed}:
                break
            for job in claimed:
                queue.mark_started(job)
            fate.update((job.id, job.status) for job in bench.lose_workers())
        assert fate[poison.id] is JobStatus.DEAD, f"the poisonous job is {fate[poison.id]}"
        dead = [job_id for job_id in neighbours if fate[job_id] is JobStatus.DEAD]
        assert dead == [], f"{len(dead)} of 4 neighbours died with it"


def _make_suspect(bench: QueueBench, *aside: JobRecord) -> JobRecord:
    """Return a job that waits as a suspect; ``aside`` are suspects that wait already."""
    job = bench.put()
    claimed = bench.leased.claim(1, A, suspects=0)
    assert [job.id] == [one.id for one in claimed], f"claim gave {claimed} beside {aside}"
    bench.leased.mark_started(claimed[0])
    (reaped,) = bench.lose_workers()
    assert reaped.status is JobStatus.PENDING, f"a recovered job is {reaped.status}"
    return reaped
