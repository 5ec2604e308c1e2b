"""The async lane at its promises: thousands of waiting coroutines, and a loop that is blocked."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.events import JobStarted
from tests.engine import Engine, make_runtime

COROUTINES = 5_000
BLOCKED_SECS = 10.0


async def nap() -> None:
    await asyncio.sleep(1)


async def block_the_loop() -> None:
    time.sleep(BLOCKED_SECS)  # noqa: ASYNC251  # what one must not do


@pytest.mark.slow
def test_thousands_of_coroutines_wait_at_once(project: Path) -> None:
    """How long it takes is printed; what is held is that they run side by side."""
    runtime = make_runtime(project, queue_backend="sqlite", result_backend="sqlite")
    with Engine(runtime, listens=False) as engine:
        jobs = engine.task(nap).map([()] * COROUTINES)
        began = SYSTEM_CLOCK.monotonic()
        engine.work(async_slots=COROUTINES)
        secs = SYSTEM_CLOCK.monotonic() - began
        assert {"SUCCESS"} == {str(job.status) for job in jobs}
    print(f"{COROUTINES} coroutines that sleep 1 s: {secs:.2f} s")
    assert secs < COROUTINES / 100  # a hundred at once, or fewer, would take longer


@pytest.mark.slow
def test_heart_beats_while_the_loop_is_blocked(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = make_runtime(project, queue_backend="sqlite", result_backend="sqlite", lease_secs=6.0)
    with Engine(runtime) as engine, caplog.at_level(logging.WARNING), engine.worker() as worker:
        job = engine.task(block_the_loop).delay()
        engine.wait_for(JobStarted)
        queue: Any = runtime.queue
        ages = []
        while str(job.status) != "SUCCESS":
            ages.append(queue.workers()[0].beat_age_secs)
            SYSTEM_CLOCK.sleep(0.05)
        beat_secs = worker._maintenance.beat_secs  # type: ignore[union-attr]  # a leased queue has one
    print(f"oldest beat {max(ages):.2f} s, of {beat_secs:g} s; {len(ages)} looks")
    assert max(ages) < 2 * beat_secs
    (told,) = [one.getMessage() for one in caplog.records if "blocks the event loop" in one.msg]
    assert "in block_the_loop" in told
