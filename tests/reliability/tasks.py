"""The tasks of fault tests. Each says in the history when its code starts and ends."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

from nuvom import current_job, task
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.testing import history
from nuvom.testing.history import HistoryLog

HISTORY_VARIABLE = "TEST_HISTORY"
HISTORY: ContextVar[str | None] = ContextVar("HISTORY", default=None)
"""Where tasks of a worker in this process write, when the worker was made in such a context."""
CHILD_OFFSET = 1_000_000
FORMER_NAME = "rel.plain_of_before"  # which no worker knows
_LOOK_SECS = 0.01


@cache
def log_at(path: str) -> HistoryLog:
    return HistoryLog(path)


@contextmanager
def noted() -> Iterator[None]:
    """Note the start and, unless the process dies, the end of the calling task's code."""
    job = current_job()
    log = log_at(HISTORY.get() or os.environ[HISTORY_VARIABLE])
    details = {"job": job.id, "epoch": job.fencing_token}
    log.write(history.START, **details, attempt=job.attempt)
    try:
        yield
    finally:
        log.write(history.END, **details)


@task(name="rel.plain")
def plain(number: int) -> int:
    with noted():
        return number + 1


@task(name="rel.bare")
def bare(number: int) -> int:
    """Return at once, and tell nobody."""
    return number + 1


def after(result: int) -> None:
    job = current_job()
    log_at(HISTORY.get() or os.environ[HISTORY_VARIABLE]).write(
        "after-job", job=job.id, epoch=job.fencing_token, result=result
    )


@task(name="rel.first_is_late", after_job=after)
def first_is_late(number: int, secs: float) -> int:
    """Take ``secs`` seconds when delivered for the first time, and then return what is wrong."""
    with noted():
        if current_job().fencing_token > 1:
            return number + 1
        ends_at = SYSTEM_CLOCK.monotonic() + secs
        while SYSTEM_CLOCK.monotonic() < ends_at:
            SYSTEM_CLOCK.sleep(_LOOK_SECS)
        return -1


@task(name="rel.slow")
def slow(number: int, secs: float) -> int:
    with noted():
        SYSTEM_CLOCK.sleep(secs)
        return number + 1


@task(name="rel.flaky", retries=3, retry_delay_secs=0, jitter=False)
def flaky(number: int) -> int:
    """Fail at the first attempt."""
    with noted():
        if current_job().attempt == 1:
            raise ValueError("the first attempt fails")
        return number + 1


@task(name="rel.retried_soon", retries=3, retry_delay_secs=1.0, jitter=False)
def retried_soon(number: int) -> int:
    """Fail at the first attempt, and wait for the next one."""
    with noted():
        if current_job().attempt == 1:
            raise ValueError("the first attempt fails")
        return number + 1


@task(name="rel.failing")
def failing(number: int) -> int:
    with noted():
        raise ValueError(f"{number} always fails")


@task(name="rel.parent")
def parent(number: int) -> int:
    """Enqueue a job together with this one's success."""
    with noted():
        current_job().enqueue(plain, number + CHILD_OFFSET)
        return number + 1


@task(name="rel.stubborn")
def stubborn(number: int, pid: int) -> int:
    """In process ``pid`` run until cancelled, elsewhere return at once."""
    with noted():
        job = current_job()
        while os.getpid() == pid and not job.cancelled:
            SYSTEM_CLOCK.sleep(_LOOK_SECS)
        return number + 1


@task(name="rel.first_hangs")
def first_hangs(number: int) -> int:
    """Run until cancelled when delivered for the first time, later return at once."""
    with noted():
        job = current_job()
        while job.fencing_token == 1 and not job.cancelled:
            SYSTEM_CLOCK.sleep(_LOOK_SECS)
        return number + 1


@task(name="rel.deadly")
def deadly(number: int, pid: int) -> int:
    """In process ``pid`` kill it, elsewhere return."""
    with noted():
        if os.getpid() == pid:
            os.kill(pid, signal.SIGKILL)
            threading.Event().wait()  # the signal is on its way
        return number + 1


@task(name="rel.holds_the_interpreter")
def holds_the_interpreter(number: int, pid: int, secs: float) -> int:
    """In process ``pid`` keep all its threads from running, elsewhere return at once."""
    with noted():
        if os.getpid() == pid:
            ctypes.PyDLL(None).poll(None, 0, int(secs * 1000))  # a PyDLL call keeps the GIL
        return number + 1
