"""Counts that survive what they count."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from nuvom.core.record import JobStatus, StoredError
from nuvom.core.views import TOOK_BOUNDS, WAITED_BOUNDS
from nuvom.errors import InvalidId
from nuvom.queue_backends.base import Capability
from nuvom.testing.conformance.law import law
from nuvom.testing.conformance.queue_kit import QueueKit

if TYPE_CHECKING:
    from nuvom.queue_backends.leased import LeasedJobQueue
    from nuvom.testing.conformance.queue_bench import QueueBench

_ERROR = StoredError("ValueError", "no", fingerprint="ValueError:probe")


class Totals(QueueKit):
    """What exporters of metrics add up."""

    @law(Capability.TOTALS)
    def test_nothing_is_counted_unasked(self, bench: QueueBench) -> None:
        """Before ``keep_totals`` there are no totals, and later none of what was before."""
        queue = bench.open_leased()
        bench.settle(bench.put_and_claim(), JobStatus.SUCCESS)
        _expect(queue, {})
        queue.keep_totals()
        _expect(queue, {})

    @law(Capability.TOTALS)
    def test_what_happens_is_counted_once(self, bench: QueueBench) -> None:
        """From ``keep_totals`` on each job and each end is counted once, whoever stores it."""
        queue = _counting(bench)
        queue.keep_totals()
        for status in (JobStatus.SUCCESS, JobStatus.FAILED):
            bench.settle(bench.put_and_claim(), status)
        bench.put()
        expected = {"enqueued": 3, "attempt success": 1, "attempt": 1, "finished failure": 1}
        _expect(queue, expected)

    @law(Capability.TOTALS)
    def test_a_settlement_said_again_is_counted_once(self, bench: QueueBench) -> None:
        """Settling again, or with a lease that is lost, counts nothing."""
        queue = _counting(bench)
        job = bench.put_and_claim()
        for _ in range(2):
            bench.settle(job, JobStatus.SUCCESS)
        bench.settle(job.replace(lease_epoch=9), JobStatus.FAILED)
        _expect(queue, {"enqueued": 1, "attempt success": 1})

    @law(Capability.TOTALS, Capability.CONTROL)
    def test_the_ways_to_end_are_told_apart(self, bench: QueueBench) -> None:
        """Retries, timeouts and cancellations have totals of their own."""
        queue = _counting(bench)
        for status, word in (
            (JobStatus.FAILED, "timeout"),
            (JobStatus.SUCCESS, "timeout"),  # which the task's policy ignores
            (JobStatus.PENDING, "retry"),
            (JobStatus.PENDING, "snoozed"),
        ):
            later = {"run_at": bench.clock.now() + 3600} if status is JobStatus.PENDING else {}
            error = None if word == "snoozed" else _ERROR
            bench.settle(bench.put_and_claim(), status, outcome=word, error=error, **later)
        queue.cancel(bench.put_and_claim().id)
        queue.cancel(bench.put().id)
        expected = {
            "enqueued": 6,
            "attempt": 3,  # the timeout that ends its job, the retry and the snooze
            "attempt timeout": 1,
            "finished timeout": 1,
            "retried": 1,
            "finished cancelled": 2,
        }
        _expect(queue, expected)

    @law(Capability.TOTALS)
    def test_lost_attempts_are_counted(self, bench: QueueBench) -> None:
        """An attempt that its worker never reports is lost; its job is given back, or DEAD."""
        queue = bench.open_leased(max_deliveries=2)
        queue.keep_totals()
        bench.put()
        for _ in range(2):
            queue.mark_started(bench.claim())
            bench.lose_workers()
        _expect(queue, {"enqueued": 1, "lost": 2, "redelivered": 1, "finished dead": 1})

    @law(Capability.TOTALS)
    def test_durations_and_waits_fall_into_buckets(self, bench: QueueBench) -> None:
        """An attempt counts at the first bounds that its duration and its wait do not exceed."""
        queue = _counting(bench)
        for took, waited in ((0.02, 0.7), (7200.0, 100_000.0)):
            job = bench.put_and_claim()
            began = job.created_at + waited
            bench.settle(job, started_at=began, finished_at=began + took)
        found = sorted((one.took, one.waited) for one in queue.totals() if one.kind == "attempt")
        expected = [
            (TOOK_BOUNDS.index(0.025), WAITED_BOUNDS.index(1.0)),
            (len(TOOK_BOUNDS), len(WAITED_BOUNDS)),
        ]
        assert found == expected, f"attempts are at {found} instead of {expected}"
        sums = [(one.took_secs, one.waited_secs) for one in queue.totals() if one.took == 2]
        is_right = len(sums) == 1 and abs(sums[0][0] - 0.02) + abs(sums[0][1] - 0.7) < 1e-3
        assert is_right, f"0.02 s after a wait of 0.7 s add up to {sums}"

    @law(Capability.TOTALS, Capability.BULK)
    def test_a_bulk_that_is_refused_is_not_counted(self, bench: QueueBench) -> None:
        """Of a bulk that stores nothing nothing is counted."""
        queue = _counting(bench)
        jobs = [bench.job(), bench.job(), bench.job(queue="no/slash")]
        with suppress(InvalidId):
            queue.enqueue_many(jobs)
        queue.enqueue_many(jobs[:2])
        _expect(queue, {"enqueued": 2})

    @law(Capability.TOTALS)
    def test_all_who_use_the_store_count(self, bench: QueueBench) -> None:
        """Others count as well, also those that had the store open before ``keep_totals``."""
        queue = bench.open_leased()
        other = bench.reopen_leased()
        other.qsize()
        queue.keep_totals()
        other.enqueue(bench.job())
        bench.settle(bench.claim(), JobStatus.SUCCESS)
        for one in (queue, other, bench.reopen_leased()):
            _expect(one, {"enqueued": 1, "attempt success": 1})

    @law(Capability.TOTALS, Capability.CONTROL)
    def test_removing_jobs_changes_no_total(self, bench: QueueBench) -> None:
        """Neither ``prune`` nor ``purge`` takes anything from a total."""
        queue = _counting(bench)
        bench.settle(bench.put_and_claim(), JobStatus.SUCCESS)
        bench.put()
        queue.purge("default")
        queue.prune(success_before=float("inf"), failed_before=float("inf"))
        _expect(queue, {"enqueued": 2, "attempt success": 1})


def _counting(bench: QueueBench) -> LeasedJobQueue:
    queue = bench.open_leased()
    queue.keep_totals()
    return queue


def _expect(queue: LeasedJobQueue, expected: dict[str, int]) -> None:
    """Compare totals, by kind and outcome."""
    found: Counter[str] = Counter()
    for one in queue.totals():
        found[f"{one.kind} {one.outcome}".strip()] += one.count
    assert dict(found) == expected, f"totals are {dict(found)} instead of {expected}"
