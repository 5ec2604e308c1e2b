"""Code that calls the engine in all ways until it is interrupted, and notes what was accepted.

Also the ``tasks.py`` of the projects in ``test_interrupted_workers.py``: it imports nothing of
the tests.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from random import Random

from nuvom import current_job, task
from nuvom.errors import JobTimeout, LeaseLost
from nuvom.sdk import get_job_status, list_jobs

LATER = "later"  # the queue of accepted jobs
KEYS = 50
MOST_AT_ONCE = 20
READS, LINES = 4, 20  # in a row: about as long as one call that writes
SHORT_SECS, LONG_SECS = 0.01, 60.0
LONG_WAITS = 0.05  # the share of waits that only an interruption ends
LOG = logging.getLogger("interrupted")


@task(name="interrupted.accepted", queue=LATER)
def accepted(number: int) -> int:
    return number


class Caller:
    """Calls the engine at random.

    Args:
        path: Gets a line with each id that a call returned, before the next call.
        has_long_waits: Some waits end only when they are interrupted.
    """

    def __init__(self, path: str, rng: Random, *, has_long_waits: bool = True) -> None:
        self.told = open(path, "ab", buffering=0)  # noqa: SIM115  # it lives as long as this does
        self.rng = rng
        often = [self.one, self.many, self.lazily, self.keyed, self.cancel, self.read, self.log]
        self.ways = [*often * 3, self.wait]
        self.has_long_waits = has_long_waits
        self.last = ""
        self.one()

    def call(self) -> None:
        """Make a call or several, of one kind."""
        self.rng.choice(self.ways)()

    def one(self) -> None:
        self._tell(accepted.delay(1).id)

    def many(self) -> None:
        count = self.rng.randint(1, MOST_AT_ONCE)
        self._tell(*accepted.map([(number,) for number in range(count)]).ids)

    def lazily(self) -> None:
        count = self.rng.randint(1, MOST_AT_ONCE)
        self._tell(*accepted.map((number,) for number in range(count)).ids)

    def keyed(self) -> None:
        key = str(self.rng.randrange(KEYS))
        self._tell(accepted.options(unique_key=key).delay(1).id)

    def cancel(self) -> None:
        job = accepted.delay(1)
        self._tell(job.id)
        job.cancel()

    def read(self) -> None:
        for _ in range(READS):
            assert get_job_status(self.last)["id"] == self.last
            assert list_jobs(limit=5)

    def wait(self) -> None:
        """Wait for a job that nobody runs."""
        is_long = self.has_long_waits and self.rng.random() < LONG_WAITS
        job = accepted.delay(1)
        self._tell(job.id)
        with suppress(JobTimeout):
            job.get(timeout=LONG_SECS if is_long else SHORT_SECS)

    def log(self) -> None:
        for number in range(LINES):
            LOG.info("line %d since %s", number, self.last)

    def _tell(self, *ids: str) -> None:
        self.last = ids[-1]
        self.told.write("".join(f"{one}\n" for one in ids).encode())


@task(name="interrupted.endless")
def endless(folder: str) -> None:
    """Call the engine until closed."""
    job = current_job()
    caller = Caller(os.path.join(folder, job.id), Random())
    caller.ways.append(lambda: job.progress(1.0, message=caller.last))
    while True:
        with suppress(LeaseLost):  # it was cancelled: go on until the worker closes it
            caller.call()


@task(name="interrupted.say")
def say(number: int) -> int:
    """Write a line into the worker's log."""
    LOG.info("said %d", number)
    return number
