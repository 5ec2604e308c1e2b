"""What people ask of a queue: acting on jobs and queues, reading them, and counting."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING

from nuvom.core.ids import id_texts, new_ids
from nuvom.core.record import JobStatus, StoredError
from nuvom.core.views import TOOK_BOUNDS, WAITED_BOUNDS, QueueStats, WorkerInfo
from nuvom.errors import InvalidId
from nuvom.queue_backends.base import Capability
from nuvom.testing.builders import make_settlement
from nuvom.testing.conformance.law import needs
from nuvom.testing.conformance.laws.basics import assert_same
from nuvom.testing.conformance.laws.bench import A, B, QueueKit

if TYPE_CHECKING:
    from nuvom.core.record import JobRecord, JobSnapshot
    from nuvom.queue_backends.leased import LeasedJobQueue
    from nuvom.testing.conformance.laws.bench import QueueBench

PENDING, RUNNING, PARKED = JobStatus.PENDING, JobStatus.RUNNING, JobStatus.PARKED
SUCCESS, FAILED, DEAD = JobStatus.SUCCESS, JobStatus.FAILED, JobStatus.DEAD
CANCELLED = JobStatus.CANCELLED
ENDS = (SUCCESS, FAILED, CANCELLED)
_TRACEBACK = """Traceback (most recent call last):
  File "/srv/shop/images.py", line 9, in open_source
    return Image.open(path)
  File "/srv/venv/site-packages/PIL/Image.py", line 3465, in open
    raise UnidentifiedImageError(msg)
