"""Random calls that several threads make on one queue, and what each of them was told."""

from __future__ import annotations

import random
import sys
import traceback
from collections import Counter
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.record import JobStatus
from nuvom.testing.builders import make_job, make_settlement
from nuvom.testing.conformance.law import Hand

if TYPE_CHECKING:
    from nuvom.core.outcome import Settlement
    from nuvom.core.record import JobRecord
    from nuvom.queue_backends.leased import LeasedJobQueue

QUEUES = ("mixed-a", "mixed-b")
_KEYS = tuple(f"key-{number}" for number in range(6))  # few, so that many want the same one
_SWITCH_SECS = 1e-5
_SOON_SECS = 0.02
_LATE = 3  # each thread lets so many jobs wait for the end of their lease
_VERDICTS = [  # status, outcome, keeps_attempt
    *3 * [(JobStatus.SUCCESS, "success", True)],
    (JobStatus.FAILED, "failure", True),
    (JobStatus.PENDING, "retry", True),
    (JobStatus.PENDING, "snoozed", False),
    (JobStatus.CANCELLED, "cancelled", True),
    (JobStatus.PARKED, "released", False),
]


class Settled(NamedTuple):
    """One settlement and its answer.

    Attributes:
        value: What the task is said to have returned.
        children: Ids of those without a unique key, which nothing else keeps out.
    """

    id: str
    epoch: int
    status: JobStatus
    value: str
    is_accepted: bool
    children: list[str]


class Notes(msgspec.Struct):
    """What threads were told.

    Attributes:
        stored: Ids of jobs that ``enqueue`` and ``enqueue_many`` took.
        left_out: Ids of those that they did not, because of their unique key.
        claimed, released: Ids and epochs; only releases that were accepted.
        cancelled, retried: Ids and the status before.
        reaped: Ids and the status now.
        errors: What a call raised, or where it hangs.
    """

    stored: list[str] = []
    left_out: list[str] = []
    claimed: list[tuple[str, int]] = []
    settled: list[Settled] = []
    released: list[tuple[str, int]] = []
    cancelled: list[tuple[str, JobStatus]] = []
    retried: list[tuple[str, JobStatus]] = []
    reaped: list[tuple[str, JobStatus]] = []
    errors: list[str] = []


class MixedCalls:
    """What one process does: its threads share a queue and the jobs that they claim.

    Args:
        seed: Of all that is drawn; threads get in each other's way at random all the same.
        limit_secs: Longer than this it takes only where something hangs.
    """

    def __init__(self, queue: LeasedJobQueue, seed: str, *, limit_secs: float) -> None:
        self.queue = queue
        self.notes = Notes()
        self.known: list[str] = []  # ids
        self._seed = seed
        self._limit_secs = limit_secs
        self._held: list[JobRecord] = []
        self._lock = Lock()

    def run(self, *, threads: int, calls: int) -> Notes:
        """Let each of the threads make so many calls; then settle what is still held."""
        callers = [
            _Caller(self, f"{self._seed}-{number}", f"worker-{self._seed}-{number % 2}")
            for number in range(threads)
        ]
        hands = [Hand(lambda one=one: one.run(calls)) for one in callers]  # type: ignore[misc]  # bound now
        interval = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_SECS)
        try:
            for hand in hands:
                hand.start()
            for hand in hands:
                hand.join(self._limit_secs)
        finally:
            sys.setswitchinterval(interval)
        self.notes.errors += [text for hand in hands if (text := _trouble(hand))]
        if not self.notes.errors:
            callers[0].settle_all()
        return self.notes

    def hold(self, jobs: list[JobRecord]) -> None:
        """Keep claimed jobs for whoever settles them."""
        with self._lock:
            self._held += jobs

    def pick(self, rng: random.Random, most: int, *, keep: bool = False) -> list[JobRecord]:
        """Return some of the jobs that are held, and forget them unless they are to be kept."""
        with self._lock:
            picked = rng.sample(self._held, min(most, len(self._held)))
            if not keep:
                self._held = [job for job in self._held if job not in picked]
            return picked


