"""What may go along with jobs: headers where they are sent, a context where their code runs.

Events tell what has happened; a middleware is called before and while it does. Tracing needs
both: a job takes the sender's trace with it, and runs inside a trace of its own. A middleware
that raises is reported like a subscriber that raises, and never changes an outcome.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from types import TracebackType

    from nuvom.core.record import JobRecord

    Report = Callable[[str, BaseException], None]


class Middleware(Protocol):
    """Goes along with all jobs that this process sends or runs; see ``EventBus.accompany``.

    Attributes:
        in_child: ``module:name`` of what makes its like in a child of the process lane, called
            without arguments; empty where it has no part there.
    """

    in_child: str

    def sending(self, job: JobRecord) -> AbstractContextManager[Mapping[str, str]]:
        """Be entered around the storing of a job; give the headers that it takes along.

        For a ``.map()`` it is entered once; ``job.id`` is empty then, and all jobs take the
        same headers, unless the middleware has a method ``creating`` as well: that is called
        with each of them, and returns further headers for it.
        """
        ...

    def handing_over(self, job: JobRecord) -> Mapping[str, str]:
        """Return further headers for the child process that is about to run ``job``."""
        ...

    def running(self, job: JobRecord) -> AbstractContextManager[object]:
        """Be entered around a task's code, in its thread, coroutine or child process."""
        ...


@contextmanager
def sent_by(
    middleware: tuple[Middleware, ...], job: JobRecord, report: Report
) -> Iterator[JobRecord]:
    """Yield ``job`` with the headers of all middleware, which stay entered for the block."""
    headers = dict(job.headers or {})
    with ExitStack() as stack:
        for one in middleware:
            headers.update(stack.enter_context(_Guarded(one, "sending", job, report)) or {})
        yield job.replace(headers=headers or None)


@contextmanager
def run_by(middleware: tuple[Middleware, ...], job: JobRecord, report: Report) -> Iterator[None]:
    """Keep all middleware entered around the code of ``job``."""
    with ExitStack() as stack:
        for one in middleware:
            stack.enter_context(_Guarded(one, "running", job, report))
        yield


def created_by(
    middleware: tuple[Middleware, ...], like: JobRecord, report: Report
) -> Callable[[str], dict[str, str]] | None:
    """Return what gives each job of a ``.map()`` its headers; None where all have the same.

    Args:
        like: All that the jobs have in common.
    """
    creating = [one for one in middleware if hasattr(one, "creating")]
    if not creating:
        return None

    def headers_of(job_id: str) -> dict[str, str]:
        job, headers = like.replace(id=job_id), dict(like.headers or {})
        for one in creating:
            try:
                headers.update(one.creating(job))
            except Exception as error:  # noqa: BLE001  # a plugin's code: any failure is only reported
                report(_name(one, "creating"), error)
        return headers

    return headers_of


def handed_over_by(middleware: tuple[Middleware, ...], job: JobRecord, report: Report) -> JobRecord:
    """Return ``job`` as a child process gets it."""
    headers = dict(job.headers or {})
    for one in middleware:
        try:
            headers.update(one.handing_over(job))
        except Exception as error:  # noqa: BLE001  # a plugin's code: any failure is only reported
            report(_name(one, "handing_over"), error)
    return job.replace(headers=headers or None)


class _Guarded:
    """A middleware's context that reports its own errors, and lets those of the block pass."""

    def __init__(self, middleware: Middleware, method: str, job: JobRecord, report: Report) -> None:
        self._middleware = middleware
        self._method = method
        self._job = job
        self._report = report
        self._inner: AbstractContextManager[Any] | None = None

    def __enter__(self) -> Any:  # whatever the middleware gives
        try:
            inner = getattr(self._middleware, self._method)(self._job)
            given = inner.__enter__()
        except Exception as error:  # noqa: BLE001  # a plugin's code: any failure is only reported
            self._report(_name(self._middleware, self._method), error)
            return None
        self._inner = inner
        return given

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._inner is None:
            return
        try:
            self._inner.__exit__(kind, error, trace)
        except Exception as own:  # noqa: BLE001  # a plugin's code: any failure is only reported
            if own is not error:
                self._report(_name(self._middleware, self._method), own)


def _name(middleware: Middleware, method: str) -> str:
    return f"{type(middleware).__qualname__}.{method}"
