"""The only composition root: settings go in, one frozen ``Runtime`` comes out.

Everything else receives its dependencies through its constructor. The current runtime is built on
first use, from the project around the working directory, and is replaced by ``configure``.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuvom import events
from nuvom.config import permission
from nuvom.config.project import module_name_for, require_root, root_or_here
from nuvom.config.sources import load
from nuvom.control import Control
from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.core.guard import engine_call
from nuvom.dispatcher import Dispatcher
from nuvom.errors import ProjectNotFound, TaskNotImportable, UnknownBackend
from nuvom.host.waits import SharedWaits
from nuvom.plugins.lifecycle import PluginSet, make_extras
from nuvom.plugins.loader import backend_class, build_backend
from nuvom.queue_backends.base import BaseJobQueue, Capability
from nuvom.queue_backends.store import StoreQueue
from nuvom.registry.registry import Registry, TaskDefinition, default_registry, task_name
from nuvom.serialization.msgpack_codec import MsgpackCodec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nuvom.config.settings import Settings
    from nuvom.config.sources import Loaded
    from nuvom.plugins.contracts import Extras
    from nuvom.result_backends.base import BaseResultBackend
    from nuvom.scheduler.store import BaseScheduleStore
    from nuvom.serialization.base import Codec


@dataclass(frozen=True, slots=True)
class Runtime:
    """All parts that work together in this process for one project.

    Attributes:
        plugins: The plugins that had to be started for the configured backends.
        separate_schedules: Where schedules are kept if it is not the queue's store.
        decoders: For ``nuvom.inspection``: functions that rebuild a task's results, by task name.
        described: For ``nuvom.sdk``: tasks that are known by name alone.
        waits: For ``nuvom.job``: what coroutines wait for.
    """

    settings: Settings
    loaded: Loaded
    queue: BaseJobQueue
    results: BaseResultBackend
    registry: Registry
    codec: Codec
    bus: events.EventBus
    clock: Clock
    dispatcher: Dispatcher
    control: Control
    plugins: PluginSet
    separate_schedules: BaseScheduleStore | None = None
    decoders: dict[str, tuple[TaskDefinition, Callable[[bytes], Any]]] = field(default_factory=dict)
    described: dict[str, TaskDefinition] = field(default_factory=dict)
    waits: SharedWaits = field(default_factory=SharedWaits, init=False)

    @property
    def is_shared(self) -> bool:
        """Whether queue and results are one store, so that ``settle`` alone finishes a job."""
        return self.control.is_shared

    @property
    def schedule_store(self) -> BaseScheduleStore | None:
        """Where schedules are kept; None if the backend keeps none."""
        if self.separate_schedules is not None:
            return self.separate_schedules
        has_own = Capability.SCHEDULES in self.queue.capabilities
        return self.queue.schedules() if has_own else None

    @property
    def plugin_errors(self) -> dict[tuple[str, str], int]:
        """How often calls to plugins failed, by plugin and hook; for subscribers, by their name."""
        of_subscribers = {(name, "event"): count for name, count in self.bus.failures.items()}
        return {**self.plugins.errors, **of_subscribers}

    def stop(self) -> None:
        """Close connections and stop plugins. Idempotent."""
        self.waits.stop()
        self.queue.stop()
        self.results.stop()
        if self.separate_schedules is not None:
            self.separate_schedules.stop()
        self.plugins.stop()


def build_runtime(
    loaded: Loaded,
    *,
    registry: Registry | None = None,
    bus: events.EventBus | None = None,
    clock: Clock = SYSTEM_CLOCK,
    plugins: PluginSet | None = None,
    allow_project_plugins: bool = True,
) -> Runtime:
    """Return the runtime for the ``loaded`` settings, without opening a store.

    Args:
        plugins: Plugins that are already started; the runtime stops them when it stops.
        clock: Another one than the store's, for tests and children.
        allow_project_plugins: False for commands that only read, which run no project code.
    Raises: UnknownBackend, PluginError: a configured backend is not available.
    """
    settings = loaded.settings
    registry = default_registry() if registry is None else registry
    bus = events.default_bus if bus is None else bus
    plugins = PluginSet() if plugins is None else plugins
    queue, results, schedules = _stores(
        settings, plugins, make_extras(bus, clock), allow_plugins=allow_project_plugins
    )
    codec = _codec(settings.serialization_backend)
    dispatcher = Dispatcher(
        queue,
        results,
        codec=codec,
        settings=settings,
        bus=bus,
        clock=_time_of(queue, clock),
        public_name=lambda definition: _announced(definition, settings, registry),
    )
    return Runtime(
        settings=settings,
        loaded=loaded,
        queue=queue,
        results=results,
        registry=registry,
        codec=codec,
        bus=bus,
        clock=_time_of(queue, clock),
        dispatcher=dispatcher,
        plugins=plugins,
        control=Control(queue, results, bus, is_shared=results.joins(queue)),
        separate_schedules=schedules,
    )


def _stores(
    settings: Settings, plugins: PluginSet, extras: Extras, *, allow_plugins: bool
) -> tuple[BaseJobQueue, BaseResultBackend, BaseScheduleStore | None]:
    """Return queue, results, and where schedules are kept if not with the queue."""
    find = partial(
        backend_class,
        settings=settings,
        allow_project_plugins=allow_plugins,
        plugins=plugins,
        extras=extras,
    )
    queue: BaseJobQueue = build_backend(find("queue", settings.queue_backend), settings)
    results: BaseResultBackend = build_backend(find("result", settings.result_backend), settings)
    name = settings.scheduler_backend
    if name is None or (
        name == settings.queue_backend and Capability.SCHEDULES in queue.capabilities
    ):
        return queue, results, None
    found = build_backend(find("schedule", name), settings)
    if isinstance(found, BaseJobQueue):
        found = found.schedules()
        found.inserts_jobs = False  # its own queue is not the one that jobs are for
    return queue, results, found


def _time_of(queue: BaseJobQueue, clock: Clock) -> Clock:
    """Return the store's clock in place of the system's: who shares a store shares its time."""
    return queue.clock if clock is SYSTEM_CLOCK and isinstance(queue, StoreQueue) else clock


def _codec(name: str) -> Codec:
    if name != MsgpackCodec.name:
        raise UnknownBackend("serialization", name, [MsgpackCodec.name])
    return MsgpackCodec()


def _announced(definition: TaskDefinition, settings: Settings, registry: Registry) -> str:
    """Return the task's public name, and register the task under it in this process too."""
    name = public_name(definition, settings)
    if registry.get(definition.name) is definition and registry.get(name) is None:
        registry.register(definition, name=name)
    return name


