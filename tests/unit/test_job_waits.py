"""Waiting for jobs to end: looks, sleeps, and looks again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nuvom.core.record import JobStatus
from nuvom.errors import JobNotFound, JobTimeout
from nuvom.host.waits import SharedWaits
from nuvom.job import Job, wait_for_final
from nuvom.result_backends.memory import MemoryResultBackend
from nuvom.testing import FakeClock
from tests.engine import LIMIT_SECS, Engine, make_runtime, with_backends
from tests.troubled import DOWN, TroubledQueue, TroubledResults


def add(x: int) -> int:
    return x + 1


class Silent(MemoryResultBackend):
    """Results that wake nobody."""

    @contextmanager
    def waiter(self) -> Iterator[None]:
        yield None


class Deaf(MemoryResultBackend):
    """Results whose waiter sleeps until the test ends, and tells when it does."""

    def __init__(self) -> None:
        super().__init__()
        self.asleep, self.may_wake = threading.Event(), threading.Event()
        self.has_overslept = False

    @contextmanager
    def waiter(self) -> Iterator[Any]:
        yield self

    def wait(self, timeout: float) -> None:
        self.asleep.set()
        self.has_overslept = not self.may_wake.wait(LIMIT_SECS)


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
    monkeypatch.setattr("nuvom.job.LONGEST_WAIT_SECS", 0.05)
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


# ---- coroutines -----------------------------------------------------------------------------


@pytest.fixture
def woken_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no wait end by itself."""
    monkeypatch.setattr("nuvom.job.LONGEST_WAIT_SECS", 3600.0)
    monkeypatch.setattr("nuvom.host.waits.LONGEST_WAIT_SECS", 3600.0)


@pytest.mark.usefixtures("woken_only")
def test_waits_of_coroutines_take_no_thread_from_others(any_engine: Engine) -> None:
    task = any_engine.task(add)

    async def serve() -> Any:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        waits = [asyncio.ensure_future((await task.adelay(number)).aget()) for number in range(20)]
        await task.adelay(20)
        with any_engine.worker():
            return await asyncio.gather(*waits)

    assert asyncio.run(serve()) == list(range(1, 21))


def test_wait_that_is_cancelled_does_not_cancel_the_job(any_engine: Engine) -> None:
    job = any_engine.task(add).delay(1)

    async def serve() -> Any:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await job
        assert job.status is JobStatus.PENDING
        with any_engine.worker():
            return await job

    assert asyncio.run(serve()) == 2


def test_job_that_has_ended_is_seen_while_the_thread_for_others_sleeps(project: Path) -> None:
    results = Deaf()
    with Engine(with_backends(make_runtime(project), results=results)) as engine:
        task = engine.task(add)
        ended = task.delay(1)
        engine.work()
        waiting = task.delay(2)

        async def serve() -> Any:
            wait = asyncio.ensure_future(waiting.aget())
            await asyncio.to_thread(results.asleep.wait, LIMIT_SECS)
            value = await ended.aget()
            wait.cancel()
            return value

        assert asyncio.run(serve()) == 2
        assert not results.has_overslept
        results.may_wake.set()


def test_coroutine_that_waits_for_no_job_is_told(engine: Engine) -> None:
    job = Job[int]("01a20ddf-d734-7ee5-8b24-daafe036ac40", engine.runtime)
    with pytest.raises(JobNotFound):
        asyncio.run(job.aget())


def test_wait_of_a_coroutine_polls_where_nothing_wakes_it(project: Path) -> None:
    with Engine(with_backends(make_runtime(project), results=Silent())) as engine:
        job = engine.task(add).delay(1)

        async def serve() -> Any:
            wait = asyncio.ensure_future(job.aget())
            with engine.worker():
                return await wait

        assert asyncio.run(serve()) == 2


def test_waits_of_coroutines_end_when_the_store_fails() -> None:
    @contextmanager
    def unreachable() -> Iterator[None]:
        raise DOWN
        yield

    waits = SharedWaits()
    found: list[Future[None]] = [waits.add(lambda: None, unreachable) for _ in range(2)]
    assert [DOWN, DOWN] == [one.exception(LIMIT_SECS) for one in found]
    assert waits.add(lambda: 1, Silent().waiter).result(LIMIT_SECS) == 1
