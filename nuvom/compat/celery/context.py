"""``self.request``: which call of a task is running."""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from nuvom.core.job_context import current

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

METADATA = "celery"
"""Where a job's metadata holds what Nuvom has no place for: headers, links, ids."""


class Context:
    """What a task can read about its call. An attribute that Celery has and Nuvom has not is None.

    Attributes:
        id, root_id, parent_id: Of the job, of the first of its line, and of the one that called it.
        task: The task's name.
        args, kwargs: Of the call.
        retries: How often it was run before.
        called_directly, is_eager: Whether the task was called as a function, or by ``apply()``.
        headers: As given to ``apply_async``; each is also an attribute.
        delivery_info: Queue and priority.
        hostname: Id of the worker.
        timelimit: The hard and the soft limit, in seconds.
    """

    chain = chord = group = callbacks = errbacks = eta = expires = reply_to = None
    logfile = loglevel = None
    utc = True

    def __init__(self, task: str, args: Any, kwargs: Any, **known: Any) -> None:
        self.id: str | None = None
        self.task = task
        self.args, self.kwargs = args, kwargs
        self.retries = 0
        self.root_id = self.parent_id = self.hostname = None
        self.called_directly = True
        self.is_eager = False
        self.headers: dict[str, Any] = {}
        self.delivery_info: dict[str, Any] = {}
        self.timelimit: tuple[Any, Any] = (None, None)
        self.links: list[Any] = []
        self.state: dict[str, Any] = {}
        self.__dict__.update(known)

    @classmethod
    def of_job(cls, task: str, args: Any, kwargs: Any) -> Context:
        """Return the context of the job whose code is about to run here."""
        attempt = current.get()
        if attempt is None:
            return cls(task, args, kwargs)
        record = attempt.record
        told: Mapping[str, Any] = (record.metadata or {}).get(METADATA, {})
        job_id = told.get("task_id", record.id)
        return cls(
            task,
            args,
            kwargs,
            id=job_id,
            root_id=told.get("root_id", job_id),
            parent_id=told.get("parent_id"),
            retries=max(0, record.attempt - 1),
            called_directly=False,
            headers=told.get("headers", {}),
            links=told.get("link", []),
            hostname=attempt.worker,
            delivery_info={"routing_key": record.queue, "priority": record.priority},
            timelimit=(record.timeout_secs, record.soft_timeout_secs),
        )

    @property
    def call(self) -> tuple[str, Any, Any]:
        """The id as text, and the arguments: what handlers of a task get."""
        return str(self.id), self.args, self.kwargs

    @property
    def correlation_id(self) -> str | None:
        """The id, as in a message."""
        return self.id

    def __getattr__(self, name: str) -> Any:
        headers = self.__dict__.get("headers", {})
        if name in headers:
            return headers[name]
        raise AttributeError(f"a request has no attribute {name}")

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or ``default``."""
        return getattr(self, name, default)

    def update(self, *others: Any, **values: Any) -> None:
        """Set attributes."""
        self.__dict__.update(dict(*others, **values))

    def as_call(self) -> str:
        """Return text for messages."""
        return f"{self.task}[{self.id}] args:{self.args} kwargs:{self.kwargs}"


running: ContextVar[tuple[Any, Context] | None] = ContextVar("nuvom_celery", default=None)
"""The task that runs here, and the context of its call."""


@contextmanager
def within(task: Any, context: Context) -> Iterator[Context]:
    """Make a context the current one during the block."""
    token = running.set((task, context))
    try:
        yield context
    finally:
        running.reset(token)


class ExceptionInfo:
    """An exception as handlers and receivers get it: ``exception``, ``type``, ``traceback``."""

    def __init__(self, exception: BaseException) -> None:
        self.exception = exception
        self.type = type(exception)
        self.tb = exception.__traceback__
        self.traceback = "".join(traceback.format_exception(exception))

    def __str__(self) -> str:
        return self.traceback


class Applications:
    """The application that shared tasks and bare results belong to.

    Attributes:
        current: The one made or set last, or None.
        make: Makes one when none is there.
        tasks: All tasks by name.
        made: All applications.
    """

    def __init__(self) -> None:
        self.made: list[Any] = []
        self.tasks: dict[str, Any] = {}
        self.current: Any = None
        self.make: Any = None

    def get(self) -> Any:
        """Return the current application."""
        if self.current is None:
            self.current = self.make()
        return self.current


applications = Applications()
