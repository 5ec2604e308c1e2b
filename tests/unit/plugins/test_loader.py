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
    PluginFailed,
    PluginNotFound,
    PluginNotLoaded,
    PluginNotTrusted,
    PluginsOff,
    UnknownBackend,
)
from nuvom.plugins import loader
from nuvom.plugins.lifecycle import PluginSet, make_extras
from nuvom.plugins.loader import backend_class, build_backend, find_entries, load_plugins
from nuvom.plugins.registry import BUILT_IN, BackendKind, PluginRegistry, register_queue_backend
from nuvom.queue_backends.base import BaseJobQueue
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


# ---- built in and registered ------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind, targets in BUILT_IN.items() for name in targets if targets[name]],
)
def test_built_in_backends_are_loaded_like_any_other(
    settings: Settings, registry: PluginRegistry, kind: BackendKind, name: str
) -> None:
    found = backend_class(str(kind), name, settings, allow_project_plugins=False)

    assert found is registry.find(kind, name)
    assert found.__qualname__ == BUILT_IN[kind][name].partition(":")[2]


def test_built_in_backend_whose_library_is_missing_says_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(target: str) -> Any:
        raise ImportError("No module named '_sqlite3'")

    monkeypatch.setattr(loader, "import_object", refuse)

    with pytest.raises(PluginFailed, match=r"sqlite .built in. failed: .*_sqlite3"):
        queue_named("sqlite", settings)


def test_nothing_is_read_for_a_backend_that_is_at_hand(
    settings: Settings, plugin_file: PluginFile
) -> None:
    plugin_file("[not toml")

    assert MemoryJobQueue is queue_named("memory", settings)


def test_misspelt_backend_is_answered_with_the_nearest(settings: Settings) -> None:
    with pytest.raises(UnknownBackend, match='Did you mean "sqlite"'):
        queue_named("sqllite", settings)


def test_class_registered_by_hand_has_to_be_a_backend(settings: Settings) -> None:
    register_queue_backend("mine", dict)  # type: ignore[arg-type]  # what is tested

    with pytest.raises(PluginFailed, match=r"mine .builtins:dict.*not derive from .*BaseJobQueue"):
        queue_named("mine", settings)


def test_class_that_lacks_methods_is_refused_with_their_names(settings: Settings) -> None:
    class Half(BaseJobQueue):
        def qsize(self) -> int:
            return 0

    register_queue_backend("half", Half)  # type: ignore[type-abstract]  # what is tested

    with pytest.raises(PluginFailed, match="it lacks clear, dequeue, enqueue, pop_batch"):
        queue_named("half", settings)


# ---- from the project's file ------------------------------------------------------------


def test_class_in_the_file_is_found_by_its_name_in_lower_case(
    settings: Settings, plugin_file: PluginFile, queue_module: Path
) -> None:
    plugin_file('[plugins]\nqueue_backend = ["mine:ListQueue"]\n')

    found = queue_named("listqueue", settings)

    assert "ListQueue" == found.__name__
    queue = build_backend(found, settings)
    assert 0 == queue.qsize()


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


