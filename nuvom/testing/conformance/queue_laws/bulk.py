"""Enqueueing many jobs at once: all or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.errors import InvalidId, QueueFull
from nuvom.queue_backends.base import Capability
from nuvom.testing.conformance.law import law
from nuvom.testing.conformance.queue_kit import QueueKit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nuvom.core.record import JobRecord
    from nuvom.testing.conformance.queue_bench import QueueBench


class Bulk(QueueKit):
    """``enqueue_many`` as one step."""

    @law(Capability.BULK)
    def test_a_bulk_that_breaks_off_stores_nothing(self, bench: QueueBench) -> None:
        """Where the iterable of jobs raises half-way, none of its jobs is stored."""

        def broken() -> Iterator[JobRecord]:
            # More than a backend may handle at a time.
            for _ in range(2500):
                yield bench.job()
            raise _BrokenOffError

        _refused(_BrokenOffError, lambda: bench.queue.enqueue_many(broken()))
        assert bench.queue.qsize() == 0, f"{bench.queue.qsize()} jobs of a broken bulk wait"
        assert bench.queue.pop_batch(10) == [], "jobs of a broken bulk are handed out"

    @law(Capability.BULK)
    def test_a_bulk_with_an_invalid_job_stores_nothing(self, bench: QueueBench) -> None:
        """Where one job of a bulk is refused for its name, none is stored."""
        jobs = [bench.job(), bench.job(), bench.job(queue="no/slash"), bench.job()]
        _refused(InvalidId, lambda: bench.queue.enqueue_many(jobs))
        assert bench.queue.qsize() == 0, f"{bench.queue.qsize()} jobs of a refused bulk wait"

    @law(Capability.BULK)
    def test_a_bulk_that_does_not_fit_stores_nothing(self, bench: QueueBench) -> None:
        """A bulk beyond ``max_queue_size`` raises QueueFull, and none of its jobs is stored."""
        queue = bench.open(max_queue_size=3)
        bench.put()
        _refused(QueueFull, lambda: queue.enqueue_many([bench.job() for _ in range(3)]))
        assert queue.qsize() == 1, f"qsize() is {queue.qsize()} where one job was stored before"
        queue.enqueue_many([bench.job() for _ in range(2)])
        assert queue.qsize() == 3, f"qsize() is {queue.qsize()} after a bulk that just fits"

    @law(Capability.BULK)
    def test_a_bulk_with_known_ids_stores_the_others(self, bench: QueueBench) -> None:
        """Ids that are stored, or twice in a bulk, are there once; the others are stored."""
        known, fresh = bench.put(), bench.job()
        refused = bench.queue.enqueue_many([known, fresh, fresh])
        assert refused == {}, f"enqueue_many refused {refused}"
        handed = sorted(job.id for job in bench.queue.pop_batch(10))
        assert sorted([known.id, fresh.id]) == handed, f"two jobs were handed out as {handed}"

    @law(Capability.BULK, Capability.UNIQUE)
    def test_a_bulk_tells_which_keys_were_taken(self, bench: QueueBench) -> None:
        """``enqueue_many`` stores what it can and returns, for each taken key, who has it."""
        holder = bench.put(unique_key="a")
        taken, free = bench.job(unique_key="a"), bench.job()
        first, second = bench.job(unique_key="b"), bench.job(unique_key="b")
        refused = bench.queue.enqueue_many([taken, free, first, second])
        expected = {taken.id: holder.id, second.id: first.id}
        assert expected == refused, f"refused was {refused} instead of {expected}"
        handed = {job.id for job in bench.queue.pop_batch(10)}
        assert {holder.id, free.id, first.id} == handed, f"handed out were {handed}"


class _BrokenOffError(Exception):
    """What an iterable of jobs raises half-way."""


def _refused(expected: type[Exception], call: Callable[[], object]) -> None:
    try:
        call()
    except expected:
        return
    raise AssertionError(f"{expected.__name__} was not raised")
