"""Which class a backend's name means, wherever it comes from."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nuvom.config.settings import Settings
from nuvom.errors import (
    BackendUnavailable,
    InvalidConfigFile,
    PluginFailed,
    PluginNotLoaded,
    PluginsOff,
    UnknownBackend,
)
from nuvom.plugins.lifecycle import PluginSet, make_extras
from nuvom.plugins.loader import (
    backend_class,
    build_backend,
    find_entries,
    load_plugins,
    project_entries,
)
from nuvom.plugins.registry import (
    BackendKind,
    PluginRegistry,
    register_queue_backend,
)
from nuvom.queue_backends.memory import MemoryJobQueue

from .conftest import QUEUE, Lay

Package = Callable[..., None]
PluginFile = Callable[[str], Path]

PLUGIN = """
    from mine import ListQueue
    from nuvom.plugins.contracts import Plugin
    from nuvom.plugins.registry import register_queue_backend

    class ListPlugin(Plugin):
        api_version = "1.0"
        name = "lists"
        provides = ("queue_backend",)
        started = []

        def start(self, settings, extras):
            self.started.append(settings)
            register_queue_backend("list", ListQueue)

        def stop(self):
            self.started.pop()
"""


def queue_named(name: str, settings: Settings, **options: Any) -> type[Any]:
    options.setdefault("allow_project_plugins", True)
    return backend_class("queue", name, settings, **options)


def test_class_registered_by_hand_has_to_be_a_backend(settings: Settings) -> None:
    register_queue_backend("mine", dict)  # type: ignore[arg-type]  # what is refused

    with pytest.raises(PluginFailed, match=r"mine .builtins:dict.*not derive from .*BaseJobQueue"):
        queue_named("mine", settings)


# ---- from the project's file ------------------------------------------------------------


def test_plugin_in_the_file_registers_in_start_and_is_stopped_with_its_set(
    settings: Settings, plugin_file: PluginFile, queue_module: Path, lay: Lay
) -> None:
    lay("plug.py", PLUGIN)
    plugin_file('[plugins]\nqueue_backend = ["plug:ListPlugin"]\n')
    plugins = PluginSet()

    found = queue_named("list", settings, plugins=plugins)

    started = sys.modules["plug"].ListPlugin.started
    assert "ListQueue" == found.__name__
    assert [settings] == started
    plugins.stop()
    assert [] == started


def test_only_entries_of_the_kind_are_imported_and_by_read_only_commands_none(
    settings: Settings, plugin_file: PluginFile, queue_module: Path, lay: Lay
) -> None:
    lay("other.py", "")
    plugin_file(
        """
        [plugins]
        queue_backend = ["mine:ListQueue"]
        result_backend = ["other:Results"]
        monitoring = ["other:Monitor"]
        """
    )

    with pytest.raises(PluginNotLoaded, match='queue backend "listqueue" needs a plugin'):
        queue_named("listqueue", settings, allow_project_plugins=False)
    assert "mine" not in sys.modules
    found = queue_named("listqueue", settings)
    assert 0 == build_backend(found, settings).qsize()
    assert "other" not in sys.modules


def test_failure_of_the_plugin_in_use_is_raised(
    settings: Settings, plugin_file: PluginFile, lay: Lay
) -> None:
    lay("mine.py", "import nothing_like_this")
    plugin_file('[plugins]\nqueue_backend = ["mine:ListQueue"]\n')

    with pytest.raises(PluginFailed, match="No module named 'nothing_like_this'") as caught:
        queue_named("listqueue", settings)

    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


# ---- from installed packages ------------------------------------------------------------


def test_package_called_like_the_backend_is_imported_alone_also_by_read_only_commands(
    settings: Settings, package: Package
) -> None:
    package("mine", QUEUE, {"listqueue": "mine:ListQueue"})
    package("other", "", {"aaa": "other:X"})

    found = queue_named("listqueue", settings, allow_project_plugins=False)

    assert "mine" == found.__module__
    assert "other" not in sys.modules


def test_broken_package_is_blamed_only_if_it_is_called_like_the_backend(
    settings: Settings, package: Package
) -> None:
    package("other", "1/0", {"boxes": "other:X"})

    with pytest.raises(UnknownBackend, match='Did you mean "sqlite"'):
        queue_named("sqllite", settings)
    with pytest.raises(PluginFailed, match=r"entry point boxes of other.*ZeroDivisionError"):
        queue_named("boxes", settings)


def test_worker_and_delay_agree_on_which_of_two_plugins_offers_a_backend(
    tmp_path: Path,
    registry: PluginRegistry,
    package: Package,
    plugin_file: PluginFile,
    queue_module: Path,
) -> None:
    package("boxes", QUEUE, {"listqueue": "boxes:ListQueue"})
    plugin_file('[plugins]\nqueue_backend = ["mine:ListQueue"]\n')
    settings = Settings(root=tmp_path, queue_backend="listqueue")
    found = queue_named("listqueue", settings)
    registry.restore({})

    load_plugins(settings).start(settings, make_extras())

    assert found is registry.find(BackendKind.QUEUE, "listqueue")


# ---- off --------------------------------------------------------------------------------


def test_plugins_can_be_switched_off_packages_included(
    tmp_path: Path, package: Package, plugin_file: PluginFile, lay: Lay
) -> None:
    lay("mine.py", "")
    package("boxes", "", {"boxes": "boxes:ListQueue"})
    plugin_file('[plugins]\nqueue_backend = ["mine:ListQueue"]\n')
    off = Settings(root=tmp_path, plugins="off")

    assert [] == load_plugins(off).loaded
    assert [] == find_entries(off)
    with pytest.raises(PluginsOff, match='queue backend "boxes" is not built in'):
        queue_named("boxes", off)
    with pytest.raises(PluginsOff, match='Did you mean "sqlite"'):
        queue_named("sqllite", off)
    assert MemoryJobQueue is queue_named("memory", off)
    assert sys.modules.keys().isdisjoint({"mine", "boxes"})


# ---- listed names -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[plugins", "not valid TOML"),
        ('[plugins]\nqueue_backend = "m:Q"\n', "has to look like .*Expected `array`, got `str`"),
        ('[plugins]\nqueue_backend = ["m.Q"]\n', 'queue_backend: "m.Q" has to be "module:Class"'),
        ('[plugins]\nqueue_backend = ["m:Q; import os"]\n', "has to be"),
    ],
)
def test_file_that_is_wrong_says_what_is_wrong(
    tmp_path: Path, plugin_file: PluginFile, text: str, reason: str
) -> None:
    path = plugin_file(text)

    with pytest.raises(InvalidConfigFile, match=reason) as caught:
        project_entries(tmp_path)

    assert path == caught.value.path


# ---- building ---------------------------------------------------------------------------


class WithOption:
    def __init__(self, given: object = None) -> None:
        self.given = given


class WithKeywordOnly:
    def __init__(self, *, path: str = "x", **more: str) -> None:
        self.given = None


@pytest.mark.parametrize(("cls", "is_given"), [(WithOption, True), (WithKeywordOnly, False)])
def test_constructor_is_given_the_settings_if_it_takes_an_argument(
    settings: Settings, cls: type[Any], *, is_given: bool
) -> None:
    assert build_backend(cls, settings).given is (settings if is_given else None)


def test_type_error_inside_a_constructor_is_not_taken_for_a_missing_argument(
    settings: Settings,
) -> None:
    class Bad:
        def __init__(self, settings: Settings) -> None:
            raise TypeError("inside")

    with pytest.raises(PluginFailed, match=r"Bad .*TypeError: inside"):
        build_backend(Bad, settings)


def test_error_of_ours_passes_through_a_constructor(settings: Settings) -> None:
    class Down:
        def __init__(self, settings: Settings) -> None:
            raise BackendUnavailable("server", "it is down")

    with pytest.raises(BackendUnavailable):
        build_backend(Down, settings)
