"""Waiting for jobs to end: looks, sleeps, and looks again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nuvom.core.record import JobStatus
from nuvom.errors import JobTimeout
from nuvom.job import wait_for_final
from nuvom.result_backends.memory import MemoryResultBackend
from nuvom.testing import FakeClock
from tests.engine import LIMIT_SECS, Engine, make_runtime, with_backends
from tests.troubled import TroubledQueue, TroubledResults


def add(x: int) -> int:
    return x + 1


class Silent(MemoryResultBackend):
    """Results that wake nobody."""

    @contextmanager
    def waiter(self) -> Iterator[None]:
        yield None


class Watched(FakeClock):
    """A clock whose sleeps pass by themselves and are noted."""

    def __init__(self) -> None:
        super().__init__()
        self.naps: list[float] = []

    def sleep(self, secs: float) -> None:
        self.naps.append(secs)
        self.advance(secs)


@pytest.fixture
def clock() -> Watched:
    return Watched()


@pytest.fixture
def polled(project: Path, clock: Watched) -> Iterator[Engine]:
    """Use an engine whose results wake nobody, on a clock of the test's own."""
    runtime = make_runtime(project, clock=clock)
    with Engine(with_backends(runtime, results=Silent())) as engine:
        yield engine


def test_results_that_wake_nobody_are_polled_ever_more_slowly(
    polled: Engine, clock: Watched
) -> None:
    job = polled.task(add).delay(1)
    with pytest.raises(JobTimeout) as timeout:
        wait_for_final(polled.runtime, job.id, 1.0)
    assert [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.2, 0.2, 0.2] == pytest.approx(
        clock.naps[:9], abs=0.06
    )
    assert 1.0 == pytest.approx(sum(clock.naps))
    assert 1.0 == pytest.approx(timeout.value.waited_secs)


def test_end_that_rings_no_bell_of_the_results_is_noticed_all_the_same(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nuvom.job._LONGEST_WAIT_SECS", 0.05)
    runtime = with_backends(make_runtime(project), TroubledQueue(), TroubledResults())
    with Engine(runtime) as engine:
        job = engine.task(add).delay(1)
        threading.Timer(0.05, job.cancel).start()
        assert JobStatus.CANCELLED is wait_for_final(runtime, job.id, LIMIT_SECS).status


def test_progress_counts_those_that_end_before_their_turn(
    polled: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = polled.task(add).map([(1,), (2,), (3,)])
    jobs[1].cancel()
    jobs[2].cancel()
    with pytest.raises(JobTimeout):
        jobs.get(15, progress=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Waiting: 2 of 3 jobs, ")
    with pytest.raises(JobTimeout):
        jobs.get(15)
    assert not capsys.readouterr().err
