"""Deliveries: what a lease is, who has lost one, and what a lost worker costs its jobs."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from nuvom.core.record import JobRecord, JobStatus
from nuvom.core.views import GONE_LEASES, WorkerInfo
from nuvom.queue_backends.base import Capability
from nuvom.queue_backends.leased import ClaimArguments
from nuvom.testing.builders import make_settlement
from nuvom.testing.conformance.law import needs
from nuvom.testing.conformance.laws.bench import A, B, C, QueueKit

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.testing.conformance.laws.bench import QueueBench

PENDING, RUNNING, PARKED = JobStatus.PENDING, JobStatus.RUNNING, JobStatus.PARKED
SUCCESS, FAILED, DEAD = JobStatus.SUCCESS, JobStatus.FAILED, JobStatus.DEAD
CANCELLED = JobStatus.CANCELLED


@needs(Capability.LEASES)
class Leases(QueueKit):
    """Claiming, settling, giving back, renewing: what a delivery is made of."""

    def test_a_claimed_job_is_running(self, bench: QueueBench) -> None:
        """A claimed record is RUNNING, with epoch, attempt and deliveries raised by one."""
        job = bench.put()
        claimed = bench.claim()
        assert (claimed.status, claimed.attempt, claimed.deliveries) == (RUNNING, 1, 1)
        assert claimed.lease_epoch == job.lease_epoch + 1
        bench.queue.release([claimed])
        assert bench.claim(B).lease_epoch == claimed.lease_epoch + 1, "only claims raise it"

    def test_a_claimed_job_is_nobody_elses(self, bench: QueueBench) -> None:
        """A claimed job is not claimed again while its lease lasts, by nobody; nor cleared."""
        job = bench.put_and_claim(A)
        assert [bench.claimed(5, owner) for owner in (A, B)] == [[], []]
        bench.put()
        bench.queue.clear()
        assert bench.settle(job)

    def test_a_claim_serves_the_named_queues_only(self, bench: QueueBench) -> None:
        """A claim takes from the queues it names at most what it asks for; None means all."""
        for name in ("a", "b", "c", "d", "d", "d"):
            bench.put(queue=name)
        queue = bench.queue
        assert queue.claim(5, A, []) == queue.claim(5, A, ["nowhere"]) == []
        assert {job.queue for job in queue.claim(5, A, ["a", "c"])} == {"a", "c"}
        assert [job.queue for job in queue.claim(2, A, exclude=["b"])] == ["d", "d"]
        assert {job.queue for job in queue.claim(5, A, None)} == {"b", "d"}

    def test_unwanted_tasks_are_left_alone(self, bench: QueueBench) -> None:
        """``claim(without=...)`` passes over the jobs of those tasks, whatever their place."""
        unwanted = [bench.put("shop.unknown", priority=1).id for _ in range(3)]
        wanted = bench.put("shop.known", priority=9).id
        assert [wanted] == bench.claimed(without={"shop.unknown"})
        assert unwanted == bench.claimed()

    def test_a_settled_job_is_over(self, bench: QueueBench) -> None:
        """A job that was settled is not handed out again, unless the settlement asks for it."""
        for status in (SUCCESS, FAILED, CANCELLED):
            assert bench.settle(bench.put_and_claim(), status)
        again = bench.put_and_claim()
        assert bench.settle(again, PENDING)
        assert bench.lose_workers() == []
        assert bench.queue.qsize() == 1
        assert [again.id] == bench.claimed()

    def test_settling_twice_is_safe(self, bench: QueueBench) -> None:
        """A settlement that is repeated after a lost reply is accepted again and applied once."""
        for status in (SUCCESS, FAILED, PENDING):
            job, child = bench.put_and_claim(), bench.job(queue="children")
            assert [bench.settle(job, status, children=(child,)) for _ in range(2)] == [True, True]
            assert [child.id] == bench.claimed(queues=["children"])
            bench.queue.clear()

    def test_settling_and_claiming_may_be_one_call(self, bench: QueueBench) -> None:
        """``settle_and_claim`` settles as ``settle`` does and claims as ``claim`` does."""
        done, lost = bench.put_and_claim(), bench.put_and_claim()
        bench.queue.release([lost])
        bench.settle(bench.claim(B))
        bench.put("shop.unknown", queue="a")
        bench.put(queue="b")
        wanted = bench.put(queue="a")
        accepted, jobs = bench.queue.settle_and_claim(
            [make_settlement(one, SUCCESS) for one in (done, lost)],
            ClaimArguments(5, A, ["a", "b"], exclude=["b"], without=["shop.unknown"]),
        )
        assert accepted == [True, False]
        assert [(wanted.id, RUNNING)] == [(job.id, job.status) for job in jobs]
        assert bench.settle(jobs[0])

    def test_children_come_with_the_settlement(self, bench: QueueBench) -> None:
        """The children of an accepted settlement are enqueued, those of a refused one are not."""
        children, stale = (bench.job(), bench.job()), bench.put_and_claim()
        bench.queue.release([stale])
        bench.settle(bench.claim(), children=children)
        bench.settle(stale, children=(bench.job(),))
        assert {child.id for child in children} == set(bench.claimed())

    def test_extend_tells_what_is_held(self, bench: QueueBench) -> None:
        """``extend`` gives id and epoch of each job that the owner still holds, and no other's."""
        kept, settled, given_back, retried = (bench.put_and_claim(A) for _ in range(4))
        other = bench.put_and_claim(B)
        bench.settle(settled)
        assert bench.queue.release([given_back]) == [True]
        bench.settle(retried, PENDING)
        held = [bench.queue.extend(owner) for owner in (A, B, C)]
        assert held == [{kept.id: kept.lease_epoch}, {other.id: other.lease_epoch}, {}]
        assert {given_back.id, retried.id} == set(bench.claimed()), "they are due at once"

    def test_an_extended_lease_lasts(self, bench: QueueBench) -> None:
        """A job is not taken back while its owner renews its lease, whoever else is lost."""
        lost, kept = bench.put_and_claim(A), bench.put_and_claim(B)
        reaped = []
        for _ in range(4):
            bench.advance(bench.lease_secs * 0.6)
            bench.queue.extend(B)
            reaped += bench.queue.reap()
        assert [lost.id] == [job.id for job in reaped]
        assert bench.settle(kept)

    def test_a_lease_ends_if_it_is_not_renewed(self, bench: QueueBench) -> None:
        """``reap`` takes back a job whose lease ended, once, and gives it as PENDING."""
        job = bench.put_and_claim()
        assert bench.queue.reap() == []
        reaped = bench.lose_worker()
        assert (reaped.id, reaped.status) == (job.id, PENDING)
        assert bench.queue.reap() == []
        assert [job.id] == bench.claimed()

    def test_what_dequeue_gives_is_leased(self, bench: QueueBench) -> None:
        """``dequeue`` and ``pop_batch`` claim under the instance's own id."""
        queue = bench.queue
        jobs = [bench.put().id, bench.put().id]
        first = queue.dequeue()
        assert first is not None
        assert [first.id, *bench.popped(1)] == jobs
        assert set(queue.extend(queue.own_id)) == set(jobs)
        assert bench.settle(first)
        assert bench.lose_worker().id == jobs[1]

    def test_enqueueing_never_replaces_a_job(self, bench: QueueBench) -> None:
        """``enqueue`` of an id that runs or is over changes nothing."""
        job = bench.put_and_claim()
        bench.queue.enqueue(job.replace(status=PENDING))
        assert bench.queue.qsize() == 0
        assert bench.settle(job)
        bench.queue.enqueue(job.replace(status=PENDING))
        assert bench.claimed() == []


