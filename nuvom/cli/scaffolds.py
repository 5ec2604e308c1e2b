"""The files of a new plugin: templates, and how they are filled in and written.

Each is a small package that passes the conformance kit as it stands: a place to start from,
not a sketch.
"""

from __future__ import annotations

import errno
from string import Template
from typing import TYPE_CHECKING

from nuvom._version import __version__
from nuvom.cli.scaffold_results import RESULT_BACKEND
from nuvom.errors import BackendUnavailable, Refused, StorageFull

if TYPE_CHECKING:
    from pathlib import Path

QUEUE_BACKEND = '''\
"""$title: a queue backend for Nuvom.

It keeps jobs in this process. Put your store in the place of the list: the five methods are a
whole backend, which delivers at most once. What more it can offer (leases, bulk, priorities)
is in Nuvom's page on plugins.
"""

from __future__ import annotations

import heapq
from itertools import count
from threading import Condition
from typing import TYPE_CHECKING, ClassVar

from nuvom.queue_backends import BaseJobQueue, JobRecord
from nuvom.queue_backends.base import Capability

if TYPE_CHECKING:
    from nuvom.config.settings import Settings


class $cls(BaseJobQueue):
    """Jobs in memory, lower priority numbers first, then in the order in which they came."""

    name: ClassVar[str] = "$name"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.PRIORITY})

    def __init__(self, settings: Settings | None = None) -> None:
        self._waiting: list[tuple[int, int, str]] = []
        self._jobs: dict[str, bytes] = {}
        self._order = count()
        self._changed = Condition()

    def enqueue(self, job: JobRecord) -> str | None:
        """Store a job; twice with the same id is once."""
        with self._changed:
            if job.id not in self._jobs:
                self._jobs[job.id] = job.encode()
                heapq.heappush(self._waiting, (job.priority, next(self._order), job.id))
                self._changed.notify()
        return None

    def dequeue(self, timeout: float | None = None) -> JobRecord | None:
        """Hand out one job, waiting at most ``timeout`` seconds."""
        with self._changed:
            if timeout:
                self._changed.wait_for(lambda: self._waiting, timeout)
            return self._take()

    def pop_batch(self, batch_size: int) -> list[JobRecord]:
        """Hand out at most ``batch_size`` jobs."""
        with self._changed:
            taken = (self._take() for _ in range(batch_size))
            return [job for job in taken if job is not None]

    def qsize(self) -> int:
        """Return how many jobs wait."""
        with self._changed:
            return len(self._waiting)

    def clear(self) -> None:
        """Remove all jobs that wait."""
        with self._changed:
            self._waiting.clear()
            self._jobs.clear()

    def _take(self) -> JobRecord | None:
        if not self._waiting:
            return None
        _, _, job_id = heapq.heappop(self._waiting)
        return JobRecord.decode(self._jobs.pop(job_id))
'''
QUEUE_TEST = '''\
"""Holds the laws of a queue backend over $cls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nuvom.testing.conformance import QueueConformance

from $name import $cls


class Test$cls(QueueConformance):
    """Each inherited test is a law."""

    def make(self, tmp_path: Path, **settings: Any) -> $cls:
        """Return a queue with an empty store."""
        return $cls()
'''
MONITORING = '''\
"""$title: a monitoring plugin for Nuvom.

It counts what becomes of jobs in this worker. Put your exporter in the place of the counters.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

from nuvom.events import JobFailed, JobRetrying, JobSucceeded
from nuvom.plugins.contracts import Plugin
from nuvom.plugins.registry import register_metrics_provider

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nuvom.config.settings import Settings
    from nuvom.events import Event
    from nuvom.plugins.contracts import Extras


class $cls(Plugin):
    """Counts jobs that succeed, fail and are tried again."""

    api_version = "1.0"
    name = "$name"
    provides: Sequence[str] = ("monitoring",)

    _EVENTS: ClassVar[dict[type[Event], str]] = {
        JobSucceeded: "jobs_succeeded_total",
        JobFailed: "jobs_failed_total",
        JobRetrying: "jobs_retried_total",
    }

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._undo: list[Callable[[], None]] = []

    def start(self, settings: Settings, extras: Extras) -> None:
        """Subscribe to events, and offer the counts to exporters."""
        bus = extras["events"]
        self._undo = [bus.subscribe(event, self._count) for event in self._EVENTS]
        self._undo.append(register_metrics_provider(self.name, lambda: dict(self.counts)))

    def stop(self) -> None:
        """Undo ``start``; twice is fine."""
        for undo in self._undo:
            undo()
        self._undo = []

    def _count(self, event: Event) -> None:
        self.counts[self._EVENTS[type(event)]] += 1
'''
MONITORING_TEST = '''\
"""Holds the laws of a plugin over $cls."""

from __future__ import annotations

from nuvom.testing.conformance import PluginConformance

from $name import $cls


class Test$cls(PluginConformance):
    """Each inherited test is a law."""

    def make(self) -> $cls:
        """Return a plugin that was not started."""
        return $cls()
'''
RESULT_TEST = (
    QUEUE_TEST.replace("QueueConformance", "ResultConformance")
    .replace("a queue backend", "a result backend")
    .replace("Return a queue with an empty store.", "Return a backend with an empty store.")
)
PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "$dashed"
version = "0.1.0"
description = "$title: a plugin for Nuvom."
requires-python = ">=3.11"
dependencies = ["nuvom>=$version"]

