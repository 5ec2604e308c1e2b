"""What is particular to the memory queue when an exception strikes in the midst of a call.

What holds for all stores is in ``tests/lab/laws/interruptions.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nuvom.config.settings import Settings
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.testing import FakeClock, make_job
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
