"""The tasks of the soak, one in a hundred of which fails, and one in a thousand never ends.

They note how long a job waited, in a file and not in the memory that is measured.
"""

from __future__ import annotations

import os
import struct
from functools import cache
from typing import Any

from nuvom import task
from nuvom.core.clock import SYSTEM_CLOCK

WAITS_VARIABLE = "TEST_SOAK_WAITS"


@cache
def _waits() -> int:
    return os.open(os.environ[WAITS_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def kind_of(number: int) -> Any:
    """Return the task for a number: 1 % fails, 0.1 % times out, 1 % runs in a child."""
    if number % 1000 == 500:
        return hangs_apart if number % 2000 == 500 else hangs
    if number % 100 == 7:
        return fails
    return apart if number % 100 == 9 else quick


def ends_badly(number: int) -> bool:
    """Whether the job of a number is to fail or to time out."""
    return kind_of(number) in (fails, hangs, hangs_apart)


@task(name="soak.quick")
def quick(number: int, enqueued_at: float) -> dict[str, Any]:
    """Return a little."""
    os.write(_waits(), struct.pack("d", SYSTEM_CLOCK.monotonic() - enqueued_at))
    return {"number": number, "text": "x" * (number % 500)}


@task(name="soak.apart", isolation="process")
def apart(number: int, enqueued_at: float) -> int:
    """Return from a child."""
    return number


@task(name="soak.fails", retries=1, retry_delay_secs=0)
def fails(number: int, enqueued_at: float) -> None:
    """Fail twice."""
    raise ValueError("x" * (number % 500))


@task(name="soak.hangs", timeout_secs=0.2)
def hangs(number: int, enqueued_at: float) -> None:
    """Run until stopped."""
    while True:
        SYSTEM_CLOCK.sleep(0.01)


@task(name="soak.hangs_apart", timeout_secs=0.2, isolation="process")
def hangs_apart(number: int, enqueued_at: float) -> None:
    """Run in a child until it is killed."""
    while True:
        SYSTEM_CLOCK.sleep(0.01)