def public_name(definition: TaskDefinition, settings: Settings) -> str:
    """Return the name by which a worker in another process finds the task.

    It differs from the registered name if the task's module was imported under a name that does
    not match its path below the project root.

    Raises: TaskNotImportable: no worker could import it.
    """
    if is_local_only():
        return definition.name
    func = definition.func
    qualname = getattr(func, "__qualname__", "")
    if "<" in qualname:
        what = "a lambda" if qualname.endswith("<lambda>") else "defined inside a function"
        raise TaskNotImportable(
            definition.name,
            f"it is {what}",
            "Move it to the top level of a module, or run it with nuvom.local_worker().",
        )
    code = getattr(func, "__code__", None)
    if code is None:
        return definition.name
    root, module = settings.root, func.__module__
    inside = module_name_for(Path(code.co_filename), root, settings.source_roots)
    if module == "__main__":
        _check_main(definition.name, Path(code.co_filename), inside, root)
    is_named = definition.name != task_name(func)
    if inside is not None and inside.endswith(f".{module}") and not is_named:
        # Imported from a folder below the root. Discovery tells if workers do so as well.
        from nuvom.discovery.manifest import tasks_or_nothing  # noqa: PLC0415  # rarely needed

        listed = {task.name for task in tasks_or_nothing(settings.manifest_file)}
        if f"{module}.{qualname}" in listed:
            return definition.name
    return definition.name if is_named or inside is None else f"{inside}.{qualname}"


def _check_main(name: str, file: Path, inside: str | None, root: Path) -> None:
    """Refuse a task in the running program that no worker can import."""
    if not file.is_file():
        raise TaskNotImportable(
            name,
            "it was typed in, not read from a file",
            "Put it into a module below the project root, or run it with nuvom.local_worker().",
        )
    if inside is None:
        raise TaskNotImportable(
            name,
            f"{file} is not an importable module below the project root {root}",
            f"Move the file below {root} under a name that is a Python identifier.",
        )


# ---- the current runtime --------------------------------------------------------------

_lock = threading.RLock()
_current: Runtime | None = None
_overrides: dict[str, Any] = {}
_local_workers = 0


def current_runtime() -> Runtime:
    """Return this process's runtime, building it on the first call.

    The project root is that of ``configure(root=...)`` or ``NUVOM_ROOT``, else the nearest one
    around the working directory. If there is none, it is the working directory, provided that its
    code uses Nuvom.
    Raises: ConfigError, UnknownBackend, PluginError; ProjectNotFound: there is no project, and the
        store would be made in a folder that nobody chose; EnqueueInTest: a test has no store of its
        own.
    """
    runtime = _current
    return runtime if runtime is not None else _build_current()


