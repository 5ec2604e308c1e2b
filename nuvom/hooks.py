"""Functions of a project that its workers call: around each job, and at their start and end.

The setting ``hooks`` names a module with such functions. Each process that runs jobs imports it
before any module with tasks, so it is also the place to set up a framework or logging.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from nuvom.core.options import is_plain_function
from nuvom.errors import HooksFailed

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")


class Hooks:
    """The functions registered so far, in the order in which they are called.

    Attributes:
        worker_start, worker_stop, before_each, after_each, each_error: See the decorators.
        are_around_jobs: Whether any is called for each job.
        on_commit: Calls a function when the current transaction of the application's database
            commits, or at once outside of one; None without a framework that has set it.
    """

    def __init__(self) -> None:
        self.worker_start: list[Callable[[], Any]] = []
        self.worker_stop: list[Callable[[], Any]] = []
        self.before_each: list[Callable[[], Any]] = []
        self.after_each: list[Callable[[Any], Any]] = []
        self.each_error: list[Callable[[BaseException], Any]] = []
        self.are_around_jobs = False
        self.on_commit: Callable[[Callable[[], None]], None] | None = None

    def add(self, hooks: list[Any], function: F) -> F:
        """Register a function, unless it is registered already, and return it.

        Raises: TypeError: it is a coroutine function, which nobody would await.
        """
        if not is_plain_function(function):
            raise TypeError(f"a hook must be a plain function, not {function!r}")
        if function not in hooks:
            hooks.append(function)
        self.are_around_jobs = bool(self.before_each or self.after_each or self.each_error)
        return function

    def clear(self) -> None:
        """Forget all functions. For tests."""
        self.__init__()  # type: ignore[misc]  # as if new


default_hooks = Hooks()


def on_worker_start(function: F) -> F:
    """Call ``function()`` in each worker before it takes its first job.

    If it raises, the worker does not start.
    """
    return default_hooks.add(default_hooks.worker_start, function)


def on_worker_stop(function: F) -> F:
    """Call ``function()`` in each worker once its last job has ended; failures are logged."""
    return default_hooks.add(default_hooks.worker_stop, function)


def before_each_job(function: F) -> F:
    """Call ``function()`` before the code of each job, in the context in which that code runs.

    That is in its thread, or its child process; for a coroutine, in another thread, so that it may
    block. ``nuvom.current_job()`` is the job. A failure is logged and changes nothing.
    """
    return default_hooks.add(default_hooks.before_each, function)


def after_each_job(function: F) -> F:
    """Call ``function(result)`` when the code of a job has returned, in the same place.

    The result is not stored yet, and the job's time limit still counts.
    """
    return default_hooks.add(default_hooks.after_each, function)


def on_each_error(function: F) -> F:
    """Call ``function(exception)`` when the code of a job has raised, in the same place.

    For each job whose ``before_each_job`` was called, either this or ``after_each_job`` is called,
    also for ``Retry`` and ``Snooze``; for an interrupted attempt, with a ``TimeoutError`` or
    whatever ended the code. Only a killed process calls neither.
    """
    return default_hooks.add(default_hooks.each_error, function)


def load_hooks(module: str | None) -> None:
    """Import the project's module of hooks, which registers them.

    Raises: HooksFailed: it cannot be imported.
    """
    if module is None:
        return
    try:
        import_module(module)
    except Exception as error:
        raise HooksFailed(module, f"{type(error).__name__}: {error}") from error
