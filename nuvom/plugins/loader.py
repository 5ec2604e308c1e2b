"""Finds and loads plugins, and finds the class for a backend's name.

Workers and plugin commands load every listed plugin. ``.delay()`` and commands that change jobs
load only the plugin that provides the backend in use. Read-only commands run no project code:
they use backends that are built in, registered or installed. ``lifecycle.py`` starts plugins.
"""

from __future__ import annotations

import re
import sys
from importlib import import_module, invalidate_caches
from typing import TYPE_CHECKING, Any

import msgspec

from nuvom.config.project import import_roots
from nuvom.errors import (
    IncompatiblePlugin,
    InvalidConfigFile,
    NuvomError,
    PluginError,
    PluginFailed,
    PluginNotFound,
    PluginNotLoaded,
    PluginsOff,
    UnknownBackend,
    suggest,
)
from nuvom.plugins.contracts import (
    API_VERSION,
    Plugin,
    PluginProtocol,
    is_compatible,
    looks_like_plugin,
    missing_of_plugin,
)
from nuvom.plugins.lifecycle import (
    FailedPlugin,
    LoadedPlugin,
    PluginEntry,
    PluginSet,
    accepts,
    make_extras,
    plugin_error,
)
from nuvom.plugins.registry import BUILT_IN, BackendKind, default_plugin_registry
from nuvom.plugins.trust import read_trusted
from nuvom.queue_backends.base import BaseJobQueue
from nuvom.result_backends.base import BaseResultBackend

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from nuvom.config.settings import Settings
    from nuvom.plugins.contracts import Extras

PLUGIN_FILE = ".nuvom_plugins.toml"
GROUP = "nuvom"

_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_CONTRACTS: dict[BackendKind, type] = {
    BackendKind.QUEUE: BaseJobQueue,
    BackendKind.RESULT: BaseResultBackend,
}


# ---- listed plugins ---------------------------------------------------------------------


def find_entries(settings: Settings) -> list[PluginEntry]:
    """Return all listed plugins in loading order; imports nothing.

    Packages named like a configured backend come first, then the project's file, then the other
    packages.
    Raises: PluginNotTrusted, InvalidConfigFile.
    """
    if settings.plugins == "off":
        return []
    wanted = {getattr(settings, kind.setting) for kind in BackendKind}
    return [entry for source in _sources(wanted, settings.root) for entry in source]


def _sources(names: set[str], root: Path | None) -> Iterator[Iterable[PluginEntry]]:
    """Yield the entries of packages named in ``names``, of ``root``'s file, of other packages."""
    installed = installed_entries()
    yield (entry for entry in installed if entry.name in names)
    yield project_entries(root) if root is not None else ()
    yield (entry for entry in installed if entry.name not in names)


def installed_entries() -> list[PluginEntry]:
    """Return what installed packages list in the entry-point group ``nuvom``, ordered by name."""
    from importlib.metadata import entry_points  # noqa: PLC0415  # slow to import

    found = set()
    for point in entry_points(group=GROUP):
        package: Any = point.dist
        source = f"entry point {point.name} of {package.name}"
        target = f"{point.module}:{point.attr}"
        found.add(PluginEntry(point.name, target, "", source, package.version))
    return sorted(found)


def project_entries(root: Path) -> list[PluginEntry]:
    """Return what the project's plugin file lists, in its order; empty without a file.

    Raises:
        PluginNotTrusted: another user could have written the file.
        InvalidConfigFile: the file cannot be read, or is not a valid plugin file.
    """
    path = root / PLUGIN_FILE
    content = read_trusted(path)
    return [] if content is None else list(_parse(content, path))


class _PluginFile(msgspec.Struct, forbid_unknown_fields=True):
    plugins: dict[str, list[str]] = {}


def _parse(content: bytes, path: Path) -> Iterator[PluginEntry]:
    import tomllib  # noqa: PLC0415  # most projects have no such file

    try:
        listed = msgspec.convert(tomllib.loads(content.decode("utf-8-sig")), _PluginFile)
    except msgspec.ValidationError as error:
        reason = f'it has to look like [plugins] queue_backend = ["module:Class"] ({error})'
        raise InvalidConfigFile(path, reason) from error
    except ValueError as error:
        raise InvalidConfigFile(path, f"it is not valid TOML: {error}") from error
    for key, targets in listed.plugins.items():
        for target in dict.fromkeys(targets):
            if _TARGET.fullmatch(target) is None:
                raise InvalidConfigFile(path, f'{key}: "{target}" has to be "module:Class"')
            yield PluginEntry(re.split("[:.]", target)[-1].lower(), target, key, str(path))


