"""How many jobs a worker may claim now, and which tasks and queues it cannot take any of.

Quick jobs are claimed by the hundred, so that a full queue is processed in bulk. Slow jobs are
claimed as slots become free, so that no job waits behind a slow one while another worker is idle.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from nuvom.errors import CapabilityMissing
from nuvom.execution.settlement import ClaimRequest, Served

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nuvom.execution.attempts import OpenAttempt, OpenAttempts
    from nuvom.execution.lanes import Lane, WorkerContext

_BATCH_SECS = 0.02  # a claim takes as many jobs as the slots finish in this time
_LEAST_SECS = 1e-5  # that any number of jobs takes
_MOST_CLAIMED = 1024  # more would gain nothing, and would all wait for one worker
_MOST_OF_OTHERS = 512  # jobs claimed at once for any lane but the thread lane
_PREFETCH_SECS = 0.1  # of work that may wait for a slot
_PREFETCH_LIMIT_SECS = 0.5  # a job that has waited longer for a slot goes back to the queue
_NEWEST_WEIGHT = 0.2  # of the latest attempt in the moving average
_NO_LIMIT = 1 << 30
_ANY_QUEUE: tuple[tuple[Served | None, int], ...] = ((None, _NO_LIMIT),)


class Limits(NamedTuple):
    """When a worker stops by itself, and how much it runs at once.

    Attributes:
        burst: Stop when no job is ready and none is running.
        max_jobs: Stop after claiming this many jobs.
        max_secs: Stop after this many seconds.
        concurrency: Maximum number of jobs running at once, by queue; other queues are unlimited.
    """

    burst: bool = False
    max_jobs: int | None = None
    max_secs: float | None = None
    concurrency: Mapping[str, int] | None = None


class BatchSize:
    """Estimates the rate of finished jobs and derives the size of a claim from it.

    Args:
        slots: The minimum size.
        most: The maximum size; None for the default.

    Attributes:
        most: The maximum size of a claim, for any lane.
        size: The current size, between the minimum and the maximum.
        is_bulk: Whether jobs are quick enough to be claimed ahead of free slots.
    """

    def __init__(self, slots: int, most: int | None) -> None:
        self._least = slots if most is None else min(slots, most)
        self.most = _MOST_CLAIMED if most is None else most
        self.is_bulk = False
        self.size = self._least

    def finished(self, ended: Sequence[OpenAttempt], secs: float) -> None:
        """Note which attempts have ended, ``secs`` seconds after the slots got work.

        Time in which slots waited for the store must not count: a slow store calls for large
        batches. So what each attempt took counts, as if one had followed the other, unless they
        were quicker together. Those that ran side by side took a share of it at least: slow ones
        that end at the same moment are not quick. Each call at most doubles the size; it shrinks
        at once when jobs become slow.
        """
        threads = [one.settlement for one in ended if one.lane == "thread"]
        took = [one.finished_at - one.started_at for one in threads if one.started_at]
        took_secs = sum(took)
        secs = max(took_secs / self._least, min(took_secs, secs), _LEAST_SECS)
        if took:
            target = int(len(took) * _BATCH_SECS / secs)
            self._set(min(self.most, target, self.size * 2))

    def stalled(self) -> None:
        """Note that claimed jobs wait behind slow ones, so that none are claimed ahead."""
        self._set(self._least)

    def _set(self, size: int) -> None:
        self.size = max(self._least, size)
        self.is_bulk = self.size > self._least


class Prefetch:
    """How many attempts a lane may hold beyond its free slots: a moment's work, or none.

    Attributes:
        size: 0 until the duration of attempts is known.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._mean_secs: float | None = None
        self.size = 0

    def took(self, secs: float) -> None:
        """Note how long an attempt took."""
        before = secs if self._mean_secs is None else self._mean_secs
        mean = self._mean_secs = before + _NEWEST_WEIGHT * (secs - before)
        most = _MOST_CLAIMED // self._slots
        each = most if mean * most <= _PREFETCH_SECS else int(_PREFETCH_SECS / mean)
        self.size = self._slots * each


