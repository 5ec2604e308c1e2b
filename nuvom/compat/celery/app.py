"""``Celery``, the application: makes tasks, holds settings, sends calls."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn, overload

from nuvom import sdk
from nuvom.compat.celery import result
from nuvom.compat.celery.calls import store_schedules, submit
from nuvom.compat.celery.canvas import signature
from nuvom.compat.celery.conf import Conf
from nuvom.compat.celery.context import applications, running
from nuvom.compat.celery.control import AppControl
from nuvom.compat.celery.exceptions import NotRegistered, NotSupported
from nuvom.compat.celery.schedules import rule_options, warn_if_late
from nuvom.compat.celery.task import Task, make_task, register
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.hooks import on_worker_start
from nuvom.scheduler.trigger import checked_rule

if TYPE_CHECKING:
    from collections.abc import Callable

_NO_BROKER = "Nuvom has no broker; `nuvom runworker` starts a worker, `nuvom workers` lists them."


class _OnConfigured:
    """``app.on_after_configure``: receivers are called when a worker starts."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._receivers: list[Callable[..., Any]] = []

    def connect(self, receiver: Any = None, **_: Any) -> Any:
        """Call a receiver with the application when a worker starts; also a decorator."""
        if receiver is None:
            return self.connect
        warn_if_late(receiver.__qualname__)
        self._receivers.append(receiver)
        return receiver

    def send(self) -> None:
        """Call the receivers, each once."""
        while self._receivers:
            self._receivers.pop(0)(sender=self._app)


