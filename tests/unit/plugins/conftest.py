"""A registry of its own for each test, and ways to lay out plugins on disk."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from nuvom.config.settings import Settings
from nuvom.plugins.loader import PLUGIN_FILE
from nuvom.plugins.registry import PluginRegistry, use_plugin_registry

Lay = Callable[..., Path]


@pytest.fixture(autouse=True)
def registry() -> Iterator[PluginRegistry]:
    own = PluginRegistry()
    before = use_plugin_registry(own)
    yield own
    use_plugin_registry(before)


@pytest.fixture(autouse=True)
def imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget what a test imported, and its changes of ``sys.path``."""
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one not in ("", os.getcwd())])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if not name.startswith("nuvom"):
            del sys.modules[name]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(root=tmp_path)


@pytest.fixture
def lay(tmp_path: Path) -> Lay:
    """Write a module or another file below the project root."""

    def lay(name: str, text: str, *, folder: str = ".") -> Path:
        path = tmp_path / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
        path.chmod(0o644)
        return path

    return lay


@pytest.fixture
def plugin_file(lay: Lay) -> Callable[[str], Path]:
    """Write the project's plugin file."""

    def write(text: str) -> Path:
        return lay(PLUGIN_FILE, text)

    return write


@pytest.fixture
def package(lay: Lay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install a package: one module, and its entry points in the group ``nuvom``."""

    def install(name: str, module: str, points: dict[str, str], *, version: str = "1.2") -> None:
        lay(f"{name}.py", module, folder="site")
        info = f"{name}-{version}.dist-info"
        lay(
            "METADATA",
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            folder=f"site/{info}",
        )
        listed = "".join(f"{point} = {target}\n" for point, target in points.items())
        lay("entry_points.txt", f"[nuvom]\n{listed}", folder=f"site/{info}")
        monkeypatch.syspath_prepend(str(tmp_path / "site"))

    return install


QUEUE = """
    from nuvom.queue_backends import BaseJobQueue

    class ListQueue(BaseJobQueue):
        def __init__(self):
            self.jobs = []
        def enqueue(self, job):
            self.jobs.append(job)
        def dequeue(self, timeout=None):
            return self.jobs.pop(0) if self.jobs else None
        def pop_batch(self, batch_size):
            return [self.jobs.pop(0) for _ in range(min(batch_size, len(self.jobs)))]
        def qsize(self):
            return len(self.jobs)
        def clear(self):
            self.jobs.clear()
"""


@pytest.fixture
def queue_module(lay: Lay) -> Path:
    """Write ``mine.py`` with the five-method backend ``ListQueue``."""
    return lay("mine.py", QUEUE)
