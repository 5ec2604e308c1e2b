"""All laws of a plugin."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar
from unittest import SkipTest

from msgspec.structs import replace

from nuvom.config.settings import Settings
from nuvom.config.sources import Loaded
from nuvom.core.ids import valid_name
from nuvom.events import EventBus
from nuvom.inspection import Inspector
from nuvom.plugins.contracts import API_VERSION, is_compatible, looks_like_plugin
from nuvom.plugins.lifecycle import (
    START_LIMIT_SECS,
    STOP_LIMIT_SECS,
    bind_extras,
    call_limited,
    make_extras,
)
from nuvom.plugins.loader import build_backend
from nuvom.plugins.registry import BackendKind, PluginRegistry, use_plugin_registry
from nuvom.queue_backends.base import BaseJobQueue
from nuvom.registry.registry import Registry
from nuvom.result_backends.base import BaseResultBackend
from nuvom.runtime import Runtime, build_runtime
from nuvom.testing.conformance.law import Kit, law

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nuvom.plugins.contracts import Extras, PluginProtocol

_CONTRACTS = {BackendKind.QUEUE: BaseJobQueue, BackendKind.RESULT: BaseResultBackend}


class PluginBench:
    """One plugin under test, with a registry and an event bus of its own.

    Attributes:
        plugin: Not started.
        registry: What the plugin's registrations reach.
        settings: Of a project in an empty folder.
    """

    def __init__(self, kit: PluginConformance, folder: Path) -> None:
        self.bus = EventBus()
        self.registry = PluginRegistry()
        self.settings = Settings(root=folder, **kit.settings())
        self.extras: Extras = make_extras(self.bus)
        self._kit = kit
        self._started: list[PluginProtocol] = []
        self.plugin = kit.make()

    def start(self, plugin: PluginProtocol | None = None) -> PluginProtocol:
        """Start the plugin, or another one, as a worker does: in a thread, with a time limit."""
        plugin = self.plugin if plugin is None else plugin
        self._call(partial(plugin.start, self.settings, self.extras), "start")
        self._started.append(plugin)
        return plugin

    def stop(self, plugin: PluginProtocol) -> None:
        """Stop a plugin as a worker does."""
        self._started = [one for one in self._started if one is not plugin]
        self._call(plugin.stop, "stop")

    def update(self, plugin: PluginProtocol, runtime: Runtime) -> None:
        """Tell a plugin of the system, where it wants to know."""
        update = getattr(plugin, "update_runtime", None)
        if update is not None:
            self._call(partial(update, runtime), "update_runtime")

    def _call(self, call: Callable[[], object], hook: str) -> None:
        kit = self._kit
        limit_secs = kit.stop_limit_secs if hook == "stop" else kit.start_limit_secs
        error = call_limited(call, hook, limit_secs)
        if error is not None:
            raise error

    def another(self) -> PluginProtocol:
        """Return a second instance."""
        return self._kit.make()

    def compose(self) -> Runtime:
        """Compose a system on memory; inspector and control work from now on, as in a worker."""
        memory = replace(self.settings, queue_backend="memory", result_backend="memory")
        runtime = build_runtime(Loaded(memory, {}, []), registry=Registry(), bus=self.bus)
        bind_extras(self.extras, Inspector(runtime), runtime.control)
        return runtime

    def close(self) -> None:
        """Stop what runs."""
        for plugin in list(self._started):
            self.stop(plugin)


class PluginConformance(Kit):
    """The laws of a plugin; subclass it in a test module and write ``make``."""

    contract: ClassVar[str] = "plugin"
    start_limit_secs: ClassVar[float] = START_LIMIT_SECS
    """What a worker gives ``start`` and ``update_runtime``."""
    stop_limit_secs: ClassVar[float] = STOP_LIMIT_SECS

    def make(self) -> PluginProtocol:
        """Return a fresh plugin that was not started."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """Return settings that the plugin needs, by name."""
        return {}

    @contextmanager
    def bench(self, folder: Path) -> Iterator[PluginBench]:
        bench = PluginBench(self, folder)
        before = use_plugin_registry(bench.registry)
        try:
            yield bench
        finally:
            bench.close()
            use_plugin_registry(before)

    @law()
    def test_it_looks_like_a_plugin(self, bench: PluginBench) -> None:
        """A plugin has ``api_version``, ``name``, ``start`` and ``stop``."""
        plugin: object = bench.plugin
        assert looks_like_plugin(plugin), f"{plugin!r} lacks one of api_version, name, start, stop"

    @law()
    def test_its_interface_is_this_one(self, bench: PluginBench) -> None:
        """``api_version`` has the major number of this Nuvom's plugin interface."""
        version = bench.plugin.api_version
        assert is_compatible(version), f"api_version is {version!r}; this is {API_VERSION}"

    @law()
    def test_it_has_a_name(self, bench: PluginBench) -> None:
        """``name`` can be used in commands and settings; it may be empty."""
        name = bench.plugin.name
        assert isinstance(name, str), f"the name is {name!r}"
        if name:
            valid_name("plugin", name)

    @law()
    def test_its_words_are_lists_of_texts(self, bench: PluginBench) -> None:
        """``provides`` and ``requires`` are sequences of texts, not one text."""
        for attribute in ("provides", "requires"):
            words = getattr(bench.plugin, attribute, ())
            is_list = isinstance(words, list | tuple) and all(isinstance(w, str) for w in words)
            assert is_list, f"{attribute} is {words!r}"

    @law()
    def test_starting_and_stopping_is_harmless(self, bench: PluginBench) -> None:
        """``start`` and ``stop`` raise nothing, nor does a second ``stop``; within 10 and 5 s."""
        plugin = bench.start()
        bench.stop(plugin)
        bench.stop(plugin)

    @law()
    def test_stopping_unstarted_is_harmless(self, bench: PluginBench) -> None:
        """``stop`` of a plugin that was not started raises nothing."""
        bench.stop(bench.plugin)

    @law()
    def test_it_can_start_again(self, bench: PluginBench) -> None:
        """After a ``stop`` a plugin can be started again, by a fresh instance too."""
        for plugin in (bench.plugin, bench.plugin, bench.another()):
            bench.start(plugin)
            bench.stop(plugin)

    @law()
    def test_it_takes_note_of_the_system(self, bench: PluginBench) -> None:
        """``update_runtime``, where there is one, raises nothing after ``start``; within 10 s."""
        plugin = bench.start()
        bench.update(plugin, bench.compose())

    @law()
    def test_it_registers_what_it_provides(self, bench: PluginBench) -> None:
        """For each kind of backend that it provides, and no other, a plugin registers one."""
        plugin = bench.start()
        provided = {kind for kind in BackendKind if kind.key in getattr(plugin, "provides", ())}
        registered = {kind for kind, _ in bench.registry.entries()}
        missing = sorted(str(kind) for kind in provided - registered)
        assert missing == [], f"provides, but does not register: {', '.join(missing)}"
        unsaid = sorted(kind.key for kind in registered - provided)
        assert unsaid == [], f"registers, but does not provide: {', '.join(unsaid)}"

    @law()
    def test_its_backends_can_be_built(self, bench: PluginBench) -> None:
        """Each backend that a plugin registers is of its contract and can be built."""
        bench.start()
        entries = bench.registry.entries()
        if not entries:
            raise SkipTest("registers no backend")
        for (kind, name), cls in entries.items():
            contract = _CONTRACTS.get(kind, object)
            assert issubclass(cls, contract), f"{name} is no {contract.__name__}"
            backend = build_backend(cls, bench.settings)
            stop = getattr(backend, "stop", None)
            if stop is not None:
                stop()

    @law()
    def test_stopping_ends_its_subscriptions(self, bench: PluginBench) -> None:
        """A plugin that was stopped hears of no event any more."""
        plugin = bench.start()
        bench.stop(plugin)
        left = sorted(event.__name__ for event in bench.bus.active)
        assert left == [], f"still subscribed to {', '.join(left)}"