@needs(Capability.LEASES)
class Fencing(QueueKit):
    """Who lost a lease can change nothing any more."""

    def test_a_late_worker_cannot_settle_anothers_attempt(self, bench: QueueBench) -> None:
        """A settlement is refused, and changes nothing, once the lease is lost or the job over."""
        queue = bench.queue
        ways: list[Callable[[JobRecord], object]] = [
            lambda _: bench.lose_workers(),
            lambda job: queue.release([job]),
            lambda job: bench.settle(job, PENDING),
        ]
        if bench.can(Capability.CONTROL):
            ways.append(lambda job: [queue.cancel(job.id), queue.retry(job.id)])
            ways.append(lambda job: [bench.settle(job, FAILED), queue.retry(job.id)])
        for lose in ways:
            for owner in (A, B):  # a worker can lose a job to itself
                late = bench.put_and_claim(A)
                lose(late)
                current = bench.claim(owner)
                assert current.lease_epoch > late.lease_epoch
                for status in (SUCCESS, FAILED, PENDING):
                    _assert_fenced(bench, late, status)
                assert bench.settle(current)
                _assert_fenced(bench, late)

    def test_a_reaped_worker_cannot_settle(self, bench: QueueBench) -> None:
        """A settlement is refused, and changes nothing, while nobody else has the job yet."""
        job = bench.put_and_claim(A)
        bench.lose_workers()
        _assert_fenced(bench, job)
        assert bench.queue.release([job]) == [False]
        assert bench.queue.extend(A) == {}

    def test_settlements_of_a_batch_are_refused_one_by_one(self, bench: QueueBench) -> None:
        """Of a batch just those are refused, and change nothing, whose lease is lost."""
        late = [bench.put_and_claim(A), bench.put_and_claim(A)]
        bench.lose_workers()
        current = [bench.claim(B), bench.claim(B)]
        for status in (SUCCESS, FAILED):  # the second batch is a mixed one
            batch = [make_settlement(one) for one in (late[0], bench.put_and_claim(A))]
            batch.append(make_settlement(late[1], status))
            assert bench.queue.settle(batch) == [False, True, False]
        assert [bench.settle(job) for job in current] == [True, True]
        assert bench.queue.settle([]) == bench.queue.release([]) == []

    @needs(Capability.CONTROL)
    def test_a_cancelled_job_cannot_be_settled(self, bench: QueueBench) -> None:
        """A settlement is refused, and changes nothing, after a cancel; ``extend`` tells of it."""
        kept, cancelled = bench.put_and_claim(A), bench.put_and_claim(A)
        bench.queue.cancel(cancelled.id)
        _assert_fenced(bench, cancelled)
        assert bench.queue.extend(A) == {kept.id: kept.lease_epoch}

    @needs(Capability.CONTROL)
    def test_a_job_that_was_removed_cannot_settle_its_successor(self, bench: QueueBench) -> None:
        """A delivery of a removed job is fenced from a job enqueued later with the same id."""
        old = bench.put_and_claim(A)
        bench.queue.cancel(old.id)
        assert bench.queue.prune(success_before=inf, failed_before=inf) == 1
        bench.put(id=old.id)
        new = bench.claim(B)
        _assert_fenced(bench, old)
        assert bench.queue.release([old]) == [False]
        assert bench.settle(new)

    def test_progress_is_kept_while_the_lease_holds(self, bench: QueueBench) -> None:
        """``report_progress`` is True, and shown, while the lease holds; False afterwards."""
        queue, is_shown = bench.queue, bench.can(Capability.INSPECTION)
        for end in (queue.release, lambda jobs: [bench.settle(job) for job in jobs]):
            job = bench.put_and_claim(A)
            assert queue.report_progress(job, 3.0, 10.0, "three of ten")
            assert not is_shown or bench.seen(job).progress == (3.0, 10.0, "three of ten")
            end([job])
            assert not is_shown or bench.seen(job).progress is None
            assert not queue.report_progress(job, 4.0, None, "")
            queue.clear()

    def test_a_stale_start_mark_charges_nobody(self, bench: QueueBench) -> None:
        """``mark_started`` of a lost delivery does not mark the next one."""
        bench.open(max_deliveries=1)
        if bench.has_start_marks:
            stale = bench.put_and_claim(A)
            bench.lose_workers()
            bench.claim(A)
            bench.queue.mark_started(stale)
            assert bench.lose_worker().status is PENDING


