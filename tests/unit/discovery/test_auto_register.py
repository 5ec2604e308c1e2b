"""Modules are imported when, and only when, a task of theirs is needed."""

from __future__ import annotations

import builtins
import importlib.util
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nuvom.discovery.auto_register import (
    add_import_roots,
    load_task,
    loader_for,
    refresh,
    register_manifest,
)
from nuvom.discovery.entries import TaskEntry
from nuvom.discovery.importer import Importer
from nuvom.discovery.manifest import read_manifest
from nuvom.discovery.scan import scan
from nuvom.errors import TaskImportFailed
from nuvom.registry import registry as registry_module
from nuvom.registry.registry import Registry
from tests.engine import wait_until
from tests.unit.discovery.projects import TASK, write


@pytest.fixture(autouse=True)
def fresh_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let each test import modules of its own, whatever they are called."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if not name.startswith("nuvom"):
            del sys.modules[name]


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    fresh = Registry()
    monkeypatch.setattr(registry_module, "_default", fresh)
    return fresh


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return tmp_path / ".nuvom" / "manifest.json"


def only_task(root: Path) -> TaskEntry:
    [task] = scan(root, use_cache=False).tasks
    return task


def failure(root: Path, source: str, entry: TaskEntry | None = None) -> TaskImportFailed:
    """Load a task whose module is ``source`` by now."""
    if entry is None:
        entry = only_task(write(root, {"mod.py": TASK}))
    write(root, {"mod.py": source})
    add_import_roots(root)
    with pytest.raises(TaskImportFailed) as caught:
        load_task(entry, root)
    return caught.value


# ---- sys.path ---------------------------------------------------------------------------


def test_import_roots_come_first_and_once(tmp_path: Path) -> None:
    write(tmp_path, {"src/app.py": ""})
    sys.path.append(str(tmp_path.resolve()))
    rest = [path for path in sys.path if path != str(tmp_path.resolve())]
    for _ in range(2):
        add_import_roots(tmp_path)
        assert [str(tmp_path.resolve()), str(tmp_path.resolve() / "src"), *rest] == sys.path


# ---- loading ----------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["mod.py", "pkg/__init__.py", "src/deep/er/mod.py"])
def test_task_is_registered_when_its_job_arrives(
    tmp_path: Path, manifest: Path, registry: Registry, file: str
) -> None:
    marker = tmp_path / "marker"
    write(tmp_path, {file: f"open({str(marker)!r}, 'w').close()\n{TASK}", "not-a-module.py": TASK})
    refresh(tmp_path, manifest)
    add_import_roots(tmp_path)
    assert 1 == register_manifest(registry, tmp_path, manifest)
    [name] = registry.names()
    assert registry.get(name) is None
    assert not marker.exists()
    assert 5 == registry.resolve(name).func(2, 3)
    assert marker.exists()
    assert registry.get(name) is not None


@pytest.mark.parametrize(
    ("source", "start", "end"),
    [
        ("raise ValueError('no\\nconfig.')", "ValueError: no config (", "mod.py:1)"),
        ("\n\nimport nothing", "ModuleNotFoundError: No module named 'nothing' (", "mod.py:3)"),
        ("def f(:\n", "SyntaxError: ", "mod.py:1)"),
        ("class E(Exception):\n def __str__(self): 1/0\nraise E", "mod.E: <exception", "mod.py:3)"),
    ],
)
def test_module_that_fails_is_told_in_one_line(
    tmp_path: Path, registry: Registry, source: str, start: str, end: str
) -> None:
    error = failure(tmp_path, source)
    assert error.reason.startswith(start)
    assert error.reason.endswith(end)
    assert "\n" not in error.reason
    assert ("mod.add", "mod") == (error.name, error.module)


def test_module_that_was_written_a_moment_ago_is_found(tmp_path: Path, registry: Registry) -> None:
    add_import_roots(tmp_path)
    folder = tmp_path.stat()
    assert importlib.util.find_spec("mod") is None  # Python now knows what the folder holds
    entry = only_task(write(tmp_path, {"mod.py": TASK}))
    os.utime(tmp_path, ns=(folder.st_atime_ns, folder.st_mtime_ns))  # in the same tick
    load_task(entry, tmp_path)
    assert registry.get("mod.add") is not None


