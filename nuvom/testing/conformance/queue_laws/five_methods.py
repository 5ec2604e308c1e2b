"""What every queue does, also one with nothing but the five methods."""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING

from nuvom.core.record import JobRecord, RetryPolicy
from nuvom.testing.conformance.law import law
from nuvom.testing.conformance.queue_kit import QueueKit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuvom.testing.conformance.queue_bench import QueueBench

# What a delivery changes, and the backend's own handle; all else comes back as it was given.
_CHANGED = {"status", "attempt", "deliveries", "lease_epoch", "ref"}
_MIB = 1 << 20


class FiveMethods(QueueKit):
    """``enqueue``, ``dequeue``, ``pop_batch``, ``qsize``, ``clear``, and the life cycle."""

    @law()
    def test_an_enqueued_job_is_handed_out(self, bench: QueueBench) -> None:
        """A job that was enqueued is handed out."""
        job = bench.put()
        handed = bench.queue.dequeue()
        assert handed is not None, "dequeue() gave None although a job waits"
        assert handed.id == job.id, f"dequeue() gave {handed.id}, but {job.id} was enqueued"

    @law()
    def test_a_job_comes_back_as_it_was_given(self, bench: QueueBench) -> None:
        """All that a job's record says survives the queue, but for what a delivery changes."""
        job = bench.put(
            "shop.orders.send",
            "naïve \N{SNOWMAN}",
            b"\x00\xff",
            kwargs={"n": 2**63, "deep": [{"a": (1, None)}]},
            queue="mail-1",
            priority=-3,
            max_retries=4,
            retry=RetryPolicy(1.5, "linear", 60.0, jitter=False),
            timeout_secs=2.5,
            timeout_policy="retry",
            store_result=False,
            result_ttl_secs=60.0,
            tags=("a", "b"),
            metadata={"who": "me", "n": [1, 2]},
            headers={"traceparent": "00-1-2-03"},
            retried_from="earlier-1",
        )
        handed = bench.queue.dequeue()
        assert handed is not None, "dequeue() gave None although a job waits"
        for field in JobRecord.__struct_fields__:
            if field not in _CHANGED:
                given, got = _plain(job, field), _plain(handed, field)
                assert given == got, f"{field} was {given!r} and came back as {got!r}"

    @law()
    def test_a_job_is_handed_out_once(self, bench: QueueBench) -> None:
        """A job that was handed out is not handed out again as long as all goes well."""
        bench.put()
        bench.queue.dequeue()
        again = bench.queue.dequeue()
        assert again is None, f"the second dequeue() gave {again}"

    @law()
    def test_an_empty_queue_gives_none(self, bench: QueueBench) -> None:
        """``dequeue`` without a timeout, or with 0, gives None at once when nothing waits."""
        for timeout in (None, 0, 0.0):
            handed = bench.queue.dequeue(timeout)
            assert handed is None, f"dequeue({timeout}) of an empty queue gave {handed}"
        assert bench.queue.pop_batch(5) == [], "pop_batch(5) of an empty queue gave jobs"

    @law()
    def test_dequeue_gives_up_after_its_timeout(self, bench: QueueBench) -> None:
        """``dequeue`` gives None when no job came within its timeout."""
        queue = bench.open(real_time=True)
        handed = queue.dequeue(0.05)
        assert handed is None, f"dequeue(0.05) of an empty queue gave {handed}"

    @law()
    def test_dequeue_waits_for_a_job(self, bench: QueueBench) -> None:
        """A job that arrives while ``dequeue`` waits is handed out."""
        queue = bench.open(real_time=True)
        handed: list[JobRecord | None] = []
        longer, limit = bench.patience_secs * 2, bench.patience_secs
        thread = Thread(target=lambda: handed.append(queue.dequeue(longer)), daemon=True)
        thread.start()
        thread.join(0.05)  # let it begin to wait; the law holds whether it does or not
        job = bench.put()
        thread.join(limit)
        assert not thread.is_alive(), f"dequeue still waits {limit:g} s after enqueue"
        assert [job.id] == [one and one.id for one in handed], f"dequeue gave {handed}"

    @law()
    def test_a_batch_is_no_larger_than_asked_for(self, bench: QueueBench) -> None:
        """``pop_batch`` gives at most as many jobs as asked for, and those that there are."""
        jobs = {bench.put().id for _ in range(5)}
        first = [job.id for job in bench.queue.pop_batch(3)]
        assert len(first) == 3, f"pop_batch(3) gave {len(first)} of 5 jobs"
        rest = [job.id for job in bench.queue.pop_batch(10)]
        assert sorted(jobs) == sorted(first + rest), f"5 jobs were given as {first} and {rest}"

    @law()
    def test_the_size_counts_what_waits(self, bench: QueueBench) -> None:
        """``qsize`` is the number of jobs that wait."""
        sizes = [bench.queue.qsize()]
        bench.put()
        bench.put(queue="other")
        sizes.append(bench.queue.qsize())
        bench.queue.dequeue()
        sizes.append(bench.queue.qsize())
        assert sizes == [0, 2, 1], f"sizes were {sizes} with 0, 2, then 1 jobs waiting"

    @law()
    def test_clear_removes_all_that_waits(self, bench: QueueBench) -> None:
        """After ``clear`` nothing waits, and the queue goes on working."""
        bench.put()
        bench.put(queue="other")
        bench.queue.clear()
        assert bench.queue.qsize() == 0, f"qsize() is {bench.queue.qsize()} after clear()"
        assert bench.queue.dequeue() is None, "a job was handed out after clear()"
        job = bench.put()
        handed = bench.queue.dequeue()
        assert handed is not None, "nothing is handed out that is enqueued after clear()"
        assert handed.id == job.id, f"{handed.id} was handed out instead of {job.id}"

    @law()
    def test_enqueueing_twice_is_once(self, bench: QueueBench) -> None:
        """A waiting job that is enqueued again with the same id is there once."""
        job = bench.put()
        answer = bench.queue.enqueue(job)
        assert answer is None, f"the second enqueue of one id returned {answer!r}"
        assert bench.queue.qsize() == 1, f"qsize() is {bench.queue.qsize()} with one job"
        handed = bench.queue.pop_batch(5)
        assert [job.id] == [one.id for one in handed], f"one job was handed out as {handed}"

    @law()
    def test_many_are_enqueued_in_one_call(self, bench: QueueBench) -> None:
        """``enqueue_many`` takes any iterable, stores all its jobs and refuses none."""
        jobs = [bench.job() for _ in range(50)]

        def stream() -> Iterator[JobRecord]:
            yield from jobs

        refused = bench.queue.enqueue_many(stream())
        assert refused == {}, f"enqueue_many refused {refused}"
        assert bench.queue.enqueue_many([]) == {}, "enqueue_many([]) refused something"
        handed = {job.id for job in bench.queue.pop_batch(100)}
        assert {job.id for job in jobs} == handed, f"50 were enqueued, {len(handed)} came back"

    @law()
    def test_a_payload_of_a_mebibyte_survives(self, bench: QueueBench) -> None:
        """Arguments of 1 MiB come back byte for byte."""
        content = bytes(range(256)) * (_MIB // 256)
        job = bench.put("tests.probe", content)
        handed = bench.queue.dequeue()
        assert handed is not None, "dequeue() gave None for a job with 1 MiB of arguments"
        assert bytes(job.args) == bytes(handed.args), "1 MiB of arguments came back changed"

    @law()
    def test_starting_and_stopping_is_harmless(self, bench: QueueBench) -> None:
        """``stop`` before ``start``, ``start`` twice and ``stop`` twice raise nothing."""
        queue = bench.open()
        queue.stop()
        queue = bench.open()
        queue.start()
        queue.start()
        bench.put()
        queue.stop()
        queue.stop()

    @law()
    def test_notifying_nobody_is_harmless(self, bench: QueueBench) -> None:
        """``notify`` and ``interrupt`` raise nothing when nobody waits."""
        bench.queue.notify()
        bench.queue.interrupt()
        assert bench.queue.qsize() == 0, "notify() made a job"


def _plain(job: JobRecord, field: str) -> object:
    value = getattr(job, field)
    return bytes(value) if field in ("args", "kwargs") else value
