"""Which job comes first: priorities, then the order of enqueueing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.queue_backends.base import Capability
from nuvom.testing.conformance.law import law
from nuvom.testing.conformance.queue_bench import A, B
from nuvom.testing.conformance.queue_kit import QueueKit

if TYPE_CHECKING:
    from nuvom.testing.conformance.queue_bench import QueueBench


class Order(QueueKit):
    """Within one queue; across queues no order is promised."""

    @law(Capability.PRIORITY)
    def test_the_lower_priority_number_comes_first(self, bench: QueueBench) -> None:
        """Of the jobs that wait in a queue the one with the lowest priority number is next."""
        jobs = {number: bench.put(priority=number).id for number in (5, 9, -2, 0, 100, -100, 1)}
        expected = [jobs[number] for number in sorted(jobs)]
        handed = [job.id for job in bench.queue.pop_batch(3)]
        handed += [job.id for job in bench.queue.pop_batch(3)]
        handed += [one.id for one in (bench.queue.dequeue(), bench.queue.dequeue()) if one]
        assert expected == handed, f"priorities came in the order {_names(handed, jobs)}"

    @law(Capability.PRIORITY)
    def test_equal_priorities_come_in_the_order_of_enqueueing(self, bench: QueueBench) -> None:
        """Jobs of one queue and priority come in the order in which they were enqueued."""
        jobs = [bench.put() for _ in range(5)]
        bulk = [bench.job() for _ in range(5)]
        bench.queue.enqueue_many(bulk)
        jobs += [*bulk, bench.put()]
        handed = [job.id for job in bench.queue.pop_batch(7)]
        handed += [job.id for job in bench.queue.pop_batch(7)]
        assert [job.id for job in jobs] == handed, "jobs came in another order than enqueued"

    @law(Capability.PRIORITY)
    def test_a_late_urgent_job_comes_before_old_ones(self, bench: QueueBench) -> None:
        """A job with a lower priority number overtakes all that waits in its queue."""
        bench.put(priority=3)
        first = bench.put(priority=2)
        assert _next(bench) == first.id, "priority 2 does not come before priority 3"
        bench.put(priority=3)
        second = bench.put(priority=1)
        assert _next(bench) == second.id, "priority 1 does not come before priority 3"

    @law(Capability.PRIORITY, Capability.LEASES)
    def test_a_released_job_keeps_its_place(self, bench: QueueBench) -> None:
        """A job that was given back comes before those that were enqueued after it."""
        first, second, third = (bench.put() for _ in range(3))
        claimed = bench.leased.claim(2, A)
        bench.leased.release(claimed)
        handed = [job.id for job in bench.leased.claim(3, B)]
        assert [first.id, second.id, third.id] == handed, "released jobs lost their place"

    @law(Capability.LEASES)
    def test_queues_are_served_in_order_of_preference(self, bench: QueueBench) -> None:
        """A claim that names queues takes from the first as long as there is something."""
        jobs = {name: bench.put(queue=name).id for name in ("low", "mid", "high")}
        handed = [bench.claim(queues=["high", "mid", "low"]).id for _ in range(3)]
        expected = [jobs["high"], jobs["mid"], jobs["low"]]
        assert expected == handed, f"queues were served as {_names(handed, jobs)}"


def _next(bench: QueueBench) -> str | None:
    job = bench.queue.dequeue()
    return None if job is None else job.id


def _names(handed: list[str], jobs: dict[int, str] | dict[str, str]) -> list[object]:
    by_id = {job_id: name for name, job_id in jobs.items()}
    return [by_id.get(job_id, job_id) for job_id in handed]