@needs(Capability.LEASES)
class Counters(QueueKit):
    """``attempt`` and ``deliveries``: what each end of a delivery makes of them."""

    def test_a_release_is_not_charged(self, bench: QueueBench) -> None:
        """Settled, attempts count; snoozed or released, nothing does, started or not."""
        bench.settle(bench.start(), PENDING)
        job = _counted(bench, attempt=2, deliveries=1)
        bench.settle(job, PENDING, keeps_attempt=False)
        bench.queue.release([_counted(bench, attempt=2, deliveries=1)])
        job = _counted(bench, attempt=2, deliveries=1)
        bench.queue.mark_started(job)
        bench.queue.release([job])
        _counted(bench, attempt=2, deliveries=1)
        if bench.can(Capability.INSPECTION) and bench.has_start_marks:
            # Of the two that were given back, the one that had started is in the history.
            outcomes = [one.outcome for one in bench.queue.attempts(job.id)]
            assert outcomes.count("released") == 1

    def test_a_lost_start_is_charged(self, bench: QueueBench) -> None:
        """Lost after it had started: ``attempt`` is given back, ``deliveries`` stays."""
        bench.start(A)
        reaped = bench.lose_worker()
        assert (reaped.attempt, reaped.deliveries) == (0, 1)
        _counted(bench, attempt=1, deliveries=2)

    def test_a_lost_claim_that_never_started_is_not_charged(self, bench: QueueBench) -> None:
        """Lost without a start mark: both are given back, if the backend keeps marks."""
        bench.open(max_deliveries=2)
        bench.put()
        for _ in range(3 if bench.has_start_marks else 1):
            bench.claim()
            reaped = bench.lose_worker()
            charge = 0 if bench.has_start_marks else 1
            assert (reaped.status, reaped.attempt, reaped.deliveries) == (PENDING, 0, charge)

    def test_a_job_that_kills_its_workers_ends_dead(self, bench: QueueBench) -> None:
        """A job is DEAD when ``max_deliveries`` workers were lost with it, whatever else it did."""
        queue = bench.open(max_deliveries=3)
        job = bench.put()
        for status in (PENDING, PENDING, DEAD):
            bench.settle(bench.claim(), PENDING)
            queue.release([bench.claim()])
            queue.mark_started(bench.claim())
            assert bench.lose_worker().status is status
            bench.advance(4.0)  # later recoveries wait for as many seconds as there are charges
        assert bench.claimed() == []
        assert queue.qsize() == 0
        if bench.can(Capability.INSPECTION):
            assert bench.seen(job).error is not None, "a DEAD job tells why"


