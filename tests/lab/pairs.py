"""Calls that may come at the same time, two by two."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from nuvom.core.record import JobStatus
from nuvom.testing.builders import make_settlement
from tests.lab.scenarios import OTHER, OWNER, QUEUE, Round

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.core.outcome import Settlement
    from nuvom.core.record import JobRecord
    from nuvom.queue_backends.leased import LeasedJobQueue

    Call = Callable[[LeasedJobQueue], object]
    Side = Call | list[Call]


class Pair(NamedTuple):
    """Two calls about the same jobs or keys.

    Attributes:
        names: What the calls are named in a message.
        prepare: Makes the jobs and returns what either side calls, once or several times; each
            call is given its queue.
        of_one_worker: Both are made by one worker, which has one instance.
        moves_time: Time has to pass, as for a lease to end.
        reaped: Jobs are looked at once they were taken back, which shows whose start was marked.
    """

    names: tuple[str, str]
    prepare: Callable[[Round], tuple[Side, Side]]
    of_one_worker: bool = False
    moves_time: bool = False
    reaped: bool = False

    def sides(self, one: Round) -> tuple[list[Call], list[Call]]:
        """Make the jobs and return the calls of both sides."""
        first, second = self.prepare(one)
        return (
            first if isinstance(first, list) else [first],
            second if isinstance(second, list) else [second],
        )


# ---- enqueueing and claiming -----------------------------------------------------------------


def _enqueues(one: Round) -> tuple[Side, Side]:
    return _enqueue(one.job()), _enqueue(one.job())


def _enqueue_and_claim(one: Round) -> tuple[Side, Side]:
    return _enqueue(one.job()), _claim(OTHER)


def _claim_and_cancel(one: Round) -> tuple[Side, Side]:
    (job,) = one.put()
    return _claim(OWNER), lambda queue: queue.cancel(job.id)


def _claims(one: Round) -> tuple[Side, Side]:
    one.put(2)
    return _claim(OWNER), _claim(OTHER)


def _claims_of_one_job(one: Round) -> tuple[Side, Side]:
    one.put()
    return _claim(OWNER), _claim(OTHER)


def _claim_and_purge(one: Round) -> tuple[Side, Side]:
    one.put()
    return _claim(OWNER), lambda queue: queue.purge(QUEUE)


def _claim_and_pause(one: Round) -> tuple[Side, Side]:
    one.put()
    return _claim(OWNER), lambda queue: queue.pause(QUEUE, "a law")


# ---- what a worker does with what it holds ---------------------------------------------------


def _settle_and_release(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()
    return _settle(one, job), _release(job)


def _settle_and_extend(one: Round) -> tuple[Side, Side]:
    job, _ = one.claimed(2)
    return _settle(one, job), _extend(one)


def _settle_and_cancel(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()
    return _settle(one, job), lambda queue: queue.cancel(job.id)


def _settle_for_a_retry_and_cancel(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()
    settlement = _settlement(one, job, JobStatus.PENDING)
    return lambda queue: queue.settle([settlement]), lambda queue: queue.cancel(job.id)


def _settle_twice(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()
    return _settle(one, job, value=1), _settle(one, job, value=2)


def _settle_differently(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()
    failure = _settlement(one, job, JobStatus.FAILED)
    return _settle(one, job), lambda queue: queue.settle([failure])


def _settle_with_children_twice(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()
    first, second = (_settlement(one, job, children=(one.job(),)) for _ in range(2))
    return lambda queue: queue.settle([first]), lambda queue: queue.settle([second])


def _settle_and_progress(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()
    return _settle(one, job), lambda queue: queue.report_progress(job, 1, 2, "half")


def _release_and_extend(one: Round) -> tuple[Side, Side]:
    job, _ = one.claimed(2)
    return _release(job), _extend(one)


def _start_and_release(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()
    return lambda queue: queue.mark_started(job), _release(job)


def _start_and_claim_again(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()

    return lambda queue: queue.mark_started(job), [_release(job), _claim(OWNER)]


def _settle_and_start_again(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()
    return _settle(one, job), _start_again(job)


def _extend_and_start_again(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()
    return _extend(one), _start_again(job)


def _start_again(job: JobRecord) -> list[Call]:
    claimed: list[JobRecord] = []

    def claim(queue: LeasedJobQueue) -> object:
        claimed.extend(queue.claim(1, OWNER, [QUEUE]))
        return claimed

    def start(queue: LeasedJobQueue) -> object:
        for again in claimed:
            queue.mark_started(again)
        return len(claimed)

    return [_release(job), claim, start]


def _settle_and_get(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()
    one.queue.report_progress(job, 1, 2, "half")

    def get(queue: LeasedJobQueue) -> object:
        seen = queue.get(job.id)
        return seen and (seen.status, seen.result, seen.progress)

    return _settle(one, job, value=1), get


# ---- leases that are over --------------------------------------------------------------------


def _settle_and_reap(one: Round) -> tuple[Side, Side]:
    job = _held_too_long(one)
    return _settle(one, job), _reap


def _extend_and_reap(one: Round) -> tuple[Side, Side]:
    _held_too_long(one)
    return _extend(one), _reap


def _settle_and_claim_again(one: Round) -> tuple[Side, Side]:
    job = _held_too_long(one)
    return _settle(one, job), [_reap, _claim(OTHER)]


def _release_and_claim_again(one: Round) -> tuple[Side, Side]:
    job = _held_too_long(one)
    return _release(job), [_reap, _claim(OTHER)]


def _held_too_long(one: Round) -> JobRecord:
    (job,) = one.claimed()
    one.queue.mark_started(job)
    one.bench.end_leases()
    return job


# ---- control ---------------------------------------------------------------------------------


def _cancel_and_retry(one: Round) -> tuple[Side, Side]:
    job = one.ended(JobStatus.FAILED, unique_key="to retry")
    return lambda queue: queue.cancel(job.id), lambda queue: queue.retry(job.id)


def _cancel_and_unpark(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()
    one.queue.settle([_settlement(one, job, JobStatus.PARKED)])
    return lambda queue: queue.cancel(job.id), lambda queue: queue.unpark([job.func_name])


def _retry_and_prune(one: Round) -> tuple[Side, Side]:
    job = one.ended(JobStatus.FAILED)
    return lambda queue: queue.retry(job.id), _prune(inf)


def _finish_anew_and_prune(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()
    one.queue.settle([_settlement(one, job, JobStatus.FAILED)])
    one.held.clear()
    one.bench.advance(1)
    moment = one.bench.clock.now()
    one.bench.advance(1)

    claimed: list[JobRecord] = []

    def claim(queue: LeasedJobQueue) -> object:
        claimed.extend(queue.claim(1, OWNER, [QUEUE]))
        return len(claimed)

    def settle(queue: LeasedJobQueue) -> object:
        return queue.settle([_settlement(one, again) for again in claimed])

    return [lambda queue: queue.retry(job.id), claim, settle], _prune(moment)


# ---- unique keys -----------------------------------------------------------------------------


def _enqueue_with_one_key(one: Round) -> tuple[Side, Side]:
    return _enqueue(one.job(unique_key="one")), _enqueue(one.job(unique_key="one"))


def _enqueue_many_with_one_key(one: Round) -> tuple[Side, Side]:
    jobs = [one.job(unique_key=f"many-{number}") for number in range(3)]
    another = one.job(unique_key="many-1")
    return lambda queue: queue.enqueue_many(jobs), _enqueue(another)


def _retry_and_enqueue(one: Round) -> tuple[Side, Side]:
    failed = one.ended(JobStatus.FAILED, unique_key="once more")
    return lambda queue: queue.retry(failed.id), _enqueue(one.job(unique_key="once more"))


def _settle_and_enqueue(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed(unique_key="freed")
    return _settle(one, job), _enqueue(one.job(unique_key="freed"))


def _settle_with_a_child_and_enqueue(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()
    settlement = _settlement(one, job, children=(one.job(unique_key="child"),))
    return lambda queue: queue.settle([settlement]), _enqueue(one.job(unique_key="child"))


# ---- parts of them ---------------------------------------------------------------------------


def _claim(owner: str) -> Call:
    return lambda queue: queue.claim(1, owner, [QUEUE])


def _release(job: JobRecord) -> Call:
    return lambda queue: queue.release([job])


def _reap(queue: LeasedJobQueue) -> object:
    return queue.reap()


def _extend(one: Round) -> Call:
    epochs = {job.id: job.lease_epoch for job in one.held.values()}
    return lambda queue: {
        job_id: "held" if epochs.get(job_id) == epoch else "held anew"
        for job_id, epoch in queue.extend(OWNER).items()
    }


def _enqueue(job: JobRecord) -> Call:
    return lambda queue: queue.enqueue(job)


def _prune(moment: float) -> Call:
    return lambda queue: queue.prune(success_before=moment, failed_before=moment)


def _settle(one: Round, job: JobRecord, value: object = None) -> Call:
    settlement = _settlement(one, job, value=value)
    return lambda queue: queue.settle([settlement])


def _settlement(
    one: Round,
    job: JobRecord,
    status: JobStatus = JobStatus.SUCCESS,
    *,
    value: object = None,
    **fields: Any,
) -> Settlement:
    now = one.bench.clock.now()
    return make_settlement(job, status, value, started_at=now, finished_at=now, **fields)


PAIRS = [
    Pair(("enqueue", "another enqueue"), _enqueues),
    Pair(("enqueue", "claim"), _enqueue_and_claim),
    Pair(("claim", "cancel"), _claim_and_cancel),
    Pair(("claim", "another claim"), _claims),
    Pair(("claim", "another claim of the same job"), _claims_of_one_job),
    Pair(("claim", "purge"), _claim_and_purge),
    Pair(("claim", "pause"), _claim_and_pause),
    Pair(("settle", "release"), _settle_and_release, of_one_worker=True),
    Pair(("settle", "extend"), _settle_and_extend, of_one_worker=True),
    Pair(("settle", "cancel"), _settle_and_cancel),
    Pair(("settle for a retry", "cancel"), _settle_for_a_retry_and_cancel),
    Pair(("settle", "settle again"), _settle_twice, of_one_worker=True),
    Pair(("settle", "settle as failed"), _settle_differently, of_one_worker=True),
    Pair(("settle with a child", "settle again"), _settle_with_children_twice, of_one_worker=True),
    Pair(("settle", "progress"), _settle_and_progress, of_one_worker=True),
    Pair(("release", "extend"), _release_and_extend, of_one_worker=True),
    Pair(("mark_started", "release"), _start_and_release, of_one_worker=True),
    Pair(
        ("mark_started", "release and claim"),
        _start_and_claim_again,
        of_one_worker=True,
        moves_time=True,
        reaped=True,
    ),
    Pair(
        ("settle", "release, claim and mark_started"),
        _settle_and_start_again,
        of_one_worker=True,
        moves_time=True,
        reaped=True,
    ),
    Pair(
        ("extend", "release, claim and mark_started"),
        _extend_and_start_again,
        of_one_worker=True,
        moves_time=True,
        reaped=True,
    ),
    Pair(("settle", "get"), _settle_and_get),
    Pair(("settle", "reap"), _settle_and_reap, moves_time=True),
    Pair(("extend", "reap"), _extend_and_reap, moves_time=True),
    Pair(("settle", "reap and claim"), _settle_and_claim_again, moves_time=True),
    Pair(("release", "reap and claim"), _release_and_claim_again, moves_time=True),
    Pair(("cancel", "retry"), _cancel_and_retry),
    Pair(("cancel", "unpark"), _cancel_and_unpark),
    Pair(("retry", "prune"), _retry_and_prune),
    Pair(("retry, claim and settle", "prune"), _finish_anew_and_prune, moves_time=True),
    Pair(("keyed enqueue", "another one"), _enqueue_with_one_key),
    Pair(("keyed enqueue_many", "keyed enqueue"), _enqueue_many_with_one_key),
    Pair(("retry", "keyed enqueue"), _retry_and_enqueue),
    Pair(("settle", "enqueue with its key"), _settle_and_enqueue),
    Pair(("settle with a keyed child", "keyed enqueue"), _settle_with_a_child_and_enqueue),
]
