"""Idempotent enqueueing: one live job for a task and a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.core.record import JobStatus
from nuvom.queue_backends.base import Capability
from nuvom.testing.conformance.law import law
from nuvom.testing.conformance.queue_bench import A
from nuvom.testing.conformance.queue_kit import QueueKit

if TYPE_CHECKING:
    from nuvom.core.record import JobRecord
    from nuvom.testing.conformance.queue_bench import QueueBench


class Unique(QueueKit):
    """``unique_key`` and ``unique_for``."""

    @law(Capability.UNIQUE)
    def test_a_taken_key_gives_the_job_that_has_it(self, bench: QueueBench) -> None:
        """``enqueue`` with a key that a live job has stores nothing and tells that job's id."""
        job = bench.put(unique_key="once")
        _assert_taken(bench, job)
        assert bench.queue.qsize() == 1, f"qsize() is {bench.queue.qsize()} with one job stored"
        handed = [one.id for one in bench.queue.pop_batch(5)]
        assert [job.id] == handed, f"one job was handed out as {handed}"

    @law(Capability.UNIQUE)
    def test_a_key_belongs_to_one_task(self, bench: QueueBench) -> None:
        """The same key of another task, and another key, are free."""
        bench.put("shop.a", unique_key="once")
        bench.put("shop.b", unique_key="once")
        bench.put("shop.a", unique_key="twice")
        bench.put("shop.a")
        assert bench.queue.qsize() == 4, f"qsize() is {bench.queue.qsize()} after 4 free keys"

    @law(Capability.UNIQUE)
    def test_enqueueing_a_keyed_job_again_is_safe(self, bench: QueueBench) -> None:
        """A client that repeats an ``enqueue`` after a lost reply learns of no other job."""
        job = bench.put(unique_key="once")
        answer = bench.queue.enqueue(job)
        assert answer in (None, job.id), f"repeating enqueue returned {answer!r}"
        assert bench.queue.qsize() == 1, f"qsize() is {bench.queue.qsize()} with one job stored"

    @law(Capability.UNIQUE)
    def test_any_text_can_be_a_key(self, bench: QueueBench) -> None:
        """Keys are compared exactly: case, spaces and signs matter, and none is special."""
        keys = ["a", "A", "a ", "a%", "a_", "", "../a", "a/b", "ä", "'; --", "x" * 1000]
        for key in keys:
            bench.put(unique_key=key)
        for key in keys:
            answer = bench.queue.enqueue(bench.job(unique_key=key))
            assert answer is not None, f"the key {key[:20]!r} was not found taken"

    @law(Capability.UNIQUE)
    def test_clear_frees_keys(self, bench: QueueBench) -> None:
        """The key of a job that was removed is free."""
        bench.put(unique_key="once")
        bench.queue.clear()
        bench.put(unique_key="once")

    @law(Capability.UNIQUE, Capability.LEASES)
    def test_a_key_is_taken_until_a_final_status(self, bench: QueueBench) -> None:
        """A key stays taken while its job runs, waits for a retry or is parked."""
        bench.open()
        job = bench.put_and_claim(unique_key="once")
        _assert_taken(bench, job)
        bench.settle(job, JobStatus.PENDING)
        _assert_taken(bench, job)
        bench.settle(bench.claim(), JobStatus.PARKED)
        _assert_taken(bench, job)

    @law(Capability.UNIQUE, Capability.LEASES)
    def test_a_key_is_free_after_a_final_status(self, bench: QueueBench) -> None:
        """A key is free again once its job is SUCCESS, FAILED or CANCELLED."""
        bench.open()
        for status in (JobStatus.SUCCESS, JobStatus.FAILED, JobStatus.CANCELLED):
            job = bench.put_and_claim(unique_key="once")
            bench.settle(job, status)
        bench.put(unique_key="once")

    @law(Capability.UNIQUE, Capability.LEASES)
    def test_the_key_of_a_dead_job_is_free(self, bench: QueueBench) -> None:
        """A key is free again once its job is DEAD."""
        bench.open_leased(max_deliveries=1)
        job = bench.put_and_claim(unique_key="once")
        bench.leased.mark_started(job)
        bench.lose_workers()
        bench.put(unique_key="once")

    @law(Capability.UNIQUE, Capability.CONTROL)
    def test_the_key_of_a_cancelled_or_purged_job_is_free(self, bench: QueueBench) -> None:
        """A key is free again once its job is cancelled or purged."""
        job = bench.put(unique_key="once")
        bench.leased.cancel(job.id)
        bench.put(unique_key="once")
        bench.leased.purge("default")
        bench.put(unique_key="once")

    @law(Capability.UNIQUE, Capability.LEASES)
    def test_a_key_can_stay_taken_for_a_time(self, bench: QueueBench) -> None:
        """With ``unique_for`` a key stays taken for so many seconds, even after a final status."""
        bench.open()
        job = bench.put_and_claim(unique_key="once", unique_for=bench.soon_secs)
        bench.settle(job)
        _assert_taken(bench, job)
        bench.advance(bench.soon_secs * 1.1)
        bench.put(unique_key="once")

    @law(Capability.UNIQUE, Capability.LEASES)
    def test_a_key_outlasts_its_time_while_the_job_lives(self, bench: QueueBench) -> None:
        """``unique_for`` never frees the key of a job that is not final."""
        bench.open()
        job = bench.put(unique_key="once", unique_for=bench.soon_secs)
        bench.advance(bench.soon_secs * 1.1)
        _assert_taken(bench, job)

    @law(Capability.UNIQUE, Capability.CONTROL, Capability.INSPECTION)
    def test_a_retry_does_not_double_a_key(self, bench: QueueBench) -> None:
        """A manual retry never makes two live jobs of one key."""
        first = bench.put_and_claim(unique_key="once")
        bench.settle(first, JobStatus.FAILED)
        second = bench.put(unique_key="once")
        bench.leased.retry(first.id)
        live = [job.id for job in (first, second) if not bench.status(job).is_final]
        assert [second.id] == live, f"live jobs of one key after a retry: {live}"

    @law(Capability.UNIQUE, Capability.CONTROL)
    def test_a_retried_job_takes_its_key_again(self, bench: QueueBench) -> None:
        """A job that is retried by hand has its key again, where nobody took it meanwhile."""
        job = bench.put_and_claim(unique_key="once")
        bench.settle(job, JobStatus.FAILED)
        bench.leased.retry(job.id)
        _assert_taken(bench, job)

    @law(Capability.UNIQUE, Capability.LEASES)
    def test_children_obey_unique_keys(self, bench: QueueBench) -> None:
        """A child of a settlement whose key is taken is left out; the settlement stands."""
        bench.put(unique_key="once", priority=9)
        parent = bench.put_and_claim(priority=1)
        child = bench.job(unique_key="once")
        assert bench.settle(parent, children=(child,)), "the settlement was refused"
        waiting = [job.id for job in bench.leased.claim(5, A)]
        assert child.id not in waiting, "a child was stored although its key is taken"

    @law(Capability.UNIQUE, Capability.LEASES)
    def test_a_child_may_take_its_parents_key(self, bench: QueueBench) -> None:
        """A job that ends frees its key for its own children."""
        parent = bench.put_and_claim(unique_key="once")
        child = bench.job(unique_key="once")
        assert bench.settle(parent, children=(child,)), "the settlement was refused"
        _assert_taken(bench, child)


def _assert_taken(bench: QueueBench, holder: JobRecord) -> None:
    answer = bench.queue.enqueue(bench.job(unique_key="once"))
    assert answer == holder.id, f"enqueue with the key of {holder.id} returned {answer!r}"
