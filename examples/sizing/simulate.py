"""How long jobs will wait: arrival rate, duration and slots in; waiting times out.

    python examples/sizing/simulate.py --rate 30 --secs 0.2 --workers 2 --slots 4

It simulates what mathematicians call M/G/k: jobs arrive at random (a Poisson process), take any
time, and are served by so many slots, the lowest priority number first; a job that has started is
not interrupted. See D. Gross et al., "Fundamentals of Queueing Theory", 4th ed. (Wiley, 2008),
chapters 2 (M/M/k), 3.4 (priorities) and 5 (M/G/1). What is added is how Nuvom hands out jobs: a
worker takes as many as it has free slots, and a few more if it prefetches; those are bound to it.

No retries are simulated, and no worker is short of CPU. Store and worker count as a fixed time
between two jobs of a slot (--overhead), which matters when nearly all slots are busy.
"""

from __future__ import annotations

import argparse
import heapq
from collections import deque
from dataclasses import dataclass
from itertools import count
from operator import attrgetter
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

WARM_UP = 0.1  # of the jobs, which find the queue emptier than later ones
SHARES = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class Arrival:
    """A job: when it arrives, how long it takes, both in seconds, and its priority."""

    at: float
    secs: float
    priority: int = 5


@dataclass(frozen=True)
class Stream:
    """Jobs of one kind.

    Attributes:
        rate: Jobs per second.
        secs: How long one takes on average.
        variation: Standard deviation of that, divided by it: 0 for equal jobs, 1 for exponential.
        priority: Lower numbers first.
    """

    rate: float
    secs: float
    variation: float = 1.0
    priority: int = 5

    def arrivals(self, total: int, random: Random) -> Iterable[Arrival]:
        """Yield so many jobs at random times, each of a random duration (gamma distribution)."""
        at, square = 0.0, self.variation**2
        for _ in range(total):
            at += random.expovariate(self.rate)
            secs = self.secs
            if square:
                secs = random.gammavariate(1 / square, self.secs * square)
            yield Arrival(at, secs, self.priority)


def replay(
    arrivals: Sequence[Arrival],
    *,
    workers: int,
    slots: int,
    prefetch: int = 0,
    overhead: float = 0.0,
) -> list[float]:
    """Return how many seconds each job waits until it starts.

    Args:
        arrivals: In the order of time.
        slots: Of each worker.
        prefetch: Jobs that each worker takes beyond its free slots.
        overhead: Seconds between the end of a job and the start of the next one in its slot.
    """
    waits = [0.0] * len(arrivals)
    ready: list[tuple[int, int]] = []  # priority and number of each job that nobody has taken
    held: list[deque[int]] = [deque() for _ in range(workers)]  # taken, but not started
    free = [slots] * workers
    ends: list[tuple[float, int]] = []  # when the running jobs end, and on which worker

    def start(worker: int, number: int, now: float) -> None:
        free[worker] -= 1
        waits[number] = now - arrivals[number].at
        heapq.heappush(ends, (now + arrivals[number].secs + overhead, worker))

    def take(worker: int, now: float) -> None:
        while free[worker] and held[worker]:
            start(worker, held[worker].popleft(), now)
        while ready and free[worker]:
            start(worker, heapq.heappop(ready)[1], now)
        while ready and len(held[worker]) < prefetch:
            held[worker].append(heapq.heappop(ready)[1])

    for number, job in enumerate([*arrivals, None]):
        while ends and (job is None or ends[0][0] <= job.at):
            now, worker = heapq.heappop(ends)
            free[worker] += 1
            take(worker, now)
        if job is not None:
            heapq.heappush(ready, (job.priority, number))
            take(max(range(workers), key=lambda one: (free[one], -len(held[one]))), job.at)
    return waits


def simulate(
    streams: Sequence[Stream],
    *,
    workers: int,
    slots: int,
    prefetch: int = 0,
    overhead: float = 0.0,
    jobs: int = 200_000,
    seed: int = 1,
) -> dict[int, list[float]]:
    """Return the waiting times in seconds, ascending, for each priority.

    Args:
        jobs: How many are simulated, of all streams together.
    """
    random = Random(seed)  # noqa: S311  # nothing here is a secret
    rate = sum(stream.rate for stream in streams)
    drawn: list[Arrival] = []
    for stream in streams:
        drawn += stream.arrivals(int(jobs * stream.rate / rate), random)
    drawn.sort(key=attrgetter("at"))
    layout = {"workers": workers, "slots": slots, "prefetch": prefetch}
    waits = replay(drawn, **layout, overhead=overhead)
    found: dict[int, list[float]] = {stream.priority: [] for stream in streams}
    for job, wait in list(zip(drawn, waits, strict=True))[int(WARM_UP * len(drawn)) :]:
        found[job.priority].append(wait)
    return {priority: sorted(found[priority]) for priority in sorted(found)}


def quantile(ascending: Sequence[float], share: float) -> float:
    """Return the value that this share of the values does not exceed."""
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))]


def least_slots(within: float, waits_with: Callable[[int], list[float]], load: float) -> int:
    """Return the least number of slots with which 95 % of the jobs wait no longer."""
    return next(
        slots for slots in count(int(load) + 1) if quantile(waits_with(slots), 0.95) <= within
    )


def main() -> None:
    """Print the waiting times for the given load."""
    words = argparse.ArgumentParser(description="Predict how long jobs wait.")
    words.add_argument("--rate", type=float, required=True, help="jobs per second")
    words.add_argument("--secs", type=float, required=True, help="seconds that a job takes")
    words.add_argument("--variation", type=float, default=1.0, help="0 if all take the same")
    words.add_argument("--workers", type=int, default=1, help="worker processes")
    words.add_argument("--slots", type=int, default=4, help="of each worker: threads")
    words.add_argument("--prefetch", type=int, default=0, help="jobs taken beyond free slots")
    words.add_argument("--overhead", type=float, default=0.002, help="seconds between two jobs")
    words.add_argument("--urgent", type=float, default=0.0, help="share of jobs that go first")
    words.add_argument("--within", type=float, help="also find the slots for a p95 of SECS")
    given = words.parse_args()
    kind = (given.secs, given.variation)
    streams = [Stream(given.rate * (1 - given.urgent), *kind)]
    if given.urgent:
        streams.append(Stream(given.rate * given.urgent, *kind, priority=1))
    load = given.rate * (given.secs + given.overhead)
    busy = load / (given.workers * given.slots)
    print(f"{busy:.0%} of {given.workers * given.slots} slots are busy")
    if busy >= 1:
        print(f"The queue grows without end: it takes more than {load:g} slots.")
    else:
        names = ("workers", "slots", "prefetch", "overhead")
        layout = {name: getattr(given, name) for name in names}
        for priority, waits in simulate(streams, **layout).items():
            shown = "  ".join(f"p{100 * one:g} {quantile(waits, one):7.3f} s" for one in SHARES)
            print(f"priority {priority}: {shown}  mean {sum(waits) / len(waits):7.3f} s")
    if given.within is not None:
        one = [Stream(given.rate, *kind)]
        slots = least_slots(
            given.within,
            lambda n: simulate(one, workers=1, slots=n, overhead=given.overhead, jobs=50_000)[5],
            load,
        )
        print(f"{slots} slots: 95 % of the jobs wait at most {given.within:g} s")


if __name__ == "__main__":
    main()
