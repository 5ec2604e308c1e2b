"""The task that a kill storm runs: it records its start and end, and takes a moment."""

from __future__ import annotations

import os
from functools import cache

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.execution.attempts import current_job
from nuvom.task import task
from nuvom.testing import history

HISTORY_VARIABLE = "NUVOM_TORTURE_HISTORY"


def answer(number: int) -> int:
    """Return what the task returns for ``number``."""
    return number * 2 + 1


@cache
def log() -> history.HistoryLog:
    """Return this process's log of the history."""
    return history.HistoryLog(os.environ[HISTORY_VARIABLE])


@task(name="nuvom.torture.step")
def step(number: int, secs: float) -> int:
    """Run for ``secs`` seconds and return ``answer(number)``."""
    job = current_job()
    log().write(history.START, job=job.id, epoch=job.fencing_token)
    SYSTEM_CLOCK.sleep(secs)
    log().write(history.END, job=job.id, epoch=job.fencing_token)
    return answer(number)
