"""Tasks of a project whose code does not end by itself, for a thread and for the event loop."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import time
from pathlib import Path

from nuvom import task

TIMEOUT_SECS = 0.5
GIL_SECS = 2  # none that holds the GIL can be closed before it lets go


@task(timeout_secs=TIMEOUT_SECS)
def spin() -> None:
    while True:
        pass


@task(timeout_secs=TIMEOUT_SECS)
def block() -> None:
    time.sleep(60)


@task(timeout_secs=TIMEOUT_SECS)
def catch_all() -> None:
    while True:
        try:
            time.sleep(60)
        except BaseException:  # noqa: BLE001  # the very thing that is tested
            continue


@task(timeout_secs=TIMEOUT_SECS)
def hold_the_gil() -> None:
    ctypes.PyDLL(None).sleep(GIL_SECS)


@task(timeout_secs=TIMEOUT_SECS)
async def spin_on_the_loop() -> None:
    while True:
        pass


@task(timeout_secs=TIMEOUT_SECS)
async def block_the_loop() -> None:
    time.sleep(60)  # noqa: ASYNC251  # what one must not do


@task(timeout_secs=TIMEOUT_SECS)
async def catch_all_on_the_loop() -> None:
    while True:
        try:
            await asyncio.sleep(60)
        except BaseException:  # noqa: BLE001  # the very thing that is tested
            continue


@task(timeout_secs=TIMEOUT_SECS)
async def hold_the_gil_on_the_loop() -> None:
    ctypes.PyDLL(None).sleep(GIL_SECS)


@task
def ignore_the_end() -> None:
    """Try to keep the worker from hearing that it is to stop."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@task
def meet(folder: str, count: int) -> int:
    """Return once ``count`` jobs are in here at the same time."""
    _come(folder)
    while len(os.listdir(folder)) < count:
        time.sleep(0.01)
    return os.getpid()


@task
async def meet_on_the_loop(folder: str, count: int) -> int:
    """Likewise, on the loop."""
    _come(folder)
    while len(os.listdir(folder)) < count:  # noqa: ASYNC110  # other processes come as well
        await asyncio.sleep(0.01)
    return os.getpid()


def _come(folder: str) -> None:
    Path(folder, os.urandom(8).hex()).touch()
