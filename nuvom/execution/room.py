"""How many jobs a worker has room for, and of which tasks and queues it can take none."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from nuvom.errors import CapabilityMissing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nuvom.execution.delivery import QueueFilter
    from nuvom.execution.job_runner import JobRunner
    from nuvom.execution.lanes import Lane
    from nuvom.execution.pace import Pace
    from nuvom.execution.running import InHand
    from nuvom.execution.station import Station
    from nuvom.execution.thread_lane import ThreadLane

_MOST_OF_OTHERS = 512  # jobs claimed at once for another lane than threads


class Served(NamedTuple):
    """Queues: those named, in order of preference, or with None all but the excluded."""

    queues: tuple[str, ...] | None
    exclude: tuple[str, ...] = ()


class Turn(NamedTuple):
    """One claim.

    Attributes:
        most: How many jobs, 1 or more.
        without: Tasks that there is no room for.
        served: The queues; None for all that the worker serves.
    """

    most: int
    without: list[str]
    served: QueueFilter | None = None


class Room:
    """The room that the lanes of one worker have."""

    def __init__(
        self,
        threads: ThreadLane,
        others: tuple[Lane, ...],
        runner: JobRunner,
        *,
        pace: Pace,
        limits: QueueLimits | None = None,
    ) -> None:
        self._threads = threads
        self._others = others
        self._runner = runner
        self._pace = pace
        self._limits = limits

    def turns(self) -> Iterator[Turn]:
        """Yield the claims to make; each is measured when it is asked for.

        The thread lane takes a batch ahead when jobs are quick, and no more than its idle slots
        otherwise. Every other lane claims for its own tasks, once it has any: so a lane that is
        full keeps nothing from those with room, and none gets what it cannot start.
        """
        known = self._runner.known
        refused = list(self._runner.refused)
        others = [lane for lane in self._others if known(lane.name)]
        for lane in others:
            foreign = [other for other in (self._threads, *others) if other is not lane]
            without = refused + [task for other in foreign for task in known(other.name)]
            yield from self._turns_of(lane, without)
        own = refused + [task for lane in others for task in known(lane.name)]
        yield from self._turns_of(self._threads, own)

    @property
    def is_common(self) -> bool:
        """Whether all that is claimed is for any slot of the thread lane."""
        known = self._runner.known
        return self._limits is None and not any(known(lane.name) for lane in self._others)

    def of(self, lane: Lane) -> int:
        """Return how many jobs a lane has room for, as far as one claim may bring them."""
        if lane is not self._threads:
            return min(_MOST_OF_OTHERS, self._pace.cap, lane.room())
        if not self._pace.is_bulk:
            return min(self._pace.cap, lane.room())
        waiting = lane.backlog()
        return self._pace.batch - waiting if waiting <= self._pace.batch // 2 else 0

    def _turns_of(self, lane: Lane, without: list[str]) -> Iterator[Turn]:
        if self._limits is None:
            most = self.of(lane)
            if most > 0:
                yield Turn(most, without)
            return
        for served, left in self._limits.shares():
            most = min(self.of(lane), left)
            if most > 0:
                yield Turn(most, without, served)


class QueueLimits:
    """At most how many jobs of a queue run at once in this worker.

    Args:
        most: By queue, each 1 or more.
        served: The queues of the worker.
        in_hand: What counts.
    """

    def __init__(self, most: Mapping[str, int], served: QueueFilter, in_hand: InHand) -> None:
        self._most = most
        self._served = served
        self._in_hand = in_hand
        self._shares = self._split()

    def shares(self) -> Iterator[tuple[Served, int]]:
        """Yield parts of the served queues, and how many jobs may be claimed from each."""
        if self._served.queues is None:
            self._shares.append(self._shares.pop(0))  # no queue is always asked first
        for share in self._shares:
            yield share, _NO_LIMIT if share.queues is None else self._left(share.queues[0])

    def _left(self, queue: str) -> int:
        if queue not in self._most:
            return _NO_LIMIT
        held = Counter(running.record.queue for running in list(self._in_hand.open))
        return self._most[queue] - held[queue]

    def _split(self) -> list[Served]:
        """Return each limited queue by itself; the others stay together, in their order."""
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


_NO_LIMIT = 1 << 30


def queue_limits(station: Station, most: Mapping[str, int] | None) -> QueueLimits | None:
    """Return the limits of a worker's queues, None where there are none.

    Raises: CapabilityMissing: its queue hands out whatever comes next, of any queue.
    """
    if not most:
        return None
    served = station.delivery.served
    if served is None:
        reason = "it has five methods only, and cannot hold jobs of some queues back"
        raise CapabilityMissing(type(station.queue).name, "concurrency", reason)
    return QueueLimits(most, served, station.in_hand)
