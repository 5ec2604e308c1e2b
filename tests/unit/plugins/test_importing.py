"""What an entry may name, and what becomes of what it may not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nuvom.config.settings import Settings
from nuvom.plugins.lifecycle import PluginEntry, PluginSet, make_extras
from nuvom.plugins.loader import load_entry
from nuvom.plugins.registry import BackendKind, PluginRegistry

from .conftest import Lay

PLUGIN = """
    from nuvom.plugins.contracts import Plugin

    class Mail(Plugin):
        api_version = "1.0"
        name = "mail"
        provides = ["monitoring"]
        requires = "clock"

    class Other(Plugin):
        pass

    instance = Other()
    instance.name = "instance"

    class Nameless(Plugin):
        pass

    class TooNew(Plugin):
        name = "toonew"
        api_version = "2.0"

    class Alias(Mail):
        name = "alias"

    Same = Alias

    class Rival(Plugin):
        name = "mail"

    class Duck:
        def __init__(self):
            self.api_version = "1.3"
            self.name = "duck"
        def start(self, settings, extras):
            pass
        def stop(self):
            pass

    class Broken(Plugin):
        def __init__(self):
            raise ValueError("cannot be built")

    class Neither:
        pass

    class Half:
        def start(self):
            pass

"""
BACKENDS = """
    from nuvom.queue_backends.memory import MemoryJobQueue
    from nuvom.result_backends.memory import MemoryResultBackend

    class MyQueue(MemoryJobQueue):
        pass

    class OfTheFuture(MemoryJobQueue):
        api_version = "2.0"

    class MyResults(MemoryResultBackend):
        name = "letters"

    class Sibling(MemoryJobQueue):
        name = "letters"

    class MyStore:
        pass

"""


@pytest.fixture
def plugins() -> PluginSet:
    return PluginSet()


@pytest.fixture
def load(tmp_path: Path, lay: Lay, plugins: PluginSet) -> Callable[..., PluginSet]:
    """Load ``module:Name`` as if the plugin file listed it under ``key``."""
    lay("mod.py", PLUGIN)
    lay("exits.py", "raise SystemExit(3)")
    lay("backs.py", "__version__ = '3.4'" + BACKENDS.replace("\n    ", "\n"))

    def load(target: str, key: str = "monitoring", **options: object) -> PluginSet:
        name = target.rpartition(":")[2].lower()
        load_entry(PluginEntry(name, target, key, "a test"), tmp_path, plugins, **options)  # type: ignore[arg-type]  # as given
        return plugins

    return load


def test_plugin_class_is_built_and_described(load: Callable[..., PluginSet]) -> None:
    (mail,) = load("mod:Mail").loaded

    assert ("mail", ("monitoring",), ("clock",)) == (mail.name, mail.provides, mail.requires)
    assert ("unknown version", {"mail", "monitoring"}) == (mail.version, set(mail.words))


def test_instances_nameless_and_derived_classes_and_ducks_are_plugins_and_none_is_loaded_twice(
    load: Callable[..., PluginSet],
) -> None:
    for name in ("instance", "Nameless", "Duck", "Alias", "Same"):
        plugins = load(f"mod:{name}")

    assert ["instance", "nameless", "duck", "alias"] == [one.name for one in plugins.loaded]
    assert [] == plugins.failed


@pytest.mark.parametrize(
    ("target", "key", "reason"),
    [
        ("mod:Missing", "monitoring", "mod.py) has no Missing"),
        ("mod", "monitoring", "names a module"),
        ("mod:Neither", "monitoring", "neither a plugin nor a class that derives from"),
        ("mod:Half", "monitoring", "would be a plugin, but lacks api_version, name, stop"),
        ("mod:Broken", "monitoring", "ValueError: cannot be built"),
        ("mod:Rival", "monitoring", "the name mail is taken by mail"),
        ("exits:Any", "monitoring", "SystemExit: 3"),
        ("mod:TooNew", "monitoring", "requires plugin interface 2.0; this Nuvom has 1.0"),
        ("backs:OfTheFuture", "queue_backend", "requires plugin interface 2.0; this Nuvom has 1.0"),
        ("backs:MyQueue", "result_backend", "is a queue backend, listed under result_backend"),
    ],
)
def test_what_cannot_be_used_is_named_once_with_the_reason(
    load: Callable[..., PluginSet], target: str, key: str, reason: str
) -> None:
    load("mod:Mail")
    load(target, key)
    plugins = load(target, key)

    assert ["mail"] == [one.name for one in plugins.loaded]
    (failure,) = plugins.failed
    assert reason in failure.error.what
    assert {(failure.name, "load"): 1} == plugins.errors


@pytest.mark.parametrize(
    ("target", "key", "expected"),
    [
        ("backs:MyQueue", "queue_backend", (BackendKind.QUEUE, "myqueue")),
        ("backs:MyResults", "result_backend", (BackendKind.RESULT, "letters")),
        ("backs:MyStore", "schedule_store", (BackendKind.SCHEDULE, "mystore")),
    ],
)
def test_backend_class_alone_is_registered_under_its_own_name(
    load: Callable[..., PluginSet],
    registry: PluginRegistry,
    target: str,
    key: str,
    expected: tuple[BackendKind, str],
) -> None:
    load("backs:Sibling", "queue_backend")  # of another kind or name
    plugins = load(target, key)
    plugins.start(Settings(), make_extras())

    found = registry.find(*expected)
    assert found is not None
    assert target == f"{found.__module__}:{found.__name__}"
    assert ["3.4", "3.4"] == [one.version for one in plugins.loaded]
    assert registry.find(BackendKind.QUEUE, "letters") is not None


def test_project_module_is_found_without_a_lasting_change_of_the_path(
    load: Callable[..., PluginSet], lay: Lay
) -> None:
    lay("deep.py", PLUGIN, folder="src/inner")
    lay("__init__.py", "", folder="src/inner")
    before = list(sys.path)

    load("mod:Mail")
    plugins = load("inner.deep:Alias")

    assert ["mail", "alias"] == [one.name for one in plugins.loaded]
    assert before == sys.path


def test_project_cannot_replace_an_installed_module_or_supply_its_dependencies(
    load: Callable[..., PluginSet], lay: Lay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay("needy.py", "import dependency", folder="site")
    lay("backs.py", PLUGIN, folder="site")
    lay("dependency.py", "raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert ["mail"] == [one.name for one in load("backs:Mail").loaded]

    assert "No module named 'dependency'" in load("needy:X").failed[0].error.what
    # Nor is the module that a package names.
    assert "No module named 'mod'" in load("mod:Mail", "").failed[1].error.what
