"""Middleware for jobs: headers where they are sent, a context where their code runs.

Events report what has happened; a middleware is called before and while it happens. Tracing needs
both: a job carries the sender's trace and runs inside its own trace. A middleware that raises is
reported like a subscriber that raises, and never changes an outcome.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from types import TracebackType

    from nuvom.core.record import JobRecord

    Report = Callable[[str, BaseException], None]


class Middleware(Protocol):
    """Wraps all jobs that this process sends or runs; see ``EventBus.accompany``.

    Attributes:
        in_child: ``module:name`` of a factory, called without arguments, for the equivalent
            middleware in a child of the process lane; empty if it is not used there.
    """

    in_child: str

    def sending(self, job: JobRecord) -> AbstractContextManager[Mapping[str, str]]:
        """Return a context to enter while a job is stored; it yields the job's headers.

        A ``.map()`` enters it once. ``job.id`` is empty then, and all jobs get the same
        headers, unless the middleware also has a method ``creating``: that is called with each
        job and returns additional headers for it.
        """
        ...

    def handing_over(self, job: JobRecord) -> Mapping[str, str]:
        """Return additional headers for the child process that is about to run ``job``."""
        ...

    def running(self, job: JobRecord) -> AbstractContextManager[object]:
        """Return a context to enter around a task's code, in its thread, coroutine or child."""
        ...


@contextmanager
def sent_by(
    middleware: tuple[Middleware, ...], job: JobRecord, report: Report
) -> Iterator[JobRecord]:
    """Yield ``job`` with the headers of all middleware, which stays entered for the block."""
    headers = dict(job.headers or {})
    with ExitStack() as stack:
        for one in middleware:
            headers.update(_enter(stack, one, "sending", job=job, report=report) or {})
        yield job.replace(headers=headers or None)


@contextmanager
def run_by(middleware: tuple[Middleware, ...], job: JobRecord, report: Report) -> Iterator[None]:
    """Keep all middleware entered while the code of ``job`` runs."""
    with ExitStack() as stack:
        for one in middleware:
            _enter(stack, one, "running", job=job, report=report)
        yield


def created_by(
    middleware: tuple[Middleware, ...], like: JobRecord, report: Report
) -> Callable[[str], dict[str, str]] | None:
    """Return a function for the headers of each job of a ``.map()``; None if all are the same.

    Args:
        like: A record with everything that the jobs have in common.
    """
    creating = [one for one in middleware if hasattr(one, "creating")]
    if not creating:
        return None

    return lambda job_id: _headers_from(creating, "creating", like.replace(id=job_id), report)


def handed_over_by(middleware: tuple[Middleware, ...], job: JobRecord, report: Report) -> JobRecord:
    """Return ``job`` as it is sent to a child process."""
    headers = _headers_from(middleware, "handing_over", job, report)
    return job.replace(headers=headers or None)


def _headers_from(
    middleware: Iterable[Middleware], method: str, job: JobRecord, report: Report
) -> dict[str, str]:
    """Return the headers of ``job`` and those that a method of the middleware returns for it."""
    given = dict(job.headers or {})
    for one in middleware:
        try:
            given.update(getattr(one, method)(job))
        except Exception as error:  # noqa: BLE001  # a plugin's code: any failure is only reported
            report(_name(one, method), error)
    return given


def _enter(
    stack: ExitStack, middleware: Middleware, method: str, *, job: JobRecord, report: Report
) -> Any:
    """Enter a middleware's context until ``stack`` ends, and return what it yields.

    Its own errors are reported; those of the block pass through.
    """
    try:
        context = getattr(middleware, method)(job)
        given = context.__enter__()
    except Exception as error:  # noqa: BLE001  # a plugin's code: any failure is only reported
        report(_name(middleware, method), error)
        return None

    def leave(
        kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            context.__exit__(kind, error, trace)
        except Exception as own:  # noqa: BLE001  # a plugin's code: any failure is only reported
            if own is not error:
                report(_name(middleware, method), own)

    stack.push(leave)
    return given


def _name(middleware: Middleware, method: str) -> str:
    return f"{type(middleware).__qualname__}.{method}"
