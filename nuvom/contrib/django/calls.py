"""The function of a Django task as Nuvom's registry holds it, and what it is told while it runs."""

from __future__ import annotations

import inspect
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from django.tasks import TaskContext
from django.utils.json import normalize_json

from nuvom.contrib.django.results import details, task_result
from nuvom.core.guard import engine_call
from nuvom.core.job_context import current
from nuvom.core.record import JobSnapshot, JobStatus
from nuvom.inspection.inspector import Inspector
from nuvom.runtime import current_runtime

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from nuvom.core.record import JobRecord
    from nuvom.registry.registry import TaskDefinition

running: ContextVar[Any] = ContextVar("nuvom_django_result", default=None)
"""The ``TaskResult`` of the attempt whose code runs here."""


class TaskCall:
    """Calls the function of a Django task: with a ``TaskContext`` if it takes one, JSON in and out.

    It looks like the function, but for its annotations: values are what JSON makes of them, and no
    class is rebuilt from them.

    Attributes:
        task: The task, as it was decorated.
    """

    def __init__(self, task: Any) -> None:
        self.task = task
        func = task.func
        self.__module__, self.__qualname__ = func.__module__, func.__qualname__
        self.__name__, self.__doc__ = func.__name__, func.__doc__
        self.__signature__ = _signature(func, takes_context=task.takes_context)
        if inspect.iscoroutinefunction(func):
            inspect.markcoroutinefunction(self)  # type: ignore[attr-defined,unused-ignore]  # Python 3.12, as Django 6

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; a coroutine function returns a coroutine, as it does itself."""
        if self.task.takes_context:
            args = (TaskContext(task_result=_running_result()), *args)
        value = self.task.func(*args, **kwargs)
        return _normalized(value) if inspect.iscoroutine(value) else normalize_json(value)

    def is_same(self, task: Any) -> bool:
        """Return whether another task calls the same function in the same way."""
        return self.task.func is task.func and self.task.takes_context == task.takes_context


def call_of(definition: TaskDefinition | None) -> TaskCall | None:
    """Return the call of a Django task that is registered, or None: it is no task of Django."""
    func = None if definition is None else definition.func
    return func if isinstance(func, TaskCall) else None


def alias_of(record: JobRecord, call: TaskCall) -> str:
    """Return the alias of a job's backend; its task's, if Nuvom's own means have enqueued it."""
    return str(details(record).get("backend", call.task.backend))


async def _normalized(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return normalize_json(await coroutine)


def _signature(func: Any, *, takes_context: bool) -> inspect.Signature:
    signature = inspect.signature(func)
    parameters = [
        one.replace(annotation=inspect.Parameter.empty) for one in signature.parameters.values()
    ][takes_context:]
    return inspect.Signature(parameters)


# ---- the running attempt ----------------------------------------------------------------


def _running_result() -> Any:
    found = running.get()
    return current_result() if found is None else found


@engine_call
def current_result() -> Any:
    """Return the ``TaskResult`` of the running job; None if its task is not one of Django's.

    Only for a job that has been tried before does this read from the store.
    """
    attempt = current.get()
    record = None if attempt is None else attempt.record
    if attempt is None or record is None:
        return None
    runtime = current_runtime()
    call = call_of(runtime.registry.get(record.func_name))
    if call is None:
        return None
    args, kwargs = runtime.codec.decode_call(record.args, record.kwargs)
    earlier = record.attempt > 1 or record.deliveries > 1
    snapshot = JobSnapshot(
        record=record.replace(status=JobStatus.RUNNING),
        worker=attempt.worker,
        started_at=runtime.clock.now(),
    )
    return task_result(
        call.task,
        snapshot,
        Inspector(runtime).attempts(record.id) if earlier else (),
        alias=alias_of(record, call),
        args=args,
        kwargs=kwargs,
    )