# ---- all plugins ------------------------------------------------------------------------


def load_plugins(settings: Settings, *, only: str | None = None) -> PluginSet:
    """Import and build all listed plugins without starting them. Those that fail are in ``failed``.

    Args:
        only: Load just the plugin of this name, and import no other.
    Raises:
        PluginNotTrusted, InvalidConfigFile: the plugin file cannot be used.
        PluginNotFound: there is no plugin called ``only``.
    """
    entries = find_entries(settings)
    if only is not None:
        known = [entry.name for entry in entries]
        entries = [entry for entry in entries if entry.answers_to(only)]
        if not entries:
            raise PluginNotFound(only, known)
    plugins = PluginSet()
    for entry in entries:
        load_entry(entry, settings.root, plugins)
    return plugins


# ---- one backend ------------------------------------------------------------------------


def backend_class(
    kind: str,
    name: str,
    settings: Settings,
    *,
    allow_project_plugins: bool,
    plugins: PluginSet | None = None,
    extras: Extras | None = None,
) -> type[Any]:
    """Return the class that the backend ``name`` refers to.

    A built-in or registered class is found without looking at any plugin. Otherwise the plugins
    that may provide it are loaded and started, one source after the other.

    Args:
        kind: ``queue``, ``result`` or ``schedule``.
        allow_project_plugins: Whether to use the entries of this kind in the project's plugin
            file. False for read-only commands.
        plugins: Collects the plugins that had to start, so that the caller can stop them.
            Without it they run until the process ends.
        extras: What they start with.
    Raises:
        UnknownBackend: nothing provides it. PluginsOff: only a plugin could provide it.
        PluginNotLoaded: a project plugin might provide it, but must not be used here.
        PluginError: the plugin that provides it failed, or its class is not such a backend.
        InvalidConfigFile: the plugin file cannot be used.
    """
    sought, registry = BackendKind(kind), default_plugin_registry()
    plugins = PluginSet() if plugins is None else plugins
    extras = extras or make_extras()
    found = _at_hand(sought, name)
    if found is None and settings.plugins == "off":
        raise PluginsOff(kind, name, registry.names(sought))
    root = settings.root if allow_project_plugins else None
    for entries in _sources({name}, root) if found is None else ():
        for entry in entries:
            # Packages with another name count only if they say they provide such a backend.
            has_to_say = not entry.is_project and entry.name != name
            if entry.key in ("", sought.key):
                provided = sought.key if has_to_say else None
                load_entry(entry, settings.root, plugins, provided=provided)
        plugins.start_pending(settings, extras)
        found = registry.find(sought, name)
        if found is not None:
            break
    if found is None:
        raise _not_found(sought, name, settings, plugins, was_allowed=allow_project_plugins)
    _check_class(sought, name, found)
    return found


def build_backend(cls: type[Any], settings: Settings) -> Any:  # noqa: ANN401  # an instance of ``cls``
    """Return ``cls(settings)``, or ``cls()`` if its constructor takes no argument.

    Raises: PluginFailed: the constructor accepts neither call, or raised.
    """
    try:
        return cls(settings) if accepts(cls, settings) else cls()
    except NuvomError:
        raise
    except Exception as error:  # a plugin's constructor
        raise plugin_error(cls.__name__, f"{cls.__module__}:{cls.__qualname__}", error) from error


def _at_hand(kind: BackendKind, name: str) -> type[Any] | None:
    registry = default_plugin_registry()
    found = registry.find(kind, name)
    target = BUILT_IN[kind].get(name)
    if found is None and target:
        try:
            found = import_object(target)
        except ImportError as error:  # a Python built without sqlite3, say
            raise plugin_error(name, "built in", error) from error
        registry.register(kind, name, found, force=True)
    return found


def _not_found(
    kind: BackendKind, name: str, settings: Settings, plugins: PluginSet, *, was_allowed: bool
) -> NuvomError:
    for failure in plugins.failed:
        if failure.may_offer(kind, name):
            return failure.error
    listed = () if was_allowed else project_entries(settings.root)
    if any(entry.key == kind.key for entry in listed):
        return PluginNotLoaded(str(kind), name)
    return UnknownBackend(str(kind), name, default_plugin_registry().names(kind))


def _check_class(kind: BackendKind, name: str, cls: type[Any]) -> None:
    """Refuse a manually registered class that is not a backend of this kind."""
    contract = _CONTRACTS.get(kind, object)
    origin = f"{cls.__module__}:{cls.__qualname__}"
    if not issubclass(cls, contract):
        reason = f"it does not derive from {contract.__module__}.{contract.__qualname__}"
        raise PluginFailed(name, origin, reason)
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise PluginFailed(name, origin, f"it lacks {', '.join(missing)}")