class Capacity:
    """The free capacity of one worker's lanes.

    Args:
        lanes: The existing lanes, by name; a lane is created when first needed.
        slots: How many slots each lane has, or would have, by name.
        concurrency: As in ``Limits``.
    Raises: CapabilityMissing: a five-method queue cannot enforce ``concurrency``.

    Attributes:
        claimed_at: Monotonic seconds of the last claim for each lane, by name.
    """

    def __init__(
        self,
        context: WorkerContext,
        lanes: Mapping[str, Lane],
        slots: Mapping[str, int],
        concurrency: Mapping[str, int] | None = None,
    ) -> None:
        self._lanes, self._slots = lanes, slots
        self._names = [*(name for name in slots if name != "thread"), "thread"]
        self._runner = context.runner
        self._queue_limits = _queue_limits(context, concurrency)
        self.claimed_at: dict[str, float] = {}
        self.batch = BatchSize(slots["thread"], context.settings.batch_size)

    def requests(self) -> Iterator[ClaimRequest]:
        """Yield the claims to make; each is sized at the moment it is yielded.

        The thread lane claims a batch ahead when jobs are quick, and otherwise no more than its
        idle slots. Every other lane claims for its own tasks, once it has any. So a full lane does
        not hold back lanes with room, and no lane gets jobs that it cannot start.
        """
        known, limits = self._runner.known, self._queue_limits
        for name in self._names:
            if name != "thread" and name not in known:
                continue
            without = list(self._runner.refused)
            for other, tasks in known.items():
                if other != name:
                    without += tasks
            for served, left in _ANY_QUEUE if limits is None else limits.shares():
                most = min(self.of(name), left)
                if most > 0:
                    starts = name == "thread" and not self.batch.is_bulk
                    yield ClaimRequest(most, without, served, starts)

    @property
    def is_common(self) -> bool:
        """Whether any slot of the thread lane can run everything that is claimed."""
        return self._queue_limits is None and self._runner.known.keys() <= {"thread"}

    def of(self, name: str) -> int:
        """Return how many jobs a lane has room for, up to the limit of one claim."""
        lane = self._lanes.get(name)
        room = self._slots[name] if lane is None else lane.room()
        if name != "thread":
            return min(_MOST_OF_OTHERS, self.batch.most, room)
        if lane is None or not self.batch.is_bulk:
            return min(self.batch.most, room)
        waiting = len(lane.ready)
        return self.batch.size - waiting if waiting <= self.batch.size // 2 else 0

    def held_up(self, now: float) -> list[Lane]:
        """Return the lanes whose jobs have waited too long while all slots were busy."""
        found = []
        for name, claimed_at in self.claimed_at.items():
            lane = self._lanes[name]
            if claimed_at < now - _PREFETCH_LIMIT_SECS and lane.ready and not lane.free():
                found.append(lane)
        return found


class QueueLimits:
    """Limits how many jobs of a queue run at once in this worker.

    Args:
        most: The limit by queue, each 1 or more.
        served: The queues that the worker serves.
        attempts: The attempts that count towards the limits.
    """

    def __init__(self, most: Mapping[str, int], served: Served, attempts: OpenAttempts) -> None:
        self._most = most
        self._served = served
        self._attempts = attempts
        self._shares = self._split()

    def shares(self) -> Iterator[tuple[Served, int]]:
        """Yield groups of the served queues, and how many jobs may be claimed from each."""
        if self._served.queues is None:
            self._shares.append(self._shares.pop(0))  # rotate, so that no queue always comes first
        for share in self._shares:
            yield share, _NO_LIMIT if share.queues is None else self._left(share.queues[0])

    def _left(self, queue: str) -> int:
        if queue not in self._most:
            return _NO_LIMIT
        held = Counter(attempt.record.queue for attempt in list(self._attempts.open))
        return self._most[queue] - held[queue]

    def _split(self) -> list[Served]:
        """Return each limited queue separately; the others stay together, in their order."""
        queues, exclude = self._served.queues, self._served.exclude
        if queues is None:
            limited = [Served((name,)) for name in self._most if name not in exclude]
            return [*limited, Served(None, (*exclude, *self._most))]
        shares: list[Served] = []
        for name in queues:
            last = shares[-1].queues if shares else None
            if last is None or name in self._most or last[0] in self._most:
                shares.append(Served((name,), exclude))
            else:
                shares[-1] = Served((*last, name), exclude)
        return shares


def _queue_limits(context: WorkerContext, most: Mapping[str, int] | None) -> QueueLimits | None:
    if not most:
        return None
    served = context.stores.served
    if served is None:
        reason = "it has five methods only, and cannot hold back the jobs of some queues"
        raise CapabilityMissing(type(context.queue).name, "concurrency", reason)
    return QueueLimits(most, served, context.attempts)
