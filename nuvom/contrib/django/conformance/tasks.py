"""The tasks of the conformance tests."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.tasks import TaskContext, task

calls: list[Any] = []
"""What tasks have done, in order; they run in the process of the tests."""


class OwnError(Exception):
    """An exception that is no builtin one."""


@task()
def echo(*args: Any, **kwargs: Any) -> list[Any]:
    """Return the arguments."""
    return [list(args), kwargs]


@task()
def nothing() -> None:
    """Return None."""


@task()
async def add_async(a: int, b: int) -> int:
    """Return a sum, from a coroutine."""
    return a + b


@task()
async def fail_async() -> None:
    """Fail in a coroutine."""
    raise OwnError("not today")


@task()
def note(value: Any) -> None:
    """Note a value."""
    calls.append(value)


@task()
def fail(text: str) -> None:
    """Fail with an exception of this module."""
    raise OwnError(text)


@task()
def fail_oddly() -> None:
    """Fail with an exception whose argument is another."""
    raise ValueError(ValueError("inside"))


@task()
def leave() -> None:
    """Raise SystemExit."""
    raise SystemExit("bye")


@task()
def return_function() -> Any:
    """Return something that is no JSON."""
    return lambda: None


@task()
def return_tuple() -> Any:
    """Return tuples."""
    return (1, {"a": (2,)})


@task(takes_context=True)
def tell_context(context: Any, word: str) -> list[Any]:
    """Return what the context says."""
    assert isinstance(context, TaskContext)  # noqa: S101  # a conformance test
    result = context.task_result
    return [result.id, context.attempt, str(result.status), result.args, word]


@task(takes_context=True)
def fail_until(context: Any, attempt: int) -> int:
    """Fail until the attempt with this number."""
    if context.attempt < attempt:
        raise OwnError(f"attempt {context.attempt}")
    return int(context.attempt)


@task()
def query() -> int:
    """Use the database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return int(cursor.fetchone()[0])
