"""Jobs of tasks that no worker knows: kept apart until one does."""

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


class Parked(QueueKit):
    """PARKED is neither waiting nor final."""

    @law(Capability.LEASES)
    def test_a_parked_job_is_not_handed_out(self, bench: QueueBench) -> None:
        """A job that is settled PARKED is not handed out and does not count as waiting."""
        bench.open()
        _park(bench)
        assert bench.leased.claim(5, B) == [], "a PARKED job was handed out"
        assert bench.queue.qsize() == 0, f"qsize() is {bench.queue.qsize()} with one job PARKED"

    @law(Capability.LEASES)
    def test_parked_jobs_are_taken_up_again(self, bench: QueueBench) -> None:
        """``unpark`` makes the PARKED jobs of those tasks PENDING and tells how many."""
        bench.open()
        ids = {_park(bench, "shop.known").id for _ in range(2)}
        _park(bench, "shop.unknown")
        counts = [bench.leased.unpark([]), bench.leased.unpark(["shop.known", "shop.third"])]
        assert counts == [0, 2], f"unpark returned {counts}"
        claimed = bench.leased.claim(5, B)
        assert ids == {job.id for job in claimed}, "the wrong jobs were taken up again"
        again = bench.leased.unpark(["shop.known"])
        assert again == 0, f"a second unpark returned {again}"

    @law(Capability.LEASES)
    def test_parking_charges_nothing(self, bench: QueueBench) -> None:
        """A job that was PARKED starts again with its first attempt and no charge."""
        bench.open()
        _park(bench)
        bench.leased.unpark(["shop.unknown"])
        job = bench.claim(B)
        counts = (job.attempt, job.deliveries)
        assert counts == (1, 1), f"attempt and deliveries are {counts} after parking"

    @law(Capability.LEASES, Capability.INSPECTION)
    def test_parked_tasks_are_listed(self, bench: QueueBench) -> None:
        """``parked_tasks`` names the tasks that jobs are PARKED for, with their number."""
        bench.open()
        before = dict(bench.leased.parked_tasks)
        assert before == {}, f"parked_tasks of an empty queue is {before}"
        for task in ("shop.a", "shop.b", "shop.a"):
            _park(bench, task)
        listed = dict(bench.leased.parked_tasks)
        assert listed == {"shop.a": 2, "shop.b": 1}, f"parked_tasks is {listed}"

    @law(Capability.LEASES)
    def test_a_parked_job_dies_after_its_time(self, bench: QueueBench) -> None:
        """``reap`` makes a job DEAD that was PARKED for longer than ``parked_ttl_secs``."""
        queue = bench.open_leased(parked_ttl_secs=1.0)
        job = _park(bench)
        early = queue.reap()
        assert early == [], f"a PARKED job was given up at once: {early}"
        bench.advance(1.2)
        reaped = [(one.id, one.status) for one in queue.reap()]
        assert reaped == [(job.id, JobStatus.DEAD)], f"reap gave {reaped}"
        counts = (queue.reap(), queue.unpark(["shop.unknown"]))
        assert counts == ([], 0), f"a DEAD job was reaped or taken up again: {counts}"

    @law(Capability.LEASES, Capability.CONTROL)
    def test_a_parked_job_can_be_cancelled(self, bench: QueueBench) -> None:
        """``cancel`` ends a PARKED job."""
        bench.open()
        job = _park(bench)
        before = bench.leased.cancel(job.id)
        assert before is JobStatus.PARKED, f"cancel of a PARKED job returned {before}"
        taken_up = bench.leased.unpark(["shop.unknown"])
        assert taken_up == 0, "a cancelled job was taken up again"


def _park(bench: QueueBench, task: str = "shop.unknown") -> JobRecord:
    bench.put(task)
    job = bench.claim(A)
    assert bench.settle(job, JobStatus.PARKED), "settling as PARKED was refused"
    return job
