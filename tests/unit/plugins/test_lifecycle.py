"""Plugins start in order, stop in reverse, and cannot harm each other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from nuvom.config.settings import Settings
from nuvom.errors import PluginError, PluginFailed
from nuvom.plugins import lifecycle
from nuvom.plugins.contracts import Extras, Plugin
from nuvom.plugins.lifecycle import LoadedPlugin, PluginEntry, PluginSet, bind_extras, make_extras
from nuvom.plugins.registry import (
    BackendKind,
    PluginRegistry,
    register_queue_backend,
    register_result_backend,
)
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.result_backends.memory import MemoryResultBackend


class Mine(MemoryJobQueue):
    pass


class Other(MemoryJobQueue):
    pass


class Results(MemoryResultBackend):
    pass


class Recorder(Plugin):
    """Notes what is done to it; ``act`` is what its ``start`` does."""

    def __init__(self, name: str, log: list[str], act: Callable[[], None] | None = None) -> None:
        self.name = name
        self.log = log
        self.act = act

    def start(self, settings: Settings, extras: Extras) -> None:
        self.log.append(f"start {self.name}")
        if self.act is not None:
            self.act()

    def stop(self) -> None:
        self.log.append(f"stop {self.name}")

    def update_runtime(self, runtime: Any) -> None:
        self.log.append(f"update {self.name} {runtime}")


def loaded(
    plugin: Any, *, requires: tuple[str, ...] = (), provides: tuple[str, ...] = (), key: str = ""
) -> LoadedPlugin:
    entry = PluginEntry(plugin.name, f"module:{plugin.name}", key, "a test")
    return LoadedPlugin(plugin, plugin.name, provides, requires, entry, "1")


def raiser(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.mark.parametrize(
    ("requires", "order", "refused"),
    [
        ({"a": "c", "c": "d"}, "bdca", ""),
        ({"a": "even"}, "bcda", ""),
        ({"b": "even"}, "abcd", ""),
        ({"a": "x", "c": "a"}, "bd", "ac"),
        ({"a": "c", "c": "a", "b": "a"}, "d", "abc"),
    ],
)
def test_plugins_start_after_what_they_require_and_stop_in_reverse(
    settings: Settings, log: list[str], requires: dict[str, str], order: str, refused: str
) -> None:
    plugins = PluginSet()
    for name in "abcd":
        provides = ("even",) if name in "bd" else ()
        needed = (requires[name],) if name in requires else ()
        plugins.add(loaded(Recorder(name, log), requires=needed, provides=provides))
    plugins.start_pending(settings, make_extras())
    plugins.stop()
    plugins.stop()
    assert [f"start {name}" for name in order] + [f"stop {name}" for name in reversed(order)] == log
    assert list(refused) == [failure.name for failure in plugins.failed]
    assert all("it requires" in failure.error.what for failure in plugins.failed)


class Plain(Recorder):
    def start(self, settings: Settings) -> None:  # type: ignore[override]  # what is tested
        self.log.append(f"start in {settings.root.name}")


def test_a_start_that_takes_the_settings_alone_is_given_them_alone(
    settings: Settings, log: list[str]
) -> None:
    plugins = PluginSet()
    plugins.add(loaded(Plain("plain", log)))
    plugins.start(settings, make_extras())
    assert (["plain"], []) == ([one.name for one in plugins.started], plugins.failed)
    assert [f"start in {settings.root.name}"] == log


@pytest.mark.parametrize("error", [ValueError("no port"), SystemExit(3), KeyboardInterrupt()])
def test_plugin_that_fails_to_start_is_named_counted_and_harms_no_other(
    settings: Settings, log: list[str], caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    plugins = PluginSet()
    plugins.add(loaded(Recorder("bad", log, raiser(error))))
    plugins.add(loaded(Recorder("good", log)))
    plugins.add(loaded(Recorder("dependent", log), requires=("bad",)))

    plugins.start(settings, make_extras())
    plugins.stop()

    assert ["start bad", "start good", "stop good"] == log
    failure, dependent = plugins.failed
    assert 'it requires "bad", which no running plugin provides' in dependent.error.what
    assert "bad" == failure.name
    assert type(error).__name__ in failure.error.what
    assert {("bad", "start"): 1, ("dependent", "start"): 1} == plugins.errors
    record, _ = [one for one in caplog.records if one.name == "nuvom.plugins"]
    assert logging.WARNING == record.levelno
    assert ("plugin.error", "bad", "start") == (record.event, record.plugin, record.hook)  # type: ignore[attr-defined]  # extra fields
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_plugin_that_hangs_in_start_is_abandoned_and_not_stopped(
    settings: Settings, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "START_LIMIT_SECS", 0.2)
    release = threading.Event()
    plugins = PluginSet()

    def hang() -> None:
        release.wait(60)

    plugins.add(loaded(Recorder("bad", log, hang)))
    plugins.add(loaded(Recorder("good", log)))

    plugins.start(settings, make_extras())
    assert all(one.daemon for one in threading.enumerate() if one.name == "nuvom-plugin")
    plugins.stop()
    release.set()

    assert ["start bad", "start good", "stop good"] == log
    error = plugins.failed[0].error
    assert "start did not return within 0.2 s" in error.what
    assert "release.wait(60)" in str(getattr(error.__cause__, "__notes__", ""))


def replace_and_fail() -> None:
    register_result_backend("memory", Results, force=True)
    raise ValueError


@pytest.mark.parametrize(
    ("provides", "act"),
    [(("queue_backend",), raiser(ValueError("no server"))), ((), replace_and_fail)],
)
def test_failure_of_the_backend_in_use_is_raised_after_all_are_stopped(
    log: list[str], provides: tuple[str, ...], act: Callable[[], None]
) -> None:
    """Going on without it, or with what replaced it, would use another store than configured."""
    plugins = PluginSet()
    plugins.add(loaded(Recorder("good", log)))
    plugins.add(loaded(Recorder("bad", log, act), provides=provides))

    with pytest.raises(PluginFailed, match=r"The plugin bad .* ValueError"):
        plugins.start(
            Settings(queue_backend="mine" if provides else "memory", result_backend="memory"),
            make_extras(),
        )

    assert ["start good", "start bad", "stop good"] == log


def test_what_a_failing_plugin_had_registered_is_taken_back(
    settings: Settings, log: list[str], registry: PluginRegistry
) -> None:
    def act() -> None:
        register_queue_backend("half", Mine)
        register_queue_backend("whole", Mine, force=True)
        raise ValueError

    register_queue_backend("whole", Other)
    plugins = PluginSet()
    plugins.add(loaded(Recorder("bad", log, act)))
    plugins.start(settings, make_extras())

    assert registry.find(BackendKind.QUEUE, "half") is None
    assert Other is registry.find(BackendKind.QUEUE, "whole")


def test_backend_offered_by_another_plugin_is_in_use_in_spite_of_a_failure(
    log: list[str],
) -> None:
    plugins = PluginSet()
    plugins.add(loaded(Recorder("bad", log, raiser(ValueError())), provides=("queue_backend",)))
    plugins.add(loaded(Recorder("good", log, lambda: register_queue_backend("mine", Mine))))

    plugins.start(Settings(queue_backend="mine"), make_extras())

    assert ["good"] == [one.name for one in plugins.started]


class BadLater(Recorder):
    def update_runtime(self, runtime: Any) -> None:
        raise ValueError

    def stop(self) -> None:
        raise OSError("still busy")


class Bare:
    """Looks like a plugin, without the optional method."""

    name = "bare"
    api_version = "1.0"

    def start(self, settings: Any, extras: Any) -> None:
        pass

    def stop(self) -> None:
        pass


def test_plugin_that_fails_in_update_or_stop_keeps_no_other_from_either(
    settings: Settings, log: list[str]
) -> None:
    plugins = PluginSet()
    for plugin in (BadLater("bad", log), Bare(), Recorder("good", log)):
        plugins.add(loaded(plugin))
    plugins.start(settings, make_extras())
    plugins.update_runtime("runtime")  # type: ignore[arg-type]  # passed on as it is
    plugins.stop()

    assert ["start bad", "start good", "update good runtime", "stop good"] == log
    assert {("bad", "update_runtime"): 1, ("bad", "stop"): 1} == plugins.errors


def test_inspector_and_control_say_when_it_is_too_early_and_act_once_they_are_bound() -> None:
    class Target:
        def stats(self) -> list[str]:
            return ["stats"]

    extras = make_extras()
    kept: Any = extras["inspector"]
    target: Any = Target()
    with pytest.raises(PluginError, match=r"extras\['inspector'\].stats was used before"):
        kept.stats()
    bind_extras(extras, target, target)
    assert ["stats"] == kept.stats()
