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
    Prepare = Callable[[Round], tuple[Side, Side]]


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
    prepare: Prepare
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


PAIRS: list[Pair] = []


def _pair(first: str, second: str, **options: bool) -> Callable[[Prepare], Prepare]:
    """Add a pair to ``PAIRS``: what its calls are named, and how they are prepared."""

    def add(prepare: Prepare) -> Prepare:
        PAIRS.append(Pair((first, second), prepare, **options))
        return prepare

    return add


# ---- enqueueing and claiming -----------------------------------------------------------------


@_pair("enqueue", "another enqueue")
def _enqueues(one: Round) -> tuple[Side, Side]:
    return _enqueue(one.job()), _enqueue(one.job())


@_pair("enqueue", "claim")
def _enqueue_and_claim(one: Round) -> tuple[Side, Side]:
    return _enqueue(one.job()), _claim(OTHER)


@_pair("claim", "cancel")
def _claim_and_cancel(one: Round) -> tuple[Side, Side]:
    (job,) = one.put()
    return _claim(OWNER), lambda queue: queue.cancel(job.id)


@_pair("claim", "another claim")
def _claims(one: Round) -> tuple[Side, Side]:
    one.put(2)
    return _claim(OWNER), _claim(OTHER)


@_pair("claim", "another claim of the same job")
def _claims_of_one_job(one: Round) -> tuple[Side, Side]:
    one.put()
    return _claim(OWNER), _claim(OTHER)


@_pair("claim", "purge")
def _claim_and_purge(one: Round) -> tuple[Side, Side]:
    one.put()
    return _claim(OWNER), lambda queue: queue.purge(QUEUE)


@_pair("claim", "pause")
def _claim_and_pause(one: Round) -> tuple[Side, Side]:
    one.put()
    return _claim(OWNER), lambda queue: queue.pause(QUEUE, "a law")


# ---- what a worker does with what it holds ---------------------------------------------------


@_pair("settle", "release", of_one_worker=True)
def _settle_and_release(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()
    return _settle(one, job), _release(job)


@_pair("settle", "extend", of_one_worker=True)
def _settle_and_extend(one: Round) -> tuple[Side, Side]:
    job, _ = one.claimed(2)
    return _settle(one, job), _extend(one)


@_pair("settle", "cancel")
def _settle_and_cancel(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()
    return _settle(one, job), lambda queue: queue.cancel(job.id)


@_pair("settle for a retry", "cancel")
def _settle_for_a_retry_and_cancel(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()
    settlement = _settlement(one, job, JobStatus.PENDING)
    return lambda queue: queue.settle([settlement]), lambda queue: queue.cancel(job.id)


@_pair("settle", "settle again", of_one_worker=True)
def _settle_twice(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()
    return _settle(one, job, value=1), _settle(one, job, value=2)


@_pair("settle", "settle as failed", of_one_worker=True)
def _settle_differently(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()
    failure = _settlement(one, job, JobStatus.FAILED)
    return _settle(one, job), lambda queue: queue.settle([failure])


@_pair("settle with a child", "settle again", of_one_worker=True)
def _settle_with_children_twice(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()
    first, second = (_settlement(one, job, children=(one.job(),)) for _ in range(2))
    return lambda queue: queue.settle([first]), lambda queue: queue.settle([second])


@_pair("settle", "progress", of_one_worker=True)
def _settle_and_progress(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()
    return _settle(one, job), lambda queue: queue.report_progress(job, 1, 2, "half")


@_pair("release", "extend", of_one_worker=True)
def _release_and_extend(one: Round) -> tuple[Side, Side]:
    job, _ = one.claimed(2)
    return _release(job), _extend(one)


@_pair("mark_started", "release", of_one_worker=True)
def _start_and_release(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()
    return lambda queue: queue.mark_started(job), _release(job)


@_pair("mark_started", "release and claim", of_one_worker=True, moves_time=True, reaped=True)
def _start_and_claim_again(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()

    return lambda queue: queue.mark_started(job), [_release(job), _claim(OWNER)]


@_pair("settle", "release, claim and start", of_one_worker=True, moves_time=True, reaped=True)
def _settle_and_start_again(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()
    return _settle(one, job), _start_again(job)


@_pair("extend", "release, claim and start", of_one_worker=True, moves_time=True, reaped=True)
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


@_pair("settle", "get")
def _settle_and_get(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()
    one.queue.report_progress(job, 1, 2, "half")

    def get(queue: LeasedJobQueue) -> object:
        seen = queue.get(job.id)
        return seen and (seen.status, seen.result, seen.progress)

    return _settle(one, job, value=1), get


# ---- leases that are over --------------------------------------------------------------------


@_pair("settle", "reap", moves_time=True)
def _settle_and_reap(one: Round) -> tuple[Side, Side]:
    job = _held_too_long(one)
    return _settle(one, job), _reap


@_pair("extend", "reap", moves_time=True)
def _extend_and_reap(one: Round) -> tuple[Side, Side]:
    _held_too_long(one)
    return _extend(one), _reap


@_pair("settle", "reap and claim", moves_time=True)
def _settle_and_claim_again(one: Round) -> tuple[Side, Side]:
    job = _held_too_long(one)
    return _settle(one, job), [_reap, _claim(OTHER)]


@_pair("release", "reap and claim", moves_time=True)
def _release_and_claim_again(one: Round) -> tuple[Side, Side]:
    job = _held_too_long(one)
    return _release(job), [_reap, _claim(OTHER)]


def _held_too_long(one: Round) -> JobRecord:
    (job,) = one.claimed()
    one.queue.mark_started(job)
    one.bench.end_leases()
    return job


# ---- control ---------------------------------------------------------------------------------


@_pair("cancel", "retry")
def _cancel_and_retry(one: Round) -> tuple[Side, Side]:
    job = one.ended(JobStatus.FAILED, unique_key="to retry")
    return lambda queue: queue.cancel(job.id), lambda queue: queue.retry(job.id)


@_pair("cancel", "unpark")
def _cancel_and_unpark(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed()
    one.queue.settle([_settlement(one, job, JobStatus.PARKED)])
    return lambda queue: queue.cancel(job.id), lambda queue: queue.unpark([job.func_name])


@_pair("retry", "prune")
def _retry_and_prune(one: Round) -> tuple[Side, Side]:
    job = one.ended(JobStatus.FAILED)
    return lambda queue: queue.retry(job.id), _prune(inf)


@_pair("retry, claim and settle", "prune", moves_time=True)
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


@_pair("keyed enqueue", "another one")
def _enqueue_with_one_key(one: Round) -> tuple[Side, Side]:
    return _enqueue(one.job(unique_key="one")), _enqueue(one.job(unique_key="one"))


@_pair("keyed enqueue_many", "keyed enqueue")
def _enqueue_many_with_one_key(one: Round) -> tuple[Side, Side]:
    jobs = [one.job(unique_key=f"many-{number}") for number in range(3)]
    another = one.job(unique_key="many-1")
    return lambda queue: queue.enqueue_many(jobs), _enqueue(another)


@_pair("retry", "keyed enqueue")
def _retry_and_enqueue(one: Round) -> tuple[Side, Side]:
    failed = one.ended(JobStatus.FAILED, unique_key="once more")
    return lambda queue: queue.retry(failed.id), _enqueue(one.job(unique_key="once more"))


@_pair("settle", "enqueue with its key")
def _settle_and_enqueue(one: Round) -> tuple[Side, Side]:
    (job,) = one.claimed(unique_key="freed")
    return _settle(one, job), _enqueue(one.job(unique_key="freed"))


@_pair("settle with a keyed child", "keyed enqueue")
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
