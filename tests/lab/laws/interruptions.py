"""What an exception leaves behind that strikes in the midst of a call: Ctrl-C, a time limit.

Every call is interrupted at each of its points in turn (``points.py``). Afterwards other threads
and processes go on, what was changed is changed whole or not at all, and all jobs can be done.
"""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import TYPE_CHECKING
from unittest import SkipTest

from nuvom.core.record import FINAL, JobStatus
from nuvom.queue_backends.base import Capability
from nuvom.testing.builders import make_job, make_settlement
from nuvom.testing.conformance.law import Hand, needs
from nuvom.testing.conformance.laws.bench import QueueKit
from tests.lab import actions
from tests.lab.points import Points, folders_of
from tests.lab.scenarios import OTHER, QUEUE, SCENARIOS, Round

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nuvom.queue_backends.leased import LeasedJobQueue
    from nuvom.testing.conformance.child import KitChild
    from nuvom.testing.conformance.laws.bench import QueueBench

PROBE_QUEUE = "probe"
_TOLD = 10  # of the points at which something breaks, so many are named
_PASSES = 12  # through a loop, such as one over all slots of a worker
_MORE = 40  # points that a call may have beyond those of its first run


class OtherCallers:
    """A thread, a second instance and a process, which have to go on whatever was interrupted."""

    def __init__(self, bench: QueueBench) -> None:
        self._bench = bench
        self.start()

    def start(self) -> None:
        """Begin with the store that the bench opened last."""
        self._queue = self._bench.queue
        self._other: LeasedJobQueue | None = None
        self._child: KitChild | None = None
        try:
            self._other = self._bench.reopen()
            self._child = self._bench.child(actions.go_on)
            self._child.start()
        except SkipTest:  # the store is not shared
            pass

    def go_on(self) -> None:
        """Bring jobs to their end; fail where one of the others cannot."""
        self._in_a_thread(self._queue, "another thread")
        if self._other is not None:
            self._in_a_thread(self._other, "another instance")
        if self._child is not None:
            self._child.tell(PROBE_QUEUE)
            self._child.expect([True])

    def _in_a_thread(self, queue: LeasedJobQueue, who: str) -> None:
        accepted: list[bool] = []

        def work() -> None:
            queue.enqueue(make_job(queue=PROBE_QUEUE, created_at=self._bench.clock.now()))
            claimed = queue.claim(10, OTHER, [PROBE_QUEUE])
            accepted.extend(queue.settle([make_settlement(job) for job in claimed]))

        hand = Hand(work)
        hand.start()
        hand.finish(self._bench.patience_secs)
        assert accepted == [True], f"{who} could bring no job to its end: {accepted}"


def check_books(queue: LeasedJobQueue) -> None:
    """Compare the counts of all queues with the jobs that can be read."""
    seen: Counter[tuple[str, str]] = Counter()
    before = None
    while page := queue.page(before=before, limit=500):
        before = page[-1].record.id
        for one in page:
            seen[one.record.queue, _counted_as(one.status)] += 1
    told = {
        (stats.queue, name): count
        for stats in queue.stats()
        for name, count in (
            ("waiting", stats.ready + stats.scheduled + stats.retrying),
            ("RUNNING", stats.running),
            ("PARKED", stats.parked),
            ("SUCCESS", stats.success),
            ("FAILED", stats.failed),
            ("DEAD", stats.dead),
            ("CANCELLED", stats.cancelled),
        )
        if count
    }
    assert dict(seen) == told, f"the jobs are {dict(seen)}, but counted as {told}"


def _counted_as(status: JobStatus) -> str:
    return "waiting" if status is JobStatus.PENDING else str(status)


def check_whole(
    one: Round,
    before: dict[str, tuple[object, ...] | None],
    done: Sequence[tuple[object, ...] | None],
    *,
    is_done: bool,
) -> None:
    """Look whether each unit of jobs is as it was, or as the whole call leaves it."""
    after = one.state()
    wanted = dict(zip([job.id for job in one.jobs], done, strict=True))
    alone = set(after) - {job_id for unit in one.units for job_id in unit}
    for unit in [*one.units, *([job_id] for job_id in alone)]:
        seen, was, is_to_be = ([states[i] for i in unit] for states in (after, before, wanted))
        if is_done:
            assert seen == is_to_be, f"the call returned, but left {seen} in place of {is_to_be}"
        assert seen in (was, is_to_be), f"neither {was} nor {is_to_be}, but {seen}"


