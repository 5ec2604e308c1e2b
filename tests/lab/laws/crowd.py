"""All calls at once: processes of several threads, each process with one queue object.

What the threads were told is compared afterwards with what the store holds. With so many at a
time nobody can say what has to be there, but much that must not.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, ClassVar
from unittest import SkipTest

import msgspec

from nuvom.core.record import FINAL, JobStatus
from nuvom.queue_backends.base import Capability
from nuvom.serialization.msgpack_codec import MsgpackCodec
from nuvom.testing.builders import make_settlement
from nuvom.testing.conformance.law import needs
from nuvom.testing.conformance.laws.bench import SHORT_LEASE_SECS, QueueKit
from tests.lab import actions
from tests.lab.laws.interruptions import check_books
from tests.lab.mixed_calls import QUEUES, MixedCalls, Notes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nuvom.core.record import JobSnapshot
    from nuvom.queue_backends.leased import LeasedJobQueue
    from nuvom.testing.conformance.laws.bench import QueueBench

_PROCESSES = 3
_THREADS = 6
_SHOWN = 5
_CODEC = MsgpackCodec()
Delivery = tuple[str, int]
"""A job's id and the epoch of one claim."""


@needs(Capability.LEASES, Capability.INSPECTION, Capability.CONTROL, Capability.UNIQUE)
class Crowd(QueueKit):
    """Everybody does everything at once."""

    crowd_calls: ClassVar[int] = 150
    """How many calls each thread makes."""
    crowd_seed: ClassVar[int | None] = None
    """Of what the calls are; None: drawn, and told where the law is broken."""

    def test_a_crowd_loses_and_doubles_nothing(self, bench: QueueBench) -> None:
        """Where all calls are made at once, no job is lost, doubled, stuck or settled twice."""
        seed = self.crowd_seed or random.SystemRandom().randrange(1, 1_000_000)
        queue = bench.open(real_time=True, lease_secs=SHORT_LEASE_SECS, max_deliveries=2)
        try:
            account = Account(_told(bench, seed, self.crowd_calls))
            account.check(_jobs(queue))
            check_books(queue)
            _bring_to_an_end(bench)
            check_books(queue)
            account.check_presence(_jobs(queue))
        except AssertionError as error:
            raise AssertionError(f"with crowd_seed {seed}: {error}") from error


def _told(bench: QueueBench, seed: int, calls: int) -> Notes:
    """Let the crowd make its calls, and return what all were told."""
    limit_secs = 60 + calls / 10
    parameters = {"threads": _THREADS, "calls": calls, "limit_secs": limit_secs}
    try:
        children = [
            bench.child(actions.mix_calls, seed=f"{seed}-{number}", **parameters)
            for number in range(_PROCESSES)
        ]
    except SkipTest:  # the store is not shared
        mixed = MixedCalls(bench.queue, f"{seed}-0", limit_secs=limit_secs)
        return mixed.run(threads=_THREADS, calls=calls)
    for child in children:
        child.expect("ready")
    for child in children:
        child.go()
    every = [msgspec.convert(child.hear(2 * limit_secs), Notes) for child in children]
    names = Notes.__struct_fields__
    return Notes(*([one for notes in every for one in getattr(notes, name)] for name in names))


