"""What is particular to the memory queue when an exception strikes in the midst of a call.

What holds for all stores is in ``tests/lab/laws/interruptions.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nuvom.config.settings import Settings
from nuvom.core.record import JobStatus
from nuvom.core.views import WorkerInfo
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.testing import FakeClock, make_job, make_settlement
from tests.lab.points import Points

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nuvom.core.record import JobRecord

MANY = 1000  # more points than any call here has


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def make(clock: FakeClock) -> MemoryJobQueue:
    return MemoryJobQueue(Settings(parked_ttl_secs=100), clock=clock)


def each_point(call_of: Callable[[], Callable[[], object]]) -> Iterator[int]:
    """Interrupt a new call at each of its points in turn; yield after each."""
    points = Points()
    for number in range(1, MANY):
        is_cut = points.interrupt(call_of(), number)
        if points.count < number:
            return
        assert is_cut
        yield number


def test_a_wait_that_was_interrupted_is_not_taken_for_one_that_goes_on(clock: FakeClock) -> None:
    queue = make(clock)
    queue.enqueue(make_job())
    for number in each_point(lambda: lambda: queue.wait_for_work(1.0)):
        assert queue._sleepers == set(), number


def test_a_command_that_was_interrupted_on_its_way_is_handed_out_again(clock: FakeClock) -> None:
    queue = make(clock)
    queue.announce(WorkerInfo(id="w"))

    def call_of() -> Callable[[], object]:
        queue.commands("w")
        queue.command("w", "quiet")
        queue.command("w", "stop")
        return lambda: queue.commands("w")

    for number in each_point(call_of):
        assert queue.commands("w") == ["quiet", "stop"], number


def test_a_parked_job_waits_no_longer_for_an_interruption(clock: FakeClock) -> None:
    queue = make(clock)
    queue.enqueue(make_job())
    queue.settle([make_settlement(job, JobStatus.PARKED) for job in queue.claim(1, "w")])
    clock.advance(60.0)
    interrupt_a_change(queue)
    clock.advance(39.0)
    assert queue.reap() == []
    clock.advance(2.0)
    assert [JobStatus.DEAD] == [job.status for job in queue.reap()]


def test_a_scheduled_job_that_a_repair_makes_ready_wakes_whoever_waits(clock: FakeClock) -> None:
    queue = make(clock)
    queue.enqueue(make_job(run_at=clock.now() + 5))
    interrupt_a_change(queue)
    clock.advance(6.0)
    before = queue.arrivals
    assert queue.qsize() == 1
    assert queue.arrivals > before


def interrupt_a_change(queue: MemoryJobQueue) -> None:
    """Leave the store with a change that is not finished."""
    for _ in each_point(lambda: lambda: queue.enqueue(make_job(queue="other"))):
        if queue.table.unfinished:
            return
    raise AssertionError("no change was left unfinished")


def test_jobs_beside_a_suspect_are_not_charged_for_a_reap_in_two_parts(clock: FakeClock) -> None:
    ended: set[tuple[int, ...]] = set()
    queues: list[MemoryJobQueue] = []

    def call_of() -> Callable[[], object]:
        queue = make(clock)
        queues.append(queue)
        suspect, other = make_job(id="suspect"), make_job(id="other")
        queue.enqueue(suspect)
        lose(queue, "w1", clock)
        queue.enqueue(other)
        for job in queue.claim(2, "w2"):
            queue.mark_started(job)
        clock.advance(31.0)
        return queue.reap

    for _ in each_point(call_of):
        queue = queues.pop()
        queue.reap()
        found = (queue.get("suspect"), queue.get("other"))
        ended.add(tuple(one.record.deliveries for one in found if one is not None))
    assert ended == {(2, 0)}


def lose(queue: MemoryJobQueue, owner: str, clock: FakeClock) -> list[JobRecord]:
    """Have a worker die with a job that it has started."""
    (job,) = queue.claim(1, owner)
    queue.mark_started(job)
    clock.advance(31.0)
    return queue.reap()


def test_a_signal_handler_may_enqueue_whatever_it_has_interrupted(clock: FakeClock) -> None:
    points = Points()
    for number in range(1, MANY):
        queue = make(clock)
        ids = enqueue_with_a_handler(queue, points, number)
        assert ids == pages(queue), number
        assert sorted(ids) == sorted(job.id for job in queue.claim(5, "w")), number
        assert queue.claim(5, "w") == []
        if points.count < number:
            return


def enqueue_with_a_handler(queue: MemoryJobQueue, points: Points, number: int) -> set[str]:
    """Enqueue a job, and at a point of that call another one; return the ids of both."""
    ids = {"by-hand"}

    def handle() -> None:
        ids.add("handled")
        queue.enqueue(make_job(id="handled"))

    job = make_job(id="by-hand")
    points.stop_at(lambda: queue.enqueue(job), number, handle)
    return ids


def pages(queue: MemoryJobQueue) -> set[str]:
    """Return the ids of all jobs, read page by page."""
    found: set[str] = set()
    before = None
    while page := queue.page(before=before, limit=1):
        (one,) = page
        before = one.record.id
        assert before not in found
        found.add(before)
    return found
