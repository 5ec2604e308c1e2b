"""``@task``: what it makes of a function, and of a call of it."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from nuvom import AsyncTask, Task, task
from nuvom.errors import DuplicateTask, InvalidTaskOption
from nuvom.registry.registry import default_registry
from tests.engine import LIMIT_SECS, Engine


@pytest.fixture(autouse=True)
def fresh_registry() -> Iterator[None]:
    registry = default_registry()
    before = dict(registry._definitions)
    registry.clear()
    yield
    registry.clear()
    registry._definitions.update(before)


def add(x: int, y: int = 0) -> int:
    """Return the sum."""
    return x + y


async def double(x: int) -> int:
    return 2 * x


# ---- the decorator --------------------------------------------------------------------------


def test_task_is_still_the_function() -> None:
    made = task(add)
    assert 3 == made(1, 2) == made(1, y=2)
    assert ("add", "add", "Return the sum.", __name__) == (
        made.__name__,
        made.__qualname__,
        made.__doc__,
        made.__module__,
    )
    assert inspect.signature(add) == inspect.signature(made)
    assert add is made.func is inspect.unwrap(made)
    assert f"<task {__name__}.add>" == repr(made)


def test_a_coroutine_function_makes_an_async_task() -> None:
    assert type(task(double)) is type(task(retries=3)(double).options(priority=1)) is AsyncTask
    assert 8 == asyncio.run(task(double)(4))
    assert type(task(add)) is type(task(retries=3)(add)) is Task


def test_task_is_registered_under_its_name() -> None:
    made, named = task(add), task(name="sum")(add)
    assert [f"{__name__}.add", "sum"] == [made.name, named.name]
    assert made.definition is default_registry().get(f"{__name__}.add")
    assert named.definition is default_registry().get("sum")


def test_name_that_is_taken_is_refused_unless_forced() -> None:
    task(name="sum")(add)
    with pytest.raises(DuplicateTask, match='"sum" is taken'):
        task(name="sum")(double)
    task(name="sum", force=True)(double)
    definition = default_registry().get("sum")
    assert definition is not None
    assert double is definition.func


@pytest.mark.parametrize("name", ["", 5, "a\nb", "\ud800", "\x1b[31m"])
def test_name_that_cannot_be_shown_is_refused(name: Any) -> None:
    with pytest.raises(InvalidTaskOption, match="name"):
        task(name=name)


@pytest.mark.parametrize("thing", ["mail", 5, ["add"]])
def test_what_cannot_be_called_is_refused(thing: Any) -> None:
    with pytest.raises(TypeError, match="@task is for functions"):
        task(thing)
    assert 0 == len(default_registry())


def test_method_stays_a_method() -> None:
    class Sums:
        start = 10

        @task
        def method(self, x: int) -> int:
            return self.start + x

        @staticmethod
        @task
        def static(x: int) -> int:
            return x

    sums = Sums()
    assert 11 == sums.method(1)
    assert 1 == sums.static(1)
    assert isinstance(Sums.__dict__["method"], Task)
    assert Sums.method is Sums.__dict__["method"]


# ---- attributes -----------------------------------------------------------------------------


def test_options_are_attributes() -> None:
    made: Any = task(queue="mail", tags=["a"], timeout_secs=5)(add)
    assert ("mail", 0, ["a"], 5) == (made.queue, made.retries, made.tags, made.timeout_secs)
    assert (5, "fail") == (made.retry_delay_secs, made.timeout_policy)
    assert made.task_options.queue == "mail"


def test_unknown_attribute_is_an_attribute_error() -> None:
    made: Any = task(add)
    for name in ("colour", "_colour", "call_option"):
        with pytest.raises(AttributeError, match=f"'Task' object has no attribute '{name}'"):
            getattr(made, name)
    assert not hasattr(made, "colour")


# ---- options of a call ----------------------------------------------------------------------


def test_options_make_another_task_and_leave_the_first() -> None:
    made = task(queue="mail")(add)
    urgent: Any = made.options(priority=1, queue="urgent").options(retries=2)
    assert ("urgent", 1, 2) == (urgent.queue, urgent.priority, urgent.retries)
    assert ("mail", 5, 0) == (made.queue, made.priority, made.retries)
    assert made.definition is urgent.definition
    assert 3 == urgent(1, 2)


def test_warning_of_a_naive_moment_points_to_the_callers_line() -> None:
    made = task(add)
    naive = datetime(2030, 1, 1)  # noqa: DTZ001  # the point
    with pytest.warns(UserWarning, match="no time zone") as warnings:
        made.options(run_at=naive)
    assert __file__ == warnings[0].filename


# ---- calls ----------------------------------------------------------------------------------


def test_delay_stores_a_job(engine: Engine) -> None:
    made = engine.task(add)
    jobs = [made.delay(1, 2), made.submit(1, y=2)]
    engine.work()
    assert [3, 3] == [job.get(LIMIT_SECS) for job in jobs]


def test_enqueueing_never_blocks_the_event_loop(engine: Engine) -> None:
    threads: list[str] = []
    dispatch = engine.runtime.dispatcher.dispatch

    def watched(*args: Any) -> Any:
        threads.append(threading.current_thread().name)
        return dispatch(*args)

    object.__setattr__(engine.runtime.dispatcher, "dispatch", watched)

    async def main() -> list[Any]:
        made = engine.task(add)
        jobs = [await made.adelay(1, 2), await made.asubmit(1, 2)]
        return [*jobs, *await made.amap([(1, 2)])]

    jobs = asyncio.run(main())
    engine.work()
    assert [3, 3, 3] == [job.get(LIMIT_SECS) for job in jobs]
    assert "MainThread" not in threads
    assert 2 == len(threads)