def test_only_entries_of_the_kind_that_is_needed_are_imported(
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

    assert "ListQueue" == queue_named("listqueue", settings).__name__
    assert "other" not in sys.modules


def test_read_only_command_is_told_that_a_plugin_is_needed_and_imports_none(
    settings: Settings, plugin_file: PluginFile, lay: Lay
) -> None:
    lay("mine.py", "")
    plugin_file('[plugins]\nqueue_backend = ["mine:ListQueue"]\n')

    with pytest.raises(PluginNotLoaded, match='queue backend "listqueue" needs a plugin'):
        queue_named("listqueue", settings, allow_project_plugins=False)

    assert "mine" not in sys.modules


def test_failure_of_the_plugin_in_use_is_raised(
    settings: Settings, plugin_file: PluginFile, lay: Lay
) -> None:
    lay("mine.py", "import nothing_like_this")
    plugin_file('[plugins]\nqueue_backend = ["mine:ListQueue"]\n')

    with pytest.raises(PluginFailed, match="No module named 'nothing_like_this'") as caught:
        queue_named("listqueue", settings)

    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_file_that_others_may_write_is_not_used(
    settings: Settings, plugin_file: PluginFile, queue_module: Path
) -> None:
    plugin_file('[plugins]\nqueue_backend = ["mine:ListQueue"]\n').chmod(0o666)

    with pytest.raises(PluginNotTrusted, match="chmod go-w"):
        queue_named("listqueue", settings)
    with pytest.raises(PluginNotTrusted):
        load_plugins(settings)

    assert "mine" not in sys.modules


# ---- from installed packages ------------------------------------------------------------


def test_backend_of_an_installed_package_is_found_also_by_read_only_commands(
    settings: Settings, package: Package
) -> None:
    package("mine", QUEUE, {"listqueue": "mine:ListQueue"})

    found = queue_named("listqueue", settings, allow_project_plugins=False)

    assert "mine" == found.__module__


def test_package_called_like_the_backend_is_imported_alone(
    settings: Settings, package: Package
) -> None:
    package("mine", QUEUE, {"listqueue": "mine:ListQueue"})
    package("other", "", {"aaa": "other:X"})

    queue_named("listqueue", settings)

    assert "other" not in sys.modules


def test_package_called_otherwise_is_found_after_the_file(
    settings: Settings, package: Package, plugin_file: PluginFile, queue_module: Path
) -> None:
    package("boxes", QUEUE, {"aaa": "boxes:ListQueue"})
    assert "boxes" == queue_named("listqueue", settings).__module__


def test_file_goes_before_a_package_that_is_called_otherwise(
    settings: Settings, package: Package, plugin_file: PluginFile, queue_module: Path
) -> None:
    package("boxes", QUEUE, {"aaa": "boxes:ListQueue"})
    plugin_file('[plugins]\nqueue_backend = ["mine:ListQueue"]\n')

    assert "mine" == queue_named("listqueue", settings).__module__


def test_package_that_provides_something_else_is_not_started(
    settings: Settings, package: Package
) -> None:
    package("mine", QUEUE, {})
    text = PLUGIN.replace('("queue_backend",)', '("monitoring",)')
    package("plug", text, {"aaa": "plug:ListPlugin"})

    with pytest.raises(UnknownBackend):
        queue_named("list", settings)

    assert [] == sys.modules["plug"].ListPlugin.started


def test_unrelated_broken_package_is_not_blamed(settings: Settings, package: Package) -> None:
    package("other", "1/0", {"other": "other:X"})

    with pytest.raises(UnknownBackend):
        queue_named("sqllite", settings)


def test_broken_package_called_like_the_backend_is_blamed(
    settings: Settings, package: Package
) -> None:
    package("other", "1/0", {"boxes": "other:X"})

    with pytest.raises(PluginFailed, match=r"entry point boxes of other.*ZeroDivisionError"):
        queue_named("boxes", settings)


# ---- all plugins ------------------------------------------------------------------------


def test_everything_named_is_loaded_and_described_for_people(
    settings: Settings, package: Package, plugin_file: PluginFile, queue_module: Path
) -> None:
    path = plugin_file('[plugins]\nqueue_backend = ["mine:ListQueue"]\n')
    package("boxes", QUEUE, {"boxes": "boxes:ListQueue"})

    plugins = load_plugins(settings)

    own = [one.describe() for one in plugins.loaded if one.entry.target.startswith(("mine", "box"))]
    assert [
        f"listqueue (unknown version), mine:ListQueue, named by {path}",
        "listqueue (1.2), boxes:ListQueue, named by entry point boxes of boxes",
    ] == own
    assert [] == plugins.started


def test_package_called_like_a_configured_backend_comes_first(
    tmp_path: Path, package: Package, plugin_file: PluginFile
) -> None:
    plugin_file('[plugins]\nqueue_backend = ["mine:ListQueue"]\n')
    package("boxes", QUEUE, {"aaa": "boxes:A", "boxes": "boxes:B"})

    entries = find_entries(Settings(root=tmp_path, result_backend="boxes"))

    named = [entry.target for entry in entries if entry.target[:4] in ("mine", "boxe")]
    assert ["boxes:B", "mine:ListQueue", "boxes:A"] == named


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
    registry.forget(BackendKind.QUEUE, "listqueue")

    load_plugins(settings).start(settings, make_extras())

    assert found is registry.find(BackendKind.QUEUE, "listqueue")


def test_one_plugin_can_be_loaded_alone(
    settings: Settings, plugin_file: PluginFile, queue_module: Path, lay: Lay
) -> None:
    lay("other.py", "")
    plugin_file('[plugins]\nqueue_backend = ["mine:ListQueue"]\nmonitoring = ["other:X"]\n')

    assert ["listqueue"] == [one.name for one in load_plugins(settings, only="listqueue").loaded]
    assert "other" not in sys.modules
    with pytest.raises(PluginNotFound, match='Did you mean "listqueue"'):
        load_plugins(settings, only="listque")


def test_what_delay_has_started_is_not_started_again_by_the_worker(
    tmp_path: Path, plugin_file: PluginFile, queue_module: Path, lay: Lay
) -> None:
    lay("plug.py", PLUGIN)
    plugin_file('[plugins]\nqueue_backend = ["plug:ListPlugin"]\n')
    settings = Settings(root=tmp_path, queue_backend="list")
    plugins = PluginSet()
    queue_named("list", settings, plugins=plugins)

    load_plugins(settings, into=plugins).start(settings, make_extras())

    assert [settings] == sys.modules["plug"].ListPlugin.started


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


# ---- building ---------------------------------------------------------------------------


class WithSettings:
    def __init__(self, settings: Settings) -> None:
        self.given = settings


class WithOption:
    def __init__(self, given: object = "default") -> None:
        self.given = given


class WithAnything:
    def __init__(self, *given: object) -> None:
        (self.given,) = given


class WithNothing:
    given = None


class WithKeywordOnly:
    def __init__(self, *, path: str = "x", **more: str) -> None:
        self.given = None


@pytest.mark.parametrize("cls", [WithSettings, WithOption, WithAnything])
def test_constructor_that_takes_an_argument_is_given_the_settings(
    settings: Settings, cls: type[Any]
) -> None:
    assert settings is build_backend(cls, settings).given


@pytest.mark.parametrize("cls", [WithNothing, WithKeywordOnly])
def test_constructor_without_an_argument_is_called_with_none(
    settings: Settings, cls: type[Any]
) -> None:
    assert build_backend(cls, settings).given is None


def test_type_error_inside_a_constructor_is_not_taken_for_a_missing_argument(
    settings: Settings,
) -> None:
    class Bad:
        built = 0

        def __init__(self, settings: Settings) -> None:
            Bad.built += 1
            raise TypeError("inside")

    with pytest.raises(PluginFailed, match=r"Bad .*TypeError: inside") as caught:
        build_backend(Bad, settings)

    assert isinstance(caught.value.__cause__, TypeError)
    assert 1 == Bad.built


def test_error_of_ours_passes_through_a_constructor(settings: Settings) -> None:
    class Down:
        def __init__(self, settings: Settings) -> None:
            raise BackendUnavailable("server", "it is down")

    with pytest.raises(BackendUnavailable):
        build_backend(Down, settings)