class _Caller:
    """One thread.

    Args:
        owner: The worker that it belongs to; so do others.
    """

    def __init__(self, process: MixedCalls, seed: str, owner: str) -> None:
        self._all = process
        self._queue = process.queue
        self._notes = process.notes
        self._rng = random.Random(seed)  # to be repeated, not to be secret
        self._owner = owner
        self._late: list[JobRecord] = []
        self._count = 0
        self._name = seed

    def run(self, calls: int) -> None:
        """Make so many calls."""
        for _ in range(calls):
            self._count += 1
            self._rng.choice(_CALLS)(self)

    def settle_all(self) -> None:
        """Settle all that is held in this process."""
        while jobs := self._all.pick(self._rng, 5):
            self._settle(jobs)

    # ---- enqueueing -----------------------------------------------------------------------

    def enqueue(self) -> None:
        """Enqueue a job, perhaps for later."""
        later = self._rng.choice((0, 0, 0, _SOON_SECS))
        self._enqueue(self._job(run_at=SYSTEM_CLOCK.now() + later if later else 0.0))

    def enqueue_keyed(self) -> None:
        """Enqueue a job whose key others want, too."""
        self._enqueue(self._job(unique_key=self._rng.choice(_KEYS)))

    def _enqueue(self, job: JobRecord) -> None:
        self._note_stored([job], [job.id] if self._queue.enqueue(job) is not None else [])

    def enqueue_many(self) -> None:
        """Enqueue a few jobs, some of them with keys."""
        jobs = [self._job(unique_key=self._rng.choice((None, *_KEYS))) for _ in range(4)]
        self._note_stored(jobs, list(self._queue.enqueue_many(jobs)))

    def _note_stored(self, jobs: list[JobRecord], refused: list[str]) -> None:
        stored = [job.id for job in jobs if job.id not in refused]
        self._notes.stored += stored
        self._notes.left_out += refused
        self._all.known += stored

    def _job(self, **fields: Any) -> JobRecord:
        queue = self._rng.choice(QUEUES)
        return make_job(**{"queue": queue, "priority": self._rng.randrange(3), **fields})

    # ---- delivery -------------------------------------------------------------------------

    def claim(self) -> None:
        """Claim a few jobs and start one of them."""
        queues = self._rng.choice((None, list(QUEUES), [QUEUES[0]]))
        claimed = self._queue.claim(self._rng.randint(1, 4), self._owner, queues)
        self._notes.claimed += [(job.id, job.lease_epoch) for job in claimed]
        self._all.known += [job.id for job in claimed]
        if claimed:
            self._queue.mark_started(claimed[0])
        self._all.hold(claimed)

    def claim_and_wait(self) -> None:
        """Claim a job for a worker that renews no lease."""
        claimed = self._queue.claim(1, f"{self._owner}-late")
        self._notes.claimed += [(job.id, job.lease_epoch) for job in claimed]
        self._late += claimed
        for job in claimed:
            self._queue.mark_started(job)

    def settle_late(self) -> None:
        """Settle such a job, if its lease may be over by now."""
        if len(self._late) > _LATE:
            self._settle([self._late.pop(0)])

    def settle(self) -> None:
        """Settle what is held; another thread may do so, too."""
        self._settle(self._all.pick(self._rng, self._rng.randint(1, 3), keep=not self._count % 5))

    def _settle(self, jobs: list[JobRecord]) -> None:
        settlements = [self._settlement(job) for job in jobs]
        answers = self._queue.settle(settlements)
        for one, is_accepted in zip(settlements, answers, strict=True):
            free = [child.id for child in one.children if child.unique_key is None]
            record = one.record
            self._notes.settled.append(
                Settled(record.id, record.lease_epoch, one.status, self._name, is_accepted, free)
            )

    def _settlement(self, job: JobRecord) -> Settlement:
        status, outcome, keeps = self._rng.choice(_VERDICTS)
        keys = self._rng.choice(((), (), (None,), (None, self._rng.choice(_KEYS))))
        run_at = SYSTEM_CLOCK.now() + _SOON_SECS if self._rng.random() < 0.2 else 0.0
        return make_settlement(
            job,
            status,
            self._name,
            outcome=outcome,
            keeps_attempt=keeps,
            run_at=run_at if status is JobStatus.PENDING else 0.0,
            children=tuple(self._job(unique_key=key) for key in keys),
        )

    def release(self) -> None:
        """Give back what is held; another thread may settle it meanwhile."""
        jobs = self._all.pick(self._rng, 2, keep=not self._count % 5)
        answers = self._queue.release(jobs)
        accepted = [job for job, is_accepted in zip(jobs, answers, strict=True) if is_accepted]
        self._notes.released += [(job.id, job.lease_epoch) for job in accepted]

    def extend(self) -> None:
        """Renew all leases of this worker."""
        self._queue.extend(self._owner)

    def progress(self) -> None:
        """Report the progress of a job that is held, or was until just now."""
        for job in self._all.pick(self._rng, 1, keep=True):
            self._queue.report_progress(job, self._count, None, self._name)

    def reap(self) -> None:
        """Take back what leases have ended for."""
        self._notes.reaped += [(job.id, job.status) for job in self._queue.reap()]

    # ---- control --------------------------------------------------------------------------

    def cancel(self) -> None:
        """Cancel a job, whatever it does."""
        for job_id in self._some_id():
            if (before := self._queue.cancel(job_id)) is not None:
                self._notes.cancelled.append((job_id, before))

    def retry(self) -> None:
        """Retry a job, whatever it does."""
        for job_id in self._some_id():
            if (before := self._queue.retry(job_id)) is not None:
                self._notes.retried.append((job_id, before))

    def unpark(self) -> None:
        """Make parked jobs wait again."""
        self._queue.unpark(["tests.probe"])

    def prune(self) -> None:
        """Remove what ended before the first job was made: nothing."""
        pruned = self._queue.prune(success_before=1.0, failed_before=1.0)
        assert pruned == 0, f"prune with moments in the past removed {pruned} jobs"

    def pause(self) -> None:
        """Pause a queue."""
        self._queue.pause(self._rng.choice(QUEUES), self._name)

    def resume(self) -> None:
        """Resume all queues."""
        for queue in QUEUES:
            self._queue.resume(queue)

    # ---- reading --------------------------------------------------------------------------

    def get(self) -> None:
        """Read a job, which is never removed here."""
        for job_id in self._some_id():
            assert self._queue.get(job_id) is not None, f"get({job_id}) gave None"
            self._queue.attempts(job_id)

    def page(self) -> None:
        """Read a page."""
        ids = Counter(one.record.id for one in self._queue.page(limit=20))
        twice = [job_id for job_id, count in ids.items() if count > 1]
        assert not twice, f"a page gives {twice} twice"

    def stats(self) -> None:
        """Read the counts."""
        for one in self._queue.stats():
            negative = {k: v for k, v in msgspec.structs.asdict(one).items() if _is_negative(v)}
            assert not negative, f"counts of {one.queue} are {negative}"

    def _some_id(self) -> list[str]:
        known = self._all.known
        return [known[self._rng.randrange(len(known))]] if known else []


_CALLS = [
    *3 * [_Caller.enqueue],
    *3 * [_Caller.enqueue_keyed],
    _Caller.enqueue_many,
    *6 * [_Caller.claim],
    _Caller.claim_and_wait,
    *6 * [_Caller.settle],
    _Caller.settle_late,
    *2 * [_Caller.release],
    *2 * [_Caller.extend],
    _Caller.progress,
    _Caller.reap,
    *2 * [_Caller.cancel],
    *2 * [_Caller.retry],
    _Caller.unpark,
    _Caller.prune,
    _Caller.pause,
    *2 * [_Caller.resume],
    *2 * [_Caller.get],
    _Caller.page,
    _Caller.stats,
]
"""All that a thread may do, more often what is more often done."""


def _is_negative(value: object) -> bool:
    return isinstance(value, int | float) and value < 0


def _trouble(hand: Hand) -> str:
    """Return what a thread raised, or where it hangs; nothing if it has ended well."""
    if hand.raised is not None:
        return "".join(traceback.format_exception(hand.raised))
    frame = sys._current_frames().get(hand.ident or 0)  # the documented way
    if not hand.is_alive() or frame is None:
        return ""
    return "".join(["a thread hangs:\n", *traceback.format_stack(frame)])
