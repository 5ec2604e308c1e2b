"""What a test asserts about the jobs that the code under test has enqueued."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from inspect import signature
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from nuvom.errors import InvalidArguments, NotStorable, plural
from nuvom.runtime import current_runtime
from nuvom.testing.isolated_store import IsolatedStore, described, jobs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from nuvom.job import Job
    from nuvom.task import Task

R = TypeVar("R")

_SAME_SECS = 0.001  # less is lost between a datetime and the seconds that are stored
_MOST_SHOWN = 5


def assert_enqueued(
    task: Task[..., R],
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    queue: str | None = None,
    at: datetime | timedelta | None = None,
) -> Job[R]:
    """Assert that a job was enqueued in this test, whether or not it has run; return the latest.

    Args:
        task: Its task.
        args, kwargs: Its arguments, all of them, in either form; None for any. They may contain
            ``unittest.mock.ANY``.
        queue: The queue it is on; None for any.
        at: The earliest start: a time, or the time from the call; None for any.
    Raises: AssertionError: there is no such job; it lists those that come near.
    """
    __tracebackhide__ = True
    wanted = _Wanted(task, _bound(task, args, kwargs), queue, at)
    jobs = jobs_of(current_runtime())
    found = [job for job in jobs if wanted.fits(job)]
    if not found:
        raise AssertionError("\n".join(_report(wanted, jobs)))
    if IsolatedStore.active is not None:
        IsolatedStore.active.asserted.update(job.id for job in found)
    return found[-1]


def refute_enqueued(
    task: Task[..., Any],
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    queue: str | None = None,
    at: datetime | timedelta | None = None,
) -> None:
    """Assert that no such job was enqueued in this test; see ``assert_enqueued``.

    Raises: AssertionError: there are such jobs; it lists them.
    """
    __tracebackhide__ = True
    wanted = _Wanted(task, _bound(task, args, kwargs), queue, at)
    found = [job for job in jobs_of(current_runtime()) if wanted.fits(job)]
    if found:
        head = f"{plural(len(found), 'job')} of {wanted} enqueued, expected none:"
        raise AssertionError("\n".join([head, *_listed(found)]))


class _Wanted(NamedTuple):
    """What a job has to be like.

    Attributes:
        arguments: By the names of the parameters; None for any.
    """

    task: Task[..., Any]
    arguments: dict[str, Any] | None
    queue: str | None
    at: datetime | timedelta | None

    def fits(self, job: Job[Any]) -> bool:
        return job.func_name == self.task.name and not any(self.differences(job))

    def differences(self, job: Job[Any]) -> Iterator[str]:
        """Yield what is different about a job of the task."""
        if self.arguments is not None:
            found = _by_name(self.task.func, job.args, job.kwargs)
            for name, value in self.arguments.items():
                if value != found.get(name):
                    yield f"{name} is {found.get(name)!r}, not {value!r}"
        if self.queue not in (None, job.queue):
            yield f'the queue is "{job.queue}", not "{self.queue}"'
        if self.at is not None:
            record = job.record
            start = max(record.run_at, record.created_at)
            expected = _seconds(self.at, record.created_at)
            if abs(start - expected) > _SAME_SECS:
                yield f"it is due at {_shown(start)}, not {_shown(expected)}"

    def __str__(self) -> str:
        parts = [self.task.name]
        if self.arguments is not None:
            parts[0] += "(" + ", ".join(f"{k}={v!r}" for k, v in self.arguments.items()) + ")"
        if self.queue is not None:
            parts.append(f'on queue "{self.queue}"')
        if self.at is not None:
            parts.append(f"due {'after' if isinstance(self.at, timedelta) else 'at'} {self.at}")
        return " ".join(parts)


def _report(wanted: _Wanted, jobs: list[Job[Any]]) -> Iterator[str]:
    yield f"No job of {wanted} was enqueued."
    of_task = [job for job in jobs if job.func_name == wanted.task.name]
    if of_task:
        yield "Near misses:"
        for job in of_task[-_MOST_SHOWN:]:
            yield f"  {described(job)}: {'; '.join(wanted.differences(job))}"
    else:
        yield from _advice(wanted.task.name)
    others = [job for job in jobs if job.func_name != wanted.task.name]
    if others:
        yield "Jobs of other tasks:"
        yield from _listed(others)
    elif not of_task:
        yield "The test enqueued no job at all."


def _advice(task: str) -> Iterator[str]:
    store = IsolatedStore.active
    calls = 0 if store is None else store.direct_calls[task]
    if calls:
        times = "once" if calls == 1 else f"{calls} times"
        yield (
            f"{task} was called directly {times}: that runs the function; .delay() enqueues a job."
        )


def _listed(jobs: list[Job[Any]]) -> Iterator[str]:
    for job in jobs[:_MOST_SHOWN]:
        yield f"  {described(job)}"
    if len(jobs) > _MOST_SHOWN:
        yield f"  and {len(jobs) - _MOST_SHOWN} more"


def _bound(
    task: Task[..., Any], args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Return expected arguments by name, as a job would have them after it was stored.

    Raises: InvalidArguments: no job could have them.
    """
    if args is None and kwargs is None:
        return None
    given, named = tuple(args or ()), dict(kwargs or {})
    try:
        signature(task.func).bind(*given, **named)
    except TypeError as error:
        raise InvalidArguments(task.name, str(error), signature=str(signature(task.func))) from None
    codec = current_runtime().codec
    try:
        packed = codec.call_encoder(task.func)(given, named)
    except NotStorable:  # such as mock.ANY
        return _by_name(task.func, given, named)
    return _by_name(task.func, *codec.call_decoder(task.func)(*packed))


def _by_name(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    bound = signature(func).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments


def _seconds(at: datetime | timedelta, created_at: float) -> float:
    return created_at + at.total_seconds() if isinstance(at, timedelta) else at.timestamp()


def _shown(secs: float) -> str:
    return datetime.fromtimestamp(secs, UTC).isoformat(sep=" ", timespec="milliseconds")
