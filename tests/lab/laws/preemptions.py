"""Two calls at a time: the first pauses in its midst while another thread makes the second.

The first is paused at each of its points in turn (``points.py``). The second then ends, or waits
for a lock that the first holds. What both are told and what they leave has to be as if they had
been made one after the other.
"""

from __future__ import annotations

import traceback
from functools import partial
from itertools import count, islice, product
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from nuvom.core.record import JobRecord, JobStatus
from nuvom.queue_backends.base import Capability
from nuvom.testing.builders import make_settlement
from nuvom.testing.conformance.law import Hand, needs
from nuvom.testing.conformance.laws.bench import QueueKit
from tests.lab.clocks import RunningClock
from tests.lab.laws.interruptions import check_books, check_keys, finish_the_rest
from tests.lab.pairs import PAIRS
from tests.lab.points import Points, folders_of
from tests.lab.scenarios import QUEUE, Round

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from nuvom.queue_backends.leased import LeasedJobQueue
    from nuvom.testing.conformance.laws.bench import QueueBench
    from tests.lab.pairs import Call, Pair

_PAUSE_SECS = 0.005  # longer than a call takes; where it is not, less is interleaved
_FINISHER = "last-worker"
_LEASE_SECS = 600.0  # however slow the machine is, no lease ends by itself
_PASSES = 8  # through one loop, before what follows
_TOLD = 10  # of the points at which something breaks, so many are named
_TOLD_EACH = 3  # after so many a pair is given up


class Outcome(NamedTuple):
    """What two calls came to, with each job named by its place in the round.

    Attributes:
        answers: What they returned.
        jobs: What can be read of each job.
    """

    answers: object
    jobs: object


class Side:
    """One of two sides that call at the same time.

    Attributes:
        answers: What its calls have returned so far.
    """

    def __init__(self, name: str, queue: LeasedJobQueue, calls: list[Call]) -> None:
        self.name = name
        self.queue = queue
        self.answers: list[object] = []
        self._calls = calls

    def call(self) -> None:
        """Make the next call."""
        self.answers.append(self._calls[len(self.answers)](self.queue))

    def call_all(self) -> None:
        """Make all calls."""
        for _ in self._calls:
            self.call()

    def call_again(self) -> None:
        """Make those calls once more that got no jobs."""
        for place, answer in enumerate(self.answers):
            if answer == []:
                self.answers[place] = self._calls[place](self.queue)

    def drop_lost(self, epochs: dict[str, int]) -> None:
        """Leave out jobs that were claimed and lost: their claim may hand them out or not."""
        self.answers = [_kept(answer, epochs) for answer in self.answers]


@needs(Capability.LEASES, Capability.INSPECTION, Capability.CONTROL, Capability.UNIQUE)
class Preemptions(QueueKit):
    """A call may be made in the midst of another."""

    pauses_step: ClassVar[int] = 1
    """The first of two calls pauses at every so many of its points; 1 is all."""

    skips_locked: ClassVar[bool] = False
    """A call passes over jobs that another call is changing, as if they were not there yet.

    It may then get no job, but the job must not be lost: the same call gets it next time.
    """

    def test_calls_at_once_are_as_one_after_the_other(self, bench: QueueBench) -> None:
        """Two calls at once come to what one after the other would, wherever the first pauses."""
        self._assert_safe(bench, is_apart=False)

    def test_calls_of_two_instances_are_as_one_after_the_other(self, bench: QueueBench) -> None:
        """The same holds for two calls on two instances that share a store."""
        self._assert_safe(bench, is_apart=True)

    def _assert_safe(self, bench: QueueBench, *, is_apart: bool) -> None:
        meeting = Meeting(bench, is_apart=is_apart, skips_locked=self.skips_locked)
        _assert_safe(meeting, self.pauses_step)


def _assert_safe(meeting: Meeting, step: int) -> None:
    broken: list[str] = []
    for number, pair in enumerate(PAIRS):
        if not meeting.fits(pair):
            continue
        for paused in (0, 1):
            first = 1 + (2 * number + paused) % step  # not the same ones for each pair
            broken += islice(meeting.broken_points(pair, paused, first, step), _TOLD_EACH)
    told = "\n".join(broken[:_TOLD])
    assert not broken, f"{len(broken)} points are not safe:\n{told}"