@needs(Capability.LEASES)
class Suspects(QueueKit):
    """Jobs during which a worker died: run one at a time, and charged alone."""

    def test_a_lost_start_makes_a_suspect(self, bench: QueueBench) -> None:
        """A job that had started when its worker was lost is a suspect until it settles."""
        assert not bench.put_and_claim(A).suspect
        job = bench.start(B)
        suspects = [one.id for one in bench.lose_workers() if one.suspect]
        assert [job.id] == suspects or not bench.has_start_marks
        bench.queue.release([bench.claim(B)])
        suspect = bench.claim(B)
        assert suspect.suspect, "a suspect that was given back is none any more"
        bench.settle(suspect, PENDING)
        again = {one.id: one.suspect for one in bench.queue.claim(5, B)}
        assert again[suspect.id] is False

    def test_a_claim_takes_one_suspect_at_most(self, bench: QueueBench) -> None:
        """``claim`` gives at most one suspect, first; with ``suspects=0`` none."""
        suspects = {_make_suspect(bench).id, _make_suspect(bench).id}
        fresh = [bench.put(priority=0).id for _ in range(3)]
        assert fresh[:1] == bench.claimed(1, suspects=0)
        first, *rest = bench.claimed(5)
        assert first in suspects
        assert rest == fresh[1:]
        assert suspects - {first} == set(bench.claimed(5, C))

    def test_only_the_suspect_is_charged(self, bench: QueueBench) -> None:
        """When a worker is lost with a suspect started, fresh jobs beside it are not charged."""
        suspect_id, fresh = _make_suspect(bench).id, bench.put()
        for job in bench.queue.claim(5, B):
            bench.queue.mark_started(job)
        reaped = {job.id: job for job in bench.lose_workers()}
        assert (reaped[suspect_id].deliveries, reaped[fresh.id].deliveries) == (2, 0)
        assert reaped[fresh.id].suspect

    def test_recoveries_slow_down(self, bench: QueueBench) -> None:
        """The first recovery is due at once, the second only after as many seconds as charges."""
        bench.open(max_deliveries=5)
        _make_suspect(bench)
        bench.queue.mark_started(bench.claim(B))
        bench.lose_workers()
        assert bench.claimed() == []
        bench.advance(2.2)
        bench.claim(B)


