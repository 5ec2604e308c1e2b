"""What people ask for: cancel, retry, pause, purge, prune."""

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

_FINAL = (JobStatus.SUCCESS, JobStatus.FAILED, JobStatus.CANCELLED)


class Control(QueueKit):
    """Each tells what it did."""

    # ---- cancel ---------------------------------------------------------------------------

    @law(Capability.CONTROL)
    def test_a_cancelled_job_is_never_handed_out(self, bench: QueueBench) -> None:
        """``cancel`` of a waiting job tells PENDING, and the job is never handed out."""
        bench.open()
        job = bench.put()
        later = bench.put(run_at=bench.clock.now() + bench.soon_secs)
        before = [bench.leased.cancel(one.id) for one in (job, later)]
        assert before == [JobStatus.PENDING] * 2, f"cancel of waiting jobs returned {before}"
        bench.advance(bench.soon_secs * 1.1)
        assert bench.leased.claim(5, A) == [], "a cancelled job was handed out"
        assert bench.queue.qsize() == 0, "a cancelled job counts as waiting"

    @law(Capability.CONTROL, Capability.INSPECTION)
    def test_a_running_job_is_cancelled_at_once(self, bench: QueueBench) -> None:
        """``cancel`` of a running job tells RUNNING; it is CANCELLED at once, its epoch raised."""
        bench.open()
        job = bench.put_and_claim()
        before = bench.leased.cancel(job.id)
        assert before is JobStatus.RUNNING, f"cancel of a running job returned {before}"
        snapshot = bench.seen(job)
        assert snapshot.status is JobStatus.CANCELLED, f"the job is {snapshot.status}"
        raised = snapshot.record.lease_epoch > job.lease_epoch
        assert raised, f"the epoch is {snapshot.record.lease_epoch} as before"
        reaped = bench.lose_workers()
        assert reaped == [], "a cancelled job was taken back from its worker"

    @law(Capability.CONTROL, Capability.INSPECTION)
    def test_the_first_final_status_wins(self, bench: QueueBench) -> None:
        """``cancel`` of a job that is over tells its status and changes nothing."""
        bench.open()
        for status in _FINAL:
            job = _ended(bench, status)
            before = bench.leased.cancel(job.id)
            assert before is status, f"cancel of a {status} job returned {before}"
            assert bench.status(job) is status, f"cancel made a {status} job {bench.status(job)}"

    @law(Capability.CONTROL)
    def test_unknown_jobs_are_told_apart(self, bench: QueueBench) -> None:
        """``cancel`` and ``retry`` of an id that is not stored return None."""
        answers = (bench.leased.cancel("no-such-job"), bench.leased.retry("no-such-job"))
        assert answers == (None, None), f"cancel and retry of an unknown id returned {answers}"

    # ---- retry ----------------------------------------------------------------------------

    @law(Capability.CONTROL, Capability.LEASES)
    def test_a_failed_job_can_be_retried(self, bench: QueueBench) -> None:
        """``retry`` of a FAILED or CANCELLED job tells that, and the job is handed out again."""
        bench.open()
        for status in (JobStatus.FAILED, JobStatus.CANCELLED):
            job = _ended(bench, status)
            before = bench.leased.retry(job.id)
            assert before is status, f"retry of a {status} job returned {before}"
            again = bench.claim(B)
            assert again.id == job.id, "another job came instead of the retried one"
            bench.settle(again)

    @law(Capability.CONTROL, Capability.LEASES)
    def test_a_dead_job_can_be_retried(self, bench: QueueBench) -> None:
        """``retry`` of a DEAD job gives it all its deliveries again."""
        queue = bench.open_leased(max_deliveries=1)
        job = bench.put_and_claim()
        queue.mark_started(job)
        bench.lose_workers()
        before = queue.retry(job.id)
        assert before is JobStatus.DEAD, f"retry of a DEAD job returned {before}"
        again = bench.claim(B)
        counts = (again.id, again.attempt, again.deliveries)
        assert counts == (job.id, 1, 1), f"id, attempt and deliveries are {counts} after retry"

    @law(Capability.CONTROL, Capability.LEASES)
    def test_only_failures_are_retried(self, bench: QueueBench) -> None:
        """``retry`` of a job that waits, runs or succeeded tells its status, changes nothing."""
        bench.open()
        waiting = bench.put()
        before = bench.leased.retry(waiting.id)
        assert before is JobStatus.PENDING, f"retry of a waiting job returned {before}"
        running = bench.claim()
        before = bench.leased.retry(running.id)
        assert before is JobStatus.RUNNING, f"retry of a running job returned {before}"
        assert bench.settle(running), "retry of a running job took it from its worker"
        before = bench.leased.retry(running.id)
        assert before is JobStatus.SUCCESS, f"retry of a success returned {before}"
        assert bench.leased.claim(1, A) == [], "retry of a success ran it again"

    @law(Capability.CONTROL, Capability.LEASES)
    def test_a_retried_job_is_due_at_once(self, bench: QueueBench) -> None:
        """A job that was cancelled before its ``run_at`` and is retried by hand is due at once."""
        bench.open()
        job = bench.put(run_at=bench.clock.now() + 3600.0)
        bench.leased.cancel(job.id)
        bench.leased.retry(job.id)
        assert bench.claim().id == job.id, "another job came instead of the retried one"

    # ---- pause ----------------------------------------------------------------------------

    @law(Capability.CONTROL)
    def test_a_paused_queue_hands_out_nothing(self, bench: QueueBench) -> None:
        """No job of a paused queue is claimed until ``resume``; enqueueing goes on."""
        queue = bench.leased
        queue.pause("mail", by="ann")
        first, other = bench.put(queue="mail"), bench.put(queue="default")
        claimed = [job.id for job in queue.claim(5, A)]
        assert [other.id] == claimed, f"a claim beside a paused queue gave {claimed}"
        assert queue.claim(5, A, ["mail"]) == [], "a paused queue handed out a job by name"
        assert queue.dequeue() is None, "dequeue gave a job of a paused queue"
        assert queue.resume("mail"), "resume of a paused queue returned False"
        assert bench.claim().id == first.id, "nothing is handed out after resume"
        assert not queue.resume("mail"), "resume of a queue that is not paused returned True"

    @law(Capability.CONTROL, Capability.LEASES)
    def test_a_pause_leaves_running_jobs_alone(self, bench: QueueBench) -> None:
        """Jobs that run when their queue is paused are settled as ever; retries then wait."""
        first, second = bench.put_and_claim(), bench.put_and_claim()
        bench.leased.pause("default", by="ann")
        accepted = (bench.settle(first), bench.settle(second, JobStatus.PENDING))
        assert accepted == (True, True), f"settling in a paused queue gave {accepted}"
        assert bench.leased.claim(5, A) == [], "a retry left a paused queue"

    @law(Capability.CONTROL)
    def test_a_pause_binds_all_instances(self, bench: QueueBench) -> None:
        """What is paused through one instance is paused for every other one."""
        other = bench.reopen()
        bench.leased.pause("default", by="ann")
        bench.put()
        assert other.dequeue() is None, "another instance gave a job of a paused queue"

    # ---- purge, prune ---------------------------------------------------------------------

    @law(Capability.CONTROL, Capability.LEASES)
    def test_purge_removes_what_waits_in_one_queue(self, bench: QueueBench) -> None:
        """``purge`` removes the waiting jobs of one queue, parked ones too, and tells how many."""
        queue = bench.open_leased()
        bench.settle(bench.put_and_claim(queue="mail"), JobStatus.PARKED)
        running = bench.put_and_claim(queue="mail")
        bench.put(queue="mail")
        bench.put(queue="mail", run_at=bench.clock.now() + 3600.0)
        other = bench.put(queue="default")
        counts = (queue.purge("mail"), queue.purge("mail"), queue.purge("nowhere"))
        assert counts == (3, 0, 0), f"purge returned {counts} with three jobs waiting"
        assert bench.settle(running), "purge took a running job away"
        left = [job.id for job in queue.claim(5, B)]
        assert [other.id] == left, f"after purge of another queue {left} are left"

    @law(Capability.CONTROL, Capability.LEASES, Capability.INSPECTION)
    def test_prune_removes_what_is_old_enough(self, bench: QueueBench) -> None:
        """``prune`` removes jobs that ended before the given moments, and tells how many."""
        queue = bench.open_leased()
        now = bench.clock.now()
        old = {status: _ended(bench, status, age_secs=100.0) for status in _FINAL}
        fresh = {status: _ended(bench, status, age_secs=10.0) for status in _FINAL}
        removed = queue.prune(success_before=now - 50, failed_before=now - 200)
        assert removed == 1, f"prune removed {removed} where one success is old enough"
        assert queue.get(old[JobStatus.SUCCESS].id) is None, "an old success is still there"
        removed = queue.prune(success_before=now - 50, failed_before=now - 50)
        assert removed == 2, f"prune removed {removed} where two failures are old enough"
        left = [status for status, job in fresh.items() if queue.get(job.id) is not None]
        assert left == list(_FINAL), f"of three fresh jobs {left} are left"

    @law(Capability.CONTROL, Capability.LEASES, Capability.INSPECTION)
    def test_prune_leaves_live_jobs_alone(self, bench: QueueBench) -> None:
        """``prune`` never touches a job that waits, runs or is parked."""
        queue = bench.open_leased()
        jobs = [bench.put_and_claim(), bench.put_and_claim(), bench.put_and_claim(), bench.put()]
        bench.settle(jobs[0], JobStatus.PARKED)
        bench.settle(jobs[1], JobStatus.PENDING)
        future = bench.clock.now() + 1e6
        removed = queue.prune(success_before=future, failed_before=future)
        assert removed == 0, f"prune removed {removed} live jobs"
        missing = [job.id for job in jobs if queue.get(job.id) is None]
        assert missing == [], f"prune removed {missing}"

    @law(Capability.CONTROL, Capability.LEASES)
    def test_prune_keeps_to_its_limit(self, bench: QueueBench) -> None:
        """``prune`` removes at most ``limit`` jobs at a time."""
        queue = bench.open_leased()
        for status in (*_FINAL, *_FINAL):
            _ended(bench, status)
        future = bench.clock.now() + 1e6
        counts = [
            queue.prune(success_before=future, failed_before=future, limit=4) for _ in range(3)
        ]
        assert counts == [4, 2, 0], f"prune of six jobs, four at a time, removed {counts}"

    @law(Capability.CONTROL, Capability.LEASES, Capability.INSPECTION)
    def test_a_result_has_a_lifetime_of_its_own(self, bench: QueueBench) -> None:
        """A success with ``result_ttl_secs`` is pruned after that time, and not before."""
        queue = bench.open_leased()
        job = bench.put_and_claim(result_ttl_secs=bench.soon_secs)
        bench.settle(job)
        future, past = bench.clock.now() + 1e6, 0.0
        removed = queue.prune(success_before=future, failed_before=future)
        assert removed == 0, "a result was pruned before its own lifetime was over"
        bench.advance(bench.soon_secs * 1.1)
        removed = queue.prune(success_before=past, failed_before=past)
        assert removed == 1, "a result outlived its own lifetime"


def _ended(bench: QueueBench, status: JobStatus, *, age_secs: float = 0.0) -> JobRecord:
    """Return a job that ended so many seconds ago."""
    ended_at = bench.clock.now() - age_secs
    job = bench.put_and_claim(created_at=ended_at - 1.0)
    accepted = bench.settle(job, status, started_at=ended_at, finished_at=ended_at)
    assert accepted, f"settling as {status} was refused"
    return job
