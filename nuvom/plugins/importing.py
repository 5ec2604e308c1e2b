"""Imports what an entry names, and makes a plugin of it: class, instance, or bare backend.

The only place that imports project code on behalf of the plugin file. Failures end in the
plugin set; nothing is started here.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib import import_module, invalidate_caches
from typing import TYPE_CHECKING, Any

from nuvom.config.project import import_roots
from nuvom.errors import IncompatiblePlugin, PluginError, PluginFailed, suggest
from nuvom.plugins.contracts import (
    API_VERSION,
    Plugin,
    PluginProtocol,
    is_compatible,
    looks_like_plugin,
    missing_of_plugin,
)
from nuvom.plugins.lifecycle import FailedPlugin, LoadedPlugin, PluginSet, plugin_error
from nuvom.plugins.registry import BackendKind, default_plugin_registry
from nuvom.queue_backends.base import BaseJobQueue
from nuvom.result_backends.base import BaseResultBackend

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from nuvom.config.settings import Settings
    from nuvom.plugins.contracts import Extras
    from nuvom.plugins.sources import PluginEntry


class BackendPlugin(Plugin):
    """What a backend class that is named alone stands for: a plugin that registers it.

    The name is the class's own ``name``, or the class's name in lower case. An inherited
    ``name`` belongs to the class that it was inherited from.
    """

    def __init__(self, kind: BackendKind, cls: type[Any]) -> None:
        own = vars(cls).get("name")
        self.name = own if isinstance(own, str) and own else cls.__name__.lower()
        self.api_version = getattr(cls, "api_version", Plugin.api_version)
        self.provides = (kind.key,)
        self._kind = kind
        self._cls = cls

    def start(self, settings: Settings, extras: Extras) -> None:
        """Register the class."""
        del settings, extras
        default_plugin_registry().register(self._kind, self.name, self._cls)


def load_entry(
    entry: PluginEntry,
    root: Path,
    plugins: PluginSet,
    *,
    kinds: Collection[str] | None = None,
) -> None:
    """Import and build what ``entry`` names, and add it to ``plugins``.

    What fails is added as failed; what is there already, or provides none of ``kinds``, is
    left out.
    """
    if plugins.knows(entry):
        return
    try:
        loaded = _describe(_as_plugin(_import(entry, root), entry), entry)
        _refuse_other_of_same_name(loaded, plugins)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a plugin's module and constructor
        failure = plugin_error(entry.name, entry.source, error)
        plugins.reject(FailedPlugin(entry.name, entry, failure, (entry.key,)), "load")
        return
    is_new = all(one.plugin is not loaded.plugin for one in plugins.loaded) and not any(
        _is_twin(one, loaded) for one in plugins.loaded
    )
    if is_new and (kinds is None or not loaded.words.isdisjoint(kinds)):
        plugins.add(loaded)


def import_object(target: str) -> Any:  # noqa: ANN401  # whatever the module holds
    """Return what ``module:Name`` names. Raises: whatever the import raises; PluginError."""
    module_name, _, path = target.partition(":")
    module = import_module(module_name)
    found: Any = module
    if not path:
        raise PluginError(f"{target} names a module; it has to be module:Class")
    for part in path.split("."):
        if not hasattr(found, part):
            # The place tells of a module of the same name that was found first.
            place = getattr(module, "__file__", None) or "built in"
            similar = suggest(part, vars(found))
            hint = f", but {' and '.join(similar)}" if similar else ""
            raise PluginError(f"the module {module_name} ({place}) has no {path}{hint}")
        found = getattr(found, part)
    return found


def _import(entry: PluginEntry, root: Path) -> object:
    """Import an entry's object; one of the project also from the project's folders.

    Workers have these folders on the path. A program of the user's that calls ``.delay()``
    has a path of its own, which stays as it is: they are at its end for this import only,
    and only where the module is not found otherwise.
    """
    try:
        return import_object(entry.target)
    except ModuleNotFoundError as error:
        module_name = entry.target.partition(":")[0]
        is_itself = f"{module_name}.".startswith(f"{error.name}.")
        if not entry.is_project or not is_itself:
            raise
    with _at_end_of_path(import_roots(root)):
        return import_object(entry.target)


@contextmanager
def _at_end_of_path(folders: list[Path]) -> Iterator[None]:
    added = [str(folder) for folder in folders if str(folder) not in sys.path]
    sys.path.extend(added)
    invalidate_caches()
    try:
        yield
    finally:
        for folder in added:
            sys.path.remove(folder)


def _as_plugin(found: object, entry: PluginEntry) -> PluginProtocol:
    if isinstance(found, type):
        kind = _kind_of(found, entry)
        if kind is not None:
            return BackendPlugin(kind, found)
        if callable(getattr(found, "start", None)):
            found = found()
    if looks_like_plugin(found):
        return found
    if callable(getattr(found, "start", None)):
        lacking = missing_of_plugin(found)
        reason = f"{entry.target} would be a plugin, but lacks {', '.join(lacking)}"
    else:
        reason = (
            f"{entry.target} is neither a plugin nor a class that derives from "
            "nuvom.queue_backends.BaseJobQueue or nuvom.result_backends.BaseResultBackend"
        )
    raise PluginFailed(entry.name, entry.source, reason)


def _kind_of(cls: type[Any], entry: PluginEntry) -> BackendKind | None:
    """Return what kind of backend the class is by itself, None when it may be a plugin."""
    kinds = [
        kind
        for kind, contract in (
            (BackendKind.QUEUE, BaseJobQueue),
            (BackendKind.RESULT, BaseResultBackend),
        )
        if issubclass(cls, contract)
    ]
    if entry.key == BackendKind.SCHEDULE.key and not hasattr(cls, "api_version"):
        kinds.append(BackendKind.SCHEDULE)
    listed = [kind for kind in kinds if entry.key in ("", kind.key)]
    if kinds and not listed:
        reason = f"{entry.target} is a {kinds[0]} backend, listed under {entry.key}"
        raise PluginFailed(entry.name, entry.source, reason)
    return listed[0] if listed else None


def _describe(plugin: PluginProtocol, entry: PluginEntry) -> LoadedPlugin:
    """Read what the plugin says of itself. Raises: IncompatiblePlugin."""
    name = plugin.name or type(plugin).__name__.lower()
    if not is_compatible(plugin.api_version):
        raise IncompatiblePlugin(name, str(plugin.api_version), API_VERSION)
    package = sys.modules.get(entry.target.partition(":")[0].partition(".")[0])
    version = entry.version or getattr(package, "__version__", "")
    return LoadedPlugin(
        plugin=plugin,
        name=name,
        provides=_words(getattr(plugin, "provides", ())),
        requires=_words(getattr(plugin, "requires", ())),
        entry=entry,
        version=str(version or "unknown version"),
    )


def _words(given: object) -> tuple[str, ...]:
    """Return words that a plugin gives as a list, a tuple, or one text."""
    if isinstance(given, str):
        return (given,)
    return tuple(str(word) for word in given)  # type: ignore[attr-defined]  # else its error is reported


def _is_twin(one: LoadedPlugin, other: LoadedPlugin) -> bool:
    """Return whether two entries name the same plugin class."""
    same_class = type(one.plugin) is type(other.plugin)
    return same_class and not isinstance(one.plugin, BackendPlugin)


def _refuse_other_of_same_name(loaded: LoadedPlugin, plugins: PluginSet) -> None:
    # Two bare backends may share a name: a queue and the results beside it.
    for one in plugins.loaded:
        is_bare = isinstance(one.plugin, BackendPlugin) and isinstance(loaded.plugin, BackendPlugin)
        if one.name == loaded.name and not is_bare and not _is_twin(one, loaded):
            reason = f"the name {loaded.name} is taken by {one.describe()}"
            raise PluginFailed(loaded.name, loaded.entry.source, reason)
