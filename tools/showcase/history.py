"""The shop's past: a week of jobs, of which the successes of the last day are still stored."""

from __future__ import annotations

from math import cos, exp, pi
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from nuvom.core.ids import timed_id
from nuvom.core.record import Attempt, JobRecord, StoredError
from tests.lab.past import PastJob, rollup
from tools.showcase.failures import FAULTS, Fault
from tools.showcase.shop import HABITS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from random import Random

    from nuvom.core.views import Rollup

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
WEEK = 7 * DAY
PER_DAY = 45_000
_STORED_SECS = DAY  # so long are successes kept
_TAGS = {
    "mail.send_confirmation": ("customer",),
    "billing.capture_payment": ("checkout",),
}
_VIPS = 0.01  # their share of all jobs
_LATE = 0.04  # share of the jobs that wait for longer than usual


class Run(NamedTuple):
    """A job that succeeded: its task, and when it was created, started and ended."""

    task: str
    created_at: float
    started_at: float
    ended_at: float


class Shop(NamedTuple):
    """What a past is made from.

    Attributes:
        workers: Ids of those that ran the jobs, by queue.
    """

    root: Path
    rng: Random
    now: float
    workers: dict[str, tuple[str, ...]]

    def record(self, task: str, created_at: float, call: dict[str, Any], **more: Any) -> JobRecord:
        """Return a job of a task that the shop uses often."""
        habit = HABITS[task]
        return JobRecord(
            timed_id(created_at, f"{self.rng.getrandbits(72):018x}"),
            task,
            kwargs=msgspec.Raw(msgspec.msgpack.encode(call)),
            queue=habit.queue,
            created_at=created_at,
            max_retries=habit.retries,
            tags=_TAGS.get(task, ()),
            **more,
        )

    def worker(self, queue: str) -> str:
        """Return one that serves a queue."""
        return self.rng.choice(self.workers[queue])

    def secs(self, task: str) -> float:
        """Draw how long a job of a task takes."""
        habit = HABITS[task]
        return habit.secs * exp(self.rng.gauss(0, habit.spread))


def _rhythm(ago: float) -> float:
    """Return how busy the shop is, from 0 to 1: by night hardly, and less at the weekend."""
    hours = (14.5 - ago / HOUR) % 24
    height = max(0.0, 0.5 - 0.5 * cos(2 * pi * (hours - 3.5) / 24))
    day = 0.14 + 0.86 * float(height**1.3)
    is_weekend = int((ago / HOUR + 9.5) // 24) in (3, 4)
    return day * (0.6 if is_weekend else 1.0)


def runs(shop: Shop, per_day: int) -> Iterator[Run]:
    """Yield a week of jobs that succeeded, oldest first."""
    rng, tasks = shop.rng, list(HABITS)
    weights = [habit.weight for habit in HABITS.values()]
    peak = per_day / DAY / 0.47  # the mean of the rhythm
    moment, level = shop.now - WEEK, 1.0
    while (moment := moment + rng.expovariate(peak)) < shop.now - 1:
        level += 0.004 * (1 - level) + 0.006 * rng.gauss(0, 1)  # demand comes and goes
        if rng.random() > _rhythm(shop.now - moment) * level:
            continue
        task = rng.choices(tasks, weights)[0]
        wait = rng.expovariate(1 / 0.35) + (rng.random() < _LATE) * rng.expovariate(1 / 5)
        started_at = moment + wait
        ended_at = started_at + shop.secs(task)
        if ended_at < shop.now:
            yield Run(task, moment, started_at, ended_at)


def successes(shop: Shop, past: list[Run]) -> Iterator[PastJob]:
    """Yield those of the runs that are still stored."""
    for one in past:
        if one.ended_at < shop.now - _STORED_SECS:
            continue
        habit = HABITS[one.task]
        call = habit.call(shop.rng)
        tags = ("vip",) if shop.rng.random() < _VIPS else ()
        record = shop.record(one.task, one.created_at, call)
        yield PastJob(
            record.replace(tags=record.tags + tags),
            "SUCCESS",
            started_at=one.started_at,
            finished_at=one.ended_at,
            worker=shop.worker(habit.queue),
            result=msgspec.msgpack.encode(habit.result(call)),
        )


def rollups_of(runs: list[Run], shop: Shop) -> Iterator[Rollup]:
    """Yield the roll-ups of the runs that are no longer stored."""
    for one in runs:
        if one.ended_at < shop.now - _STORED_SECS:
            queue = HABITS[one.task].queue
            yield rollup(queue, one.task, "waited", one.ended_at, one.started_at - one.created_at)
            yield rollup(queue, one.task, "success", one.ended_at, one.ended_at - one.started_at)


def failures(shop: Shop) -> Iterator[PastJob]:
    """Yield the jobs that failed."""
    for fault in FAULTS:
        for _ in range(fault.jobs):
            yield failure(shop, fault, shop.now - fault.ago(shop.rng))


def failure(shop: Shop, fault: Fault, ended_at: float) -> PastJob:
    """Return a job that failed in the way of a fault."""
    habit = HABITS.get(fault.task) or HABITS["reports.export_orders"]
    call = habit.call(shop.rng) if fault.task in HABITS else {"warehouse": "NL-2"}
    error = fault.error(shop.root, call)
    is_deploy = fault is FAULTS[0]
    worker = shop.workers["images"][0] if is_deploy else shop.worker(habit.queue)
    if fault.outcome == "lost":
        worker = shop.workers["silent"][0]
    secs = 10.0 if fault.outcome == "timeout" else 0.4 + 0.6 * shop.rng.random()
    delays = [20.0 * 2**number for number in range(fault.attempts - 1)]
    if is_deploy:
        delays = [6.0]
    began = ended_at - secs * fault.attempts - sum(delays)
    past = attempts(began, secs, delays, error, worker=worker, outcome=fault.outcome)
    if fault.task in HABITS:
        record = shop.record(fault.task, began - 0.3, call)
    else:
        record = shop.record("reports.export_orders", began - 0.3, call)
        record = record.replace(func_name=fault.task, max_retries=fault.attempts - 1)
    end = "DEAD" if fault.outcome == "lost" else "FAILED"
    return of_attempts(record, end, past)


def attempts(
    began: float, secs: float, delays: list[float], error: StoredError, *, worker: str, outcome: str
) -> tuple[Attempt, ...]:
    """Return attempts that all failed alike, after waits that grow."""
    found = []
    for number in range(1, len(delays) + 2):
        is_last = number == len(delays) + 1
        found.append(
            Attempt(
                number=number,
                outcome=outcome if is_last or outcome == "lost" else "retry",
                lease_epoch=number,
                worker=worker,
                started_at=began,
                finished_at=began + secs,
                error=error,
            )
        )
        began += secs + (0.0 if is_last else delays[number - 1])
    return tuple(found)


def of_attempts(record: JobRecord, end: str, past: tuple[Attempt, ...]) -> PastJob:
    """Return a job whose attempts all failed."""
    last = past[-1]
    return PastJob(
        record, end, past, last.started_at, last.finished_at, worker=last.worker, error=last.error
    )
