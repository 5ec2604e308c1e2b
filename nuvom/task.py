"""``@task``: turns a function into a task, and a call of it into a job.

The first of the six files that a job passes through. It knows the registry, which holds the
definition, and, starting with the first ``.delay()``, ``nuvom.job``. Importing it loads nothing
heavy: the store opens with the first job.
"""

from __future__ import annotations

from functools import cache, update_wrapper
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    Unpack,
    overload,
)

from nuvom.core.options import (
    CALL_OPTION_NAMES,
    DEFAULT_RETRY_DELAY_SECS,
    NO_CALL_OPTIONS,
    CallOptions,
    TaskOptions,
    call_options,
    check_task_name,
    known_options,
    task_options,
)
from nuvom.registry.registry import TaskDefinition, default_registry, task_name

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
    from datetime import datetime, timedelta
    from types import ModuleType

    from nuvom.job import Job, JobList
    from nuvom.scheduler.schedule import Schedule

P = ParamSpec("P")
R = TypeVar("R")


class Task(Generic[P, R]):
    """A function that can also run later and elsewhere. Calling it runs it here and now.

    Attributes:
        definition: Name, function and options, as registered.
        call_options: What ``.options()`` changed for the next calls.
    """

    def __init__(self, definition: TaskDefinition, call: CallOptions = NO_CALL_OPTIONS) -> None:
        self.definition = definition
        self.call_options = call
        update_wrapper(self, definition.func, updated=())

    # ---- what a task is -----------------------------------------------------------------

    @property
    def name(self) -> str:
        """Full name of the task."""
        return self.definition.name

    @property
    def func(self) -> Callable[P, R]:
        """The function itself."""
        return self.definition.func

    @property
    def task_options(self) -> TaskOptions:
        """All options given to ``@task``; all but ``schedule`` are attributes of the task, too."""
        return self.definition.options

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "definition" or name not in _OPTION_NAMES:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value = self.__dict__["call_options"].get(name)
        if value is None:
            value = getattr(self.definition.options, name, None)
        if value is None:
            value = _SETTING_DEFAULTS.get(name)
        return list(value) if name == "tags" else value

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> Any: ...
    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Bind like a plain function inside a class."""
        if instance is None:
            return self
        return self.definition.func.__get__(instance, owner)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function directly, without a queue."""
        result: R = self.definition.func(*args, **kwargs)
        return result

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    # ---- what can be done with it -------------------------------------------------------

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Store a job that calls the function with these arguments.

        Returns: the job's handle, once the job is committed.
        Raises:
            InvalidArguments: they do not match the signature (a TypeError).
            NotStorable, PayloadTooLarge: they cannot be stored.
            QueueFull, StorageFull, BackendUnavailable: the store refuses the job.
            If this raises, nothing is stored.
        """
        job: Job[R] = _engine().submit(self.definition, args, kwargs, self.call_options)
        return job

    submit = delay

    def delay_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Store a job when the current transaction of the application commits, or at once.

        It is the transaction of a framework that tells Nuvom of its own: with Django, that of the
        default database.

        Returns: the job's handle; there is no such job before the commit, nor after a rollback.
        Raises: NoTransaction: no framework has told Nuvom of its transactions; and as ``delay``:
            what concerns the arguments here, what concerns the store at the commit.
        """
        job: Job[R] = _engine().submit_on_commit(self.definition, args, kwargs, self.call_options)
        return job

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Do as ``delay`` without blocking the event loop.

        If it is cancelled, the job is stored or not; a stored job is not cancelled with it.
        """
        from asyncio import to_thread  # noqa: PLC0415  # a caller that awaits has loaded asyncio

        return await to_thread(self.delay, *args, **kwargs)

    asubmit = adelay

    def map(self, items: Iterable[tuple[Any, ...] | list[Any] | Mapping[str, Any]]) -> JobList[R]:
        """Store one job for each item, all or nothing.

        Args:
            items: Tuples and lists are positional arguments, mappings are keyword arguments. The
                iterable is read once, to its end, before anything is written.
        Returns: the jobs, in the order of the items.
        Raises: as ``delay``; TypeError: an item is not a tuple, list or mapping.
        """
        jobs: JobList[R] = _engine().submit_many(self.definition, items, self.call_options)
        return jobs

    async def amap(
        self, items: Iterable[tuple[Any, ...] | list[Any] | Mapping[str, Any]]
    ) -> JobList[R]:
        """Do as ``map`` without blocking the event loop."""
        from asyncio import to_thread  # noqa: PLC0415  # a caller that awaits has loaded asyncio

        return await to_thread(self.map, items)

    def schedule(
        self,
        *args: Any,
        at: datetime | str | None = None,
        in_: float | timedelta | None = None,
        interval: float | timedelta | None = None,
        cron: str | None = None,
        timezone_name: str | None = None,
        name: str | None = None,
        misfire: str | None = None,
        misfire_max: int | None = None,
        grace: float | timedelta | None = None,
        overlap: str | None = None,
        jitter: float | timedelta | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        **kwargs: Any,
    ) -> Schedule:
        """Make a schedule, which enqueues this call at its fire times, or update it.

        Give exactly one of ``at``, ``in_``, ``interval`` and ``cron``. Every name that is not
        listed below is an argument of the task.

        Args:
            at: The only fire time; a naive one is in ``timezone_name``, else UTC, with a warning.
            in_: Seconds, or a timedelta, until the only fire.
            interval: Seconds, or a timedelta, between fires, from ``start`` or from now.
            cron: Five fields, or six with seconds first; or a name such as ``@hourly``.
            timezone_name: The IANA name of the time zone of ``cron``; the default is UTC.
            name: The schedule's identity: one that has it is updated. The default follows from
                task, arguments and trigger.
            misfire: What to do about fires that were due while no scheduler ran: ``latest`` (the
                default) makes up for one, ``skip`` for none, ``all`` for the latest
                ``misfire_max`` (100).
            grace: How many seconds, or timedelta, late a fire may be made.
            overlap: What to do while the job of the last fire has not ended: ``allow`` another
                (the default), ``skip`` the fire, or ``queue`` one.
            jitter: Delays each job by a random time of up to this many seconds.
            start, end: The earliest and the latest fire time.
        Returns: a handle, once the schedule is committed.
        Raises: InvalidSchedule: an option is wrong; CapabilityMissing: the backend cannot store
            schedules; and what ``delay`` raises. Nothing is stored if this raises.
        """
        from nuvom.scheduler.schedule import create  # noqa: PLC0415  # few programs need it

        options = {
            "at": at,
            "in_": in_,
            "interval": interval,
            "cron": cron,
            "timezone_name": timezone_name,
            "misfire": misfire,
            "misfire_max": misfire_max,
            "grace": grace,
            "overlap": overlap,
            "jitter": jitter,
            "start": start,
            "end": end,
        }
        return create(self.definition, args, kwargs, self.call_options, options=options, name=name)

    def options(self, **options: Unpack[CallOptions]) -> Self:
        """Return a copy of this task with other options for its calls; the task is unchanged.

        Args:
            options: See ``nuvom.core.options.CallOptions``; None leaves an option as it is.
        Raises: InvalidTaskOption: an option is unknown or invalid.
        """
        return type(self)(self.definition, call_options(self.call_options, options))


class AsyncTask(Task[P, R]):
    """A task whose function is a coroutine function; calling it returns the coroutine."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:  # type: ignore[override]  # a call returns the coroutine
        """Return the coroutine for the caller to await."""
        coroutine: Coroutine[Any, Any, R] = self.definition.func(*args, **kwargs)
        return coroutine


