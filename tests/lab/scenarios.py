"""The calls that a program or a task can make, each made ready on jobs of its own.

For laws that look at what is left when a call is cut short: see ``laws/interruptions.py``.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from nuvom.core.ids import new_id
from nuvom.core.record import JobStatus
from nuvom.core.views import WorkerInfo
from nuvom.scheduler.record import ScheduleChange
from nuvom.testing.builders import make_job, make_schedule, make_settlement

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.core.record import JobRecord
    from nuvom.queue_backends.leased import LeasedJobQueue
    from nuvom.testing.conformance.laws.bench import QueueBench

QUEUE, OTHER_QUEUE = "interrupted", "paused"
OWNER, OTHER = "interrupted-worker", "other-worker"


class Round:
    """One call of a scenario: the jobs that it is about, and what they looked like before.

    Attributes:
        jobs: As enqueued or to be enqueued, children included.
        held: As claimed by ``OWNER``, by id.
        units: Ids of jobs that change together or not at all; each other job is a unit.
        gives_up: The call hands something out: interrupted, it must not keep it.
    """

    def __init__(self, bench: QueueBench) -> None:
        self.bench = bench
        self.queue: LeasedJobQueue = bench.queue
        self.jobs: list[JobRecord] = []
        self.held: dict[str, JobRecord] = {}
        self.units: list[list[str]] = []
        self.gives_up = False

    def job(self, **fields: Any) -> JobRecord:
        """Return a job of this round, not stored."""
        job = make_job(**{"queue": QUEUE, "created_at": self.bench.clock.now(), **fields})
        self.jobs.append(job)
        return job

    def put(self, count: int = 1, **fields: Any) -> list[JobRecord]:
        """Enqueue jobs of this round."""
        jobs = [self.job(**fields) for _ in range(count)]
        self.queue.enqueue_many(jobs)
        return jobs

    def claimed(self, count: int = 1, **fields: Any) -> list[JobRecord]:
        """Enqueue jobs of this round and claim them."""
        self.put(count, **fields)
        claimed = self.queue.claim(count, OWNER, [QUEUE])
        assert len(claimed) == count, f"claim({count}) gave {len(claimed)} jobs"
        self.held.update((job.id, job) for job in claimed)
        return claimed

    def ended(self, status: JobStatus, **fields: Any) -> JobRecord:
        """Enqueue, claim and settle a job of this round."""
        (job,) = self.claimed(1, **fields)
        self.queue.settle([make_settlement(job, status)])
        del self.held[job.id]
        return job

    def together(self, *jobs: JobRecord) -> None:
        """Note that these change together or not at all."""
        self.units.append([job.id for job in jobs])

    def state(self) -> dict[str, tuple[object, ...] | None]:
        """Return what can be read of each job, but for times and epochs."""
        return {job.id: self._seen(job.id) for job in self.jobs}

    def _seen(self, job_id: str) -> tuple[object, ...] | None:
        snapshot = self.queue.get(job_id)
        if snapshot is None:
            return None
        record, error = snapshot.record, snapshot.error
        closed = [(one.number, one.outcome) for one in self.queue.attempts(job_id)]
        return (
            record.status,
            record.attempt,
            record.deliveries,
            record.suspect,
            snapshot.result,
            error and error.type,
            snapshot.progress,
            closed,
        )


def _enqueue(one: Round) -> Callable[[], object]:
    job = one.job()
    return lambda: one.queue.enqueue(job)


def _enqueue_scheduled(one: Round) -> Callable[[], object]:
    job = one.job(run_at=one.bench.clock.now() + 60)
    return lambda: one.queue.enqueue(job)


def _enqueue_keyed(one: Round) -> Callable[[], object]:
    job = one.job(unique_key="fresh")
    return lambda: one.queue.enqueue(job)


def _enqueue_with_a_taken_key(one: Round) -> Callable[[], object]:
    one.put(unique_key="taken")
    job = one.job(unique_key="taken")
    return lambda: one.queue.enqueue(job)


def _enqueue_with_a_freed_key(one: Round) -> Callable[[], object]:
    one.ended(JobStatus.SUCCESS, unique_key="freed")
    job = one.job(unique_key="freed")
    return lambda: one.queue.enqueue(job)


def _enqueue_many(one: Round) -> Callable[[], object]:
    jobs = [one.job() for _ in range(3)]
    one.together(*jobs)
    return lambda: one.queue.enqueue_many(jobs)


def _enqueue_many_keyed(one: Round) -> Callable[[], object]:
    jobs = [one.job(unique_key=f"many-{number}") for number in range(3)]
    one.together(*jobs)
    return lambda: one.queue.enqueue_many(jobs)


def _claim(one: Round) -> Callable[[], object]:
    one.put(3)
    one.gives_up = True
    return lambda: one.queue.claim(10, OWNER, [QUEUE])


def _claim_scheduled_that_is_due(one: Round) -> Callable[[], object]:
    one.put(2, run_at=one.bench.clock.now() + 5)
    one.bench.advance(6)
    one.gives_up = True
    return lambda: one.queue.claim(10, OWNER, [QUEUE])


def _claim_large(one: Round) -> Callable[[], object]:
    one.put(2, metadata={"text": "x" * 4000})
    one.gives_up = True
    return lambda: one.queue.claim(10, OWNER, [QUEUE])


def _settle_success(one: Round) -> Callable[[], object]:
    settlements = [make_settlement(job, value=1) for job in one.claimed(3)]
    return lambda: one.queue.settle(settlements)


def _settle_all_kinds(one: Round) -> Callable[[], object]:
    kinds = [
        (JobStatus.SUCCESS, "success", True),
        (JobStatus.FAILED, "failure", True),
        (JobStatus.PENDING, "retry", True),
        (JobStatus.PENDING, "snoozed", False),
        (JobStatus.CANCELLED, "cancelled", True),
        (JobStatus.PARKED, "released", False),
    ]
    settlements = []
    for job, (status, outcome, keeps) in zip(one.claimed(len(kinds)), kinds, strict=True):
        child = one.job(unique_key=f"child-{job.id}")
        one.together(job, child)
        settlements.append(
            make_settlement(job, status, outcome=outcome, keeps_attempt=keeps, children=(child,))
        )
    return lambda: one.queue.settle(settlements)


def _settle_with_children(one: Round) -> Callable[[], object]:
    (job,) = one.claimed()
    children = tuple(one.job() for _ in range(2))
    one.together(job, *children)
    return lambda: one.queue.settle([make_settlement(job, children=children)])


def _settle_with_progress_to_clear(one: Round) -> Callable[[], object]:
    (job,) = one.claimed()
    one.queue.report_progress(job, 1, 2, "half")
    return lambda: one.queue.settle([make_settlement(job)])


def _release(one: Round) -> Callable[[], object]:
    jobs = one.claimed(2)
    one.queue.mark_started(jobs[0])
    return lambda: one.queue.release(jobs)


def _extend(one: Round) -> Callable[[], object]:
    one.claimed(2)
    return lambda: one.queue.extend(OWNER)


def _mark_started(one: Round) -> Callable[[], object]:
    (job,) = one.claimed()
    return lambda: one.queue.mark_started(job)


def _progress(one: Round) -> Callable[[], object]:
    (job,) = one.claimed()
    return lambda: one.queue.report_progress(job, 1, 2, "half")


def _cancel_waiting(one: Round) -> Callable[[], object]:
    (job,) = one.put(unique_key="to cancel")
    return lambda: one.queue.cancel(job.id)


def _cancel_running(one: Round) -> Callable[[], object]:
    (job,) = one.claimed()
    return lambda: one.queue.cancel(job.id)


def _retry(one: Round) -> Callable[[], object]:
    job = one.ended(JobStatus.FAILED, unique_key="to retry")
    return lambda: one.queue.retry(job.id)


def _prune(one: Round) -> Callable[[], object]:
    jobs = [one.ended(JobStatus.SUCCESS), one.ended(JobStatus.FAILED, unique_key="to prune")]
    one.together(*jobs)
    return lambda: one.queue.prune(success_before=inf, failed_before=inf)


def _purge(one: Round) -> Callable[[], object]:
    one.together(*one.put(2))
    return lambda: one.queue.purge(QUEUE)


def _unpark(one: Round) -> Callable[[], object]:
    jobs = one.claimed(2)
    one.queue.settle([make_settlement(job, JobStatus.PARKED) for job in jobs])
    one.held.clear()
    return lambda: one.queue.unpark(["tests.probe"])


def _reap(one: Round) -> Callable[[], object]:
    started, _ = one.claimed(2)
    one.queue.mark_started(started)
    one.bench.end_leases()
    one.held.clear()
    return one.queue.reap


def _pause(one: Round) -> Callable[[], object]:
    one.queue.resume(OTHER_QUEUE)
    return lambda: one.queue.pause(OTHER_QUEUE, "a law")


def _resume(one: Round) -> Callable[[], object]:
    one.queue.pause(OTHER_QUEUE, "a law")
    return lambda: one.queue.resume(OTHER_QUEUE)


def _announce_and_retire(one: Round) -> Callable[[], object]:
    info = _worker("short-lived")

    def live() -> None:
        one.queue.announce(info)
        one.queue.retire(info.id)

    return live


def _command(one: Round) -> Callable[[], object]:
    one.queue.announce(_worker(OWNER))

    def order() -> None:
        one.queue.command(OWNER, "quiet")
        one.queue.commands(OWNER)

    return order


def _read(one: Round) -> Callable[[], object]:
    (job,) = one.claimed()

    def read() -> None:
        one.queue.get(job.id)
        one.queue.page(limit=10)
        one.queue.stats()
        one.queue.attempts(job.id)
        one.queue.workers()
        one.queue.next_due_secs()
        one.queue.control_version()

    return read


def _wait_for_work(one: Round) -> Callable[[], object]:
    one.put()
    return lambda: one.queue.wait_for_work(0.01)


def _fire(one: Round) -> Callable[[], object]:
    store, jobs = one.queue.schedules(), [one.job() for _ in range(2)]
    seen = make_schedule(new_id(), due_at=one.bench.clock.now())
    store.apply([ScheduleChange(seen.name, 0, seen)])
    one.together(*jobs)
    after = replace(seen, due_at=None, revision=2)
    return lambda: store.apply([ScheduleChange(seen.name, 1, after, tuple(jobs))])


def _worker(owner: str) -> WorkerInfo:
    return WorkerInfo(id=owner, pid=1, host="here", version="1", started_at=0.0)


SCENARIOS = [
    _enqueue,
    _enqueue_scheduled,
    _enqueue_keyed,
    _enqueue_with_a_taken_key,
    _enqueue_with_a_freed_key,
    _enqueue_many,
    _enqueue_many_keyed,
    _claim,
    _claim_scheduled_that_is_due,
    _claim_large,
    _settle_success,
    _settle_all_kinds,
    _settle_with_children,
    _settle_with_progress_to_clear,
    _release,
    _extend,
    _mark_started,
    _progress,
    _cancel_waiting,
    _cancel_running,
    _retry,
    _prune,
    _purge,
    _unpark,
    _reap,
    _pause,
    _resume,
    _announce_and_retire,
    _command,
    _read,
    _wait_for_work,
    _fire,
]
"""Every call that task code or a program can make, ready to be interrupted."""
