"""R17: of a thousand jobs every tenth hangs; each is closed in time, and no slot is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.record import JobStatus
from tests.engine import LIMIT_SECS, Engine
from tests.reliability.site import wait_for

SLOTS = 4
JOBS = 1000
TIMEOUT_SECS = 0.5
MOST_LATE_SECS = 1.0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_r17_jobs_that_hang_are_closed_in_time_and_cost_no_slot(
    engine: Engine, figures: Callable[[str], None]
) -> None:
    barrier = threading.Barrier(SLOTS)

    def every_tenth_hangs(number: int) -> int:
        while number % 10 == 0:
            SYSTEM_CLOCK.sleep(0.01)
        return number

    def meet() -> int:
        return barrier.wait(LIMIT_SECS)

    task = engine.task(every_tenth_hangs, name="tests.tenth", timeout_secs=TIMEOUT_SECS)
    jobs = task.map([(number,) for number in range(JOBS)])
    with engine.worker(threads=SLOTS) as worker:
        wait_for(lambda: worker.finished_jobs >= JOBS, LIMIT_SECS * 4, "they never ended")
        meeting = engine.task(meet, name="tests.meet").map([()] * SLOTS)
        assert set(range(SLOTS)) == set(meeting.get(timeout=LIMIT_SECS))
    queue = engine.runtime.queue
    found = [queue.get(job.id) for job in jobs]  # type: ignore[attr-defined]  # a leased queue
    hung = [one for one in found if one.status is JobStatus.FAILED]
    late = [one.finished_at - one.started_at - TIMEOUT_SECS for one in hung]
    figures(
        f"{JOBS} jobs in {SLOTS} slots, {len(hung)} hang: closed at most {max(late):.3f} s late"
    )
    assert JOBS // 10 == len(hung)
    assert {"TimeoutError"} == {one.error.type for one in hung}
    assert JOBS - len(hung) == sum(one.status is JobStatus.SUCCESS for one in found)
    assert 0 <= min(late) <= max(late) < MOST_LATE_SECS
