"""Loads plugins, and finds the class behind a backend's name, whoever offers it.

Workers and plugin commands load everything that is named; ``.delay()`` and commands that change
jobs only what offers the backend in use. Read-only commands run no project code: they get what
is built in, registered or installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuvom.errors import (
    NuvomError,
    PluginFailed,
    PluginNotFound,
    PluginNotLoaded,
    PluginsOff,
    UnknownBackend,
)
from nuvom.plugins.builtin import BUILT_IN
from nuvom.plugins.extras import make_extras
from nuvom.plugins.importing import import_object, load_entry
from nuvom.plugins.lifecycle import PluginSet, plugin_error
from nuvom.plugins.registry import BackendKind, default_plugin_registry
from nuvom.plugins.sources import PluginEntry, installed_entries, project_entries
from nuvom.queue_backends.base import BaseJobQueue
from nuvom.result_backends.base import BaseResultBackend

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from nuvom.config.settings import Settings
    from nuvom.plugins.contracts import Extras

_CONTRACTS: dict[BackendKind, type] = {
    BackendKind.QUEUE: BaseJobQueue,
    BackendKind.RESULT: BaseResultBackend,
}


# ---- all plugins ----------------------------------------------------------------------


def find_entries(settings: Settings) -> list[PluginEntry]:
    """Return everything that is named as a plugin, in the order of loading; imports nothing.

    Packages that are called like a configured backend come first, then the project's file,
    then the other packages.
    Raises: PluginNotTrusted, InvalidConfigFile.
    """
    if settings.plugins == "off":
        return []
    wanted = {getattr(settings, kind.setting) for kind in BackendKind}
    installed = installed_entries()
    return [
        *(entry for entry in installed if entry.name in wanted),
        *project_entries(settings.root),
        *(entry for entry in installed if entry.name not in wanted),
    ]


def load_plugins(
    settings: Settings,
    *,
    kinds: Collection[str] | None = None,
    only: str | None = None,
    into: PluginSet | None = None,
) -> PluginSet:
    """Import and build plugins; start none. A plugin that cannot be is in ``failed``.

    Args:
        kinds: Keys of the plugin file (``queue_backend``, ``monitoring``): load what is listed
            under them there, and packages that provide them. None loads all.
        only: Load the one plugin of this name, and import no other.
        into: The set to add to; what is in it already is not loaded again.
    Raises:
        PluginNotTrusted, InvalidConfigFile: the plugin file cannot be used.
        PluginNotFound: there is no plugin called ``only``.
    """
    plugins = PluginSet() if into is None else into
    entries = find_entries(settings)
    if only is not None:
        known = [entry.name for entry in entries]
        entries = [entry for entry in entries if entry.answers_to(only)]
        if not entries:
            raise PluginNotFound(only, known)
    for entry in entries:
        if kinds is None or not entry.is_project or entry.key in kinds:
            load_entry(entry, settings.root, plugins, kinds=None if entry.is_project else kinds)
    return plugins


# ---- one backend ----------------------------------------------------------------------


def backend_class(
    kind: str,
    name: str,
    settings: Settings,
    *,
    allow_project_plugins: bool,
    plugins: PluginSet | None = None,
    extras: Extras | None = None,
) -> type[Any]:
    """Return the class that backend ``name`` means.

    What is built in or registered is found without looking at any plugin. Otherwise the
    plugins that may offer it are loaded and started, one source after the other.

    Args:
        kind: ``queue``, ``result`` or ``schedule``.
        allow_project_plugins: Whether the project's plugin file may be used, its entries of
            this kind. False for commands that only read.
        plugins: Holds the plugins that had to be started, so that they can be stopped. Without
            it they run until the process ends.
        extras: What they are started with.
    Raises:
        UnknownBackend: nothing offers it. PluginsOff: a plugin would have to.
        PluginNotLoaded: a plugin of the project might, but may not be used here.
        PluginError: the plugin that offers it failed, or its class is no such backend.
        InvalidConfigFile: the plugin file cannot be used.
    """
    sought = BackendKind(kind)
    found = _at_hand(sought, name)
    if found is None:
        if settings.plugins == "off":
            raise PluginsOff(kind, name, default_plugin_registry().names(sought))
        plugins = PluginSet() if plugins is None else plugins
        search = _Search(sought, name, settings, plugins)
        found = search.run(extras or make_extras(), allow_project_plugins=allow_project_plugins)
    _check_class(sought, name, found)
    return found


def build_backend(cls: type[Any], settings: Settings) -> Any:  # noqa: ANN401  # of the class asked for
    """Return ``cls(settings)``, or ``cls()`` when its constructor takes no argument.

    Raises: PluginFailed: the constructor fits neither, or raised.
    """
    try:
        return cls(settings) if _takes_argument(cls) else cls()
    except NuvomError:
        raise
    except Exception as error:  # a plugin's constructor
        raise plugin_error(cls.__name__, f"{cls.__module__}:{cls.__qualname__}", error) from error


def _takes_argument(cls: type[Any]) -> bool:
    from inspect import Parameter, signature  # noqa: PLC0415  # slow to import, and needed once

    keyword_only = (Parameter.KEYWORD_ONLY, Parameter.VAR_KEYWORD)
    try:
        parameters = signature(cls).parameters.values()
    except ValueError:  # written in C, without a signature: the rule, then
        return True
    return any(one.kind not in keyword_only for one in parameters)


def _at_hand(kind: BackendKind, name: str) -> type[Any] | None:
    registry = default_plugin_registry()
    found = registry.find(kind, name)
    target = BUILT_IN.get(kind, {}).get(name)
    if found is None and target is not None:
        try:
            found = import_object(target)
        except ImportError as error:  # a Python built without sqlite3, say
            raise plugin_error(name, "built in", error) from error
        registry.register(kind, name, found, force=True)
    return found


class _Search:
    """Looks for one backend in the plugins that may offer it."""

    def __init__(
        self, kind: BackendKind, name: str, settings: Settings, plugins: PluginSet
    ) -> None:
        self._kind = kind
        self._name = name
        self._settings = settings
        self._plugins = plugins

    def run(self, extras: Extras, *, allow_project_plugins: bool) -> type[Any]:
        """Return the class, once some plugin has registered it; see ``backend_class``."""
        registry = default_plugin_registry()
        for entries in self._sources(allow_project_plugins=allow_project_plugins):
            for entry in entries:
                # Of packages called otherwise only those that say they provide such a backend.
                is_meant = entry.is_project or entry.name == self._name
                kinds = None if is_meant else {self._kind.key}
                load_entry(entry, self._settings.root, self._plugins, kinds=kinds)
            self._plugins.start_pending(self._settings, extras)
            found = registry.find(self._kind, self._name)
            if found is not None:
                return found
        raise self._not_found(allow_project_plugins=allow_project_plugins)

    def _sources(self, *, allow_project_plugins: bool) -> Iterator[list[PluginEntry]]:
        installed = installed_entries()
        yield [entry for entry in installed if entry.name == self._name]
        if allow_project_plugins:
            yield self._listed()
        yield [entry for entry in installed if entry.name != self._name]

    def _listed(self) -> list[PluginEntry]:
        entries = project_entries(self._settings.root)
        return [entry for entry in entries if entry.key == self._kind.key]

    def _not_found(self, *, allow_project_plugins: bool) -> NuvomError:
        for failure in self._plugins.failed:
            if failure.may_offer(self._kind, self._name):
                return failure.error
        if not allow_project_plugins and self._listed():
            return PluginNotLoaded(str(self._kind), self._name)
        return UnknownBackend(
            str(self._kind), self._name, default_plugin_registry().names(self._kind)
        )


def _check_class(kind: BackendKind, name: str, cls: type[Any]) -> None:
    """Refuse what was registered by hand and is no backend of this kind."""
    contract = _CONTRACTS.get(kind, object)
    origin = f"{cls.__module__}:{cls.__qualname__}"
    if not issubclass(cls, contract):
        reason = f"it does not derive from {contract.__module__}.{contract.__qualname__}"
        raise PluginFailed(name, origin, reason)
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise PluginFailed(name, origin, f"it lacks {', '.join(missing)}")
