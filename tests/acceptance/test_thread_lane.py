"""The thread lane at its promise: code that hangs costs no slot, however much of it there is."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from nuvom.core.clock import SYSTEM_CLOCK
from tests.engine import LIMIT_SECS, Engine, make_runtime

SLOTS = 4
HUNG = 100
TIMEOUT_SECS = 0.2


@pytest.mark.slow
def test_worker_runs_quick_jobs_at_full_width_after_a_hundred_hung_ones(project: Path) -> None:
    runtime = make_runtime(
        project, queue_backend="sqlite", result_backend="sqlite", max_stuck_threads=2 * HUNG
    )
    locks, together = [threading.Lock() for _ in range(HUNG)], threading.Barrier(SLOTS)
    for lock in locks:
        lock.acquire()

    def hang(number: int) -> None:
        locks[number].acquire()  # in C, where no exception reaches it

    def meet() -> int:
        return together.wait(LIMIT_SECS)

    with Engine(runtime) as engine, engine.worker(threads=SLOTS) as worker:
        hung = engine.task(hang, timeout_secs=TIMEOUT_SECS).map(
            [(number,) for number in range(HUNG)]
        )
        began = SYSTEM_CLOCK.monotonic()
        engine.wait_until(lambda: {str(job.status) for job in hung} == {"FAILED"})
        secs = SYSTEM_CLOCK.monotonic() - began
        assert HUNG == worker.stuck
        overdue = []
        for job in hung:
            record = runtime.queue.get(job.id)  # type: ignore[attr-defined]  # a leased queue
            overdue.append(record.finished_at - record.started_at - TIMEOUT_SECS)
            error = job.error
            assert error is not None
            assert "in hang" in str(error.traceback)
        assert max(overdue) < 1.0
        met = engine.task(meet).map([()] * SLOTS)
        assert sorted(met.get(LIMIT_SECS)) == list(range(SLOTS))
        for lock in locks:
            lock.release()
        engine.wait_until(lambda: worker.stuck == 0)
    print(f"{HUNG} hung jobs in {secs:.1f} s; the latest was closed {max(overdue):.2f} s late")