@needs(Capability.LEASES)
class Parked(QueueKit):
    """Jobs of tasks that no worker knows: kept apart until one does."""

    def test_parked_jobs_are_taken_up_again(self, bench: QueueBench) -> None:
        """PARKED jobs wait for ``unpark`` of their task, which tells how many, free of charge."""
        queue = bench.queue
        ids = [_park(bench, "shop.known").id for _ in range(2)]
        _park(bench)
        assert (bench.claimed(), queue.qsize()) == ([], 0)
        if bench.can(Capability.INSPECTION):
            assert dict(queue.parked_tasks) == {"shop.known": 2, "shop.unknown": 1}
        assert [queue.unpark(tasks) for tasks in ([], ["shop.known", "shop.third"])] == [0, 2]
        assert ids == [_counted(bench, attempt=1, deliveries=1).id for _ in ids]
        assert queue.unpark(["shop.known"]) == 0

    def test_a_parked_job_dies_after_its_time(self, bench: QueueBench) -> None:
        """``reap`` makes a job DEAD that was PARKED for longer than ``parked_ttl_secs``."""
        queue = bench.open(parked_ttl_secs=1.0)
        job = _park(bench)
        assert queue.reap() == []
        bench.advance(1.2)
        assert [(one.id, one.status) for one in queue.reap()] == [(job.id, DEAD)]
        assert (queue.reap(), queue.unpark(["shop.unknown"])) == ([], 0)


