"""The sizing example agrees with what queueing theory knows exactly.

The formulas are those of D. Gross et al., "Fundamentals of Queueing Theory", as in the example. The
random numbers are those of fixed seeds, so that every run compares the same.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest

from tests.lab.sizing import PROGRAM, simulation

RATE = 1.0
JOBS = 60_000
SLOW = pytest.mark.slow
SEEDS = range(1, 6)
CLOSE = 0.05  # of the value: what so many jobs leave to chance at these loads


@pytest.fixture(scope="module")
def simulate() -> ModuleType:
    return simulation()


def erlang_c(slots: int, load: float) -> float:
    """Return the probability that a job has to wait in M/M/k."""
    last = load**slots / math.factorial(slots) * slots / (slots - load)
    return last / (sum(load**n / math.factorial(n) for n in range(slots)) + last)


def several(streams: list[Any], workers: int = 1, slots: int = 1) -> dict[int, list[float]]:
    """Return the waits of all seeds, ascending, by priority."""
    found: dict[int, list[float]] = defaultdict(list)
    for seed in SEEDS:
        run = simulation().simulate(streams, workers=workers, slots=slots, jobs=JOBS, seed=seed)
        for priority, waits in run.items():
            found[priority] += waits
    return {priority: sorted(waits) for priority, waits in found.items()}


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.mark.parametrize(
    ("workers", "slots", "busy"),
    [pytest.param(1, 1, 0.5, marks=SLOW), (1, 4, 0.6), pytest.param(2, 4, 0.7, marks=SLOW)],
)
def test_waits_of_exponential_jobs(
    simulate: ModuleType, workers: int, slots: int, busy: float
) -> None:
    """M/M/k: Erlang's C, and an exponential wait of those that wait at all."""
    places = workers * slots
    load = busy * places
    stream = simulate.Stream(RATE, load / RATE)
    waits = several([stream], workers, slots)[5]
    waiting, rate_of_end = erlang_c(places, load), (places - load) / (load / RATE)
    assert mean([wait > 0 for wait in waits]) == pytest.approx(waiting, rel=CLOSE)
    assert mean(waits) == pytest.approx(waiting / rate_of_end, rel=2 * CLOSE)
    p95 = math.log(waiting / 0.05) / rate_of_end
    assert simulate.quantile(waits, 0.95) == pytest.approx(p95, rel=2 * CLOSE)


@pytest.mark.parametrize("variation", [0.0, *(pytest.param(one, marks=SLOW) for one in (0.5, 2.0))])
def test_waits_of_jobs_of_any_duration(simulate: ModuleType, variation: float) -> None:
    """M/G/1: the formula of Pollaczek and Khinchine."""
    busy = 0.5
    stream = simulate.Stream(RATE, busy / RATE, variation)
    waits = several([stream])[5]
    expected = busy * (busy / RATE) * (1 + variation**2) / 2 / (1 - busy)
    assert mean(waits) == pytest.approx(expected, rel=2 * CLOSE)


def test_waits_by_priority(simulate: ModuleType) -> None:
    """M/G/1 with priorities: Cobham's formula."""
    secs, rates = 0.5, {1: 0.4, 5: 0.6, 9: 0.4}
    streams = [simulate.Stream(rate, secs, priority=one) for one, rate in rates.items()]
    found = several(streams)
    left_over, before = sum(rates.values()) * secs**2, 0.0  # E[S^2] is twice the square
    for priority, rate in rates.items():
        until = before + rate * secs
        expected = left_over / (1 - before) / (1 - until)
        assert mean(found[priority]) == pytest.approx(expected, rel=2 * CLOSE)
        before = until


def test_prefetched_jobs_are_bound_to_their_worker(simulate: ModuleType) -> None:
    """One worker starts the same jobs at the same times; among several, some wait longer."""
    stream, random = simulate.Stream(RATE, 3.4), Random(1)
    drawn = list(stream.arrivals(20_000, random))
    alone = [simulate.replay(drawn, workers=1, slots=4, prefetch=n) for n in (0, 8)]
    assert alone[0] == alone[1]
    among = [mean(simulate.replay(drawn, workers=4, slots=1, prefetch=n)) for n in (0, 2, 8)]
    assert among[0] == pytest.approx(mean(alone[0]))
    assert all(before < after for before, after in pairwise(among))


def test_an_overhead_keeps_a_slot_busy_but_is_not_waited_for_by_its_own_job(
    simulate: ModuleType,
) -> None:
    jobs = [simulate.Arrival(at, 1.0) for at in (0.0, 0.1, 9.0)]
    waits = simulate.replay(jobs, workers=1, slots=1, overhead=0.5)
    assert waits == pytest.approx([0, 1.4, 0])


def test_a_prefetched_job_is_not_overtaken(simulate: ModuleType) -> None:
    jobs = [simulate.Arrival(at, 1.0) for at in (0.0, 0.1, 0.2)]
    jobs.append(simulate.Arrival(0.3, 1.0, priority=1))
    assert simulate.replay(jobs, workers=1, slots=1) == pytest.approx([0, 1.9, 2.8, 0.7])
    assert simulate.replay(jobs, workers=1, slots=1, prefetch=1) == pytest.approx(
        [0, 0.9, 2.8, 1.7]
    )


def test_the_program_finds_the_slots(tmp_path: Path) -> None:
    def say(*arguments: str) -> str:
        command = [sys.executable, str(PROGRAM), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    exact = ("--overhead", "0")
    said = say("--rate", "36", "--secs", "0.2", "--workers", "2", "--within", "0.1", *exact)
    assert "90% of 8 slots are busy" in said
    least = next(
        k for k in range(8, 20) if erlang_c(k, 7.2) * math.exp(-(k - 7.2) * 5 * 0.1) <= 0.05
    )
    assert f"{least} slots: 95 % of the jobs wait at most 0.1 s" in said
    assert "more than 10 slots" in say("--rate", "50", "--secs", "0.2", "--workers", "2", *exact)
