"""The async lane at its promises: thousands of waiting coroutines, and a loop that is blocked."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nuvom.core.clock import SYSTEM_CLOCK
from tests.engine import Engine, make_runtime

COROUTINES = 5_000


async def nap() -> None:
    await asyncio.sleep(1)


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