def test_interrupt_during_an_import_is_not_kept_back(tmp_path: Path) -> None:
    entry = only_task(write(tmp_path, {"mod.py": TASK}))
    write(tmp_path, {"mod.py": "raise KeyboardInterrupt"})
    add_import_roots(tmp_path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    try:
        with pytest.raises(KeyboardInterrupt):
            load_task(entry, tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)


def test_module_is_tried_again_after_a_failure(tmp_path: Path, registry: Registry) -> None:
    entry = only_task(write(tmp_path, {"mod.py": TASK}))
    assert "oops" in failure(tmp_path, TASK + "\nraise ValueError('oops')", entry).reason
    write(tmp_path, {"mod.py": TASK + "\n# corrected, and of another size than before\n"})
    load_task(entry, tmp_path)
    assert registry.get("mod.add") is not None


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("class A:\n    def add(self): ...", "it no longer defines add"),
        ("def __getattr__(name): raise ValueError(name)", "it no longer defines add"),
        (TASK.replace("@task", "@task(name='plus')"), "the task is now named plus"),
    ],
)
def test_task_that_its_module_no_longer_defines_is_told(
    tmp_path: Path, registry: Registry, source: str, reason: str
) -> None:
    assert reason == failure(tmp_path, source).reason


def test_module_of_somebody_else_with_the_same_name_is_told(tmp_path: Path) -> None:
    entry = only_task(write(tmp_path / "project", {"this_is_taken.py": TASK}))
    write(tmp_path / "installed", {"this_is_taken.py": TASK})
    sys.path.insert(0, str(tmp_path / "installed"))
    with pytest.raises(TaskImportFailed, match=r"installed.*hides this_is_taken\.py"):
        load_task(entry, tmp_path / "project")


def test_task_that_is_not_importable_is_refused_before_anything_runs(tmp_path: Path) -> None:
    entry = only_task(write(tmp_path, {"my-mod.py": TASK}))
    with pytest.raises(TaskImportFailed, match="not importable"):
        loader_for(tmp_path)(entry)


# ---- refreshing -------------------------------------------------------------------------


def test_refresh_writes_the_manifest_and_tells_what_changed(tmp_path: Path, manifest: Path) -> None:
    write(tmp_path, {"a.py": TASK, "b.py": TASK})
    found, changes = refresh(tmp_path, manifest)
    assert ["a.add", "b.add"] == [task.name for task in changes.added]
    assert found.tasks == read_manifest(manifest)
    assert refresh(tmp_path, manifest)[1].is_empty
    (tmp_path / "b.py").unlink()
    (tmp_path / "a.py").unlink()
    _, changes = refresh(tmp_path, manifest)
    assert ["a.add", "b.add"] == [task.name for task in changes.removed]
    assert () == read_manifest(manifest)


def test_a_module_that_hangs_is_named_and_tried_again_once_it_has_ended(
    tmp_path: Path, registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, {"mod.py": "import builtins\nbuiltins.held.wait(60)\n" + TASK})
    entry = only_task(tmp_path)
    add_import_roots(tmp_path)
    builtins.held = threading.Event()  # type: ignore[attr-defined]  # for the module
    importer = Importer(named_secs=0.05, limit_secs=0.1)
    found: list[TaskImportFailed] = []

    def load() -> None:
        for _ in range(2):  # the second does not wait at all
            try:
                load_task(entry, tmp_path, importer)
            except TaskImportFailed as error:
                found.append(error)

    pump = threading.Thread(target=load)
    pump.start()
    pump.join(60)
    first, second = found
    assert "mod" == first.module
    assert "still being imported" in first.reason
    assert "still being imported" in second.reason
    assert first.is_over is not None
    assert not first.is_over()
    [slow] = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert "the module mod takes long to import" in slow
    assert "builtins.held.wait(60)" in slow
    builtins.held.set()  # type: ignore[attr-defined]  # as above
    wait_until(first.is_over)
    load_task(entry, tmp_path, importer)
    assert registry.get("mod.add") is not None
