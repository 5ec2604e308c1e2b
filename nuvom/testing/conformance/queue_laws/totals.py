"""Counts that survive what they count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.queue_backends.base import Capability
from nuvom.record import JobStatus
from nuvom.testing.conformance.law import law
from nuvom.testing.conformance.queue_kit import QueueKit

if TYPE_CHECKING:
    from nuvom.testing.conformance.queue_bench import QueueBench


class Totals(QueueKit):
    """What exporters of metrics add up."""

    @law(Capability.TOTALS)
    def test_what_happens_is_counted_once(self, bench: QueueBench) -> None:
        """From ``keep_totals`` on each job and each end is counted once, whoever stores it."""
        queue = bench.open_leased()
        assert queue.totals() == [], "there are totals that nobody had asked for"
        queue.keep_totals()
        queue.keep_totals()
        for status in (JobStatus.SUCCESS, JobStatus.FAILED):
            bench.settle(bench.put_and_claim(), status)
        bench.put()
        found: dict[tuple[str, str], int] = {}
        for one in queue.totals():
            found[one.kind, one.outcome] = found.get((one.kind, one.outcome), 0) + one.count
        expected = {
            ("enqueued", ""): 3,
            ("attempt", "success"): 1,
            ("attempt", ""): 1,
            ("finished", "failure"): 1,
        }
        assert found == expected, f"totals are {found} instead of {expected}"

    @law(Capability.TOTALS, Capability.CONTROL)
    def test_removing_jobs_changes_no_total(self, bench: QueueBench) -> None:
        """Neither ``prune`` nor ``purge`` takes anything from a total."""
        queue = bench.open_leased()
        queue.keep_totals()
        bench.settle(bench.put_and_claim(), JobStatus.SUCCESS)
        bench.put()
        before = sorted((one.kind, one.count) for one in queue.totals())
        queue.purge("default")
        queue.prune(success_before=float("inf"), failed_before=float("inf"))
        after = sorted((one.kind, one.count) for one in queue.totals())
        assert before == after, f"totals were {before} and are {after}"
