"""Claiming, settling, giving back, renewing: what a delivery is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.core.record import JobStatus
from nuvom.queue_backends.base import Capability
from nuvom.testing.builders import make_settlement
from nuvom.testing.conformance.law import law
from nuvom.testing.conformance.queue_bench import A, B
from nuvom.testing.conformance.queue_kit import QueueKit

if TYPE_CHECKING:
    from nuvom.testing.conformance.queue_bench import QueueBench


class Leases(QueueKit):
    """One delivery after the other, all of them in good order."""

    @law(Capability.LEASES)
    def test_a_claimed_job_is_running(self, bench: QueueBench) -> None:
        """A claimed record is RUNNING, with epoch, attempt and deliveries raised by one."""
        job = bench.put()
        claimed = bench.claim()
        got = (claimed.status, claimed.attempt, claimed.deliveries)
        assert got == (JobStatus.RUNNING, 1, 1), f"status, attempt, deliveries are {got}"
        epochs = (job.lease_epoch, claimed.lease_epoch)
        assert epochs[1] == epochs[0] + 1, f"the epoch went from {epochs[0]} to {epochs[1]}"

    @law(Capability.LEASES)
    def test_a_claimed_job_is_nobody_elses(self, bench: QueueBench) -> None:
        """A claimed job is not claimed again while its lease lasts, by nobody."""
        bench.put()
        bench.claim(A)
        for owner in (A, B):
            again = bench.leased.claim(5, owner)
            assert again == [], f"{owner} claimed a job that {A} holds"

    @law(Capability.LEASES)
    def test_a_claim_gives_at_most_what_is_asked_for(self, bench: QueueBench) -> None:
        """``claim(n)`` gives at most ``n`` jobs, and what is there."""
        for _ in range(5):
            bench.put()
        sizes = [len(bench.leased.claim(n, A)) for n in (2, 10, 1)]
        assert sizes == [2, 3, 0], f"claims of 2, 10 and 1 of 5 jobs gave {sizes}"

    @law(Capability.LEASES)
    def test_a_claim_serves_the_named_queues_only(self, bench: QueueBench) -> None:
        """A claim takes from the queues it names; None means all, an empty list none."""
        for name in ("a", "b", "c", "d"):
            bench.put(queue=name)
        assert bench.leased.claim(5, A, []) == [], "a claim of no queue gave jobs"
        assert bench.leased.claim(5, A, ["nowhere"]) == [], "an unknown queue gave jobs"
        served = {job.queue for job in bench.leased.claim(5, A, ["a", "c"])}
        assert served == {"a", "c"}, f"a claim of a and c gave jobs of {served}"
        served = {job.queue for job in bench.leased.claim(5, A, exclude=["b"])}
        assert served == {"d"}, f"a claim of all but b gave jobs of {served}"
        assert bench.claim(queues=None).queue == "b", "a claim of all queues misses one"

    @law(Capability.LEASES)
    def test_unwanted_tasks_are_left_alone(self, bench: QueueBench) -> None:
        """``claim(without=...)`` passes over the jobs of those tasks, whatever their place."""
        for _ in range(3):
            bench.put("shop.unknown", priority=1)
        known = bench.put("shop.known", priority=9)
        claimed = [job.id for job in bench.leased.claim(5, A, without={"shop.unknown"})]
        assert [known.id] == claimed, f"{len(claimed)} jobs were claimed where one is wanted"
        rest = bench.leased.claim(5, B)
        assert len(rest) == 3, f"{len(rest)} of 3 unwanted jobs are there for others"

    @law(Capability.LEASES)
    def test_a_settled_job_is_over(self, bench: QueueBench) -> None:
        """A job that was settled with a final status is not handed out again, ever."""
        queue = bench.open_leased()
        for status in (JobStatus.SUCCESS, JobStatus.FAILED, JobStatus.CANCELLED):
            claimed = bench.put_and_claim()
            assert bench.settle(claimed, status), f"settling as {status} was refused"
        bench.end_leases()
        reaped, again = queue.reap(), queue.claim(5, B)
        assert reaped == again == [], f"settled jobs came back: {reaped}, {again}"
        assert queue.qsize() == 0, f"qsize() is {queue.qsize()} with nothing waiting"

    @law(Capability.LEASES)
    def test_a_settlement_can_ask_for_another_attempt(self, bench: QueueBench) -> None:
        """A job that is settled PENDING is claimed again as the next attempt."""
        bench.open()
        claimed = bench.put_and_claim()
        assert bench.settle(claimed, JobStatus.PENDING), "settling as PENDING was refused"
        assert bench.queue.qsize() == 1, f"qsize() is {bench.queue.qsize()} with a retry waiting"
        again = bench.claim(B)
        assert again.attempt == 2, f"the second attempt has the number {again.attempt}"
        assert again.lease_epoch > claimed.lease_epoch, "a claim did not raise the epoch"

    @law(Capability.LEASES)
    def test_settling_twice_is_safe(self, bench: QueueBench) -> None:
        """A settlement that is repeated after a lost reply is accepted again and applied once."""
        bench.open()
        for status in (JobStatus.SUCCESS, JobStatus.FAILED, JobStatus.PENDING):
            job = bench.put_and_claim()
            child = bench.job(queue="children")
            answers = [bench.settle(job, status, children=(child,)) for _ in range(2)]
            assert answers == [True, True], f"settling as {status} twice gave {answers}"
            children = [one.id for one in bench.leased.claim(5, B, ["children"])]
            assert [child.id] == children, f"the child was stored {len(children)} times"
            bench.queue.clear()

    @law(Capability.LEASES)
    def test_a_batch_is_answered_one_by_one(self, bench: QueueBench) -> None:
        """``settle`` answers in order; a refused settlement does not touch the others."""
        bench.open()
        for _ in range(3):
            bench.put()
        first, second, third = bench.leased.claim(3, A)
        bench.leased.release([second])
        batch = [
            make_settlement(first),
            make_settlement(second),
            make_settlement(third, JobStatus.FAILED),
        ]
        answers = bench.leased.settle(batch)
        assert answers == [True, False, True], f"answers were {answers}, the second is stale"
        assert bench.leased.settle([]) == [], "settle([]) answered something"
        left = [job.id for job in bench.leased.claim(5, B)]
        assert [second.id] == left, "the wrong jobs were settled"

    @law(Capability.LEASES)
    def test_children_come_with_the_settlement(self, bench: QueueBench) -> None:
        """The children of an accepted settlement are enqueued, those of a refused one are not."""
        bench.open()
        children = [bench.job(), bench.job()]
        parent = bench.put_and_claim()
        bench.settle(parent, children=tuple(children))
        handed = {job.id for job in bench.leased.claim(5, B)}
        assert {child.id for child in children} == handed, "the children are not handed out"
        stale = bench.put_and_claim()
        bench.leased.release([stale])
        bench.settle(stale, children=(bench.job(),))
        size = bench.queue.qsize()
        assert size == 1, f"qsize() is {size} after a refused settlement with a child"

    @law(Capability.LEASES)
    def test_a_released_job_is_due_at_once(self, bench: QueueBench) -> None:
        """A job that was given back can be claimed at once, by anybody."""
        claimed = bench.put_and_claim(A)
        answer = bench.leased.release([claimed])
        assert answer == [True], f"release of a held job returned {answer}"
        again = bench.claim(B)
        assert again.lease_epoch > claimed.lease_epoch, "a claim did not raise the epoch"
        assert bench.leased.release([]) == [], "release([]) answered something"

    @law(Capability.LEASES)
    def test_extend_tells_what_is_held(self, bench: QueueBench) -> None:
        """``extend`` gives id and epoch of each job that the owner still holds, and no other's."""
        bench.open()
        kept, settled, given_back, retried = (bench.put_and_claim(A) for _ in range(4))
        other = bench.put_and_claim(B)
        bench.settle(settled)
        bench.leased.release([given_back])
        bench.settle(retried, JobStatus.PENDING)
        held = bench.leased.extend(A)
        assert held == {kept.id: kept.lease_epoch}, f"extend({A}) gave {held}"
        held = bench.leased.extend(B)
        assert held == {other.id: other.lease_epoch}, f"extend({B}) gave {held}"
        held = bench.leased.extend("worker-unknown")
        assert held == {}, f"extend of somebody who holds nothing gave {held}"

    @law(Capability.LEASES)
    def test_an_extended_lease_lasts(self, bench: QueueBench) -> None:
        """A job whose owner renews its lease in time is not taken back, however long it runs."""
        queue = bench.open_leased()
        job = bench.put_and_claim()
        for _ in range(4):
            bench.advance(bench.lease_secs * 0.6)
            queue.extend(A)
            reaped = queue.reap()
            assert reaped == [], "a job was taken back although its lease was renewed"
        assert bench.settle(job), "the settlement of a renewed lease was refused"

    @law(Capability.LEASES)
    def test_a_lease_ends_if_it_is_not_renewed(self, bench: QueueBench) -> None:
        """``reap`` takes back a job whose lease ended, once, and gives it as PENDING."""
        queue = bench.open_leased()
        job = bench.put_and_claim()
        early = queue.reap()
        assert early == [], "a job was taken back while its lease lasts"
        reaped = bench.lose_workers()
        assert [job.id] == [one.id for one in reaped], f"reap gave {reaped}"
        assert reaped[0].status is JobStatus.PENDING, f"a reaped job is {reaped[0].status}"
        again = queue.reap()
        assert again == [], "one job was taken back twice"
        assert bench.claim(B).id == job.id, "a job that was taken back is not handed out"

    @law(Capability.LEASES)
    def test_reap_leaves_the_living_alone(self, bench: QueueBench) -> None:
        """``reap`` takes back the jobs of those whose lease ended and of nobody else."""
        queue = bench.open_leased()
        lost, kept = bench.put_and_claim(A), bench.put_and_claim(B)
        bench.advance(bench.lease_secs * 0.6)
        queue.extend(B)
        bench.advance(bench.lease_secs * 0.6)
        reaped = [job.id for job in queue.reap()]
        assert [lost.id] == reaped, f"reap gave {reaped}, only {A} is silent"
        assert bench.settle(kept), "the living worker lost its job"

    @law(Capability.LEASES)
    def test_what_dequeue_gives_is_leased(self, bench: QueueBench) -> None:
        """``dequeue`` and ``pop_batch`` claim under the instance's own id."""
        queue = bench.open_leased()
        bench.put()
        bench.put()
        first, second = queue.dequeue(), *queue.pop_batch(1)
        assert first is not None, "dequeue() gave None although jobs wait"
        held = queue.extend(queue.own_id)
        expected = {first.id: first.lease_epoch, second.id: second.lease_epoch}
        assert expected == held, f"extend(own_id) gave {held} instead of {expected}"
        assert bench.settle(first), "a dequeued job cannot be settled"
        reaped = [job.id for job in bench.lose_workers()]
        assert [second.id] == reaped, "a popped job does not come back when its lease ends"

    @law(Capability.LEASES)
    def test_enqueueing_never_replaces_a_job(self, bench: QueueBench) -> None:
        """``enqueue`` of an id that runs or is over changes nothing."""
        bench.open()
        job = bench.put_and_claim()
        bench.queue.enqueue(job.replace(status=JobStatus.PENDING))
        assert bench.queue.qsize() == 0, "a running job was enqueued anew"
        assert bench.settle(job), "enqueueing a running job again took its lease away"
        bench.queue.enqueue(job.replace(status=JobStatus.PENDING))
        assert bench.leased.claim(1, B) == [], "a finished job was enqueued anew"

    @law(Capability.LEASES)
    def test_clear_leaves_running_jobs_alone(self, bench: QueueBench) -> None:
        """``clear`` does not touch jobs that run."""
        bench.open()
        job = bench.put_and_claim()
        bench.put()
        bench.queue.clear()
        assert bench.settle(job), "clear() took a running job away"