UnidentifiedImageError: cannot identify image file"""
_NEAR_SECS = 0.001


@needs(Capability.CONTROL, Capability.LEASES, Capability.INSPECTION)
class ControlLaws(QueueKit):
    """What people ask for: cancel, retry, pause, purge, prune. Each tells what it did."""

    def test_a_cancelled_job_is_never_handed_out(self, bench: QueueBench) -> None:
        """``cancel`` tells the status before, and a job that waited is never handed out."""
        queue = bench.queue
        jobs = [bench.put().id, bench.put(run_at=bench.after(bench.soon_secs)).id]
        assert [queue.cancel(job_id) for job_id in jobs] == [PENDING, PENDING]
        bench.pass_soon()
        assert (bench.claimed(), queue.qsize()) == ([], 0)
        assert queue.cancel("no-such-job") is queue.retry("no-such-job") is None

    def test_a_running_job_is_cancelled_at_once(self, bench: QueueBench) -> None:
        """``cancel`` of a running job tells RUNNING; it is CANCELLED at once, its epoch raised."""
        job, parked = bench.put_and_claim(), bench.put_and_claim()
        bench.settle(parked, PARKED)
        assert [bench.queue.cancel(one.id) for one in (job, parked)] == [RUNNING, PARKED]
        assert (bench.status(job), bench.status(parked)) == (CANCELLED, CANCELLED)
        assert bench.seen(job).record.lease_epoch > job.lease_epoch
        assert bench.lose_workers() == []

    def test_the_first_final_status_wins(self, bench: QueueBench) -> None:
        """``cancel`` of a job that is over tells its status and changes nothing."""
        for status in ENDS:
            job = _ended(bench, status)
            assert bench.queue.cancel(job.id) is bench.status(job) is status

    def test_a_failed_job_can_be_retried(self, bench: QueueBench) -> None:
        """``retry`` of a FAILED, CANCELLED or DEAD job tells that; the job is due at once."""
        queue = bench.open(max_deliveries=1)
        bench.start()
        dead, waiting = bench.lose_worker(), bench.put(run_at=bench.after(3600.0))
        queue.cancel(waiting.id)
        ended = {_ended(bench, status).id: status for status in (FAILED, CANCELLED)}
        ended |= {dead.id: DEAD, waiting.id: CANCELLED}
        assert {job_id: queue.retry(job_id) for job_id in ended} == ended
        again = queue.claim(5, B)
        assert {(job.id, job.attempt, job.deliveries) for job in again} == {
            (job_id, 1, 1) for job_id in ended
        }

    def test_only_failures_are_retried(self, bench: QueueBench) -> None:
        """``retry`` of a job that waits, runs or succeeded tells its status, changes nothing."""
        job = bench.put()
        before = [bench.queue.retry(job.id)]
        running = bench.claim()
        before.append(bench.queue.retry(job.id))
        assert bench.settle(running)
        assert [*before, bench.queue.retry(job.id)] == [PENDING, RUNNING, SUCCESS]
        assert bench.claimed() == []

    def test_a_paused_queue_hands_out_nothing(self, bench: QueueBench) -> None:
        """No job of a paused queue is claimed until ``resume``; all else goes on."""
        queue, running = bench.queue, bench.put_and_claim(queue="mail")
        queue.pause("mail", by="ann")
        first, other = bench.put(queue="mail"), bench.put()
        assert bench.settle(running, PENDING)
        assert [other.id] == bench.claimed()
        assert queue.claim(5, A, ["mail"]) == []
        assert queue.dequeue() is None
        assert (queue.resume("mail"), queue.resume("mail")) == (True, False)
        assert {first.id, running.id} == set(bench.claimed())

    def test_purge_removes_what_waits_in_one_queue(self, bench: QueueBench) -> None:
        """``purge`` removes the waiting jobs of one queue, parked ones too, and tells how many."""
        queue = bench.queue
        bench.settle(bench.put_and_claim(queue="mail"), PARKED)
        running = bench.put_and_claim(queue="mail")
        bench.put(queue="mail")
        bench.put(queue="mail", run_at=bench.after(3600.0))
        other = bench.put()
        assert [queue.purge(name) for name in ("mail", "mail", "nowhere")] == [3, 0, 0]
        assert bench.settle(running)
        assert [other.id] == bench.claimed()

    def test_prune_removes_what_is_old_enough(self, bench: QueueBench) -> None:
        """``prune`` removes jobs that ended before the given moments, and tells how many."""
        queue, now = bench.queue, bench.clock.now()
        old = [_ended(bench, status, age_secs=100.0) for status in ENDS]
        fresh = [_ended(bench, status, age_secs=10.0) for status in ENDS]
        assert queue.prune(success_before=now - 50, failed_before=now - 200) == 1
        assert queue.get(old[0].id) is None
        assert queue.prune(success_before=now - 50, failed_before=now - 50) == 2
        assert [bench.status(job) for job in fresh] == list(ENDS)
        counts = [queue.prune(success_before=inf, failed_before=inf, limit=2) for _ in range(3)]
        assert counts == [2, 1, 0]

    def test_prune_leaves_live_jobs_alone(self, bench: QueueBench) -> None:
        """``prune`` never touches a job that waits, runs or is parked."""
        jobs = [*(bench.put_and_claim() for _ in range(3)), bench.put()]
        bench.settle(jobs[0], PARKED)
        bench.settle(jobs[1], PENDING)
        assert bench.queue.prune(success_before=inf, failed_before=inf) == 0
        assert [bench.status(job) for job in jobs] == [PARKED, PENDING, RUNNING, PENDING]

    def test_a_result_has_a_lifetime_of_its_own(self, bench: QueueBench) -> None:
        """A success with ``result_ttl_secs`` is pruned after that time, and not before."""
        bench.settle(bench.put_and_claim(result_ttl_secs=bench.soon_secs))
        removed = [bench.queue.prune(success_before=inf, failed_before=inf)]
        bench.pass_soon()
        removed.append(bench.queue.prune(success_before=0.0, failed_before=0.0))
        assert removed == [0, 1]


@needs(Capability.INSPECTION, Capability.LEASES, Capability.CONTROL)
class Inspection(QueueKit):
    """What can be read: single jobs, pages, attempts, counts, groups of failures."""

    def test_a_waiting_job_can_be_read(self, bench: QueueBench) -> None:
        """``get`` gives a waiting job as it was enqueued; of an unknown id nothing is known."""
        job = bench.put("shop.send", 1, "two", tags=("a",), metadata={"n": 1}, priority=3)
        assert_same(job, bench.seen(job).record, without={"ref"})
        queue, unknown = bench.queue, "no-such-job"
        assert (queue.get(unknown), queue.attempts(unknown), queue.find_ids(unknown)) == (
            None,
            [],
            [],
        )

    def test_a_running_job_shows_its_worker(self, bench: QueueBench) -> None:
        """``get`` of a claimed job shows RUNNING, its worker, attempt and epoch."""
        claimed = bench.put_and_claim(B)
        one = bench.seen(claimed)
        assert (one.status, one.worker, one.finished_at) == (RUNNING, B, None)
        assert (one.record.attempt, one.record.lease_epoch) == (1, claimed.lease_epoch)

    @needs(Capability.ATOMIC_FINISH)
    def test_a_success_shows_its_result(self, bench: QueueBench) -> None:
        """``settle`` stores status, result, times and children in one step."""
        job, child, start = bench.put_and_claim(), bench.job(), bench.clock.now()
        bench.settle(
            job, value={"n": 1}, started_at=start, finished_at=start + 2, children=(child,)
        )
        one = bench.seen(job)
        assert (one.status, one.error) == (SUCCESS, None)
        assert one.result == make_settlement(job, value={"n": 1}).result
        assert (one.started_at, one.finished_at) == (start, start + 2)
        assert bench.status(child) is PENDING

    @needs(Capability.ATOMIC_FINISH)
    def test_a_fenced_settlement_leaves_no_trace(self, bench: QueueBench) -> None:
        """A refused settlement stores no result, no error, no attempt."""
        late = bench.put_and_claim(A)
        bench.lose_workers()
        current = bench.claim(B)
        for job, status in ((late, SUCCESS), (late, FAILED), (current, SUCCESS), (late, SUCCESS)):
            bench.settle(job, status, "current" if job is current else "late")
        one = bench.seen(current)
        assert one.result == make_settlement(current, value="current").result
        assert one.error is None
        assert "failure" not in [closed.outcome for closed in bench.queue.attempts(late.id)]

    def test_a_failure_shows_its_error(self, bench: QueueBench) -> None:
        """``get`` of a FAILED job, or of one that waits for a retry, shows why it failed."""
        error = StoredError("KeyError", "'naïve'", "Traceback ...", "KeyError:x:1")
        for status in (FAILED, PENDING):
            job = bench.put_and_claim()
            bench.settle(job, status, error=error, run_at=bench.after(3600.0))
            assert bench.seen(job).error == error

    def test_attempts_are_listed(self, bench: QueueBench) -> None:
        """``attempts`` gives the closed attempts, oldest first, also after a manual retry."""
        job = bench.put_and_claim(A)
        bench.settle(job, PENDING, outcome="failure", error=StoredError("E", "first"))
        bench.queue.mark_started(bench.claim(B))
        bench.lose_workers()
        bench.settle(bench.claim(A), FAILED)
        bench.queue.retry(job.id)
        closed = bench.queue.attempts(job.id)
        shown = [(one.number, one.outcome, one.worker) for one in closed]
        assert shown == [(1, "failure", A), (2, "lost", B), (2, "failure", A)]
        assert closed[0].error is not None
        assert closed[0].error.message == "first"

    def test_pages_give_each_job_once(self, bench: QueueBench) -> None:
        """``page`` gives jobs newest first, each once, whatever comes or goes meanwhile."""
        jobs = [text.decode() for text in id_texts(new_ids(10))]
        for number, job_id in enumerate(jobs[:7]):
            bench.put(id=job_id, queue="mail" if number == 4 else "default")
        seen = _ids(bench.queue.page(limit=3))
        bench.queue.purge("mail")  # the job that the next page follows
        bench.put(id=jobs[7])
        while page := bench.queue.page(before=seen[-1], limit=3):
            seen += _ids(page)
            assert len(seen) <= 7
        assert seen == jobs[6::-1]
        for job_id in jobs[:7:-1]:  # ids of one millisecond may be in any order
            bench.put(id=job_id)
        latest = _ids(bench.queue.page(before="f" * 8 + jobs[0][8:], limit=4))
        assert latest == [jobs[8], jobs[9], jobs[7], jobs[6]]

    def test_pages_can_be_narrowed(self, bench: QueueBench) -> None:
        """``page`` gives only jobs of the wanted statuses, queue and task."""
        queue, live = bench.queue, {RUNNING, PENDING}
        mail = bench.put("shop.mail", queue="mail").id
        other = bench.put("shop.other", queue="mail").id
        default = bench.put("shop.mail").id
        assert [mail] == bench.claimed(1, queues=["mail"])
        assert _ids(queue.page(queue="mail")) == [other, mail]
        assert _ids(queue.page(task="shop.mail")) == [default, mail]
        assert _ids(queue.page(statuses=[RUNNING])) == [mail]
        assert _ids(queue.page(statuses=live, limit=2)) == [default, other]
        assert _ids(queue.page(statuses=live, before=default)) == [other, mail]
        assert queue.page(statuses=[PENDING], queue="mail", task="shop.mail") == []

    def test_ids_are_found_by_their_end(self, bench: QueueBench) -> None:
        """``find_ids`` gives the ids with an ending, newest first, at most ``limit``."""
        for job_id in ("job-a_1", "job-a.1", "other-a_1"):
            bench.put(id=job_id)
        assert bench.queue.find_ids("a_1") == ["other-a_1", "job-a_1"]
        assert bench.queue.find_ids("1", limit=2) == ["other-a_1", "job-a.1"]
        assert bench.queue.find_ids("%1") == []

    def test_counts_tell_what_jobs_wait_for(self, bench: QueueBench) -> None:
        """``stats`` counts by queue and status, what waits by its reason; zeros stay listed."""
        later = bench.after(3600.0)
        for status in (*ENDS, PARKED):
            bench.settle(bench.put_and_claim(queue="mail"), status)
        bench.settle(bench.put_and_claim(queue="mail"), PENDING, run_at=later)
        bench.put_and_claim(queue="mail")
        oldest = bench.after(-50.0)
        for fields in ({"created_at": oldest}, {}, {"run_at": later}, {"queue": "gone"}):
            bench.put(**{"queue": "mail", **fields})
        bench.queue.purge("gone")
        bench.queue.pause("idle", by="ann")
        mail = QueueStats(
            queue="mail",
            ready=2,
            scheduled=1,
            retrying=1,
            running=1,
            parked=1,
            success=1,
            failed=1,
            cancelled=1,
            oldest_ready_at=oldest,
        )
        found = bench.queue.stats()
        idle = QueueStats(queue="idle", paused_by="ann", paused_at=found[1].paused_at)
        assert found == [QueueStats(queue="gone"), idle, mail]
        assert abs((idle.paused_at or 0.0) - bench.after(0.0)) < 60
        assert bench.queue.stats(most=100) == found
        bench.queue.resume("idle")
        assert QueueStats(queue="idle") in bench.queue.stats()

    def test_counts_can_stop_early(self, bench: QueueBench) -> None:
        """``stats(most)`` names counts that stopped; what they tell is there, and may be all."""
        for status in (SUCCESS, FAILED, FAILED, FAILED, CANCELLED):
            bench.settle(bench.put_and_claim(queue="mail"), status)
        for fields in ({}, {}, {}, {"run_at": bench.after(3600.0)}):
            bench.put(queue="mail", **fields)
        (whole,), (part,) = bench.queue.stats(), bench.queue.stats(most=2)
        kinds = ("ready", "scheduled", "retrying", "running", "success", "failed", "cancelled")
        for kind in kinds:
            least, count = getattr(part, kind), getattr(whole, kind)
            assert least == count or (kind in part.at_least and least < count)

    def test_a_part_of_the_jobs_is_looked_at(self, bench: QueueBench) -> None:
        """``scan`` finds what ``page`` does, in parts that go on where the last one ended."""
        for number in range(7):
            job = bench.put_and_claim(queue="mail" if number % 3 else "other")
            bench.settle(job, FAILED if number % 2 else SUCCESS)
        bench.put(queue="mail")
        for wanted in (
            {},
            {"queue": "mail"},
            {"task": "tests.probe"},
            {"task": "tests.none"},
            {"statuses": [FAILED]},
            {"statuses": [SUCCESS, PENDING], "queue": "mail"},
            {"statuses": [PENDING, FAILED], "task": "tests.probe"},
        ):
            expected = [one.record.id for one in bench.queue.page(**wanted)]
            for limit, within in ((1, 100), (2, 3), (100, 2), (100, 100)):
                found, before, parts = [], None, 0
                while before is not None or not parts:
                    part = bench.queue.scan(**wanted, before=before, limit=limit, within=within)
                    assert len(part.jobs) <= limit
                    found += [one.record.id for one in part.jobs]
                    before, parts = part.next_before, parts + 1
                    assert parts < 20
                assert found == expected

    def test_a_change_of_the_store_is_told(self, bench: QueueBench) -> None:
        """``revision`` changes with a job's status, a pause, and a worker that comes or goes."""
        queue, seen = bench.queue, [bench.queue.revision()]

        def changes() -> bool:
            seen.append(queue.revision())
            return seen[-1] != seen[-2]

        bench.put()
        assert changes()
        job = bench.claim()
        assert changes()
        bench.settle(job)
        assert changes()
        queue.pause("default", by="ann")
        assert changes()
        queue.announce(WorkerInfo(id="w1"))
        assert changes()
        queue.retire("w1")
        assert changes()

    def test_failures_are_grouped(self, bench: QueueBench) -> None:
        """``error_groups`` groups FAILED jobs by fingerprint, latest first, with an example."""
        queue, jobs = bench.queue, []
        for print_, age_secs in (("x", 30.0), ("y", 20.0), ("x", 10.0)):
            error = StoredError("Error", f"of {print_}", _TRACEBACK, print_)
            jobs.append(_ended(bench, FAILED, age_secs=age_secs, error=error))
        bench.settle(bench.put_and_claim(), PENDING, error=StoredError("Error", "a retry"))
        groups = queue.error_groups()
        shown = [(one.fingerprint, one.count, one.example_id) for one in groups]
        assert shown == [("x", 2, jobs[2].id), ("y", 1, jobs[1].id)]
        one = groups[0]
        assert 19 < one.last_at - one.first_at < 21
        assert (one.func_name, one.type, one.message) == ("tests.probe", "Error", "of x")
        assert (one.status, one.place) == (FAILED, "shop/images.py, open_source")
        assert abs(one.recent[0] - one.last_at) < _NEAR_SECS
        assert abs(one.recent[-1] - one.first_at) < _NEAR_SECS
        assert len(queue.error_groups(limit=1)) == 1
        assert queue.failed_ids("x") == [jobs[2].id, jobs[0].id]
        queue.retry(jobs[0].id)
        assert (queue.failed_ids("x"), queue.failed_ids("unknown")) == ([jobs[2].id], [])