@needs(Capability.LEASES)
class Workers(QueueKit):
    """Workers that make themselves visible, and words left for them."""

    def test_an_announced_worker_is_visible(self, bench: QueueBench) -> None:
        """``workers`` gives what was announced last, oldest first, until it retires."""
        queue, now = bench.queue, bench.clock.now()
        bench.put_and_claim(A)
        assert queue.workers() == [], "claiming alone makes no worker visible"
        about: dict[str, Any] = {"pid": 7, "host": "h", "queues": ("x",), "slots": 3}
        about["release"] = "v1"
        for state in ("alive", "quiet"):
            queue.announce(WorkerInfo(id=A, started_at=now, state=state, **about))
        queue.announce(WorkerInfo(id=B, started_at=now - 10.0))
        other, shown = queue.workers()
        assert (other.id, other.pid, other.host, other.queues, other.slots) == (B, 0, "", (), 1)
        assert {name: getattr(shown, name) for name in about} == about
        assert [(one.running, one.state) for one in queue.workers()] == [(0, "alive"), (1, "quiet")]
        queue.retire(A)
        assert [one.id for one in queue.workers()] == [B]

    def test_a_silent_worker_does_not_look_alive(self, bench: QueueBench) -> None:
        """A worker is silent once it has not beaten for a whole lease, and gone after 20."""
        queue = bench.queue
        for owner in (A, B):
            _announce(bench, owner)
        for beats in range(1, 5):
            bench.advance(bench.lease_secs * 0.4)
            queue.extend(B)
            states = {one.id: one.state for one in queue.workers()}
            assert states[B] == "alive"
            assert states[A] == "alive" or beats > 2 or not bench.has_fake_clock
        assert states[A] == "silent"
        if bench.has_fake_clock:
            counts = []
            for leases in (GONE_LEASES - 3, 2):
                bench.advance(bench.lease_secs * leases)
                queue.extend(B)
                queue.reap()
                counts.append(len(queue.workers()))
            assert counts == [2, 1]
            assert not queue.command(A, "stop")
            queue.extend(A)
            assert {one.state for one in queue.workers()} == {"alive"}

    def test_commands_are_left_and_taken(self, bench: QueueBench) -> None:
        """``commands`` takes the words left for one worker, oldest first, once."""
        queue, words = bench.queue, ["quiet", "stacks", "resume", "stop"]
        for owner in (A, B):
            _announce(bench, owner)
        assert [queue.command(A, word) for word in words] == [True] * 4
        assert [queue.commands(owner) for owner in (B, A, A)] == [[], words, []]
        for owner in (A, C):
            with pytest.raises(ValueError, match="dance"):
                queue.command(owner, "dance")
        queue.retire(A)
        assert (queue.command(A, "stop"), queue.command(C, "stop")) == (False, False)
        assert queue.commands(A) == queue.commands(C) == []

    @needs(Capability.CONTROL)
    def test_workers_notice_control(self, bench: QueueBench) -> None:
        """``control_version`` changes with each cancel, pause and command, and only then."""
        queue = bench.queue
        _announce(bench, A)
        job = bench.put_and_claim(A)
        versions = [queue.control_version()]
        bench.put()
        queue.extend(A)
        assert [queue.control_version()] == versions
        for change in (
            lambda: queue.cancel(job.id),
            lambda: queue.pause("mail", by="ann"),
            lambda: queue.command(A, "quiet"),
        ):
            change()
            versions.append(queue.control_version())
        assert len(set(versions)) == 4

    @needs(Capability.CONTROL)
    def test_control_reaches_all_instances(self, bench: QueueBench) -> None:
        """``control_version`` changes for every instance, and each takes commands."""
        queue, other = bench.queue, bench.reopen()
        _announce(bench, A)
        before = queue.control_version()
        assert other.command(A, "quiet")
        assert queue.control_version() != before
        assert queue.commands(A) == ["quiet"]


def _assert_fenced(bench: QueueBench, job: JobRecord, status: JobStatus = SUCCESS) -> None:
    size = bench.queue.qsize()
    # A store may have one way for plain settlements and another for those with children.
    for children in ((), (bench.job(),)):
        assert not bench.settle(job, status, children=children), "a lost lease was accepted"
    assert bench.queue.qsize() == size, "a refused settlement changed something"


def _counted(bench: QueueBench, *, attempt: int, deliveries: int) -> JobRecord:
    """Claim the next job, which has to have these counters, and return it."""
    job = bench.claim()
    assert (job.attempt, job.deliveries) == (attempt, deliveries)
    return job


def _make_suspect(bench: QueueBench) -> JobRecord:
    """Return a job that waits as a suspect; other suspects may wait already."""
    job = bench.put()
    claimed = bench.claim(A, suspects=0)
    assert claimed.id == job.id
    bench.queue.mark_started(claimed)
    reaped = bench.lose_worker()
    assert reaped.status is PENDING
    return reaped


def _park(bench: QueueBench, task: str = "shop.unknown") -> JobRecord:
    bench.put(task)
    job = bench.claim(A)
    assert bench.settle(job, PARKED)
    return job


def _announce(bench: QueueBench, owner: str) -> None:
    bench.queue.announce(WorkerInfo(id=owner, started_at=bench.clock.now()))
