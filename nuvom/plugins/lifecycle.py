"""Starts plugins in order, stops them in reverse, and isolates failures.

Every call into a plugin runs in its own thread with a time limit. A plugin that fails or hangs is
logged by name, counted, and excluded. The loader loads plugins.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.errors import NuvomError, PluginError, PluginFailed
from nuvom.events import EventBus, default_bus
from nuvom.execution.failures import current_frames, stack_of
from nuvom.log import get_logger, log_event
from nuvom.plugins.registry import BackendKind, default_plugin_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nuvom.config.settings import Settings
    from nuvom.plugins.contracts import Control, Extras, Inspector, PluginProtocol, RunningSystem

START_LIMIT_SECS = 10.0
STOP_LIMIT_SECS = 5.0

_LOG = get_logger("nuvom.plugins")


class PluginEntry(NamedTuple):
    """A plugin as listed in a file or package, before it is imported.

    Attributes:
        name: The entry point's name; for the plugin file, the class's name in lower case.
        target: ``module:Class``.
        key: The key in the plugin file that lists it (``queue_backend``), or empty.
        source: What lists it: the file's path, or the package with its entry point.
        version: The version of the package, if a package lists it.
    """

    name: str
    target: str
    key: str
    source: str
    version: str = ""

    @property
    def is_project(self) -> bool:
        """Whether the project's file lists it, rather than an installed package."""
        return bool(self.key)

    def answers_to(self, name: str) -> bool:
        """Return whether ``name`` may refer to this entry."""
        return name in (self.name, self.target, *self.target.split(":"))


class LoadedPlugin(NamedTuple):
    """A plugin that has been imported and built.

    Attributes:
        name, provides, requires: The plugin's own values, read once.
        entry: What lists it, and where its class is.
        version: The version of its package, or ``unknown version``.
    """

    plugin: PluginProtocol
    name: str
    provides: tuple[str, ...]
    requires: tuple[str, ...]
    entry: PluginEntry
    version: str

    @property
    def words(self) -> frozenset[str]:
        """All words by which another plugin may require it."""
        return frozenset((self.name, *self.provides))

    def describe(self) -> str:
        """Return one human-readable line: name, version, module, and what lists it."""
        entry = self.entry
        return f"{self.name} ({self.version}), {entry.target}, named by {entry.source}"


class FailedPlugin(NamedTuple):
    """A plugin that is not used, and why.

    Attributes:
        provides: What it would have provided. If its import failed, the key that lists it.
        registered: The backends that it registered before it failed.
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
        loaded: Loaded plugins in loading order, including those that later failed to start.
        failed: Plugins that are not used.
        started: Running plugins, in the order in which they started.
        errors: Number of failed calls into plugins, by plugin and hook.
        reports: Each of these failures as logged: plugin, hook and error.
    """

    def __init__(self) -> None:
        self.loaded: list[LoadedPlugin] = []
        self.failed: list[FailedPlugin] = []
        self.started: list[LoadedPlugin] = []
        self.errors: Counter[tuple[str, str]] = Counter()
        self.reports: list[tuple[str, str, PluginError]] = []
        self._pending: list[LoadedPlugin] = []

    def add(self, plugin: LoadedPlugin) -> None:
        """Add a plugin to start."""
        self.loaded.append(plugin)
        self._pending.append(plugin)

    def reject(self, failure: FailedPlugin, hook: str) -> None:
        """Record and log a plugin that will not be used."""
        self.failed.append(failure)
        self._report(failure.name, hook, failure.error)

    def knows(self, entry: PluginEntry) -> bool:
        """Return whether loading ``entry`` has been tried before."""
        known = [one.entry for one in self.loaded] + [one.entry for one in self.failed]
        return any(one.target == entry.target for one in known)

    def start(self, settings: Settings, extras: Extras) -> None:
        """Start the plugins that have not started yet, each after those that it requires.

        Raises: PluginError: the plugin that provides a backend in use failed. All plugins are
            stopped.
        """
        self.start_pending(settings, extras)
        for failure in self.failed:
            if _is_in_use(failure, settings):
                self.stop()
                raise failure.error

    def start_pending(self, settings: Settings, extras: Extras) -> None:
        """Do the same as ``start``, but let the caller decide what failures mean.

        The given order is kept, except that a plugin starts after all that provide a word that it
        requires.
        """
        waiting, self._pending = self._pending, []
        while ready := [one for one in waiting if not _has_to_wait(one, waiting)]:
            waiting.remove(ready[0])
            self._start_one(ready[0], settings, extras)
        for loaded in waiting:
            self._leave_out(loaded, "it requires a plugin that cannot start before it")

    def update_runtime(self, runtime: RunningSystem) -> None:
        """Give every running plugin the assembled system. One that fails is logged but stays."""
        for loaded in self.started:
            update = getattr(loaded.plugin, "update_runtime", None)
            if update is not None:
                self._call(loaded, "update_runtime", partial(update, runtime))

    def stop(self) -> None:
        """Stop all running plugins, the last one first. Safe to call twice."""
        started, self.started = self.started, []
        for loaded in reversed(started):
            self._call(loaded, "stop", loaded.plugin.stop)

    def _start_one(self, loaded: LoadedPlugin, settings: Settings, extras: Extras) -> None:
        for word in loaded.requires:
            if not _offers(word, [*self.started, loaded]):
                self._leave_out(loaded, f'it requires "{word}", which no running plugin provides')
                return
        registry = default_plugin_registry()
        before = registry.entries()
        call = start_call(loaded.plugin, settings, extras)
        error = call_limited(call, "start", START_LIMIT_SECS)
        if error is None:
            self.started.append(loaded)
        else:  # a failed plugin's backends may be incomplete
            self._leave_out(loaded, error, registry.restore(before))

    def _leave_out(
        self,
        loaded: LoadedPlugin,
        error: BaseException | str,
        registered: frozenset[tuple[BackendKind, str]] = frozenset(),
    ) -> None:
        provides = tuple(dict.fromkeys((*loaded.provides, loaded.entry.key)))
        failure = plugin_error(loaded.name, loaded.entry.source, error)
        self.reject(FailedPlugin(loaded.name, loaded.entry, failure, provides, registered), "start")

    def _call(self, loaded: LoadedPlugin, hook: str, call: Callable[[], object]) -> None:
        limit_secs = STOP_LIMIT_SECS if hook == "stop" else START_LIMIT_SECS
        error = call_limited(call, hook, limit_secs)
        if error is not None:
            self._report(loaded.name, hook, plugin_error(loaded.name, loaded.entry.source, error))

    def _report(self, name: str, hook: str, error: PluginError) -> None:
        self.errors[name, hook] += 1
        self.reports.append((name, hook, error))
        text, fields = f"{error.what} {error.fix}", {"plugin": name, "hook": hook}
        cause = error.__cause__
        log_event(_LOG, logging.WARNING, "plugin.error", text, fields=fields, error=cause)


