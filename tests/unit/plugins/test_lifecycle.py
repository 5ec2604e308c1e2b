"""Plugins start in order, stop in reverse, and cannot harm each other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nuvom.config.settings import Settings
from nuvom.core.clock import Clock, Waitable
from nuvom.errors import MissingExtra, PluginError, PluginFailed
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


class Hang(Clock):
    """Something that hangs, and a clock on which the wait for it is over as soon as it does."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()
        self.release = threading.Event()

    def hang(self) -> None:
        self.has_begun.set()
        self.release.wait(60)

    def wait(self, event: Waitable, secs: float | None = None) -> bool:
        del secs
        while not event.wait(0.01):
            if self.has_begun.is_set():
                self.has_begun.clear()
                return False
        return True


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


@pytest.fixture
def hang() -> Iterator[Hang]:
    """End whatever hangs, at the end of the test."""
    clock = Hang()
    yield clock
    clock.release.set()


@pytest.mark.parametrize(
    ("requires", "order", "refused"),
    [
        ({}, "abcd", ""),
        ({"a": "c", "c": "d"}, "bdca", ""),
        ({"a": "even"}, "bcda", ""),
        ({"b": "even"}, "abcd", ""),
        ({"a": "b"}, "bacd", ""),
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
    settings: Settings, log: list[str], hang: Hang
) -> None:
    plugins = PluginSet(clock=hang)
    plugins.add(loaded(Recorder("bad", log, hang.hang)))
    plugins.add(loaded(Recorder("good", log)))

    plugins.start(settings, make_extras())
    plugins.stop()

    assert ["start bad", "start good", "stop good"] == log
    error = plugins.failed[0].error
    assert "start did not return within 10 s" in error.what
    assert error.__cause__ is not None
    (place,) = error.__cause__.__notes__
    assert place.startswith("It is still here:")
    assert "hang.hang" not in place.splitlines()[1]  # it begins where the plugin does
    assert "in hang" in place
    assert all(one.daemon for one in threading.enumerate() if one.name == "nuvom-plugin")


class BadStop(Recorder):
    def stop(self) -> None:
        raise OSError("still busy")


def test_plugin_that_fails_in_stop_does_not_keep_others_from_stopping(
    settings: Settings, log: list[str]
) -> None:
    plugins = PluginSet()
    for plugin in (Recorder("good", log), BadStop("bad", log)):
        plugins.add(loaded(plugin))
    plugins.start(settings, make_extras())
    plugins.stop()

    assert "stop good" == log[-1]
    assert [("bad", "stop")] == [report[:2] for report in plugins.reports]


def test_failure_of_the_backend_in_use_is_raised_after_all_are_stopped(log: list[str]) -> None:
    plugins = PluginSet()
    plugins.add(loaded(Recorder("good", log)))
    bad = Recorder("bad", log, raiser(ValueError("no server")))
    plugins.add(loaded(bad, provides=("queue_backend",)))

    with pytest.raises(PluginFailed, match=r"The plugin bad .* ValueError: no server"):
        plugins.start(Settings(queue_backend="mine"), make_extras())

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


def test_plugin_that_fails_after_replacing_the_backend_in_use_is_not_passed_over(
    log: list[str],
) -> None:
    """Going on with what was replaced would use another store than the configured one."""

    def act() -> None:
        register_result_backend("memory", Results, force=True)
        raise ValueError

    plugins = PluginSet()
    plugins.add(loaded(Recorder("bad", log, act)))

    with pytest.raises(PluginFailed):
        plugins.start(Settings(result_backend="memory"), make_extras())


def test_backend_offered_by_another_plugin_is_in_use_in_spite_of_a_failure(
    log: list[str],
) -> None:
    plugins = PluginSet()
    plugins.add(loaded(Recorder("bad", log, raiser(ValueError())), provides=("queue_backend",)))
    plugins.add(loaded(Recorder("good", log, lambda: register_queue_backend("mine", Mine))))

    plugins.start(Settings(queue_backend="mine"), make_extras())

    assert ["good"] == [one.name for one in plugins.started]


class Mute(Exception):  # noqa: N818  # a user's own
    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (PluginError("no luck."), "The plugin bad (a test) failed: no luck."),
        (Mute(), "The plugin bad (a test) failed: Mute."),
        (MissingExtra("x", "redis"), MissingExtra("x", "redis").what),  # specific: unchanged
    ],
)
def test_error_that_a_plugin_raises_is_told_with_its_name_and_origin(
    settings: Settings, log: list[str], error: Exception, what: str
) -> None:
    plugins = PluginSet()
    plugins.add(loaded(Recorder("bad", log, raiser(error))))
    plugins.start(settings, make_extras())

    assert what == plugins.failed[0].error.what


class BadUpdate(Recorder):
    def update_runtime(self, runtime: Any) -> None:
        raise ValueError


class Bare:
    """Looks like a plugin, without the optional method."""

    name = "bare"
    api_version = "1.0"

    def start(self, settings: Any, extras: Any) -> None:
        pass

    def stop(self) -> None:
        pass


def test_all_that_run_are_told_of_the_runtime_and_a_failure_leaves_them_running(
    settings: Settings, log: list[str]
) -> None:
    plugins = PluginSet()
    for plugin in (BadUpdate("bad", log), Bare(), Recorder("good", log)):
        plugins.add(loaded(plugin))
    plugins.start(settings, make_extras())
    plugins.update_runtime("runtime")  # type: ignore[arg-type]  # passed on as it is

    assert ["start bad", "start good", "update good runtime"] == log
    assert {("bad", "update_runtime"): 1} == plugins.errors


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
