"""``@task``: what it makes of a function, and of a call of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from nuvom import Task, task
from nuvom.errors import DuplicateTask, InvalidSchedule, InvalidTaskOption
from nuvom.registry.registry import default_registry


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


def test_a_wrong_schedule_is_refused_where_the_task_is_defined() -> None:
    good: list[Any] = ["0 9 * * MON-FRI", 600, timedelta(hours=1), {"cron": "@daily", "grace": 5}]
    for schedule in good:
        made = task(schedule=schedule, timezone_name="Europe/Berlin")(add)
        assert (schedule, "Europe/Berlin") == (made.task_options.schedule, made.timezone_name)
    with pytest.raises(InvalidSchedule, match=r"0 25 \* \* \*\n +\^\^ column 3"):
        task(schedule="0 25 * * *")
    with pytest.raises(InvalidSchedule, match="Europe/Berlin"):
        task.preset(schedule="@daily", timezone_name="Mars/Olympus")
    bad: list[Any] = [True, 0, {}, {"crn": "@daily"}, {"in_": 5}, {"at": "2030-01-01T00:00Z"}]
    for wrong in bad:
        with pytest.raises(InvalidSchedule):
            task(schedule=wrong)
    with pytest.raises(InvalidTaskOption, match="a cron expression"):
        task(schedule=["@daily"])  # type: ignore[call-overload]  # what is refused


def test_a_schedule_that_has_come_to_its_end_is_no_mistake(
    recwarn: pytest.WarningsRecorder,
) -> None:
    """Else code that worked could not be imported any more from some day on."""
    task(schedule={"cron": "@daily", "start": "2020-01-01T00:00", "end": "2021-01-01T00:00"})
    assert [] == list(recwarn)
    with pytest.raises(InvalidSchedule, match="it never would"):
        task(schedule={"cron": "@daily", "start": "2022-01-01T00:00", "end": "2021-01-01T00:00"})


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