class Meeting:
    """Has two sides call, both on one queue object or each on its own opening of the store."""

    def __init__(self, bench: QueueBench, *, is_apart: bool, skips_locked: bool) -> None:
        self._bench = bench
        self._skips_locked = skips_locked
        self._is_apart = is_apart
        self._open()
        self._points = Points(*folders_of(bench.queue), passes=_PASSES)

    def _open(self) -> None:
        queue = self._bench.open(clock=RunningClock(), lease_secs=_LEASE_SECS)
        other = self._bench.reopen() if self._is_apart else queue
        self._queues: tuple[LeasedJobQueue, LeasedJobQueue] = (queue, other)

    def fits(self, pair: Pair) -> bool:
        """Tell whether the calls of a pair can be made here."""
        if pair.moves_time and not self._bench.has_fake_clock:
            return False
        return not (self._is_apart and pair.of_one_worker)

    def broken_points(self, pair: Pair, paused: int, first: int, step: int) -> Iterator[str]:
        """Tell where something breaks if one side pauses, at every ``step`` of its points.

        Args:
            paused: Which of the two sides pauses.
        """
        place = "on two openings of the store" if self._is_apart else "on one queue object"
        name = f"{pair.names[paused]}, paused, and {pair.names[1 - paused]} {place}"
        try:
            in_turn = list(self._in_turn(pair))
        except AssertionError as error:
            self._open()
            yield f"{name}: even one after the other: {error}"
            return
        for number in count(first, step):
            try:
                found = self._outcome(pair, partial(self._at_once, paused, number))
                assert found in in_turn, _difference(found, in_turn)
            except AssertionError as error:
                text = f"{name}: at point {number} ({self._points.place}): {error}"
                self._open()  # the store may be locked for good
                yield text
            if self._points.count < number:
                return

    def _in_turn(self, pair: Pair) -> Iterator[Outcome]:
        """Make all calls one after the other, in each order in which they can come."""
        one = Round(self._bench)
        first, second = (len(side) for side in pair.sides(one))
        self._finish(one, ())
        for order in product((0, 1), repeat=first + second):
            if sum(order) == second:
                yield self._outcome(pair, partial(_call_in_turn, order))

    def _outcome(self, pair: Pair, call: Callable[[Side, Side], None]) -> Outcome:
        """Have ``call`` make the calls of both sides and tell what they came to."""
        one = Round(self._bench)
        sides = [
            Side(name, queue, calls)
            for name, queue, calls in zip(pair.names, self._queues, pair.sides(one), strict=True)
        ]
        before = _epochs(one)
        call(*sides)
        if pair.reaped:
            self._bench.lose_workers()
        jobs = self._seen(one)
        check_books(one.queue)
        check_keys(one)
        after = _epochs(one)
        fallen = [job_id for job_id, epoch in after.items() if epoch < before.get(job_id, 0)]
        assert not fallen, f"epochs fell from {before} to {after}"
        for side in sides:
            side.drop_lost(after)
        found = Outcome(_told([side.answers for side in sides], one), _told(jobs, one))
        self._finish(one, sides)
        return found

    def _at_once(self, paused: int, number: int, *sides: Side) -> None:
        """Let one side call, and the other one while it is paused at point ``number``."""
        first, second = sides[paused], sides[1 - paused]
        other = Hand(second.call_all)

        def pause() -> None:
            other.start()
            other.join(_PAUSE_SECS)

        self._points.place = "after its end"
        hand = Hand(partial(self._points.stop_at, first.call_all, number, pause))
        hand.start()
        self._end(hand, first.name)
        if other.ident is None:
            other.start()
        self._end(other, second.name)
        if self._skips_locked:
            first.call_again()
            second.call_again()

    def _end(self, hand: Hand, name: str) -> None:
        secs = self._bench.patience_secs
        hand.join(secs)
        assert not hand.is_alive(), f"{name} has not ended after {secs:g} s"
        if hand.raised is not None:
            raise AssertionError(f"{name} raised {_where(hand.raised)}") from hand.raised

    def _seen(self, one: Round) -> list[object]:
        """Return what can be read of each job, which is the same on both openings."""
        jobs = one.state()
        if self._is_apart:
            one.queue = self._queues[1]
            others = one.state()
            one.queue = self._queues[0]
            assert jobs == others, f"one instance reads {jobs}, the other {others}"
        return list(jobs.values())

    def _finish(self, one: Round, sides: Sequence[Side]) -> None:
        """Have all jobs brought to their end, by their holders first; then remove them."""
        queue = one.queue
        queue.resume(QUEUE)
        held = [(queue, job) for job in one.held.values()]
        held += [(side.queue, job) for side in sides for job in _records(side.answers)]
        epochs = _epochs(one, JobStatus.RUNNING)
        for holder, job in held:
            if epochs.get(job.id) == job.lease_epoch:
                is_accepted = holder.settle([make_settlement(job)]) == [True]
                assert is_accepted, f"{job.id} is RUNNING, but its holder cannot settle it"
        if self._bench.has_fake_clock:
            self._bench.end_leases()
        finish_the_rest(queue, _FINISHER)


def _epochs(one: Round, *statuses: JobStatus) -> dict[str, int]:
    """Return the epoch of each job that is stored, and has one of ``statuses`` if any is given."""
    found = {}
    for job in one.jobs:
        snapshot = one.queue.get(job.id)
        if snapshot is not None and (not statuses or snapshot.status in statuses):
            found[job.id] = snapshot.record.lease_epoch
    return found


def _call_in_turn(order: Sequence[int], *sides: Side) -> None:
    for which in order:
        sides[which].call()


def _kept(answer: object, epochs: dict[str, int]) -> object:
    if not isinstance(answer, list):
        return answer
    lost = [one for one in _records([answer]) if epochs.get(one.id) != one.lease_epoch]
    return [part for part in answer if part not in lost]


def _records(answers: Iterable[object]) -> Iterator[JobRecord]:
    for answer in answers:
        parts = answer if isinstance(answer, list) else []
        yield from (part for part in parts if isinstance(part, JobRecord))


def _told(value: object, one: Round) -> object:
    """Return an answer as it would be in any other round: without ids, epochs and times."""
    if isinstance(value, JobRecord):
        return (_told(value.id, one), str(value.status), value.attempt, value.deliveries)
    if isinstance(value, dict):
        return {_told(key, one): _told(part, one) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_told(part, one) for part in value]
    if isinstance(value, str):
        ids = [job.id for job in one.jobs]
        return f"job {ids.index(value)}" if value in ids else str(value)
    return value


def _difference(found: Outcome, in_turn: list[Outcome]) -> str:
    known = dict.fromkeys(f"{one.answers} and {one.jobs}" for one in in_turn)
    either = ", or ".join(known)
    return f"they answer {found.answers} and leave {found.jobs}; in turn it would be {either}"


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
