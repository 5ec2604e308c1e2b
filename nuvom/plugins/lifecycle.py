"""Starts plugins in order and stops them in reverse; keeps a bad one from harming the rest.

Every call into a plugin has a thread of its own and a time limit. A plugin that fails or
hangs is named in the log, counted, and left out. What is loaded is the loader's affair.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.errors import NuvomError, PluginError, PluginFailed
from nuvom.log import get_logger, log_event
from nuvom.plugins.limited import START_LIMIT_SECS, STOP_LIMIT_SECS, call_limited
from nuvom.plugins.order import start_order
from nuvom.plugins.registry import BackendKind, default_plugin_registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.config.settings import Settings
    from nuvom.plugins.contracts import Extras, PluginProtocol, RunningSystem
    from nuvom.plugins.sources import PluginEntry

_LOG = get_logger("nuvom.plugins")


class LoadedPlugin(NamedTuple):
    """A plugin that was imported and built.

    Attributes:
        name, provides, requires: As the plugin says, read once.
        entry: Who named it, and where its class is.
        version: Of its package, or ``unknown version``.
    """

    plugin: PluginProtocol
    name: str
    provides: tuple[str, ...]
    requires: tuple[str, ...]
    entry: PluginEntry
    version: str

    @property
    def words(self) -> frozenset[str]:
        """All that another plugin may require it by."""
        return frozenset((self.name, *self.provides))

    def describe(self) -> str:
        """Return one line for people: name, version, module, and who named it."""
        entry = self.entry
        return f"{self.name} ({self.version}), {entry.target}, named by {entry.source}"


class FailedPlugin(NamedTuple):
    """A plugin that is not used, and why.

    Attributes:
        provides: What it would have provided; of one that could not be imported the key that
            it is listed under.
        registered: The backends that it had registered before it failed.
    """

    name: str
    entry: PluginEntry
    error: PluginError
    provides: tuple[str, ...] = ()
    registered: frozenset[tuple[BackendKind, str]] = frozenset()

    def may_offer(self, kind: BackendKind, name: str) -> bool:
        """Return whether backend ``name`` may be missing because of this failure."""
        return kind.key in self.provides or self.entry.answers_to(name)


class PluginSet:
    """The plugins of one process, from loading to stopping.

    Attributes:
        loaded: In the order of loading; also those that failed to start later.
        failed: Those that are not used.
        errors: How often a call into a plugin failed, by plugin and hook.
        reports: Each such failure as it was logged: plugin, hook and error.
    """

    def __init__(
        self,
        *,
        clock: Clock = SYSTEM_CLOCK,
        start_limit_secs: float = START_LIMIT_SECS,
        stop_limit_secs: float = STOP_LIMIT_SECS,
    ) -> None:
        self.loaded: list[LoadedPlugin] = []
        self.failed: list[FailedPlugin] = []
        self.errors: dict[tuple[str, str], int] = {}
        self.reports: list[tuple[str, str, PluginError]] = []
        self._clock = clock
        self._start_limit_secs = start_limit_secs
        self._stop_limit_secs = stop_limit_secs
        self._pending: list[LoadedPlugin] = []
        self._started: list[LoadedPlugin] = []

    def add(self, plugin: LoadedPlugin) -> None:
        """Take in a plugin that is to be started."""
        self.loaded.append(plugin)
        self._pending.append(plugin)

    def reject(self, failure: FailedPlugin, hook: str) -> None:
        """Take note of a plugin that is not used, and say so."""
        self.failed.append(failure)
        self._report(failure.name, hook, failure.error)

    def knows(self, entry: PluginEntry) -> bool:
        """Return whether what ``entry`` names was loaded before, or tried in vain."""
        known = [one.entry for one in self.loaded] + [one.entry for one in self.failed]
        return any(one.target == entry.target for one in known)

    @property
    def started(self) -> list[LoadedPlugin]:
        """The plugins that run, in the order in which they were started."""
        return list(self._started)

    def start(self, settings: Settings, extras: Extras) -> None:
        """Start what was not started yet; each after the plugins that it requires.

        Raises: PluginError: the plugin that offers a backend in use failed. All are stopped.
        """
        self.start_pending(settings, extras)
        for failure in self.failed:
            if _is_in_use(failure, settings):
                self.stop()
                raise failure.error

    def start_pending(self, settings: Settings, extras: Extras) -> None:
        """Do as ``start``, but leave the judgement of failures to the caller."""
        pending, self._pending = self._pending, []
        order, refused = start_order(pending, self._started)
        for loaded, reason in refused:
            self._leave_out(loaded, _failure(loaded, reason))
        for loaded in order:
            lacking = [word for word in loaded.requires if not self._offers(loaded, word)]
            if lacking:
                reason = f'it requires "{lacking[0]}", which failed to start'
                self._leave_out(loaded, _failure(loaded, reason))
            else:
                self._start_one(loaded, settings, extras)

    def update_runtime(self, runtime: RunningSystem) -> None:
        """Tell all that run what was composed. A failure is reported; the plugin stays."""
        for loaded in self._started:
            update = getattr(loaded.plugin, "update_runtime", None)
            if update is not None:
                call = partial(update, runtime)
                error = self._limited(call, "update_runtime", self._start_limit_secs)
                if error is not None:
                    self._report(loaded.name, "update_runtime", _as_plugin_error(loaded, error))

    def stop(self) -> None:
        """Stop all that run, the last one first; twice is fine."""
        started, self._started = self._started, []
        for loaded in reversed(started):
            error = self._limited(loaded.plugin.stop, "stop", self._stop_limit_secs)
            if error is not None:
                self._report(loaded.name, "stop", _as_plugin_error(loaded, error))

    def _start_one(self, loaded: LoadedPlugin, settings: Settings, extras: Extras) -> None:
        registry = default_plugin_registry()
        before = registry.entries()
        call = _start_call(loaded.plugin, settings, extras)
        error = self._limited(call, "start", self._start_limit_secs)
        if error is None:
            self._started.append(loaded)
            return
        changed = [key for key, cls in registry.entries().items() if before.get(key) is not cls]
        for kind, name in changed:
            registry.forget(kind, name)  # what a plugin that failed has registered is half made
            if (kind, name) in before:
                registry.register(kind, name, before[kind, name], force=True)
        self._leave_out(loaded, _as_plugin_error(loaded, error), frozenset(changed))

    def _leave_out(
        self,
        loaded: LoadedPlugin,
        error: PluginError,
        registered: frozenset[tuple[BackendKind, str]] = frozenset(),
    ) -> None:
        provides = tuple(dict.fromkeys((*loaded.provides, loaded.entry.key)))
        failure = FailedPlugin(loaded.name, loaded.entry, error, provides, registered)
        self.reject(failure, "start")

    def _offers(self, loaded: LoadedPlugin, word: str) -> bool:
        return word in loaded.words or any(word in one.words for one in self._started)

    def _limited(
        self, call: Callable[[], object], hook: str, limit_secs: float
    ) -> BaseException | None:
        return call_limited(call, hook, limit_secs, clock=self._clock)

    def _report(self, name: str, hook: str, error: PluginError) -> None:
        self.errors[name, hook] = self.errors.get((name, hook), 0) + 1
        self.reports.append((name, hook, error))
        log_event(
            _LOG,
            logging.WARNING,
            "plugin.error",
            f"{error.what} {error.fix}",
            fields={"plugin": name, "hook": hook},
            error=error.__cause__,
        )


def _is_in_use(failure: FailedPlugin, settings: Settings) -> bool:
    """Return whether a configured backend is missing, or replaced, because of this failure."""
    registry = default_plugin_registry()
    for kind in BackendKind:
        name: str = getattr(settings, kind.setting)
        if (kind, name) in failure.registered:
            return True
        if name not in registry.names(kind) and failure.may_offer(kind, name):
            return True
    return False


def _start_call(plugin: PluginProtocol, settings: Settings, extras: Extras) -> Callable[[], object]:
    """Return the call of a plugin's ``start``, which may do without the extras."""
    from inspect import signature  # noqa: PLC0415  # slow to import, and most commands start none

    start: Callable[..., object] = plugin.start
    try:
        parameters = signature(start)
        parameters.bind(settings)
    except (TypeError, ValueError):  # it wants more than the settings, or does not say
        return partial(start, settings, extras)
    try:
        parameters.bind(settings, extras)
    except TypeError:
        return partial(start, settings)
    return partial(start, settings, extras)


def _failure(loaded: LoadedPlugin, reason: str) -> PluginError:
    return PluginFailed(loaded.name, loaded.entry.source, reason)


def _as_plugin_error(loaded: LoadedPlugin, error: BaseException) -> PluginError:
    return plugin_error(loaded.name, loaded.entry.source, error)


def plugin_error(name: str, source: str, error: BaseException) -> PluginError:
    """Return what says that plugin ``name`` raised ``error``, which becomes its cause.

    A definite error about plugins (``MissingExtra``, ``IncompatiblePlugin``) stays as it is.
    """
    if isinstance(error, PluginError) and type(error) is not PluginError:
        return error
    failure = PluginFailed(name, source, _text(error))
    failure.__cause__ = error
    return failure


def _text(error: BaseException) -> str:
    if isinstance(error, NuvomError):
        return error.what.rstrip(".")
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  # a plugin's own exception class: anything may be wrong
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