[project.entry-points.nuvom]
$name = "$name:$cls"

[dependency-groups]
test = ["hypothesis", "pytest"]

[tool.hatch.build.targets.wheel]
only-include = ["$name.py"]

[tool.pytest.ini_options]
pythonpath = ["."]
"""
README = """\
# $title

A plugin for Nuvom: $kind.

- Test it: `nuvom plugin test $name.py`, or `pytest`.
- Use it in one project: put `$name.py` beside your tasks and name it in `.nuvom_plugins.toml`:

  ```toml
  [plugins]
  $key = ["$name:$cls"]
  ```
- Use it everywhere: `pip install .`; its entry point makes it known.
$setting
"""
_SETTING = '- Choose it: `NUVOM_{key}={name}`, or `{lower} = "{name}"` in `nuvom.toml`.\n'

TYPES: dict[str, tuple[str, str]] = {
    "queue_backend": (QUEUE_BACKEND, QUEUE_TEST),
    "result_backend": (RESULT_BACKEND, RESULT_TEST),
    "monitoring": (MONITORING, MONITORING_TEST),
}


def write_plugin(folder: Path, name: str, kind: str, *, force: bool) -> list[Path]:
    """Write the package of a plugin into ``folder``; return its files.

    Raises: Refused: a file is there already and ``force`` is False; nothing was written.
        BackendUnavailable, StorageFull: a file cannot be written.
    """
    files = {folder / place: text for place, text in _files(name, kind).items()}
    taken = [path for path in files if path.exists()]
    if taken and not force:
        raise Refused(f"{taken[0]} is there already", "Choose another name, or add --force.")
    for path, text in files.items():
        _write(path, text)
    return list(files)


def class_name(name: str) -> str:
    """Return ``MyQueue`` for ``my_queue``."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _files(name: str, kind: str) -> dict[str, str]:
    module, test = TYPES[kind]
    is_backend = kind.endswith("_backend")
    values = {
        "name": name,
        "cls": class_name(name),
        "title": name.replace("_", " ").strip().capitalize(),
        "dashed": name.replace("_", "-").strip("-"),
        "kind": kind.replace("_", " "),
        "key": kind,
        "version": __version__,
        "setting": _SETTING.format(key=kind.upper(), lower=kind, name=name) if is_backend else "",
    }
    templates = {
        f"{name}.py": module,
        f"tests/test_{name}.py": test,
        "pyproject.toml": PROJECT,
        "README.md": README,
    }
    return {place: Template(text).substitute(values) for place, text in templates.items()}


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.rstrip("\n") + "\n", encoding="utf-8", newline="\n")
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        if error.errno == errno.ENOSPC:
            raise StorageFull(path, reason) from error
        raise BackendUnavailable(path, reason, "Choose another folder with --out.") from error
