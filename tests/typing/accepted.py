"""The public API as programs use it: every line must pass mypy --strict and basedpyright."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from nuvom import (
    AsyncTask,
    Discard,
    Job,
    JobList,
    JobStatus,
    Retry,
    Snooze,
    StoredError,
    asgi,
    configure,
    current_job,
    local_worker,
    task,
)


@task
def add(x: int, y: int = 0) -> int:
    return x + y


@task(queue="mail", retries=3, retry_on=(OSError,), tags=["mail"], timeout_secs=30)
def send(to: str, *, body: str) -> None:
    job = current_job()
    job.progress(1, 2, "half")
    assert_type(job.attempt, int)
    assert_type(job.enqueue(add, 1, 2), str)
    if not to:
        raise Discard("nobody to send it to")
    if not body:
        raise Retry(in_secs=5)
    raise Snooze(timedelta(minutes=5))


@task
async def fetch(url: str) -> bytes:
    return url.encode()


@task(name="fetch_all")
async def fetch_all(urls: list[str]) -> dict[str, bytes]:
    return {url: await fetch(url) for url in urls}


def calls() -> None:
    assert_type(add(1), int)
    assert_type(add(1, y=2), int)
    assert_type(send("me", body="hello"), None)


async def coroutines() -> None:
    assert_type(await fetch("a"), bytes)
    waiting: Coroutine[Any, Any, bytes] = fetch("a")
    assert_type(await waiting, bytes)
    assert_type(await fetch_all(["a"]), dict[str, bytes])


def jobs() -> None:
    job = add.delay(1, y=2)
    assert_type(job, Job[int])
    assert_type(add.submit(1), Job[int])
    assert_type(job.get(timeout=5), int)
    assert_type(job.result, int | None)
    assert_type(job.status, JobStatus)
    assert_type(job.error, StoredError | None)
    assert_type(job.refresh(), Job[int])
    assert_type(fetch.delay("a").get(), bytes)
    assert_type(fetch_all.delay(["a"]).get(), dict[str, bytes])
    assert_type(Job.load("id"), Job[Any])


async def awaited() -> None:
    job = await add.adelay(1)
    assert_type(job, Job[int])
    assert_type(await job, int)
    assert_type(await job.aget(5), int)
    assert_type(await fetch.asubmit("a"), Job[bytes])
    assert_type(await add.amap([(1, 2)]), JobList[int])


def lists(pairs: Iterator[tuple[int, int]]) -> None:
    many = add.map([(1, 2), {"x": 1}, [3]])
    assert_type(many, JobList[int])
    assert_type(add.map(pairs), JobList[int])
    assert_type(many.get(5), list[int])
    assert_type(many[0], Job[int])
    assert_type(many[1:], JobList[int])
    sequence: Sequence[Job[int]] = many
    for job in sequence:
        assert_type(job, Job[int])


def options() -> None:
    urgent = add.options(queue="urgent", delay=timedelta(seconds=5), tags=["a"], metadata={"a": 1})
    assert_type(urgent.delay(1, 2), Job[int])
    assert_type(add.options(run_at=datetime(2030, 1, 1, tzinfo=UTC)).delay(1), Job[int])
    later = fetch.options(delay=5)
    assert_type(later.delay("a"), Job[bytes])
    another: AsyncTask[..., bytes] = later
    print(another)


def workers() -> None:
    configure(threads=2)
    with local_worker(threads=2) as worker:
        assert_type(worker.id, str)
        worker.stop()


async def server() -> None:
    assert_type(asgi.lifespan()("app"), AbstractAsyncContextManager[None])
    async with asgi.running(embedded_workers=1):
        pass