def check_keys(one: Round) -> None:
    """Look whether each unique key is with the live job that has it."""
    for job in one.jobs:
        if job.unique_key is None:
            continue
        snapshot = one.queue.get(job.id)
        if snapshot is not None and snapshot.status not in FINAL:
            twin = make_job(queue=QUEUE, unique_key=job.unique_key)
            existing = one.queue.enqueue(twin)
            assert existing == job.id, f"the key of {job.id} is with {existing or twin.id}"


def bring_to_an_end(one: Round) -> None:
    """Settle all jobs of a round, claimed ones by their holder; then remove them."""
    queue = one.queue
    for job in one.jobs:
        snapshot, held = queue.get(job.id), one.held.get(job.id)
        if snapshot is not None and snapshot.status is JobStatus.RUNNING and held is not None:
            assert queue.settle([make_settlement(held)]) == [True], f"{job.id} is not its holder's"
    one.bench.advance(61)
    finish_the_rest(queue, OTHER)


def finish_the_rest(queue: LeasedJobQueue, owner: str) -> None:
    """Claim and settle as ``owner`` whatever has not ended; then remove all jobs.

    The leases of jobs that no one holds any more must have ended.
    """
    queue.reap()
    queue.unpark(["tests.probe"])
    while claimed := queue.claim(100, owner, [QUEUE], suspects=100):
        answers = queue.settle([make_settlement(job) for job in claimed])
        assert all(answers), f"jobs that were just claimed are nobody's: {answers}"
    left = [one.status for one in queue.page(queue=QUEUE) if one.status not in FINAL]
    assert left == [], f"jobs that nobody can bring to an end: {left}"
    while queue.prune(success_before=inf, failed_before=inf):
        pass


@needs(Capability.LEASES, Capability.INSPECTION, Capability.UNIQUE)
class Interruptions(QueueKit):
    """An exception may strike anywhere in a call."""

    points_step: int = 1
    """Every so many points are tried; 1 is all."""

    def test_an_interrupted_call_leaves_nothing_behind(self, bench: QueueBench) -> None:
        """An exception at any point of a call neither stops others nor leaves half a change."""
        bench.open()
        if not bench.has_fake_clock:
            raise SkipTest("at each point leases have to end, which takes too long without a clock")
        broken: list[str] = []
        others = OtherCallers(bench)
        for scenario in SCENARIOS:
            broken += _broken_points(bench, others, scenario, self.points_step)
        told = "\n".join(broken[:_TOLD])
        assert not broken, f"{len(broken)} points are not safe:\n{told}"


def _broken_points(
    bench: QueueBench,
    others: OtherCallers,
    scenario: Callable[[Round], Callable[[], object]],
    step: int,
) -> Iterator[str]:
    name = scenario.__name__.removeprefix("_").replace("_", " ")
    points = Points(*folders_of(bench.queue), passes=_PASSES)
    done: list[tuple[object, ...] | None] = []
    for _ in range(2):  # the first one opens, makes and caches what later ones have
        whole = Round(bench)
        points.interrupt(scenario(whole), 0)
        done = list(whole.state().values())
        bring_to_an_end(whole)
    for number in range(1, points.count + _MORE, step):
        one = Round(bench)
        call = scenario(one)
        before = one.state()
        is_cut = points.interrupt(call, number)
        if points.count < number:
            bring_to_an_end(one)
            break
        try:
            others.go_on()
            check_books(one.queue)
            if one.gives_up and is_cut:
                check_whole(one, before, [before[job.id] for job in one.jobs], is_done=True)
            else:
                check_whole(one, before, done, is_done=not is_cut)
            check_keys(one)
            bring_to_an_end(one)
        except AssertionError as error:
            yield f"{name}: at point {number} ({points.place}): {error}"
            bench.open()  # the one before may be locked for good
            others.start()
