"""All laws of a plugin."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar
from unittest import SkipTest

import pytest
from msgspec.structs import replace

from nuvom.config.settings import Settings
from nuvom.config.sources import Loaded
from nuvom.core.ids import valid_name
from nuvom.events import EventBus
from nuvom.inspection.inspector import Inspector
from nuvom.plugins.contracts import API_VERSION, is_compatible, looks_like_plugin
from nuvom.plugins.lifecycle import (
    START_LIMIT_SECS,
    STOP_LIMIT_SECS,
    bind_extras,
    call_limited,
    make_extras,
    start_call,
)
from nuvom.plugins.loader import build_backend
from nuvom.plugins.registry import BackendKind, PluginRegistry, use_plugin_registry
from nuvom.queue_backends.base import BaseJobQueue
from nuvom.registry.registry import Registry
from nuvom.result_backends.base import BaseResultBackend
from nuvom.runtime import build_runtime
from nuvom.testing.conformance.law import Kit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nuvom.plugins.contracts import PluginProtocol

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
        self.extras = make_extras(self.bus)
        self.kit = kit
        self.plugin = kit.make()
        self._started: list[PluginProtocol] = []

    def start(self, plugin: PluginProtocol | None = None) -> PluginProtocol:
        """Start the plugin, or another one, as a worker does: in a thread, with a time limit."""
        plugin = plugin or self.plugin
        start = start_call(plugin, self.settings, self.extras)
        _limited(start, "start", self.kit.start_limit_secs)
        self._started.append(plugin)
        return plugin

    def stop(self, plugin: PluginProtocol) -> None:
        """Stop a plugin as a worker does."""
        self._started = [one for one in self._started if one is not plugin]
        _limited(plugin.stop, "stop", self.kit.stop_limit_secs)

    def update(self, plugin: PluginProtocol) -> None:
        """Tell a plugin of a system on memory, where it wants to know, as a worker does."""
        memory = replace(self.settings, queue_backend="memory", result_backend="memory")
        runtime = build_runtime(Loaded(memory, {}, []), registry=Registry(), bus=self.bus)
        bind_extras(self.extras, Inspector(runtime), runtime.control)
        update = getattr(plugin, "update_runtime", None)
        if update is not None:
            _limited(partial(update, runtime), "update_runtime", self.kit.start_limit_secs)

    def close(self) -> None:
        """Stop what runs."""
        for plugin in list(self._started):
            self.stop(plugin)


def _limited(call: Callable[[], object], hook: str, limit_secs: float) -> None:
    error = call_limited(call, hook, limit_secs)
    if error is not None:
        raise error


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

    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[PluginBench]:
        """Give a law a plugin of its own, not started."""
        bench = PluginBench(self, tmp_path)
        before = use_plugin_registry(bench.registry)
        try:
            yield bench
        finally:
            bench.close()
            use_plugin_registry(before)

    def test_its_interface_is_this_one(self, bench: PluginBench) -> None:
        """A plugin has ``name``, ``start``, ``stop`` and an ``api_version`` of this interface."""
        plugin: Any = bench.plugin
        assert looks_like_plugin(plugin), "it lacks one of api_version, name, start, stop"
        assert is_compatible(plugin.api_version), f"this is {API_VERSION}"

    def test_its_words_are_lists_of_texts(self, bench: PluginBench) -> None:
        """``name`` can be used in settings; ``provides`` and ``requires`` are lists of texts."""
        name = bench.plugin.name
        assert isinstance(name, str)
        assert not name or valid_name("plugin", name)
        for attribute in ("provides", "requires"):
            words = getattr(bench.plugin, attribute, ())
            assert isinstance(words, list | tuple), attribute
            assert all(isinstance(word, str) for word in words), attribute

    def test_starting_and_stopping_is_harmless(self, bench: PluginBench) -> None:
        """``start`` raises nothing, nor does ``stop``, before it and twice; within 10 and 5 s."""
        bench.stop(bench.plugin)
        plugin = bench.start()
        bench.stop(plugin)
        bench.stop(plugin)

    def test_it_can_start_again(self, bench: PluginBench) -> None:
        """After a ``stop`` a plugin can be started again, by a fresh instance too."""
        for plugin in (bench.plugin, bench.plugin, bench.kit.make()):
            bench.start(plugin)
            bench.stop(plugin)

    def test_it_takes_note_of_the_system(self, bench: PluginBench) -> None:
        """``update_runtime``, where there is one, raises nothing after ``start``; within 10 s."""
        bench.update(bench.start())

    def test_it_registers_what_it_provides(self, bench: PluginBench) -> None:
        """For each kind of backend that it provides, and no other, a plugin registers one."""
        provided = getattr(bench.start(), "provides", ())
        kinds = {kind.key for kind in BackendKind if kind.key in provided}
        assert kinds == {kind.key for kind, _ in bench.registry.entries()}

    def test_its_backends_can_be_built(self, bench: PluginBench) -> None:
        """Each backend that a plugin registers has its kind's contract and can be built."""
        bench.start()
        if not bench.registry.entries():
            raise SkipTest("registers no backend")
        for (kind, _), cls in bench.registry.entries().items():
            assert issubclass(cls, _CONTRACTS.get(kind, object))
            getattr(build_backend(cls, bench.settings), "stop", lambda: None)()

    def test_stopping_ends_its_subscriptions(self, bench: PluginBench) -> None:
        """A plugin that was stopped hears of no event any more."""
        bench.stop(bench.start())
        left = sorted(event.__name__ for event in bench.bus.active)
        assert left == [], f"still subscribed to {', '.join(left)}"
