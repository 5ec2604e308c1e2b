"""The hooks of a worker in a Django project; importing this module sets Django up.

Each process that runs jobs imports it before any module with tasks: it is what the setting
``hooks`` names in a Django project. A module of hooks of your own that another source of settings
names has to import it first.
"""

from __future__ import annotations

import traceback
from random import Random
from typing import Any

import django
from asgiref.sync import SyncToAsync
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import close_old_connections
from django.tasks import TaskResultStatus, task_backends
from django.tasks.base import TaskError
from django.tasks.signals import task_finished, task_started

from nuvom.contrib.django.backend import NuvomBackend
from nuvom.contrib.django.calls import current_result, running
from nuvom.contrib.django.project import set_up, unread_settings, users_hooks
from nuvom.contrib.django.results import moment
from nuvom.core.guard import engine_call
from nuvom.core.job_context import current
from nuvom.core.outcome import Snoozed, TimedOut, decide
from nuvom.core.record import JobStatus
from nuvom.execution.failures import stored_error, users_frames
from nuvom.execution.job_runner import outcome_of
from nuvom.hooks import (
    after_each_job,
    before_each_job,
    load_hooks,
    on_each_error,
    on_worker_start,
)
from nuvom.runtime import current_runtime

_ENDED = {
    JobStatus.SUCCESS: TaskResultStatus.SUCCESSFUL,
    JobStatus.FAILED: TaskResultStatus.FAILED,
    JobStatus.PENDING: TaskResultStatus.READY,
}


@on_worker_start
def check_settings() -> None:
    """Refuse to start with other settings than the rest of the project.

    Raises: ImproperlyConfigured: this is plain ``nuvom``, which does not read ``settings.NUVOM``.
    """
    unread = unread_settings(current_runtime().loaded)
    if unread:
        raise ImproperlyConfigured(
            f"plain nuvom does not read NUVOM in settings.py, which sets {', '.join(unread)}; use "
            "manage.py nuvom, or set that in nuvom.toml"
        )


@before_each_job
def begin() -> None:
    """Close connections that are too old, and tell Django that its task starts."""
    close_connections()
    result = current_result()
    if result is not None:
        running.set(result)
        _send(task_started, result)


@after_each_job
def succeed(value: object) -> None:
    """Tell Django that its task has returned, and close connections."""
    result = running.get()
    if result is not None:
        object.__setattr__(result, "_return_value", value)
        _finish(result, TaskResultStatus.SUCCESSFUL)
    close_connections()


@on_each_error
def fail(error: BaseException) -> None:
    """Tell Django that its task has raised, as a handler of the exception, and close connections.

    The status is READY if another attempt follows.
    """
    result = running.get()
    if result is not None:
        frames = users_frames(error)
        try:
            raise error  # noqa: TRY301  # the hooks of a coroutine run where nothing is handled yet
        except BaseException as raised:  # noqa: BLE001  # it is the worker's to handle
            _fail(result, raised.with_traceback(frames))
    close_connections()


def _fail(result: Any, error: BaseException) -> None:
    status, is_failure = _after(error)
    if is_failure:
        kind = type(error)
        path = f"{kind.__module__}.{kind.__qualname__}"
        text = "".join(traceback.format_exception(error))
        result.errors.append(TaskError(exception_class_path=path, traceback=text))
    _finish(result, status)


@engine_call
def _after(error: BaseException) -> tuple[Any, bool]:
    """Return the status once the attempt that raised ``error`` is settled, and whether it failed.

    The settlement decides it in the same way, just after this.
    """
    attempt: Any = current.get()
    record = attempt.record
    outcome = outcome_of(record, error)
    if attempt.is_cancelled and isinstance(error, TimeoutError):
        outcome = TimedOut(stored_error(record.func_name, error))
    verdict = decide(outcome, record, attempt.task.options, now=0.0, rng=Random())  # noqa: S311  # only the status counts
    return _ENDED[verdict.status], not isinstance(outcome, Snoozed)


def _finish(result: Any, status: Any) -> None:
    if status != TaskResultStatus.READY:
        object.__setattr__(result, "finished_at", moment(current_runtime().clock.now()))
    object.__setattr__(result, "status", status)
    _send(task_finished, result)


def _send(signal: Any, result: Any) -> None:
    """Send a signal; Django logs receivers that raise, and the job's outcome stays as it is."""
    alias = result.backend
    backend = task_backends[alias] if alias in task_backends.settings else None
    signal.send_robust(NuvomBackend if backend is None else type(backend), task_result=result)


def close_connections() -> None:
    """Close the connections of this thread that are too old, as Django does around a request.

    Coroutines use the database in the one thread that ``sync_to_async`` has for them.
    """
    close_old_connections()
    attempt = current.get()
    if attempt is not None and attempt.lane == "async":
        SyncToAsync.single_thread_executor.submit(close_old_connections)


def _import_tasks() -> None:
    for backend in task_backends.all():
        if isinstance(backend, NuvomBackend):
            backend.import_tasks()


if not apps.ready:
    django.setup()
set_up()
_import_tasks()
load_hooks(users_hooks())
