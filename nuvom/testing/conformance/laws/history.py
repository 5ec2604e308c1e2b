"""What a queue remembers of the past: roll-ups per minute, and what people did."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from nuvom.core.record import JobStatus, StoredError
from nuvom.core.transitions import arrived, held, left_to
from nuvom.core.views import ROLLUP_BOUNDS, UNTIMED, AuditEntry
from nuvom.queue_backends.base import Capability
from nuvom.queue_backends.store import StoreQueue
from nuvom.testing.builders import make_settlement
from nuvom.testing.conformance.law import needs
from nuvom.testing.conformance.laws.bench import QueueKit

if TYPE_CHECKING:
    from nuvom.core.views import Rollup
    from nuvom.testing.conformance.laws.bench import QueueBench

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_SUCCESS, _FAILED, _PENDING = JobStatus.SUCCESS, JobStatus.FAILED, JobStatus.PENDING


@needs(Capability.HISTORY, Capability.CONTROL)
class History(QueueKit):
    """Roll-ups of what ended, and audit entries: what charts and lists of the past show."""

    # ---- roll-ups -----------------------------------------------------------------------

    def test_each_way_to_end_is_counted(self, bench: QueueBench) -> None:
        """``rollups`` counts jobs by how they ended, retries, and waits of attempts that ran."""
        queue = bench.open(max_deliveries=1)
        error = StoredError("ValueError", "no")
        for status, word in (
            (_SUCCESS, "success"),
            (_SUCCESS, "timeout"),  # which the task's policy ignores
            (_FAILED, "failure"),
            (_PENDING, "retry"),
            (_PENDING, "snoozed"),
        ):
            later = bench.after(_DAY) if status is _PENDING else 0.0
            known = None if word in ("success", "snoozed") else error
            bench.settle(bench.put_and_claim(), status, outcome=word, error=known, run_at=later)
        for job in (bench.put_and_claim(), bench.put()):
            queue.cancel(job.id)
        queue.release([bench.put_and_claim()])
        queue.mark_started(bench.claim())
        bench.lose_workers()
        counts = {"success": 2, "failed": 1, "retried": 1, "cancelled": 2, "dead": 1}
        assert _counts(bench) == {**counts, "waited": 5}
        untimed = {one.kind for one in _rows(bench) if one.bucket == UNTIMED}
        assert untimed == {"cancelled", "dead"}, "these did not run to their end"

    def test_an_end_counts_once(self, bench: QueueBench) -> None:
        """A settlement that is repeated or fenced counts nothing, also among others."""
        job, others = bench.put_and_claim(), [bench.put_and_claim() for _ in range(3)]
        for record in (job, job, job.replace(lease_epoch=9)):
            bench.settle(record)
        now = bench.clock.now()
        batch = [
            make_settlement(one, started_at=now, finished_at=now)
            for one in (others[0], job, others[1], others[0], others[2].replace(lease_epoch=9))
        ]
        assert bench.queue.settle(batch) == [True, True, True, True, False]
        assert _counts(bench) == {"success": 3, "waited": 3}

    def test_rows_say_what_where_and_how_long(self, bench: QueueBench) -> None:
        """A row has queue, task and kind, and the first bound that a duration does not exceed."""
        for took, waited in ((0.02, 0.7), (0.022, 0.9), (7200.0, 0.0)):
            job = bench.put_and_claim(queue="mail", func_name="tests.send")
            began = job.created_at + waited
            bench.settle(job, started_at=began, finished_at=began + took)
        found = sorted(
            (one.kind, one.queue, one.task, one.bucket, one.count, round(one.secs, 3))
            for one in _rows(bench)
        )
        short, wait = ROLLUP_BOUNDS.index(0.025), ROLLUP_BOUNDS.index(1.0)
        waits = [one[:5] for one in found if one[0] == "waited"]
        assert found[0] == ("success", "mail", "tests.send", short, 2, 0.042)
        assert found[1] == ("success", "mail", "tests.send", len(ROLLUP_BOUNDS), 1, 7200.0)
        assert waits == [("waited", "mail", "", 0, 1), ("waited", "mail", "", wait, 2)]

    def test_rows_are_added_up_to_steps(self, bench: QueueBench) -> None:
        """``rollups`` starts at a multiple of its step, and ends before ``until``."""
        start = bench.clock.now() // _HOUR * _HOUR
        for secs in (0.0, 59.0, 60.0, 3599.0, 3600.0):
            _end_at(bench, start + secs)

        def counts(since: float, until: float, step: int) -> list[tuple[float, int]]:
            rows = bench.queue.rollups(start + since, start + until, step)
            return [(one.at - start, one.count) for one in rows if one.kind == "success"]

        assert counts(0, 7200, _MINUTE) == [(0, 2), (60, 1), (3540, 1), (3600, 1)]
        assert counts(0, 7200, _HOUR) == [(0, 4), (3600, 1)]
        assert counts(61, 3600, _MINUTE) == [(60, 1), (3540, 1)]
        assert counts(61, 3600, _HOUR) == [(0, 4)]
        assert counts(7200, 9000, _MINUTE) == []

    def test_old_minutes_become_hours(self, bench: QueueBench) -> None:
        """``condense_history`` keeps the sums of old hours, and young minutes as they are."""
        queue, now = bench.queue, bench.clock.now()
        old = (now - 3 * _DAY) // _HOUR * _HOUR
        young = now // _HOUR * _HOUR - _HOUR
        for start in (old, young):
            for secs in (0.0, 130.0, 190.0, 3599.0):
                _end_at(bench, start + secs)
        _end_at(bench, now - 91 * _DAY)
        before = queue.rollups(old, now, _HOUR)
        for _ in range(2):
            queue.condense_history()
            assert queue.rollups(old, now, _HOUR) == before
        rows = [one for one in queue.rollups(0.0, now, _MINUTE) if one.kind == "success"]
        assert [(one.at, one.count) for one in rows] == [
            (old, 4),
            *((young + secs, 1) for secs in (0, 120, 180, 3540)),
        ]

    def test_a_job_that_moves_does_not_end(self, bench: QueueBench) -> None:
        """A job that leaves for another store, or comes from there, counts nothing."""
        queue = bench.queue
        if not isinstance(queue, StoreQueue):
            return
        job = bench.settle(bench.put_and_claim(), _FAILED) and queue.page()[0]
        assert job
        gone = bench.put()
        assert queue.apply([left_to("elsewhere", bench.seen(gone), bench.clock.now())]) == [True]
        copy = bench.job()
        queue.enqueue(held(copy))
        past = queue.attempts(job.record.id)
        changes = arrived(bench.seen(copy), job, past)
        assert all(queue.apply([one])[0] for one in changes)
        assert _counts(bench) == {"failed": 1, "waited": 1}

    # ---- audit entries ------------------------------------------------------------------

    def test_audit_entries_come_newest_first(self, bench: QueueBench) -> None:
        """``audit`` returns whole entries in pages; the same id replaces an entry."""
        queue = bench.queue
        assert queue.audit() == []
        entries = [_entry(f"id-{number}", float(number)) for number in range(5)]
        for one in (entries[3], entries[0], entries[1], _entry("id-4", 4.0, done=1), *entries):
            queue.record_audit(one)
        assert queue.audit() == entries[::-1]
        assert queue.audit(2) == [entries[4], entries[3]]
        assert queue.audit(2, before="id-3") == [entries[2], entries[1]]


def _rows(bench: QueueBench) -> list[Rollup]:
    return bench.queue.rollups(0.0, bench.after(2 * _DAY), _MINUTE)


def _counts(bench: QueueBench) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for one in _rows(bench):
        counts[one.kind] += one.count
    return dict(counts)


def _end_at(bench: QueueBench, at: float) -> None:
    """End a job in success at this time."""
    bench.settle(bench.put_and_claim(created_at=at, run_at=0.0), started_at=at, finished_at=at)


def _entry(entry_id: str, at: float, **fields: int) -> AuditEntry:
    return AuditEntry(
        id=entry_id,
        at=at,
        actor="ann",
        source="127.0.0.1",
        action="retry",
        target="status:failed ☃",
        asked=7,
        skipped=2,
        note="n",
        **fields,
    )
