"""Maps backend names to classes, and keeps the metrics providers.

Plugins register here when they start, and the loader looks here first. The module's functions act
on the process's default registry.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, cast

from nuvom.core.ids import valid_name
from nuvom.errors import BackendNameTaken, UnknownBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nuvom.queue_backends.base import BaseJobQueue
    from nuvom.result_backends.base import BaseResultBackend

    MetricsProvider = Callable[[], Mapping[str, float]]


class BackendKind(StrEnum):
    """A kind of backend; error messages use the value."""

    QUEUE = "queue"
    RESULT = "result"
    SCHEDULE = "schedule"

    @property
    def key(self) -> str:
        """Its key in ``.nuvom_plugins.toml``, and the word that a plugin provides."""
        return "schedule_store" if self is BackendKind.SCHEDULE else f"{self}_backend"

    @property
    def setting(self) -> str:
        """The setting that selects a backend of this kind."""
        return "scheduler_backend" if self is BackendKind.SCHEDULE else f"{self}_backend"


# The backends that come with Nuvom, as import paths: the loader imports the selected one just like
# a third party's. A name without a path is reserved.
BUILT_IN: dict[BackendKind, dict[str, str]] = {
    BackendKind.QUEUE: {
        "file": "nuvom.queue_backends.file:FileJobQueue",
        "memory": "nuvom.queue_backends.memory:MemoryJobQueue",
        "postgres": "nuvom.contrib.postgres:PostgresJobQueue",
        "redis": "nuvom.contrib.redis:RedisJobQueue",
        "sqlite": "nuvom.queue_backends.sqlite:SQLiteJobQueue",
    },
    BackendKind.RESULT: {
        "file": "nuvom.result_backends.file:FileResultBackend",
        "memory": "nuvom.result_backends.memory:MemoryResultBackend",
        "postgres": "nuvom.contrib.postgres:PostgresResultBackend",
        "redis": "nuvom.contrib.redis:RedisResultBackend",
        "sqlite": "nuvom.result_backends.sqlite:SQLiteResultBackend",
    },
}
# Queues that keep schedules as well, for a store of schedules that is not the queue's.
BUILT_IN[BackendKind.SCHEDULE] = BUILT_IN[BackendKind.QUEUE]


class PluginRegistry:
    """Backend classes by kind and name, and metrics providers by name.

    All methods are thread-safe. Each change is a single dict operation and needs no lock, which a
    forked child could inherit in a locked state.
    """

    def __init__(self) -> None:
        self._classes: dict[tuple[BackendKind, str], type] = {}
        self._providers: dict[str, MetricsProvider] = {}

    def register(self, kind: BackendKind, name: str, cls: type, *, force: bool = False) -> None:
        """Map ``name`` to ``cls``. Registering the same class again, even reloaded, is fine.

        Args:
            force: Replace any class that has the name, even a built-in backend.

        Raises:
            InvalidId: the name is not valid in a setting.
            BackendNameTaken: another class has the name, or the name is built in.
        """
        valid_name(f"the name of a {kind} backend", name)
        first = None if force else self._taken_by(kind, name, cls)
        if first is not None:
            raise BackendNameTaken(str(kind), name, first, _path(cls))
        self._classes[kind, name] = cls

    def _taken_by(self, kind: BackendKind, name: str, cls: type) -> str | None:
        """Return what already has the name, or None if ``cls`` may take it."""
        known = self.find(kind, name)
        if known is not None:
            return None if _is_same(known, cls) else _path(known)
        own = f"nuvom.{kind}_backends.{name}."
        if name not in BUILT_IN[kind] or f"{cls.__module__}.".startswith(own):
            return None
        return f"the built-in {name} backend"

    def find(self, kind: BackendKind, name: str) -> type | None:
        """Return the registered class, or None."""
        return self._classes.get((kind, name))

    def lookup(self, kind: BackendKind, name: str) -> type:
        """Return the registered class.

        Raises: UnknownBackend: nothing is registered under that name. Built-in backends are
            registered on first use.
        """
        found = self.find(kind, name)
        if found is None:
            raise UnknownBackend(str(kind), name, self.names(kind))
        return found

    def names(self, kind: BackendKind) -> list[str]:
        """Return all available names, built-in and registered, sorted."""
        registered = {name for found, name in list(self._classes) if found is kind}
        return sorted(registered.union(BUILT_IN[kind]))

    def entries(self) -> dict[tuple[BackendKind, str], type]:
        """Return a copy of all registrations."""
        return self._classes.copy()

    def restore(
        self, entries: dict[tuple[BackendKind, str], type]
    ) -> frozenset[tuple[BackendKind, str]]:
        """Go back to what ``entries`` returned; return what had been registered since."""
        changed = {key for key, cls in self._classes.items() if entries.get(key) is not cls}
        self._classes = entries
        return frozenset(changed)

    def add_provider(self, name: str, provider: MetricsProvider) -> Callable[[], None]:
        """Make exporters include what ``provider()`` returns: figures by metric name.

        A later provider of the same name replaces an earlier one.
        Returns: a function that removes this provider; safe to call twice.
        """
        self._providers[name] = provider

        def remove() -> None:
            if self._providers.get(name) is provider:
                self._providers.pop(name, None)

        return remove

    def providers(self) -> dict[str, MetricsProvider]:
        """Return a copy of the metrics providers, in the order of registration."""
        return self._providers.copy()


def _is_same(first: type, second: type) -> bool:
    is_reloaded = _path(first) == _path(second) and "<locals>" not in second.__qualname__
    return first is second or is_reloaded


def _path(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


_default = PluginRegistry()


def default_plugin_registry() -> PluginRegistry:
    """Return the registry that the functions below act on."""
    return _default


def use_plugin_registry(registry: PluginRegistry) -> PluginRegistry:
    """Make ``registry`` the default; return the previous one. For tests."""
    global _default  # the process's one replaceable registry
    before, _default = _default, registry
    return before


def register_queue_backend(name: str, cls: type[BaseJobQueue], *, force: bool = False) -> None:
    """Make the setting ``queue_backend = name`` select ``cls``; see ``PluginRegistry.register``."""
    _default.register(BackendKind.QUEUE, name, cls, force=force)


def register_result_backend(
    name: str, cls: type[BaseResultBackend], *, force: bool = False
) -> None:
    """Make the setting ``result_backend = name`` select ``cls``."""
    _default.register(BackendKind.RESULT, name, cls, force=force)


def register_schedule_store(name: str, cls: type[Any], *, force: bool = False) -> None:
    """Make the setting ``scheduler_backend = name`` select ``cls``."""
    _default.register(BackendKind.SCHEDULE, name, cls, force=force)


def register_metrics_provider(name: str, provider: MetricsProvider) -> Callable[[], None]:
    """Make exporters include what ``provider()`` returns; see ``PluginRegistry.add_provider``."""
    return _default.add_provider(name, provider)


def queue_backend(name: str) -> type[BaseJobQueue]:
    """Return the queue class registered as ``name``. Raises: UnknownBackend."""
    return cast("type[BaseJobQueue]", _default.lookup(BackendKind.QUEUE, name))


def result_backend(name: str) -> type[BaseResultBackend]:
    """Return the result class registered as ``name``. Raises: UnknownBackend."""
    return cast("type[BaseResultBackend]", _default.lookup(BackendKind.RESULT, name))


def schedule_store(name: str) -> type[Any]:
    """Return the schedule store registered as ``name``. Raises: UnknownBackend."""
    return _default.lookup(BackendKind.SCHEDULE, name)


def metrics_providers() -> dict[str, MetricsProvider]:
    """Return the metrics providers by name."""
    return _default.providers()