@needs(Capability.TOTALS, Capability.CONTROL)
class Totals(QueueKit):
    """Counts that survive what they count: what exporters of metrics add up."""

    def test_what_happens_is_counted_once(self, bench: QueueBench) -> None:
        """From ``keep_totals`` on each job and end counts once, also when it was removed since."""
        queue = bench.queue
        bench.settle(bench.put_and_claim())
        _expect(queue)
        for _ in range(2):
            queue.keep_totals()
        _expect(queue)
        job = bench.put_and_claim()
        for record in (job, job, job.replace(lease_epoch=9)):
            bench.settle(record)
        bench.settle(bench.put_and_claim(), FAILED)
        for name in ("no/slash", "default"):
            with suppress(InvalidId):
                queue.enqueue_many([bench.job(), bench.job(queue=name)])
        bench.put()
        queue.purge("default")
        queue.prune(success_before=inf, failed_before=inf)
        counts = {"enqueued": 5, "attempt success": 1, "attempt": 1, "finished failure": 1}
        _expect(queue, **counts)

    def test_the_ways_to_end_are_told_apart(self, bench: QueueBench) -> None:
        """Retries, timeouts and cancellations have totals of their own."""
        queue = _counting(bench)
        for status, word in (
            (FAILED, "timeout"),
            (SUCCESS, "timeout"),  # which the task's policy ignores
            (PENDING, "retry"),
            (PENDING, "snoozed"),
        ):
            error = None if word == "snoozed" else StoredError("ValueError", "no")
            later = bench.after(3600) if status is PENDING else 0.0
            bench.settle(bench.put_and_claim(), status, outcome=word, error=error, run_at=later)
        queue.cancel(bench.put_and_claim().id)
        queue.cancel(bench.put().id)
        counts = {"enqueued": 6, "retried": 1, "finished timeout": 1, "finished cancelled": 2}
        # Three attempts are none of these: the timeout that ends its job, the retry, the snooze.
        _expect(queue, **counts, **{"attempt": 3, "attempt timeout": 1})

    def test_lost_attempts_are_counted(self, bench: QueueBench) -> None:
        """An attempt that its worker never reports is lost; its job is given back, or DEAD."""
        queue = bench.open(max_deliveries=2)
        queue.keep_totals()
        bench.put()
        for _ in range(2):
            queue.mark_started(bench.claim())
            bench.lose_workers()
        _expect(queue, **{"enqueued": 1, "lost": 2, "redelivered": 1, "finished dead": 1})

    def test_durations_and_waits_fall_into_buckets(self, bench: QueueBench) -> None:
        """An attempt counts at the first bounds that its duration and its wait do not exceed."""
        queue = _counting(bench)
        for took, waited in ((0.02, 0.7), (7200.0, 100_000.0)):
            job = bench.put_and_claim()
            began = job.created_at + waited
            bench.settle(job, started_at=began, finished_at=began + took)
        first, last = sorted(
            (one.took, one.waited, round(one.took_secs, 3), round(one.waited_secs, 3))
            for one in queue.totals()
            if one.kind == "attempt"
        )
        assert first == (TOOK_BOUNDS.index(0.025), WAITED_BOUNDS.index(1.0), 0.02, 0.7)
        assert last[:2] == (len(TOOK_BOUNDS), len(WAITED_BOUNDS))

    def test_all_who_use_the_store_count(self, bench: QueueBench) -> None:
        """Others count as well, also those that had the store open before ``keep_totals``."""
        queue, other = bench.queue, bench.reopen()
        other.qsize()
        queue.keep_totals()
        other.enqueue(bench.job())
        bench.settle(bench.claim())
        for one in (queue, other, bench.reopen()):
            _expect(one, **{"enqueued": 1, "attempt success": 1})


def _ended(
    bench: QueueBench, status: JobStatus, *, age_secs: float = 0.0, **fields: object
) -> JobRecord:
    """Return a job that ended so many seconds ago."""
    ended_at = bench.after(-age_secs)
    job = bench.put_and_claim(created_at=ended_at - 1.0)
    assert bench.settle(job, status, started_at=ended_at, finished_at=ended_at, **fields)
    return job


def _ids(snapshots: list[JobSnapshot]) -> list[str]:
    return [one.record.id for one in snapshots]


def _counting(bench: QueueBench) -> LeasedJobQueue:
    bench.queue.keep_totals()
    return bench.queue


def _expect(queue: LeasedJobQueue, **counts: int) -> None:
    """Compare totals, by kind and outcome."""
    found: Counter[str] = Counter()
    for one in queue.totals():
        found[f"{one.kind} {one.outcome}".strip()] += one.count
    assert dict(found) == counts