class Celery:
    """An application. All of a process share their tasks; its settings count for its calls.

    Args:
        main: Accepted; a task's name is that of its module, as Nuvom names it.
        broker, backend: Kept as settings. Without effect, but for the direction of priorities.
        include: Accepted; discovery finds tasks.
        task_cls: The base of tasks, or its path.
        config_source: See ``config_from_object``.
        changes: More settings.
    """

    AsyncResult = staticmethod(result.AsyncResult)

    def __init__(
        self,
        main: str | None = None,
        *,
        broker: str | None = None,
        backend: str | None = None,
        include: Any = (),
        task_cls: Any = None,
        config_source: Any = None,
        namespace: str | None = None,
        set_as_current: bool = True,
        changes: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.main = main
        self.conf = Conf()
        self.periodic: dict[str, dict[str, Any]] = {}
        given = {"broker_url": broker, "result_backend": backend, "include": include}
        given |= {**settings, **(changes or {})}
        self.conf.update({name: value for name, value in given.items() if value})
        if config_source is not None:
            self.config_from_object(config_source, namespace=namespace)
        self.on_after_configure = _OnConfigured(self)
        self.on_after_finalize = _OnConfigured(self)
        self.on_configure = _OnConfigured(self)
        if isinstance(task_cls, str):
            module, _, name = task_cls.replace(":", ".").rpartition(".")
            task_cls = getattr(import_module(module), name)
        self.Task: Any = type("Task", (task_cls or Task,), {"_app": self})
        self.control = AppControl(self)
        applications.made.append(self)
        on_worker_start(start_applications)
        if set_as_current:
            self.set_current()

    # ---- tasks ----------------------------------------------------------------------------

    @overload
    def task(self, function: Callable[..., Any], /) -> Task: ...
    @overload
    def task(self, **options: Any) -> Callable[[Callable[..., Any]], Task]: ...
    def task(self, *args: Any, base: Any = None, **options: Any) -> Any:
        """Make a task of a function; a decorator, with and without options."""

        def make(function: Callable[..., Any]) -> Task:
            return make_task(function, app=self, base=base or self.Task, **options)

        return make(*args) if args else make

    def register_task(self, task: Any, **options: Any) -> Task:
        """Register a task that is a class, or an object of one.

        Discovery does not find it: name its module in the setting ``hooks``, so that workers do.
        """
        task = task() if isinstance(task, type) else task
        task.name = options.get("name") or task.name or f"{task.__module__}.{type(task).__name__}"
        task._app = self  # noqa: SLF001  # this package's own class
        return register(task, task.run, bind=False)

    @property
    def tasks(self) -> dict[str, Task]:
        """The tasks that are imported, by name."""
        return applications.tasks

    @property
    def current_task(self) -> Task | None:
        """The task that runs here, or None."""
        here = running.get()
        return None if here is None else here[0]

    def send_task(
        self, name: str, args: Any = None, kwargs: Any = None, **options: Any
    ) -> result.AsyncResult:
        """Store a job of a task that need not be imported.

        Raises: TaskNotFound: neither this process nor the manifest knows the name; as
            ``Task.apply_async``.
        """
        task = self.tasks.get(name)
        if task is not None:
            return task.apply_async(args, kwargs, **options)
        if self.conf.task_always_eager:
            raise NotRegistered(f"{name}: import its module, so that it can run here")
        definition = sdk.task_by_name(name).definition
        return submit(self, definition, tuple(args or ()), dict(kwargs or {}), given=options)

    def signature(self, *args: Any, **kwargs: Any) -> Any:
        """Return a signature."""
        return signature(*args, **kwargs)

    # ---- settings -------------------------------------------------------------------------

    def config_from_object(
        self,
        obj: Any,
        silent: bool = False,
        force: bool = False,
        namespace: str | None = None,
    ) -> None:
        """Take settings from an object, a module or its path, once one is needed."""
        self.conf.add_source(obj, namespace or "")
        if force:
            len(self.conf)

    def autodiscover_tasks(self, *_: Any, **__: Any) -> None:
        """Do nothing: `nuvom discover tasks` finds tasks without an import."""

    def add_periodic_task(
        self,
        schedule: Any,
        sig: Any,
        args: Any = (),
        kwargs: Any = (),
        *,
        name: str | None = None,
        **options: Any,
    ) -> str:
        """Add an entry to the schedule, which a worker stores when it starts.

        Raises: NotSupported: ``schedule`` is neither an interval nor a crontab; InvalidSchedule.
        """
        warn_if_late("add_periodic_task")
        call = signature(sig)
        name = name or repr(call)
        entry = {"schedule": schedule, "task": call.task, "args": args or call.args}
        entry |= {"kwargs": dict(kwargs) or call.kwargs, "options": {**call.options, **options}}
        checked_rule(rule_options(entry, self.conf), 0.0)
        self.periodic[name] = entry
        return name

    # ---- the rest -------------------------------------------------------------------------

    def set_current(self) -> None:
        """Make this the application of shared tasks."""
        applications.current = self

    set_default = set_current

    def finalize(self, auto: bool = False) -> None:
        """Call the receivers of the signals about settings; a worker does so at its start."""
        for signal in (self.on_configure, self.on_after_configure, self.on_after_finalize):
            signal.send()

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return datetime.fromtimestamp(SYSTEM_CLOCK.now(), UTC)

    def close(self) -> None:
        """Do nothing: there are no connections to a broker."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise NotSupportedAttribute(f"app.{name}", _NO_BROKER)

    def __repr__(self) -> str:
        return f"<Celery {self.main or '__main__'}>"


def start_applications() -> None:
    """Call the receivers of all applications, then store their schedules; a worker does so."""
    for app in applications.made:
        app.finalize()
    store_schedules(applications.made)


class NotSupportedAttribute(NotSupported, AttributeError):
    """An attribute of the application that Nuvom has not."""


@overload
def shared_task(function: Callable[..., Any], /) -> Task: ...
@overload
def shared_task(**options: Any) -> Callable[[Callable[..., Any]], Task]: ...
def shared_task(*args: Any, base: Any = None, **options: Any) -> Any:
    """Make a task that belongs to no application; a decorator, with and without options."""

    def make(function: Callable[..., Any]) -> Task:
        return make_task(function, base=base or Task, **options)

    return make(*args) if args else make


class _Current:
    """Stands for what is current when an attribute is read."""

    def __init__(self, find: Callable[[], Any]) -> None:
        self._find = find

    def __getattr__(self, name: str) -> Any:
        return getattr(self._find(), name)

    def __bool__(self) -> bool:
        return self._find() is not None

    def __repr__(self) -> str:
        return repr(self._find())


def get_current_task() -> Task | None:
    """Return the task that runs here, or None."""
    here = running.get()
    return None if here is None else here[0]


applications.make = Celery
current_app: Any = _Current(applications.get)
current_task: Any = _Current(get_current_task)
