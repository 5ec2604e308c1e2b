"""Mistakes that type checkers must refuse: where one passes, its comment is unneeded, an error."""

from __future__ import annotations

from nuvom import Job, Retry, Snooze, configure, current_job, local_worker, task


@task
def add(x: int, y: int = 0) -> int:
    return x + y


@task(retries=3)
async def fetch(url: str) -> bytes:
    return url.encode()


def wrong_calls() -> None:
    add("x")  # type: ignore[arg-type]
    add(1, z=2)  # type: ignore[call-arg]
    fetch(5)  # type: ignore[arg-type, unused-coroutine]


def wrong_jobs() -> None:
    add.delay("x")  # type: ignore[arg-type]
    add.delay()  # type: ignore[call-arg]
    add.delay(1, 2, 3)  # type: ignore[call-arg]
    add.delay(1, z=2)  # type: ignore[call-arg]
    add.delay(x=1, y="2")  # type: ignore[arg-type]
    add.submit("x")  # type: ignore[arg-type]
    fetch.delay(5)  # type: ignore[arg-type]
    fetch.delay(link="a")  # type: ignore[call-arg]


async def wrong_async_jobs() -> None:
    await add.adelay("x")  # type: ignore[arg-type]
    await fetch.asubmit()  # type: ignore[call-arg]


def wrong_results() -> None:
    text: str = add.delay(1).get()  # type: ignore[assignment]
    job: Job[str] = add.delay(1)  # type: ignore[assignment]
    data: str = fetch.delay("a").get()  # type: ignore[assignment]
    length: int = add.delay(1).result  # type: ignore[assignment]
    print(text, job, data, length)


async def wrong_awaits() -> None:
    text: str = await add.delay(1)  # type: ignore[assignment]
    data: int = await fetch("a")  # type: ignore[assignment]
    print(text, data)


def wrong_lists() -> None:
    add.map(["a"])  # type: ignore[list-item]
    add.map("abc")  # type: ignore[arg-type]
    add.map((1, 2))  # type: ignore[arg-type]
    add.map([1])  # type: ignore[list-item]
    texts: list[str] = add.map([(1, 2)]).get()  # type: ignore[assignment]
    print(texts)


def wrong_options() -> None:
    add.options(priority="high")  # type: ignore[arg-type]
    add.options(colour="red")  # type: ignore[call-arg]
    add.options(run_at="tomorrow")  # type: ignore[arg-type]
    add.options(queue="mail").delay("x")  # type: ignore[arg-type]
    fetch.options(colour="red")  # type: ignore[call-arg]
    fetch.options(queue="mail").delay(5)  # type: ignore[arg-type]


@task(retry=3)  # type: ignore[call-overload, untyped-decorator]
def wrong_task_option() -> None: ...


@task(retries="many")  # type: ignore[call-overload, untyped-decorator]
def wrong_task_value() -> None: ...


def wrong_words() -> None:
    print(current_job().colour)  # type: ignore[attr-defined]
    Retry("soon")  # type: ignore[arg-type]
    Snooze()  # type: ignore[call-arg]
    configure(5)  # type: ignore[call-arg]
    with local_worker(threads="two"):  # type: ignore[arg-type]
        pass
