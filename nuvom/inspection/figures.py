"""The figures of a project and of its queues, each from one function for all who show it.

They come from counts of what is stored now, and from the rows of ``Inspector.history``, which
callers read once and pass on.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from nuvom.core.views import ENDS, QueueStats
from nuvom.inspection.history import by_name, percentile, series, total

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuvom.core.views import Rollup, WorkerInfo
    from nuvom.inspection.inspector import Inspector

MINUTE, HOUR, DAY = 60, 3600, 86_400
FAILURES = ("failed", "dead")
RAN = (*ENDS, "retried")
"""The kinds of roll-ups that tell how long attempts took."""

_WEEK = 7 * DAY
_LATELY_SECS = 5 * MINUTE  # what "per min" is the mean of
_LATELY_STEP = 2 * MINUTE  # of the small lines, which show one hour
_LEAST_RISE = 10  # so many more failures than the day before are a rise if they doubled
_SLOW = 10  # times the usual p95

LEAST_SLOW_SECS = 10.0
"""What runs for less is not called slow, whatever is usual."""


class Flow(NamedTuple):
    """How many jobs ended in each step of a time window, and how long attempts took.

    Attributes:
        since: The start of the first step, seconds since the epoch.
        step: The length of a step in seconds.
        finished: Jobs that ended, in any way, in each step. The last step is the running one; it
            is left out until it has reached the one before, so that the line does not seem to fall.
        before: The same steps one ``period`` of seconds earlier, with the running one.
        failed: Jobs that ended FAILED or DEAD.
        waited_p95: Seconds that attempts had waited for a worker; None if none was timed.
        ran_p50, ran_p95: Seconds that attempts took.
        worst_task: The task with the most failures in the step with the most; empty without one.
    """

    since: float
    step: int
    period: int
    finished: list[int]
    before: list[int]
    failed: list[int]
    waited_p95: float | None
    ran_p50: float | None
    ran_p95: float | None
    worst_task: str

    @property
    def worst(self) -> int | None:
        """The index of the step with the most failures, the latest of several; None without any."""
        most = max(self.failed, default=0)
        return len(self.failed) - 1 - self.failed[::-1].index(most) if most else None

    @property
    def steps(self) -> int:
        """How many steps the window has, with the running one."""
        return len(self.failed)


def step_of(secs: int) -> int:
    """Return the step in seconds for a window: at most about 150 steps."""
    return MINUTE if secs <= HOUR else 10 * MINUTE if secs <= DAY else 2 * HOUR


def flow(inspector: Inspector, now: float, secs: int, *, queue: str | None = None) -> Flow:
    """Return what ended in the last ``secs`` seconds, in all queues or in one."""
    step, period = step_of(secs), DAY if secs <= DAY else _WEEK
    since = (now - secs) // step * step
    rows = inspector.history(since, now, step)
    until = since + len(range(int(since), int(now) + 1, step)) * step - period
    past = inspector.history(since - period, until, step)
    finished = series(rows, since, now, step, kinds=ENDS, queue=queue)
    failed = series(rows, since, now, step, kinds=FAILURES, queue=queue)
    if len(finished) > 1 and finished[-1] < finished[-2]:
        finished.pop()
    return Flow(
        since,
        step,
        period,
        finished,
        series(past, since - period, until, step, kinds=ENDS, queue=queue),
        failed,
        percentile(rows, 0.95, kinds=("waited",), queue=queue),
        percentile(rows, 0.5, kinds=RAN, queue=queue),
        percentile(rows, 0.95, kinds=RAN, queue=queue),
        _worst_task(rows, queue),
    )


def _worst_task(rows: Sequence[Rollup], queue: str | None) -> str:
    """Return the task with the most failures in the step with the most."""
    steps, tasks = Counter[int](), Counter[tuple[int, str]]()
    for one in rows:
        if one.kind in FAILURES and queue in (None, one.queue):
            steps[one.at] += one.count
            tasks[one.at, one.task] += one.count
    if not steps:
        return ""
    worst = max(steps, key=lambda at: (steps[at], at))
    found = {task: count for (at, task), count in tasks.items() if at == worst}
    return max(found, key=lambda task: found[task])


class QueueFigures(NamedTuple):
    """What is known of one queue. The figures from the history are None if the store keeps none.

    Attributes:
        workers: Live workers that serve it; None if the store cannot tell.
        slots: Their thread slots, which other queues may use as well.
        oldest_secs: How long the longest waiting ready job has waited.
        per_min: Jobs that ended per minute, the mean of the last five whole minutes.
        ran_p95: Seconds that attempts took in the last hour.
        lately: Jobs that ended in each two minutes of the last hour.
        failed, failed_before: FAILED and DEAD jobs of the last 24 hours, and of the 24 before,
            which is None if no job ended then.
    """

    stats: QueueStats
    workers: int | None
    slots: int | None
    oldest_secs: float | None
    per_min: float | None
    ran_p95: float | None
    lately: list[int] | None
    failed: int | None
    failed_before: int | None

    @property
    def has_more_failures(self) -> bool:
        """Whether clearly more jobs failed than the day before: twice as many, and not a few."""
        failed, before = self.failed or 0, self.failed_before
        return before is not None and failed >= 2 * before and failed - before >= _LEAST_RISE


class Recent(NamedTuple):
    """Rows of the history that many figures share: minutes of an hour, hours of two days."""

    now: float
    minutes: Sequence[Rollup]
    hours: Sequence[Rollup]


def recent(inspector: Inspector, now: float) -> Recent:
    """Read what ``queues`` and ``project`` need of the history."""
    return Recent(
        now,
        inspector.history(now - HOUR, now, MINUTE),
        inspector.history(now - 2 * DAY, now, HOUR),
    )


def queues(inspector: Inspector, seen: Recent, stats: Sequence[QueueStats]) -> list[QueueFigures]:
    """Return the figures of each queue, in the order of ``stats``.

    Args:
        stats: What ``Inspector.stats`` returned a moment ago.
    """
    workers = _living(inspector) if inspector.sees_processes else None
    minutes, hours = by_name(seen.minutes, "queue"), by_name(seen.hours, "queue")
    found = []
    for one in stats:
        own = Recent(seen.now, minutes.get(one.queue, ()), hours.get(one.queue, ()))
        found.append(_queue(inspector, own, one, workers))
    return found


def _living(inspector: Inspector) -> list[WorkerInfo]:
    return [one for one in inspector.workers() if one.state != "silent"]


def _queue(
    inspector: Inspector,
    seen: Recent,
    stats: QueueStats,
    workers: Sequence[WorkerInfo] | None,
) -> QueueFigures:
    """Return the figures of one queue, from its own part of the history."""
    now, name = seen.now, stats.queue
    serving = [one for one in workers or () if not one.queues or name in one.queues]
    failed, before = _days_failed(seen)
    keeps, whole = inspector.keeps_history, now // MINUTE * MINUTE
    since, until = now - HOUR, whole - whole % _LATELY_STEP
    lately = series(seen.minutes, since, until, _LATELY_STEP, kinds=ENDS)
    return QueueFigures(
        stats,
        None if workers is None else len(serving),
        None if workers is None else sum(one.slots for one in serving),
        None if stats.oldest_ready_at is None else max(0.0, now - stats.oldest_ready_at),
        per_min(seen.minutes, now) if keeps else None,
        percentile(seen.minutes, 0.95, kinds=RAN),
        lately if keeps else None,
        failed if keeps else None,
        before if keeps else None,
    )


def per_min(minutes: Sequence[Rollup], now: float, *, queue: str | None = None) -> float:
    """Return how many jobs ended per minute, the mean of the last five whole minutes.

    Args:
        minutes: Rows of the history with a step of a minute.
    """
    until = now // MINUTE * MINUTE
    lately = [one for one in minutes if until - _LATELY_SECS <= one.at < until]
    return total(lately, ENDS, queue=queue) * MINUTE / _LATELY_SECS


def _days_failed(seen: Recent) -> tuple[int, int | None]:
    """Return how many jobs failed in the last 24 hours, and in the 24 before, to the hour."""
    middle = seen.now - DAY
    late = [one for one in seen.hours if one.at >= middle]
    early = [one for one in seen.hours if one.at < middle]
    before = total(early, FAILURES) if total(early, ENDS) else None
    return total(late, FAILURES), before


class ProjectFigures(NamedTuple):
    """The figures of a whole project.

    Attributes:
        busiest: The queue with the most ready jobs; empty if none is ready.
        busiest_share: Its share of the ready jobs, from 0 to 1.
        next_due_secs: How long until the first of the scheduled and retrying jobs is due, or None.
        alive: Live workers; None, as ``slots``, if the store cannot tell.
        slots: Thread slots of the live workers.
        failed, ended: Jobs of the last 24 hours; None if the store keeps no history.
        oldest_secs, oldest_queue: The longest wait of a ready job in a queue that is not paused.
    """

    ready: int
    busiest: str
    busiest_share: float
    running: int
    scheduled: int
    retrying: int
    next_due_secs: float | None
    alive: int | None
    silent: int
    slots: int | None
    failed: int | None
    ended: int | None
    oldest_secs: float | None
    oldest_queue: str
    is_one_paused: bool


def project(inspector: Inspector, seen: Recent, found: Sequence[QueueFigures]) -> ProjectFigures:
    """Return the figures of the whole project, from those of its queues."""
    stats = [one.stats for one in found]
    ready = sum(one.ready for one in stats)
    busiest = max(stats, key=lambda one: one.ready, default=None)
    open_ones = [one for one in found if one.stats.paused_by is None and one.oldest_secs]
    oldest = max(open_ones, key=lambda one: one.oldest_secs or 0.0, default=None)
    workers, keeps = inspector.workers(), inspector.keeps_history
    living = [one for one in workers if one.state != "silent"]
    day = [one for one in seen.hours if one.at >= seen.now - DAY]
    return ProjectFigures(
        ready=ready,
        busiest="" if busiest is None or not ready else busiest.queue,
        busiest_share=0.0 if busiest is None or not ready else busiest.ready / ready,
        running=sum(one.running for one in stats),
        scheduled=sum(one.scheduled for one in stats),
        retrying=sum(one.retrying for one in stats),
        next_due_secs=inspector.next_due_secs(),
        alive=len(living) if inspector.sees_processes else None,
        silent=len(workers) - len(living),
        slots=sum(one.slots for one in living) if inspector.sees_processes else None,
        failed=total(day, FAILURES) if keeps else None,
        ended=total(day, ENDS) if keeps else None,
        oldest_secs=None if oldest is None else oldest.oldest_secs,
        oldest_queue="" if oldest is None else oldest.stats.queue,
        is_one_paused=any(one.paused_by is not None for one in stats),
    )


class Usual:
    """How long attempts of each task usually take: their p95 of the last two days."""

    def __init__(self, seen: Recent) -> None:
        self._rows: dict[str, list[Rollup]] = {}
        self._known: dict[str, float | None] = {}
        for one in seen.hours:
            self._rows.setdefault(one.task, []).append(one)

    def p95(self, task: str) -> float | None:
        """Return seconds, or None if no attempt was timed."""
        if task not in self._known:
            self._known[task] = percentile(self._rows.get(task, ()), 0.95, kinds=RAN)
        return self._known[task]

    def is_slow(self, task: str, secs: float) -> bool:
        """Return whether an attempt runs more than ten times as long as usual, and not a moment."""
        usual = self.p95(task)
        return usual is not None and secs > max(_SLOW * usual, LEAST_SLOW_SECS)