# ---- order and use ----------------------------------------------------------------------


def _has_to_wait(plugin: LoadedPlugin, waiting: Sequence[LoadedPlugin]) -> bool:
    """Return whether another plugin provides a required word and has not started yet."""
    others = [one for one in waiting if one is not plugin]
    return any(_offers(word, others) for word in plugin.requires if word not in plugin.words)


def _offers(word: str, plugins: Sequence[LoadedPlugin]) -> bool:
    return any(word in plugin.words for plugin in plugins)


def _is_in_use(failure: FailedPlugin, settings: Settings) -> bool:
    """Return whether this failure makes a configured backend missing or replaced."""
    registry = default_plugin_registry()
    for kind in BackendKind:
        name: str = getattr(settings, kind.setting)
        if (kind, name) in failure.registered:
            return True
        if name not in registry.names(kind) and failure.may_offer(kind, name):
            return True
    return False


# ---- one call ---------------------------------------------------------------------------


def call_limited(call: Callable[[], object], hook: str, limit_secs: float) -> BaseException | None:
    """Call a plugin's ``hook``; return what it raised, or a TimeoutError that says where it hangs.

    A call that hangs is abandoned: its daemon thread does not keep the process alive.
    """
    caught: list[BaseException] = []
    done = threading.Event()

    def body() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001  # a plugin's code, SystemExit too
            caught.append(error)
        finally:
            done.set()

    context = copy_context()
    thread = threading.Thread(target=context.run, args=(body,), name="nuvom-plugin", daemon=True)
    thread.start()
    if SYSTEM_CLOCK.wait(done, limit_secs):
        return caught[0] if caught else None
    late = TimeoutError(f"{hook} did not return within {limit_secs:g} s")
    frame = current_frames().get(thread.ident or 0)
    if frame is not None:
        late.add_note(f"It is still here:\n{stack_of(frame)}")
    return late


def start_call(plugin: PluginProtocol, settings: Settings, extras: Extras) -> Callable[[], object]:
    """Return a callable for a plugin's ``start``, whose ``extras`` parameter is optional."""
    start: Callable[..., object] = plugin.start
    return partial(start, settings, *([extras] if accepts(start, settings, extras) else []))


def accepts(function: Callable[..., object], *arguments: object) -> bool:
    """Return whether a function or class can be called with these positional arguments."""
    from inspect import signature  # noqa: PLC0415  # slow to import, and most commands start none

    try:
        signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # written in C, without a signature: assume it takes them
        pass
    return True


def plugin_error(name: str, source: str, error: BaseException | str) -> PluginError:
    """Return a PluginError that says why plugin ``name`` failed.

    An exception becomes its cause. A specific plugin error (``MissingExtra``,
    ``IncompatiblePlugin``) is returned unchanged.
    """
    if isinstance(error, str):
        return PluginFailed(name, source, error)
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


# ---- extras -----------------------------------------------------------------------------


class StandIn:
    """Proxy that forwards everything to its target, and raises a clear error until it has one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._target: object = None

    def bind(self, target: object) -> None:
        """Forward to ``target`` from this call on."""
        self._target = target

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the target has
        if self._target is None:
            raise PluginError(
                f"extras['{self._name}'].{name} was used before update_runtime was called"
            )
        return getattr(self._target, name)


def make_extras(bus: EventBus = default_bus, clock: Clock = SYSTEM_CLOCK) -> Extras:
    """Return the extras that plugins start with.

    Plugins provide backends, so they start before any backend is built. ``inspector`` and
    ``control`` are therefore stand-ins until ``bind_extras`` binds them.
    """
    return {
        "events": bus,
        "inspector": cast("Inspector", StandIn("inspector")),
        "control": cast("Control", StandIn("control")),
        "clock": clock,
    }


def bind_extras(extras: Extras, inspector: Inspector, control: Control) -> None:
    """Bind the stand-ins of ``extras`` to the parts that the runtime has built."""
    for stand_in, target in ((extras["inspector"], inspector), (extras["control"], control)):
        if isinstance(stand_in, StandIn):
            stand_in.bind(target)
