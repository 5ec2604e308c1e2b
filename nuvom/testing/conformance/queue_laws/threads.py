"""Many threads of one process on one queue."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from nuvom.queue_backends.base import Capability
from nuvom.testing.builders import make_settlement
from nuvom.testing.conformance.crew import all_at_once
from nuvom.testing.conformance.law import law
from nuvom.testing.conformance.queue_kit import QueueKit

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.testing.conformance.queue_bench import QueueBench

_THREADS = 8


class Threads(QueueKit):
    """All methods may be called from any thread."""

    @law()
    def test_threads_never_share_a_job(self, bench: QueueBench) -> None:
        """Threads that take jobs at the same time never get the same one, and miss none."""
        queue = bench.open(real_time=True)
        jobs = [bench.job() for _ in range(self.race_jobs)]
        queue.enqueue_many(jobs)
        taken: list[str] = []

        def take(number: int) -> None:
            for _ in jobs:  # bounded, for a queue that never gets empty
                batch = queue.pop_batch(3) if number % 2 else [queue.dequeue()]
                found = [job.id for job in batch if job is not None]
                taken.extend(found)
                if not found:
                    return

        _all_at_once(bench, take)
        _assert_each_once([job.id for job in jobs], taken)

    @law()
    def test_threads_lose_no_job_they_enqueue(self, bench: QueueBench) -> None:
        """All jobs that threads enqueue at the same time are there, each once."""
        queue = bench.open(real_time=True)
        ids: list[str] = []

        def put(number: int) -> None:
            for _ in range(10):
                job = bench.job(queue=f"queue-{number % 3}")
                queue.enqueue(job)
                ids.append(job.id)

        _all_at_once(bench, put)
        taken = [job.id for job in queue.pop_batch(1000)]
        _assert_each_once(ids, taken)

    @law(Capability.LEASES)
    def test_workers_in_threads_settle_each_job_once(self, bench: QueueBench) -> None:
        """Workers that claim and settle at the same time settle each job exactly once."""
        queue = bench.open_leased(real_time=True)
        jobs = [bench.job() for _ in range(self.race_jobs)]
        queue.enqueue_many(jobs)
        settled: list[str] = []

        def work(number: int) -> None:
            for _ in jobs:  # bounded, as above
                claimed = queue.claim(5, f"worker-{number}")
                if not claimed:
                    return
                answers = queue.settle([make_settlement(job) for job in claimed])
                settled.extend(
                    job.id for job, accepted in zip(claimed, answers, strict=True) if accepted
                )

        _all_at_once(bench, work)
        _assert_each_once([job.id for job in jobs], settled)
        assert queue.qsize() == 0, f"qsize() is {queue.qsize()} with all jobs settled"

    @law(Capability.LEASES)
    def test_one_settlement_of_many_wins(self, bench: QueueBench) -> None:
        """Of reapers and settlements that race for one job exactly one gets it."""
        bench.open_leased()
        for _ in range(20 if bench.has_fake_clock else 2):
            accepted, reaped = _race_for_one(bench)
            if not reaped:
                assert accepted == [True, True], f"nobody took the job back; answers: {accepted}"
                continue
            assert len(reaped) == 1, f"one job was taken back {len(reaped)} times"
            assert not any(accepted), "a job was taken back, and settled as well"
            bench.settle(bench.claim())

    @law(Capability.UNIQUE)
    def test_threads_that_race_for_a_key_agree(self, bench: QueueBench) -> None:
        """Of threads that enqueue with one key at once one stores, and all name its job."""
        queue = bench.open(real_time=True)
        answers: list[tuple[str, str, str | None]] = []

        def put(_: int) -> None:
            for key in ("a", "b", "c", "d", "e"):
                job = bench.job(unique_key=key)
                answers.append((key, job.id, queue.enqueue(job)))

        _all_at_once(bench, put)
        stored = {(key, job_id) for key, job_id, existing in answers if existing is None}
        assert len(stored) == 5, f"for five keys {len(stored)} jobs were stored"
        named = {(key, existing) for key, _, existing in answers if existing is not None}
        assert named == stored, f"the others were told {named}, not {stored}"

    @law(Capability.BULK)
    def test_a_bulk_appears_as_a_whole(self, bench: QueueBench) -> None:
        """Nobody ever sees a part of a bulk."""
        queue = bench.open(real_time=True)
        sizes: list[int] = []

        def run(number: int) -> None:
            if number == 0:
                for _ in range(5):
                    queue.enqueue_many([bench.job() for _ in range(100)])
            else:
                sizes.extend(queue.qsize() for _ in range(50))

        _all_at_once(bench, run, threads=3)
        partial = sorted({size for size in sizes if size % 100})
        assert partial == [], f"while bulks of 100 were stored, sizes {partial} were seen"


def _race_for_one(bench: QueueBench) -> tuple[list[bool], list[str]]:
    """Let two settle and two reap one job whose lease is over; return what each got."""
    queue, job = bench.leased, bench.put_and_claim()
    bench.end_leases()
    accepted: list[bool] = []
    reaped: list[str] = []

    def race(number: int) -> None:
        if number % 2:
            reaped.extend(one.id for one in queue.reap())
        else:
            accepted.extend(queue.settle([make_settlement(job)]))

    _all_at_once(bench, race, threads=4)
    return accepted, reaped


def _all_at_once(
    bench: QueueBench, work: Callable[[int], object], *, threads: int = _THREADS
) -> None:
    all_at_once(work, threads=threads, limit_secs=2 * bench.patience_secs)


def _assert_each_once(expected: list[str], got: list[str]) -> None:
    twice = [job_id for job_id, count in Counter(got).items() if count > 1]
    assert twice == [], f"{len(twice)} of {len(expected)} jobs were handed out twice"
    missing = set(expected) - set(got)
    assert not missing, f"{len(missing)} of {len(expected)} jobs were not handed out"
    assert len(got) == len(expected), f"{len(got) - len(expected)} jobs came from nowhere"
