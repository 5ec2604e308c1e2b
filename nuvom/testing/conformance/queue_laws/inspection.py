"""What can be read: single jobs, pages, attempts, counts, groups of failures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.core.ids import id_texts, new_ids
from nuvom.core.record import JobRecord, JobStatus, StoredError
from nuvom.core.views import QueueStats
from nuvom.queue_backends.base import Capability
from nuvom.testing.builders import make_settlement
from nuvom.testing.conformance.law import law
from nuvom.testing.conformance.queue_bench import A, B
from nuvom.testing.conformance.queue_kit import QueueKit

if TYPE_CHECKING:
    from nuvom.testing.conformance.queue_bench import QueueBench

_FINAL = (JobStatus.SUCCESS, JobStatus.FAILED, JobStatus.CANCELLED)


class Inspection(QueueKit):
    """Reading changes nothing."""

    # ---- one job --------------------------------------------------------------------------

    @law(Capability.INSPECTION)
    def test_unknown_jobs_are_none(self, bench: QueueBench) -> None:
        """Nothing is known of an id that is not stored, and asking is no error."""
        queue = bench.leased
        known = (queue.get("no-such-job"), queue.attempts("no-such-job"), queue.find_ids("job"))
        assert known == (None, [], []), f"of an unknown id {known} is known"

    @law(Capability.INSPECTION)
    def test_a_waiting_job_can_be_read(self, bench: QueueBench) -> None:
        """``get`` gives a waiting job as it was enqueued."""
        job = bench.put("shop.send", 1, "two", tags=("a",), metadata={"n": 1}, priority=3)
        record = bench.seen(job).record
        for field in JobRecord.__struct_fields__:
            if field in ("args", "kwargs"):
                assert bytes(getattr(job, field)) == bytes(getattr(record, field)), field
            elif field != "ref":
                given, got = getattr(job, field), getattr(record, field)
                assert given == got, f"{field} was {given!r} and is shown as {got!r}"

    @law(Capability.INSPECTION, Capability.LEASES)
    def test_a_running_job_shows_its_worker(self, bench: QueueBench) -> None:
        """``get`` of a claimed job shows RUNNING, its worker, attempt and epoch."""
        claimed = bench.put_and_claim(B)
        snapshot = bench.seen(claimed)
        shown = (snapshot.status, snapshot.worker, snapshot.record.attempt)
        assert shown == (JobStatus.RUNNING, B, 1), f"status, worker and attempt are {shown}"
        epochs = (claimed.lease_epoch, snapshot.record.lease_epoch)
        assert epochs[0] == epochs[1], f"claimed with epoch {epochs[0]}, shown with {epochs[1]}"
        assert snapshot.finished_at is None, "a running job shows when it finished"

    @law(Capability.INSPECTION, Capability.ATOMIC_FINISH)
    def test_a_success_shows_its_result(self, bench: QueueBench) -> None:
        """``settle`` stores status, result, times and children in one step."""
        queue = bench.open_leased()
        job = bench.put_and_claim()
        child = bench.job()
        start = bench.clock.now()
        bench.settle(
            job, value={"n": 1}, started_at=start, finished_at=start + 2, children=(child,)
        )
        snapshot = bench.seen(job)
        assert snapshot.status is JobStatus.SUCCESS, f"a settled success is {snapshot.status}"
        expected = make_settlement(job, value={"n": 1}).result
        assert snapshot.result == expected, f"the stored result is {snapshot.result!r}"
        times = (snapshot.started_at, snapshot.finished_at)
        assert times == (start, start + 2), f"started and finished are {times}"
        assert snapshot.error is None, f"a success shows the error {snapshot.error}"
        assert queue.get(child.id) is not None, "the child is not stored"

    @law(Capability.INSPECTION, Capability.ATOMIC_FINISH)
    def test_a_fenced_settlement_leaves_no_trace(self, bench: QueueBench) -> None:
        """A refused settlement stores no result, no error, no attempt."""
        bench.open()
        late = bench.put_and_claim(A)
        bench.lose_workers()
        current = bench.claim(B)
        bench.settle(late, value="late")
        bench.settle(late, JobStatus.FAILED)
        bench.settle(current, value="current")
        bench.settle(late, value="late")
        snapshot = bench.seen(current)
        expected = make_settlement(current, value="current").result
        assert snapshot.result == expected, f"the stored result is {snapshot.result!r}"
        assert snapshot.error is None, f"a success shows the error {snapshot.error}"
        outcomes = [one.outcome for one in bench.leased.attempts(late.id)]
        assert "failure" not in outcomes, f"the attempts are {outcomes}"

    @law(Capability.INSPECTION, Capability.LEASES)
    def test_a_failure_shows_its_error(self, bench: QueueBench) -> None:
        """``get`` of a FAILED job, or of one that waits for a retry, shows why it failed."""
        bench.open()
        error = StoredError("KeyError", "'naïve'", "Traceback ...", "KeyError:x:1")
        for status in (JobStatus.FAILED, JobStatus.PENDING):
            job = bench.put_and_claim()
            bench.settle(job, status, error=error, run_at=bench.clock.now() + 3600.0)
            shown = bench.seen(job).error
            assert shown == error, f"the error of a job that failed and is {status}: {shown}"

    # ---- attempts -------------------------------------------------------------------------

    @law(Capability.INSPECTION, Capability.LEASES)
    def test_attempts_are_listed(self, bench: QueueBench) -> None:
        """``attempts`` gives the closed attempts, oldest first, each with number and outcome."""
        bench.open()
        job = bench.put_and_claim(A)
        bench.settle(job, JobStatus.PENDING, outcome="failure", error=StoredError("E", "first"))
        bench.leased.mark_started(bench.claim(B))
        bench.lose_workers()
        bench.settle(bench.claim(A))
        listed = [(one.number, one.outcome) for one in bench.leased.attempts(job.id)]
        expected = [(1, "failure"), (2, "lost"), (2, "success")]
        assert listed == expected, f"attempts are {listed} instead of {expected}"
        first = bench.leased.attempts(job.id)[0]
        shown = (first.worker, first.error and first.error.message)
        assert shown == (A, "first"), f"worker and error of the first attempt are {shown}"

    @law(Capability.INSPECTION, Capability.CONTROL)
    def test_old_attempts_survive_a_manual_retry(self, bench: QueueBench) -> None:
        """A manual retry keeps the attempts that were made before."""
        bench.open()
        job = bench.put_and_claim()
        bench.settle(job, JobStatus.FAILED)
        bench.leased.retry(job.id)
        outcomes = [one.outcome for one in bench.leased.attempts(job.id)]
        assert outcomes == ["failure"], f"after a manual retry the attempts are {outcomes}"

    @law(Capability.INSPECTION, Capability.LEASES)
    def test_a_dead_job_tells_why(self, bench: QueueBench) -> None:
        """A DEAD job shows an error, and each lost attempt is in its history."""
        queue = bench.open_leased(max_deliveries=2)
        job = bench.put()
        for owner in (A, B):
            queue.mark_started(bench.claim(owner))
            bench.lose_workers()
        snapshot = bench.seen(job)
        assert snapshot.status is JobStatus.DEAD, f"two losses of two left {snapshot.status}"
        assert snapshot.error is not None, "a DEAD job shows no error"
        assert snapshot.finished_at is not None, "a DEAD job does not show when it ended"
        lost = [(one.outcome, one.worker) for one in queue.attempts(job.id)]
        assert lost == [("lost", A), ("lost", B)], f"the attempts are {lost}"

    # ---- many jobs ------------------------------------------------------------------------

    @law(Capability.INSPECTION)
    def test_pages_give_each_job_once(self, bench: QueueBench) -> None:
        """``page`` gives jobs newest first; page after page each comes exactly once."""
        jobs = [bench.put().id for _ in range(7)]
        seen: list[str] = []
        while page := bench.leased.page(before=seen[-1] if seen else None, limit=3):
            assert len(page) <= 3, f"a page of 3 has {len(page)} jobs"
            seen += [one.record.id for one in page]
            assert len(seen) <= 7, f"7 jobs were given as {seen}"
        assert jobs[::-1] == seen, "pages are not newest first, or miss a job"

    @law(Capability.INSPECTION)
    def test_a_page_is_not_upset_by_new_jobs(self, bench: QueueBench) -> None:
        """Jobs that come between two pages do not move the second."""
        jobs = [bench.put().id for _ in range(4)]
        first = [one.record.id for one in bench.leased.page(limit=2)]
        bench.put()
        second = [one.record.id for one in bench.leased.page(limit=2, before=first[-1])]
        assert jobs[::-1] == first + second, "a new job moved the second page"

    @law(Capability.INSPECTION, Capability.CONTROL)
    def test_a_page_goes_on_where_a_job_was_removed(self, bench: QueueBench) -> None:
        """A page after a job that was removed meanwhile gives the jobs whose ids sort before it."""
        jobs = [text.decode() for text in id_texts(new_ids(5))]
        for number, job_id in enumerate(jobs):
            bench.put(id=job_id, queue="mail" if number == 2 else "default")
        first = [one.record.id for one in bench.leased.page(limit=3)]
        removed = bench.leased.purge("mail")
        assert removed == 1, f"purge of one job removed {removed}"
        second = [one.record.id for one in bench.leased.page(limit=3, before=first[-1])]
        assert jobs[::-1] == first + second, "the page after a removed job gave other jobs"

    @law(Capability.INSPECTION, Capability.LEASES)
    def test_pages_can_be_narrowed(self, bench: QueueBench) -> None:
        """``page`` gives only jobs of the wanted statuses, queue and task."""
        queue = bench.open_leased()
        mail = bench.put("shop.mail", queue="mail").id
        other = bench.put("shop.other", queue="mail").id
        default = bench.put("shop.mail").id
        claimed = queue.claim(1, A, ["mail"])[0].id

        assert claimed == mail, f"claimed {claimed} instead of the older job"
        live = {JobStatus.RUNNING, JobStatus.PENDING}
        pages = [
            (queue.page(queue="mail"), [other, mail]),
            (queue.page(task="shop.mail"), [default, mail]),
            (queue.page(statuses=[JobStatus.RUNNING]), [mail]),
            (queue.page(statuses=live, limit=2), [default, other]),
            (queue.page(statuses=live, before=default), [other, mail]),
            (queue.page(statuses=[JobStatus.PENDING], queue="mail", task="shop.mail"), []),
        ]
        for number, (page, expected) in enumerate(pages):
            ids = [one.record.id for one in page]
            assert ids == expected, f"narrowed page {number} is {ids} instead of {expected}"

    @law(Capability.INSPECTION)
    def test_ids_are_found_by_their_end(self, bench: QueueBench) -> None:
        """``find_ids`` gives the ids with an ending, newest first, at most ``limit``."""
        for job_id in ("job-a_1", "job-a.1", "other-a_1"):
            bench.put(id=job_id)
        found = bench.leased.find_ids("a_1")
        assert found == ["other-a_1", "job-a_1"], f"find_ids('a_1') gave {found}"
        found = bench.leased.find_ids("1", limit=2)
        assert found == ["other-a_1", "job-a.1"], f"find_ids('1', limit=2) gave {found}"
        assert bench.leased.find_ids("%1") == [], "% was taken for a wildcard"

    @law(Capability.INSPECTION, Capability.LEASES)
    def test_counts_tell_what_jobs_wait_for(self, bench: QueueBench) -> None:
        """``stats`` counts the jobs of each queue by status and, waiting, by what they wait for."""
        queue = bench.open_leased()
        later = bench.clock.now() + 3600.0
        for status in (*_FINAL, JobStatus.PARKED):
            bench.settle(bench.put_and_claim(queue="mail"), status)
        bench.settle(bench.put_and_claim(queue="mail"), JobStatus.PENDING, run_at=later)
        bench.put_and_claim(queue="mail")
        oldest = bench.put(queue="mail", created_at=bench.clock.now() - 50.0)
        bench.put(queue="mail")
        bench.put(queue="mail", run_at=later)
        bench.put(queue="a-queue")
        names = [one.queue for one in queue.stats()]
        assert names == ["a-queue", "mail"], f"stats lists the queues {names}"
        mail = _stats_of(bench, "mail")
        counts = {
            name: getattr(mail, name)
            for name in ("ready", "scheduled", "retrying", "running", "parked", "success")
        }
        expected = {
            "ready": 2,
            "scheduled": 1,
            "retrying": 1,
            "running": 1,
            "parked": 1,
            "success": 1,
        }
        assert counts == expected, f"counts are {counts} instead of {expected}"
        ended = (mail.failed, mail.cancelled, mail.dead)
        assert ended == (1, 1, 0), f"failed, cancelled and dead are {ended}"
        assert mail.oldest_ready_at == oldest.created_at, (
            f"the oldest ready job waits since {mail.oldest_ready_at}, not {oldest.created_at}"
        )

    @law(Capability.INSPECTION, Capability.CONTROL)
    def test_a_paused_queue_is_listed(self, bench: QueueBench) -> None:
        """``stats`` lists a paused queue, also without jobs, and tells who paused it."""
        bench.leased.pause("mail", by="ann")
        paused_by = _stats_of(bench, "mail").paused_by
        assert paused_by == "ann", f"the queue was paused by ann, not {paused_by}"

    @law(Capability.INSPECTION, Capability.CONTROL)
    def test_a_queue_without_jobs_stays_listed(self, bench: QueueBench) -> None:
        """``stats`` lists a queue that had jobs or was paused, with nothing but zeros."""
        bench.put(queue="mail")
        bench.leased.purge("mail")
        bench.leased.pause("files", by="ann")
        bench.leased.resume("files")
        shown = bench.leased.stats()
        expected = [QueueStats(queue="files"), QueueStats(queue="mail")]
        assert shown == expected, f"stats gives {shown} for two queues without jobs"

    # ---- failures -------------------------------------------------------------------------

    @law(Capability.INSPECTION, Capability.LEASES)
    def test_failures_are_grouped(self, bench: QueueBench) -> None:
        """``error_groups`` groups FAILED jobs by fingerprint, latest first, with an example."""
        queue = bench.open_leased()
        jobs = [_failed(bench, print_, age) for print_, age in (("x", 30), ("y", 20), ("x", 10))]
        bench.settle(bench.put_and_claim(), JobStatus.PENDING, error=_error("z"))
        groups = queue.error_groups()
        shown = [(one.fingerprint, one.count, one.example_id) for one in groups]
        expected = [("x", 2, jobs[2].id), ("y", 1, jobs[1].id)]
        assert shown == expected, f"groups are {shown} instead of {expected}"
        span = groups[0].last_at - groups[0].first_at
        assert 19 < span < 21, f"the failures of a group lie 20 s apart, not {span:g}"
        about = (groups[0].func_name, groups[0].type, groups[0].message)
        assert about == ("tests.probe", "Error", "of x"), f"a group is described as {about}"
        assert len(queue.error_groups(limit=1)) == 1, "the limit of error_groups is not kept"

    @law(Capability.INSPECTION, Capability.LEASES)
    def test_failures_of_two_tasks_are_two_groups(self, bench: QueueBench) -> None:
        """Failures without a fingerprint are grouped by their task and the exception's type."""
        queue = bench.open_leased()
        jobs = [bench.put_and_claim(func_name=task) for task in ("shop.a", "shop.b", "shop.a")]
        for job in jobs:
            bench.settle(job, JobStatus.FAILED, error=StoredError("Error", "no"))
        groups = {one.func_name: queue.failed_ids(one.fingerprint) for one in queue.error_groups()}
        expected = {"shop.a": [jobs[2].id, jobs[0].id], "shop.b": [jobs[1].id]}
        assert groups == expected, f"failures are grouped as {groups} instead of {expected}"

    @law(Capability.INSPECTION, Capability.CONTROL)
    def test_the_failures_of_a_group_are_found(self, bench: QueueBench) -> None:
        """``failed_ids`` gives the jobs of a group, newest first; a retried one is none of them."""
        queue = bench.open_leased()
        first, _, third = (_failed(bench, print_, 0) for print_ in ("x", "y", "x"))
        found = queue.failed_ids("x")
        assert found == [third.id, first.id], f"failed_ids gave {found}"
        queue.retry(first.id)
        found = queue.failed_ids("x")
        assert found == [third.id], f"failed_ids gave {found} after a retry"
        assert queue.failed_ids("unknown") == [], "an unknown group has jobs"


def _stats_of(bench: QueueBench, queue: str) -> QueueStats:
    found = [one for one in bench.leased.stats() if one.queue == queue]
    assert len(found) == 1, f"stats lists the queue {queue} {len(found)} times"
    return found[0]


def _error(fingerprint: str) -> StoredError:
    return StoredError("Error", f"of {fingerprint}", fingerprint=fingerprint)


def _failed(bench: QueueBench, fingerprint: str, age_secs: float) -> JobRecord:
    ended_at = bench.clock.now() - age_secs
    job = bench.put_and_claim(created_at=ended_at - 1.0)
    bench.settle(job, JobStatus.FAILED, error=_error(fingerprint), finished_at=ended_at)
    return job