# ---- one entry --------------------------------------------------------------------------


class BackendPlugin(Plugin):
    """The plugin for a backend class that is listed on its own; it registers the class.

    The backend's name is the class's own ``name``, or else the class's name in lower case. An
    inherited ``name`` belongs to the base class.
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
    entry: PluginEntry, root: Path, plugins: PluginSet, *, provided: str | None = None
) -> None:
    """Import and build the plugin of ``entry``, and add it to ``plugins``.

    A plugin that fails is added as failed. One that is already there, or that does not provide the
    word ``provided``, is skipped.
    """
    if plugins.knows(entry):
        return
    try:
        loaded = _describe(_as_plugin(_import(entry, root), entry), entry)
        is_new = not any(_is_same(one, loaded) for one in plugins.loaded)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a plugin's module and constructor
        failure = plugin_error(entry.name, entry.source, error)
        plugins.reject(FailedPlugin(entry.name, entry, failure, (entry.key,)), "load")
        return
    if is_new and provided in (None, *loaded.words):
        plugins.add(loaded)


def import_object(target: str) -> Any:  # noqa: ANN401  # whatever the module holds
    """Return the object ``module:Name``. Raises: whatever the import raises; PluginError."""
    module_name, _, path = target.partition(":")
    module = import_module(module_name)
    found: Any = module
    if not path:
        raise PluginError(f"{target} names a module; it has to be module:Class")
    for part in path.split("."):
        if not hasattr(found, part):
            # The path reveals whether another module of the same name was found first.
            place = getattr(module, "__file__", None) or "built in"
            similar = suggest(part, vars(found))
            hint = f", but {' and '.join(similar)}" if similar else ""
            raise PluginError(f"the module {module_name} ({place}) has no {path}{hint}")
        found = getattr(found, part)
    return found


def _import(entry: PluginEntry, root: Path) -> object:
    """Import an entry's object; a project's entry also from the project's folders.

    Workers have these folders on the import path. A user's program that calls ``.delay()`` has
    its own path, which must not change. These folders are therefore appended for this import
    only, and only if the module is not found otherwise.
    """
    try:
        return import_object(entry.target)
    except ModuleNotFoundError as error:
        module_name = entry.target.partition(":")[0]
        is_itself = f"{module_name}.".startswith(f"{error.name}.")
        if not entry.is_project or not is_itself:
            raise
    added = [folder for folder in map(str, import_roots(root)) if folder not in sys.path]
    sys.path.extend(added)
    invalidate_caches()
    try:
        return import_object(entry.target)
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
        lacking = ", ".join(missing_of_plugin(found))
        raise PluginError(f"{entry.target} would be a plugin, but lacks {lacking}")
    raise PluginError(
        f"{entry.target} is neither a plugin nor a class that derives from "
        "nuvom.queue_backends.BaseJobQueue or nuvom.result_backends.BaseResultBackend"
    )


def _kind_of(cls: type[Any], entry: PluginEntry) -> BackendKind | None:
    """Return the kind of backend that the class is, or None if it may be a plugin."""
    kinds = [kind for kind, contract in _CONTRACTS.items() if issubclass(cls, contract)]
    if entry.key == BackendKind.SCHEDULE.key and not hasattr(cls, "api_version"):
        kinds.append(BackendKind.SCHEDULE)
    listed = [kind for kind in kinds if entry.key in ("", kind.key)]
    if kinds and not listed:
        raise PluginError(f"{entry.target} is a {kinds[0]} backend, listed under {entry.key}")
    return listed[0] if listed else None


def _describe(plugin: PluginProtocol, entry: PluginEntry) -> LoadedPlugin:
    """Read the plugin's description of itself. Raises: IncompatiblePlugin."""
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


def _words(given: Any) -> tuple[str, ...]:  # noqa: ANN401  # from a plugin; its error is reported
    """Return the words that a plugin gives as a list, a tuple, or a single string."""
    return (given,) if isinstance(given, str) else tuple(map(str, given))


def _is_same(one: LoadedPlugin, other: LoadedPlugin) -> bool:
    """Return whether both are the same plugin. Raises: PluginError: only the names are equal."""
    if isinstance(other.plugin, BackendPlugin):  # a queue and its results may share a name
        return False
    if type(one.plugin) is type(other.plugin):
        return True
    if one.name == other.name:
        raise PluginError(f"the name {other.name} is taken by {one.describe()}")
    return False