class Account:
    """What was told, by job and by delivery."""

    def __init__(self, notes: Notes) -> None:
        assert not notes.errors, f"{len(notes.errors)} calls failed; the first:\n{notes.errors[0]}"
        self._notes = notes
        self._accepted: defaultdict[Delivery, list[tuple[JobStatus, str]]] = defaultdict(list)
        self._children: list[str] = []
        self._refused: list[str] = []
        answers = Counter((one.id, one.epoch) for one in notes.settled if one.is_accepted)
        for one in notes.settled:
            if not one.is_accepted:
                self._refused += one.children
                continue
            self._accepted[one.id, one.epoch].append((one.status, one.value))
            if answers[one.id, one.epoch] == 1:  # else only the first call's children are there
                self._children += one.children

    def check(self, jobs: dict[str, JobSnapshot]) -> None:
        """Compare with the jobs that the store holds when all have ended."""
        self.check_presence(jobs)
        self._check_deliveries()
        self._check_keys(jobs)
        for told in (self._lost_successes, self._untold_ends, self._wrong_balances):
            wrong = list(told(jobs))
            assert not wrong, f"{len(wrong)} ends are wrong: {'; '.join(wrong[:_SHOWN])}"

    def check_presence(self, jobs: dict[str, JobSnapshot]) -> None:
        """Look whether all jobs are there that were accepted, and no other."""
        accepted = [*self._notes.stored, *self._children]
        lost = [job_id for job_id in accepted if job_id not in jobs]
        assert not lost, f"{len(lost)} of {len(accepted)} accepted jobs are lost: {_some(lost)}"
        refused = [*self._notes.left_out, *self._refused]
        kept = [job_id for job_id in refused if job_id in jobs]
        assert not kept, f"{len(kept)} jobs were refused and stored: {_some(kept)}"

    def _check_deliveries(self) -> None:
        twice = _twice(self._notes.claimed)
        assert not twice, f"{len(twice)} deliveries were handed out twice: {_some(twice)}"
        twice = _twice(self._notes.released)
        assert not twice, f"{len(twice)} deliveries were released twice: {_some(twice)}"
        lost = {job_id for job_id, before in self._notes.cancelled if before not in FINAL}
        lost |= {job_id for job_id, _ in self._notes.reaped}
        ended = {*self._notes.released, *self._accepted}
        refused = [
            f"{one.id} at epoch {one.epoch}"
            for one in self._notes.settled
            if not one.is_accepted and one.id not in lost and (one.id, one.epoch) not in ended
        ]
        assert not refused, f"{len(refused)} settlements were refused in vain: {_some(refused)}"
        both = [one for one in self._notes.released if one in self._accepted]
        assert not both, f"{len(both)} deliveries were released and settled: {_some(both)}"

    def _check_keys(self, jobs: dict[str, JobSnapshot]) -> None:
        live = [one.record for one in jobs.values() if one.status not in FINAL]
        shared = _twice([job.unique_key for job in live if job.unique_key is not None])
        assert not shared, f"unique keys are with several live jobs: {_some(shared)}"

    def _lost_successes(self, jobs: dict[str, JobSnapshot]) -> Iterator[str]:
        """Tell which successes were accepted and are gone: nothing changes them."""
        for (job_id, epoch), verdicts in self._accepted.items():
            now = jobs[job_id]
            if {status for status, _ in verdicts} != {JobStatus.SUCCESS}:
                continue
            if (now.status, now.record.lease_epoch) != (JobStatus.SUCCESS, epoch):
                yield f"{job_id} was accepted as SUCCESS at epoch {epoch}, but is {_shown(now)}"

    def _untold_ends(self, jobs: dict[str, JobSnapshot]) -> Iterator[str]:
        """Tell which jobs have ended, though nobody was told so."""
        cancelled = {job_id for job_id, before in self._notes.cancelled if before not in FINAL}
        dead = {job_id for job_id, now in self._notes.reaped if now is JobStatus.DEAD}
        for job_id, now in jobs.items():
            verdicts = self._accepted.get((job_id, now.record.lease_epoch), [])
            is_told = (
                now.status not in FINAL
                or now.status in [status for status, _ in verdicts]
                or (now.status is JobStatus.CANCELLED and job_id in cancelled)
                or (now.status is JobStatus.DEAD and job_id in dead)
            )
            if not is_told:
                yield f"{job_id} is {_shown(now)}, but accepted were {verdicts}"
            elif now.status is JobStatus.SUCCESS and now.result is not None:
                value = _CODEC.decode_value(now.result)
                if (JobStatus.SUCCESS, value) not in verdicts:
                    yield f"{job_id} has the result {value!r}, but accepted were {verdicts}"

    def _wrong_balances(self, jobs: dict[str, JobSnapshot]) -> Iterator[str]:
        """Tell which jobs have not ended as often as they were retried, and once more if ended.

        A retry of a job with a unique key may change nothing, and of two answers to one delivery
        nobody can say which one counts: such jobs are left out.
        """
        balance: Counter[tuple[str, JobStatus]] = Counter()
        unclear = {job_id for job_id, now in jobs.items() if now.record.unique_key is not None}
        for (job_id, _), verdicts in self._accepted.items():
            balance[job_id, verdicts[0][0]] += 1
            if len(set(verdicts)) > 1:
                unclear.add(job_id)
        for job_id, before in self._notes.cancelled:
            balance[job_id, JobStatus.CANCELLED] += before not in FINAL
        for job_id, now in self._notes.reaped:
            balance[job_id, now] += now is JobStatus.DEAD
        for job_id, before in self._notes.retried:
            balance[job_id, before] -= 1
        for job_id in jobs.keys() - unclear:
            for status in FINAL - {JobStatus.SUCCESS}:
                left = jobs[job_id].status is status
                if balance[job_id, status] != left:
                    times = f"ended {status} {balance[job_id, status]:+d} times more than retried"
                    yield f"{job_id} is {_shown(jobs[job_id])}, but has {times}"


def _jobs(queue: LeasedJobQueue) -> dict[str, JobSnapshot]:
    """Return all jobs by id, with their results."""
    found: dict[str, JobSnapshot] = {}
    before = None
    while page := queue.page(before=before, limit=500):
        before = page[-1].record.id
        for one in page:
            whole = queue.get(one.record.id) if one.status is JobStatus.SUCCESS else one
            assert whole is not None, f"get({one.record.id}) gave None for a job of a page"
            assert whole.record.id not in found, f"{whole.record.id} is on two pages"
            found[whole.record.id] = whole
    return found


def _bring_to_an_end(bench: QueueBench) -> None:
    queue = bench.queue
    for name in QUEUES:
        queue.resume(name)

    def is_empty() -> bool:
        queue.reap()  # what was claimed by a call whose thread has ended is not held for ever
        queue.unpark(["tests.probe"])
        while claimed := queue.claim(100, "last-worker"):
            answers = queue.settle([make_settlement(job) for job in claimed])
            assert all(answers), f"jobs that were just claimed are nobody's: {answers}"
        return not queue.page(statuses=set(JobStatus) - FINAL, limit=1)

    bench.wait_until(is_empty, "all jobs can be brought to their end")


def _twice(values: Sequence[object]) -> list[object]:
    return [value for value, count in Counter(values).items() if count > 1]


def _some(values: Sequence[object]) -> str:
    return ", ".join(map(str, values[:_SHOWN]))


def _shown(job: JobSnapshot) -> str:
    return f"{job.status} at epoch {job.record.lease_epoch}"
