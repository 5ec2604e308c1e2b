"""Tasks that are told something while they run, one for each way in which a task can run."""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar

from nuvom import JobStopping, SoftTimeout, current_job, task

HOOKS_WRITE_TO = "TASK_NEEDS_HOOKS"  # the environment variable that names a file
SIGNALS = (SoftTimeout, JobStopping)
TENANT = ContextVar("TENANT", default="nobody")  # which a hook sets


def note(path: str, text: str) -> None:
    """Append a line, in one write, so that processes do not mix theirs."""
    with open(path, "ab", buffering=0) as stream:
        stream.write(f"{text}\n".encode())


def _answer(signal: Exception, *, lets_through: bool) -> str:
    if lets_through:
        raise signal
    return f"{type(signal).__name__}, stopping: {current_job().stopping}"


def _wait(path: str, *, lets_through: bool) -> str:
    note(path, "waits")
    try:
        while True:
            time.sleep(0.001)
    except SIGNALS as signal:
        return _answer(signal, lets_through=lets_through)


async def _wait_async(path: str, *, lets_through: bool) -> str:
    note(path, "waits")
    try:
        await asyncio.sleep(3600)
    except SIGNALS as signal:
        return _answer(signal, lets_through=lets_through)
    return "never"


@task(interrupt_on_stop=True)
def wait_in_thread(path: str, *, lets_through: bool = False) -> str:
    return _wait(path, lets_through=lets_through)


@task(interrupt_on_stop=True)
async def wait_on_loop(path: str, *, lets_through: bool = False) -> str:
    return await _wait_async(path, lets_through=lets_through)


@task(interrupt_on_stop=True, isolation="process")
def wait_in_child(path: str, *, lets_through: bool = False) -> str:
    return _wait(path, lets_through=lets_through)


@task(interrupt_on_stop=True, isolation="process")
async def wait_on_loop_of_child(path: str, *, lets_through: bool = False) -> str:
    return await _wait_async(path, lets_through=lets_through)


WAITING = (wait_in_thread, wait_on_loop, wait_in_child, wait_on_loop_of_child)


# ---- between hooks --------------------------------------------------------------------


def _end(path: str, how: str) -> str:
    note(path, f"{how} for {TENANT.get()}")
    if how == "raises":
        raise ValueError(how)
    return how


@task
def end_in_thread(path: str, how: str) -> str:
    return _end(path, how)


@task
async def end_on_loop(path: str, how: str) -> str:
    await asyncio.sleep(0)
    return _end(path, how)


@task(isolation="process")
def end_in_child(path: str, how: str) -> str:
    return _end(path, how)


@task(isolation="process")
async def end_on_loop_of_child(path: str, how: str) -> str:
    return _end(path, how)


@task(timeout_secs=0.2)
def hang(path: str) -> None:
    note(path, "hangs")
    while True:
        time.sleep(0.001)


ENDING = (end_in_thread, end_on_loop, end_in_child, end_on_loop_of_child)
