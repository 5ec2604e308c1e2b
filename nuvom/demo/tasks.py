"""The tasks of ``nuvom demo``: one for each thing that is worth seeing."""

from __future__ import annotations

import asyncio

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.execution.current import current_job
from nuvom.task import task

STEPS = 20


class NoPaperError(Exception):
    """What ``broken`` always raises."""


@task(name="demo.square")
def square(number: int) -> int:
    """Sixteen quick calls."""
    return number * number


@task(name="demo.crunch")
def crunch(secs: float) -> str:
    """Long work, with progress."""
    job = current_job()
    for step in range(STEPS):
        job.progress(step, STEPS, "crunching")
        SYSTEM_CLOCK.sleep(secs / STEPS)
    job.progress(STEPS, STEPS, "done")
    return f"crunched for {secs:g} s"


@task(name="demo.flaky", retries=3, retry_delay_secs=1, backoff="constant", jitter=False)
def flaky() -> str:
    """Fails once, heals by itself."""
    if current_job().attempt == 1:
        raise ConnectionError("the line is down")
    return "the line is up"


@task(name="demo.broken")
def broken() -> None:
    """Fails, and says why."""
    raise NoPaperError("the printer has no paper")


@task(name="demo.later")
def later() -> str:
    """Starts three seconds later."""
    return "right on time"


@task(name="demo.fetch")
async def fetch(secs: float) -> str:
    """Async, on the event loop."""
    await asyncio.sleep(secs)
    return "fetched"
