"""Which class stands for which backend name, and who provides metrics.

Plugins register here when they start; the loader looks here before it looks anywhere else.
The functions of the module act on the process's default registry.
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
    """A kind of backend; the word itself is what errors say."""

    QUEUE = "queue"
    RESULT = "result"
    SCHEDULE = "schedule"

    @property
    def key(self) -> str:
        """Its key in ``.nuvom_plugins.toml``, and the word that a plugin provides."""
        return "schedule_store" if self is BackendKind.SCHEDULE else f"{self}_backend"

    @property
    def setting(self) -> str:
        """The setting that chooses one."""
        return "scheduler_backend" if self is BackendKind.SCHEDULE else f"{self}_backend"


# The backends that come with Nuvom, named by text: the loader imports the one that is chosen, as it
# imports a third party's. A name without a target is reserved.
BUILT_IN: dict[BackendKind, dict[str, str]] = {
    BackendKind.QUEUE: {
        "file": "nuvom.queue_backends.file:FileJobQueue",
        "memory": "nuvom.queue_backends.memory:MemoryJobQueue",
        "sqlite": "nuvom.queue_backends.sqlite:SQLiteJobQueue",
    },
    BackendKind.RESULT: {
        "file": "nuvom.result_backends.file:FileResultBackend",
        "memory": "nuvom.result_backends.memory:MemoryResultBackend",
        "sqlite": "nuvom.result_backends.sqlite:SQLiteResultBackend",
    },
    BackendKind.SCHEDULE: {"memory": "", "sqlite": ""},
}


class PluginRegistry:
    """Backend classes by kind and name, and metrics providers by name.

    All methods may be called from any thread. There is no lock that a forked child could
    inherit held: each change is one step of a dict.
    """

    def __init__(self) -> None:
        self._classes: dict[tuple[BackendKind, str], type] = {}
        self._providers: dict[str, MetricsProvider] = {}

    def register(self, kind: BackendKind, name: str, cls: type, *, force: bool = False) -> None:
        """Let ``name`` stand for ``cls``. The same class twice is fine, also reloaded.

        Args:
            force: Replace whatever has the name, a built-in backend included.

        Raises:
            InvalidId: no setting could hold such a name.
            BackendNameTaken: another class has the name, or it is built in.
        """
        valid_name(f"the name of a {kind} backend", name)
        first = None if force else self._taken_by(kind, name, cls)
        if first is not None:
            raise BackendNameTaken(str(kind), name, first, _path(cls))
        self._classes[kind, name] = cls

    def _taken_by(self, kind: BackendKind, name: str, cls: type) -> str | None:
        """Return what else has the name, or None when ``cls`` may have it."""
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

        Raises: UnknownBackend: nothing is registered by that name (built-in backends are
        once they were used).
        """
        found = self.find(kind, name)
        if found is None:
            raise UnknownBackend(str(kind), name, self.names(kind))
        return found

    def names(self, kind: BackendKind) -> list[str]:
        """Return all names that can be chosen, built-in and registered, sorted."""
        registered = {name for found, name in list(self._classes) if found is kind}
        return sorted(registered.union(BUILT_IN[kind]))

    def entries(self) -> dict[tuple[BackendKind, str], type]:
        """Return a copy of everything registered."""
        return self._classes.copy()

    def forget(self, kind: BackendKind, name: str) -> bool:
        """Undo ``register``; False when there was nothing."""
        return self._classes.pop((kind, name), None) is not None

    def add_provider(self, name: str, provider: MetricsProvider) -> Callable[[], None]:
        """Have exporters show what ``provider()`` returns: figures by metric name.

        A later provider of the same name takes the place of an earlier one.
        Returns: a function that removes this provider; calling it twice is fine.
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
    """Make ``registry`` the default one; return the one before. For tests."""
    global _default  # the one replaceable registry of the process
    before, _default = _default, registry
    return before


def register_queue_backend(name: str, cls: type[BaseJobQueue], *, force: bool = False) -> None:
    """Let the setting ``queue_backend = name`` mean ``cls``; see ``PluginRegistry.register``."""
    _default.register(BackendKind.QUEUE, name, cls, force=force)


def register_result_backend(
    name: str, cls: type[BaseResultBackend], *, force: bool = False
) -> None:
    """Let the setting ``result_backend = name`` mean ``cls``."""
    _default.register(BackendKind.RESULT, name, cls, force=force)


def register_schedule_store(name: str, cls: type[Any], *, force: bool = False) -> None:
    """Let the setting ``scheduler_backend = name`` mean ``cls``."""
    _default.register(BackendKind.SCHEDULE, name, cls, force=force)


def register_metrics_provider(name: str, provider: MetricsProvider) -> Callable[[], None]:
    """Have exporters show what ``provider()`` returns; see ``PluginRegistry.add_provider``."""
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
