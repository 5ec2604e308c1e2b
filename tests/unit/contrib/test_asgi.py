"""The start and the end of an application: what opens, what closes, and what waits for what."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

import nuvom
from nuvom import asgi, task
from nuvom.config.sources import load
from nuvom.host.lock import FileLock
from nuvom.runtime import build_runtime, built_runtime, current_runtime, reset
from tests.engine import LIMIT_SECS, in_use

started, may_end = threading.Event(), threading.Event()


@task(name="tests.asgi.add")
def add(x: int, y: int) -> int:
    return x + y


@task(name="tests.asgi.hold")
def hold() -> str:
    started.set()
    may_end.wait(LIMIT_SECS)
    return "held"


@pytest.fixture(autouse=True)
def _fresh(project: Path) -> None:
    reset()
    started.clear()
    may_end.clear()


def test_store_opens_with_the_first_job_and_closes_at_the_end(project: Path) -> None:
    async def serve() -> None:
        async with nuvom.asgi.lifespan()("any application"):
            assert built_runtime() is None
            await add.adelay(1, 2)
            assert (project / ".nuvom" / "nuvom.db").exists()
        assert built_runtime() is None

    asyncio.run(serve())


def test_embedded_workers_run_jobs_until_the_end() -> None:
    async def serve() -> list[int]:
        async with asgi.running(embedded_workers=2):
            jobs = [await add.adelay(number, 1) for number in range(10)]
            assert len(current_runtime().queue.workers()) == 2  # type: ignore[attr-defined]
            return [await job.aget(LIMIT_SECS) for job in jobs]

    assert asyncio.run(serve()) == list(range(1, 11))
    assert built_runtime() is None


def test_end_waits_for_running_jobs_beside_the_event_loop() -> None:
    async def serve() -> str:
        async with asgi.running(embedded_workers=1):
            job = await hold.adelay()
            await asyncio.to_thread(started.wait, LIMIT_SECS)
            asyncio.get_running_loop().call_later(0.01, may_end.set)  # only a free loop calls it
        return await job.aget(0)

    assert asyncio.run(serve()) == "held"


def test_end_that_is_cancelled_waits_all_the_same() -> None:
    async def serve(ending: asyncio.Event) -> None:
        async with asgi.running(embedded_workers=1):
            await hold.adelay()
            await asyncio.to_thread(started.wait, LIMIT_SECS)
            ending.set()

    async def cancel_the_end() -> None:
        serving = asyncio.ensure_future(serve(ending := asyncio.Event()))
        await ending.wait()
        serving.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not serving.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert built_runtime() is None

    asyncio.run(cancel_the_end())


def test_application_that_fails_ends_its_workers() -> None:
    async def serve() -> None:
        async with asgi.running(embedded_workers=1):
            raise ValueError("no database")

    with pytest.raises(ValueError, match="no database"):
        asyncio.run(serve())
    assert built_runtime() is None


def test_runtime_that_was_there_before_stays(project: Path) -> None:
    async def serve() -> None:
        async with asgi.running():
            await add.adelay(1, 2)

    with in_use(build_runtime(load(project))) as runtime:
        asyncio.run(serve())
        assert built_runtime() is runtime
        assert runtime.queue.qsize() == 1


def test_last_of_several_applications_closes_the_runtime() -> None:
    async def serve() -> None:
        async with asgi.running():
            async with asgi.running():
                await add.adelay(1, 2)
            assert built_runtime() is not None
        assert built_runtime() is None

    asyncio.run(serve())


def test_embedded_workers_of_several_processes_warn(project: Path) -> None:
    async def serve() -> int:
        async with asgi.running(embedded_workers=1):
            return await (await add.adelay(1, 2)).aget(LIMIT_SECS)

    lock = FileLock(project / ".nuvom" / "embedded.lock")
    assert lock.acquire()  # as another process does
    with pytest.warns(RuntimeWarning, match="start `nuvom runworker`"):
        assert asyncio.run(serve()) == 3
    lock.release()
    assert asyncio.run(serve()) == 3