@engine_call
def _build_current() -> Runtime:
    with _lock:
        if _current is None:
            loaded = _load(_overrides)
            _check_root(loaded.settings)
            permission.check(loaded)
            use_runtime(build_runtime(loaded))
        assert _current is not None  # noqa: S101  # set by use_runtime
        return _current


def _load(given: Mapping[str, Any]) -> Loaded:
    """Return the settings with those of the program, which may say where the project is.

    Raises: ProjectNotFound, ConfigError.
    """
    settings = dict(given)
    root = settings.pop("root", None)
    if root is None:
        return load(root_or_here(), overrides=settings)
    chosen = Path(os.path.realpath(root))
    if not chosen.is_dir():
        raise ProjectNotFound([chosen])
    return load(chosen, overrides=settings)


def _check_root(settings: Settings) -> None:
    """Refuse to make a store in a folder that is no project and has no code that uses Nuvom.

    Raises: ProjectNotFound.
    """
    places = {"sqlite": (settings.db_path, settings.result_db_path), "file": (settings.files_dir,)}
    used = {*places.get(settings.queue_backend, ()), *places.get(settings.result_backend, ())}
    is_chosen = "root" in _overrides or settings.state_dir.is_dir()
    if is_chosen or not any(one.is_relative_to(settings.state_dir) for one in used):
        return
    registry = default_registry()
    tasks = [registry.get(name) for name in registry.names()]
    has_task = any(one is not None and _is_defined_in(settings.root, one) for one in tasks)
    if not has_task and not _mentions_nuvom(settings.root):
        require_root()


def _mentions_nuvom(folder: Path) -> bool:
    """Whether a Python file in ``folder``, or in a folder in it, uses Nuvom, as it seems.

    A full scan would do, but the folder may be that of all files of this machine.
    """
    for path in chain(folder.glob("*.py"), folder.glob("*/*.py")):
        with suppress(OSError):
            if b"nuvom" in path.read_bytes():
                return True
    return False


def _is_defined_in(folder: Path, definition: TaskDefinition) -> bool:
    """Whether a task is defined below ``folder``, or in the program itself."""
    func = definition.func
    code = getattr(func, "__code__", None)
    file = "" if code is None else os.path.realpath(code.co_filename)
    return func.__module__ == "__main__" or Path(file).is_relative_to(os.path.realpath(folder))


def built_runtime() -> Runtime | None:
    """Return the current runtime if it has been built; never build it."""
    return _current


def use_runtime(runtime: Runtime | None) -> Runtime | None:
    """Make ``runtime`` current (None: rebuild when needed); return the previous one."""
    global _current  # the process's only replaceable runtime
    with _lock:
        before, _current = _current, runtime
        return before


@engine_call
def notify() -> None:
    """Wake a worker that waits for work, after the commit of a transaction with jobs in it.

    Only a SQLite file needs this, and only for promptness: nobody but the caller knows when a
    transaction on the caller's own connection has been committed.
    Raises: BackendUnavailable.
    """
    current_runtime().queue.notify()


@engine_call
def configure(**settings: Any) -> None:
    """Set settings from the program; they override environment, files and defaults.

    ``root`` says which folder is the project's, wherever the program was started.
    A later call adds to an earlier one. The current runtime is stopped, and rebuilt when it is
    next needed.
    Raises: UnknownSetting, InvalidSetting; ProjectNotFound: ``root`` is no folder. Nothing was
        changed.
    """
    with _lock:
        merged = {**_overrides, **settings}
        _load(merged)  # raises on invalid settings before anything changes
        _overrides.update(settings)
        before = use_runtime(None)
    if before is not None:
        before.stop()


def reset() -> None:
    """Forget the current runtime and everything passed to ``configure``; for tests."""
    with _lock:
        _overrides.clear()
        before = use_runtime(None)
    if before is not None:
        before.stop()


def is_local_only() -> bool:
    """Whether workers in this process take the jobs, so that any task can be found."""
    return _local_workers > 0 or (
        _current is not None and _current.settings.queue_backend == "memory"
    )


def count_local_worker(change: int) -> None:
    """Record that an embedded worker starts (1) or stops (-1)."""
    global _local_workers  # noqa: PLW0603  # belongs to the current runtime
    with _lock:
        _local_workers += change
        if _current is not None:
            _current.dispatcher.forget_templates()


def _forget_in_child() -> None:
    # The parent owns its connections, locks and worker threads: drop them, never close them.
    global _current, _lock, _local_workers  # noqa: PLW0603  # a forked child starts fresh
    _lock = threading.RLock()
    _current = None
    _local_workers = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