class Decorator(Protocol):
    """The decorator returned by ``@task(...)`` with options."""

    @overload
    def __call__(self, func: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, func: Callable[P, R], /) -> Task[P, R]: ...


class TaskDecorator:
    """``@task``, and what ``task.preset(...)`` returns: turns a function into a task.

    Used bare (``@task``) or with options (``@task(retries=3)``).
    """

    def __init__(self, given: Mapping[str, Any] | None = None) -> None:
        self._given = given or {}

    @overload
    def __call__(self, func: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, func: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def __call__(
        self,
        /,
        *,
        name: str | None = ...,
        queue: str = ...,
        priority: int = ...,
        retries: int = ...,
        retry_delay_secs: float = ...,
        backoff: str = ...,
        max_retry_delay_secs: float = ...,
        jitter: bool = ...,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = ...,
        discard_on: type[BaseException] | tuple[type[BaseException], ...] = ...,
        timeout_secs: float | None = ...,
        soft_timeout_secs: float | None = ...,
        timeout_policy: str | None = ...,
        interrupt_on_stop: bool = ...,
        isolation: str = ...,
        store_result: bool = ...,
        result_ttl_secs: float | None = ...,
        unique: bool = ...,
        unique_by: str | Sequence[str] = ...,
        tags: str | Sequence[str] = ...,
        description: str = ...,
        category: str = ...,
        before_job: Callable[[], Any] | None = ...,
        after_job: Callable[[Any], Any] | None = ...,
        on_error: Callable[[BaseException], Any] | None = ...,
        aliases: str | Sequence[str] = ...,
        schedule: str | float | timedelta | dict[str, Any] | None = ...,
        timezone_name: str | None = ...,
        redact: str | Sequence[str] = ...,
        force: bool = ...,
    ) -> Decorator: ...
    def __call__(
        self,
        func: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        force: bool = False,
        **options: Any,
    ) -> Any:
        """Turn a function into a task, or return what does so.

        Args:
            name: The task's full name; the default is ``module.qualname``.
            force: Replace a task that already has this name.
            options: See ``nuvom.core.options.TaskOptions``; they replace those of a preset.
        Raises:
            InvalidTaskOption: an option is unknown or invalid.
            InvalidSchedule: ``schedule`` or ``timezone_name`` cannot be used.
            DuplicateTask: another function already has the name, or one of the aliases.
            TypeError: the decorated object is not callable.
        """
        given = {**self._given, **options}
        checked = _checked(given)
        if name is not None:
            check_task_name(name)

        def decorate(function: Callable[..., Any]) -> Task[Any, Any]:
            if not callable(function):
                reason = f"@task is for functions, not {function!r}; a name goes into name=..."
                raise TypeError(reason)
            definition = TaskDefinition(
                name or task_name(function), function, checked, given=known_options(given)
            )
            default_registry().register(definition, force=force)
            return AsyncTask(definition) if definition.is_async else Task(definition)

        return decorate if func is None else decorate(func)

    def preset(self, **options: Any) -> TaskDecorator:
        """Return a decorator with other defaults: ``db_task = task.preset(queue="db", retries=3)``.

        It is used as ``@task`` is, ``@db_task`` or ``@db_task(retries=5)``, and has presets itself.

        Args:
            options: See ``nuvom.core.options.TaskOptions``.
        Raises: InvalidTaskOption, InvalidSchedule: an option is unknown or invalid.
        """
        given = {**self._given, **options}
        _checked(given)
        return TaskDecorator(given)

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self._given.items())
        return f"<@task({options})>" if options else "<@task>"


task = TaskDecorator()


def _checked(given: dict[str, Any]) -> TaskOptions:
    """Return checked options. Raises: InvalidTaskOption, InvalidSchedule."""
    options = task_options(given)
    if options.schedule is not None:
        from nuvom.scheduler.trigger import rule_of_task  # noqa: PLC0415  # few tasks declare one

        rule_of_task(options.schedule, options.timezone_name)
    return options


@cache
def _engine() -> ModuleType:
    """Return ``nuvom.job``, which loads everything heavy; called at the first job."""
    from nuvom import job  # noqa: PLC0415  # see above

    return job


_OPTION_NAMES = frozenset(TaskOptions._fields).union(CALL_OPTION_NAMES)
_SETTING_DEFAULTS = {"retry_delay_secs": DEFAULT_RETRY_DELAY_SECS, "timeout_policy": "fail"}
