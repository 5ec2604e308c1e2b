"""Celery's ``Task`` on Nuvom: each is a definition in Nuvom's registry, like any other task.

A worker calls its ``JobCall``, which sets ``self.request`` and calls the task; handlers and signals
follow from Nuvom's hooks around each job, where the outcome is known.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from functools import update_wrapper, wraps
from typing import TYPE_CHECKING, Any

from nuvom.compat.celery import result, signals
from nuvom.compat.celery.calls import follow, listed, submit
from nuvom.compat.celery.canvas import Signature, chunks, signature, xmap, xstarmap
from nuvom.compat.celery.context import Context, ExceptionInfo, applications, running, within
from nuvom.compat.celery.exceptions import (
    CeleryWarning,
    Ignore,
    MaxRetriesExceededError,
    NotSupported,
    Reject,
    Retry,
)
from nuvom.compat.celery.options import (
    FROM_TASK,
    MOST_RETRIES,
    check_options,
    definition_options,
    job_options,
)
from nuvom.compat.celery.states import FAILURE, IGNORED, RETRY, SUCCESS
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.ids import new_id
from nuvom.core.job_context import current
from nuvom.core.signals import Discard, JobStopping, Snooze
from nuvom.core.signals import Retry as AskedRetry
from nuvom.execution.attempts import current_job
from nuvom.hooks import after_each_job, on_each_error
from nuvom.registry.registry import TaskDefinition, default_registry, task_name
from nuvom.serialization.msgpack_codec import MsgpackCodec
from nuvom.task import Task as NuvomTask

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

_ENDS_OTHERWISE = (Snooze, JobStopping, Discard)
_LOOKS = ("__code__", "__signature__")
_CODEC = MsgpackCodec()


class Task:
    """A task; also the base of classes that share options and handlers among tasks.

    Options are attributes, as in Celery; ``docs/celery-shim.md`` says what each means here.
    """

    abstract = True
    name: str = ""
    max_retries: int | None = 3
    default_retry_delay: float = 180
    autoretry_for: tuple[type[BaseException], ...] = ()
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    retry_kwargs: dict[str, Any] = {}  # noqa: RUF012  # never changed, as in Celery
    retry_backoff: bool | int = False
    retry_backoff_max: int = 600
    retry_jitter: bool = True
    queue: str | None = None
    priority: int | None = None
    expires: Any = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    ignore_result: bool | None = None
    acks_late: bool | None = None
    rate_limit: Any = None
    serializer: str | None = None
    throws: tuple[type[BaseException], ...] = ()
    typing: bool = True
    pydantic: bool = False
    routing_key: str | None = None
    exchange: str | None = None
    compression: str | None = None
    track_started: bool | None = None
    reject_on_worker_lost: bool | None = None
    acks_on_failure_or_timeout: bool | None = None
    store_errors_even_if_ignored: bool | None = None
    send_events: bool = True
    trail: bool = True

    MaxRetriesExceededError = MaxRetriesExceededError

    __name__: str
    definition: TaskDefinition
    _app: Any = None

    # ---- what it does: for subclasses -----------------------------------------------------

    run: Any
    """The function."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function here and now; a worker calls this too."""
        here = running.get()
        if here is not None and here[0] is self and not here[1].state:
            here[1].state["called"] = True
            return self.run(*args, **kwargs)
        with within(self, Context(self.name, args, kwargs)):
            return self.run(*args, **kwargs)

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Is called before the function."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Is called when the function has returned."""

    def on_retry(self, exc: Any, *call: Any) -> None:
        """Is called when the function is to be run again: exc, task_id, args, kwargs, einfo."""

    def on_failure(self, exc: Any, *call: Any) -> None:
        """Is called when the function has failed for good, or ran into its time limit.

        The arguments are exc, task_id, args, kwargs, einfo.
        """

    def after_return(self, status: str, retval: Any, *call: Any) -> None:
        """Is called after each of these handlers: status, retval, task_id, args, kwargs, einfo."""

    # ---- what it is -----------------------------------------------------------------------

    @property
    def app(self) -> Any:
        """The application; for shared tasks the current one."""
        return self._app or applications.get()

    @property
    def request(self) -> Context:
        """The call that is running, as seen by the code of this task."""
        here = running.get()
        return here[1] if here is not None and here[0] is self else Context(self.name, (), {})

    @property
    def own_options(self) -> dict[str, Any]:
        """The options of the task that its calls have too."""
        return {name: getattr(self, name) for name in FROM_TASK}

    def __repr__(self) -> str:
        return f"<@task: {self.name}>"

    # ---- calls ----------------------------------------------------------------------------

    def delay(self, *args: Any, **kwargs: Any) -> result.AsyncResult:
        """Store a job that calls the function with these arguments."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Any = None, kwargs: Any = None, **options: Any
    ) -> result.AsyncResult:
        """Store a job.

        Args:
            args, kwargs: Arguments of the function.
            options: ``countdown``, ``eta``, ``expires``, ``queue``, ``priority``, ``headers``,
                ``task_id`` (a second call with the same one stores nothing), ``link`` (calls to
                enqueue together with its success), ``time_limit``, ``soft_time_limit``,
                ``ignore_result``.
        Raises: NotSupported: an option cannot be kept; and what ``Task.delay`` of Nuvom raises.
        """
        args, kwargs, app = tuple(args or ()), dict(kwargs or {}), self.app
        if app.conf.task_always_eager:
            return self.apply(args, kwargs, **options)
        return submit(app, self.definition, args, kwargs, own=self.own_options, given=options)

    def apply(
        self,
        args: Any = None,
        kwargs: Any = None,
        *,
        throw: bool | None = None,
        retries: int = 0,
        **options: Any,
    ) -> result.EagerResult:
        """Run the task here and now, as its job would: arguments and result are stored values.

        Args:
            throw: Raise what the task raises; the default is ``task_eager_propagates``.
            options: As those of ``apply_async``.
        """
        conf = self.app.conf
        given = {name: value for name, value in options.items() if value is not None}
        job_options(self.name, args, kwargs, conf, own=self.own_options, given=given)
        throw = conf.task_eager_propagates if throw is None else throw
        args, kwargs = _as_stored(self, tuple(args or ()), dict(kwargs or {}))
        known: dict[str, Any] = {"id": given.get("task_id") or new_id()}
        known |= {"root_id": known["id"], "is_eager": True, "called_directly": False}
        known["headers"] = dict(given.get("headers", {}))
        while (done := self._run_here(args, kwargs, known | {"retries": retries}, throw)) is None:
            retries += 1
        links = listed(given.get("link", ())) if done.successful() else ()
        for call in map(signature, links):
            call.apply(() if call.immutable else (done.get(),))
        return done

    def _run_here(
        self, args: Any, kwargs: Any, known: dict[str, Any], throw: bool
    ) -> result.EagerResult | None:
        """Return what came of one attempt; None if the task asked for another."""
        context, func = Context(self.name, args, kwargs, **known), self.definition.func
        with within(self, context):
            try:
                _begin(self, context)
                value = self(*args, **kwargs)
                if inspect.isawaitable(value):
                    import asyncio  # noqa: PLC0415  # few tasks are coroutines

                    value = asyncio.run(_awaited(value))
                value = _CODEC.result_decoder(func)(_CODEC.result_encoder(func)(value))
            except AskedRetry as error:
                task_raised(error)
                return None
            except Exception as error:
                task_raised(error)
                if throw:
                    raise
                told = ExceptionInfo(error).traceback
                return result.EagerResult(known["id"], error, FAILURE, told, name=self.name)
            task_returned(value)
        return result.EagerResult(known["id"], value, SUCCESS, name=self.name)

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """Call ``delay`` once Django's transaction commits."""
        self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """Call ``apply_async`` once Django's transaction commits."""
        from django.db import transaction  # noqa: PLC0415  # only projects with Django call it

        transaction.on_commit(lambda: self.apply_async(*args, **kwargs))

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """Return a signature of a call."""
        return Signature(self.name, args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature:
        """Return a signature that takes no more arguments."""
        return Signature(self.name, args, kwargs, immutable=True)

    def signature(self, args: Any = None, *more: Any, **options: Any) -> Signature:
        """Return a signature with options."""
        return Signature(self.name, args, *more, **options)

    subtask = signature
    chunks, map, starmap = staticmethod(chunks), staticmethod(xmap), staticmethod(xstarmap)

    AsyncResult = staticmethod(result.AsyncResult)

    # ---- in a running task ----------------------------------------------------------------

    def retry(
        self,
        args: Any = None,
        kwargs: Any = None,
        exc: BaseException | None = None,
        throw: bool = True,
        *,
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """Run the task again: raises ``Retry``.

        Args:
            exc: What to raise once no retry is left; the default is MaxRetriesExceededError.
            countdown, eta: When; the default is ``default_retry_delay`` seconds from now.
            max_retries: In place of the task's limit.
        Raises: Retry; ``exc``; NotSupported: the call is to be changed, or to go on after this.
        """
        request = self.request
        self._refuse_changes(request, args, kwargs, options, throw=throw)
        if request.called_directly:
            raise exc or sys.exception() or Retry("Task can be retried", None)
        limit = self.max_retries if max_retries is None else max_retries
        if limit is not None and request.retries >= limit:
            if exc is not None:
                raise exc
            raise self.MaxRetriesExceededError(f"Can't retry {request.as_call()}")
        if eta is not None:
            countdown = eta.timestamp() - SYSTEM_CLOCK.now()
        delay = self.default_retry_delay if countdown is None else countdown
        error = Retry(exc=exc or sys.exception(), when=delay)
        error.max_retries = MOST_RETRIES if limit is None else limit
        raise error from error.exc

    def _refuse_changes(
        self, request: Context, args: Any, kwargs: Any, options: dict[str, Any], *, throw: bool
    ) -> None:
        for name in options.keys() - {"retry", "retry_policy"}:
            why = "the job stays as it was enqueued; enqueue another one by apply_async()."
            raise NotSupported(f"{name}= of retry()", why)
        is_same = args is None or tuple(args) == tuple(request.args)
        if not (is_same and (kwargs is None or kwargs == request.kwargs)):
            why = "a retry has the arguments of its job; enqueue another one by apply_async()."
            raise NotSupported("args= or kwargs= of retry()", why)
        if not throw:
            raise NotSupported("throw=False of retry()", "a retry ends the attempt.")

    def update_state(
        self, task_id: str | None = None, state: str | None = None, meta: Any = None, **_: Any
    ) -> None:
        """Report a state of the running job, as ``AsyncResult`` then gives it.

        Raises: NotSupported: ``task_id`` is that of another job.
        """
        if task_id not in (None, self.request.id):
            raise NotSupported("update_state(task_id=)", "only a running job reports its state.")
        if current.get() is not None:
            current_job().progress(*result.encoded_state(state or "PROGRESS", meta))

    def replace(self, *_: Any, **__: Any) -> Any:
        """Refuse. Raises: NotSupported."""
        raise NotSupported("self.replace()", "Nuvom has no workflows yet; call the other task.")

    add_to_chord = replace


class JobCall:
    """What a worker calls to run a job of a task. It looks like the function."""

    def __init__(self, task: Task, function: Callable[..., Any], *, bind: bool) -> None:
        update_wrapper(self, function, updated=())
        self._task = task
        code = getattr(function, "__code__", None)
        if code is not None:
            self.__code__ = code
        signature = inspect.signature(function)
        if bind:
            rest = list(signature.parameters.values())[1:]
            signature = signature.replace(parameters=rest)
        self.__signature__ = signature

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task, as the job that is running here."""
        task = self._task
        context = Context.of_job(task.name, args, kwargs)
        running.set((task, context))  # in the variables of this job, which end with it
        _begin(task, context)
        value = task(*args, **kwargs)
        if inspect.isawaitable(value):
            return self._finish(value, context)
        follow(task.app, context.links, value)
        return value

    async def _finish(self, awaitable: Any, context: Context) -> Any:
        value = await awaitable
        follow(self._task.app, context.links, value)
        return value


def make_task(
    function: Any,
    *,
    app: Any = None,
    base: type[Task],
    bind: bool = False,
    name: str | None = None,
    **options: Any,
) -> Task:
    """Make a task of a function, and register it.

    An option that Celery does not have becomes an attribute of the task, as there.
    Raises: NotSupported: an option cannot be kept; TypeError: the base is no task.
    """
    if isinstance(function, NuvomTask):
        function = function.func
    full_name = name or task_name(function)
    if not issubclass(base, Task):
        raise TypeError(
            f"the base {base.__module__}.{base.__qualname__} of the task {full_name} is no class "
            "of nuvom.compat.celery: change the imports of its module too"
        )
    for option in options:
        if option not in ("shared", "lazy", "ignore_results") and not hasattr(base, option):
            text = f"{option}= is no option of Celery's; it becomes an attribute of the task only"
            warnings.warn(text, CeleryWarning, stacklevel=2)  # once, and not for each task
    own = {**options, "run": function if bind else staticmethod(function)}
    own |= {"__doc__": function.__doc__, "__module__": function.__module__, "name": full_name}
    made: Task = type(function.__name__, (base,), own)()
    made._app = app  # noqa: SLF001  # this module's own class
    return register(made, function, bind=bind)


def register(task: Task, function: Any, *, bind: bool) -> Task:
    """Put a task into Nuvom's registry."""
    check_options(task, f"the task {task.name}")
    update_wrapper(task, function, updated=())
    if task.autoretry_for:
        task.run = _retrying(task, task.run)
    known, given = definition_options(task)
    entry = JobCall(task, function, bind=bind)
    vars(task).update({name: vars(entry)[name] for name in _LOOKS if name in vars(entry)})
    task.definition = TaskDefinition(task.name, entry, known, given=given)
    default_registry().register(task.definition)
    applications.tasks[task.name] = task
    return task


def _retrying(task: Task, run: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function of a task that runs it again after the exceptions that it names."""

    @wraps(run)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            value = run(*args, **kwargs)
        except Exception as error:  # user code: most are raised again
            _retry_for(task, error)
            raise
        return awaited(value) if inspect.isawaitable(value) else value

    async def awaited(value: Any) -> Any:
        try:
            return await value
        except Exception as error:
            _retry_for(task, error)
            raise

    return call


def _retry_for(task: Task, error: Exception) -> None:
    is_final = isinstance(error, (AskedRetry, *_ENDS_OTHERWISE, *task.dont_autoretry_for))
    if is_final or not isinstance(error, tuple(task.autoretry_for)):
        return
    options = dict(task.retry_kwargs)
    if task.retry_backoff:
        retries = task.request.retries
        wait = min(task.retry_backoff_max, max(1, int(task.retry_backoff)) * 2 ** min(retries, 60))
        options["countdown"] = _jittered(wait) if task.retry_jitter else wait
    task.retry(exc=error, **options)


def _jittered(wait: int) -> float:
    from random import uniform  # noqa: PLC0415  # few tasks retry

    return uniform(0, wait)  # noqa: S311  # only for retry jitter


def _as_stored(task: Task, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Return arguments as a worker would get them. Raises: InvalidArguments, NotStorable."""
    entry = task.definition.func
    inspect.signature(entry).bind(*args, **kwargs)
    return _CODEC.call_decoder(entry)(*_CODEC.call_encoder(entry)(args, kwargs))


async def _awaited(value: Any) -> Any:
    return await value


# ---- what happens around a call -------------------------------------------------------------


def _begin(task: Task, context: Context) -> None:
    task.before_start(*context.call)
    named = {"args": context.args, "kwargs": context.kwargs}
    signals.task_prerun.send(task, task_id=context.id, task=task, **named)


@after_each_job
def task_returned(value: Any) -> None:
    """Tell handlers and receivers that the task of this context has returned."""
    here = running.get()
    if here is None:
        return
    task, context = here
    task.on_success(value, *context.call)
    signals.task_success.send(task, result=value)
    _end(here, SUCCESS, value, None)


@on_each_error
def task_raised(error: BaseException) -> None:
    """Tell handlers and receivers that the task of this context has raised."""
    here = running.get()
    if here is None:
        return
    task, context = here
    info = ExceptionInfo(error)
    cause = getattr(error, "exc", None) or error.__cause__ or error
    if isinstance(error, AskedRetry):
        task.on_retry(cause, *context.call, info)
        signals.task_retry.send(task, request=context, reason=error, einfo=info)
        _end(here, RETRY, error, info)
    elif isinstance(error, Ignore | Reject | Snooze | JobStopping):
        _end(here, IGNORED, error, info)
    else:
        task.on_failure(error, *context.call, info)
        named = {"args": context.args, "kwargs": context.kwargs, "traceback": info.tb}
        signals.task_failure.send(task, task_id=context.id, exception=error, einfo=info, **named)
        _end(here, FAILURE, error, info)


def _end(here: tuple[Task, Context], state: str, value: Any, info: ExceptionInfo | None) -> None:
    task, context = here
    task.after_return(state, value, *context.call, info)
    named = {"args": context.args, "kwargs": context.kwargs, "retval": value, "state": state}
    signals.task_postrun.send(task, task_id=context.id, task=task, **named)
